"""MiniGrid's rules in arrays: thousands of grids step at once.

N environments, C cells; all arrays have the environments first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from aime_gym.envs.minigrid.cells import (
    AGENT,
    BALL,
    BOX,
    BYTES,
    CLOSED,
    DOOR,
    DROP,
    EMPTY,
    EMPTY_HANDS,
    FLOOR,
    FORWARD,
    GOAL,
    KEY,
    LAVA,
    LEFT,
    LOCKED,
    NOTHING,
    OBJECTS,
    OPEN,
    PICKUP,
    RIGHT,
    TOGGLE,
    VISIBLE,
)
from aime_gym.envs.minigrid.layouts import generate, new_random, pack_random, unpack_random
from aime_gym.envs.minigrid.vector import Bytes, GridVectorEnv, States
from aime_gym.envs.resets import Mask

Rows = NDArray[np.int64]
TURNS = np.zeros(7, dtype=np.int64)
TURNS[[LEFT, RIGHT]] = -1, 1
CAN_ENTER, CAN_PICK_UP = np.zeros((2, OBJECTS), dtype=bool)
CAN_ENTER[[EMPTY, FLOOR, GOAL, LAVA]] = True
CAN_PICK_UP[[KEY, BALL, BOX]] = True
EMPTY_CELL = np.frombuffer(NOTHING, dtype=np.uint8)


class GridEngine(GridVectorEnv):
    """Environments with MiniGrid's own rules, in arrays: equal to MiniGrid to the bit.

    Args:
        inner: The MiniGrid environment, whose generator makes all layouts.
        num_envs: Number of environments N.
        autoreset_mode: When an environment whose episode is over starts anew.
        layout_seed: Every episode starts from the layout of this seed; None for new ones.
    """

    def __init__(
        self, inner: Any, num_envs: int, autoreset_mode: AutoresetMode, layout_seed: int | None
    ) -> None:
        shape = inner.width, inner.height
        super().__init__(shape, inner.max_steps, num_envs, autoreset_mode, layout_seed)
        self._inner = inner
        self._random = [new_random(None) for _ in range(num_envs)]
        self._all = np.arange(num_envs)
        self._ahead = np.array([inner.height, 1, -inner.height, -1])  # By direction.
        self._cells = np.zeros((num_envs, self.cells, BYTES), dtype=np.uint8)
        self._carried = np.tile(EMPTY_CELL, (num_envs, 1))
        self._position = np.zeros(num_envs, dtype=np.int64)
        self._direction = np.zeros(num_envs, dtype=np.int64)

    def _start(self, index: int, seed: int | None) -> None:
        if seed is not None:
            self._random[index] = new_random(seed)
        layout = generate(self._inner, self._random[index])
        self._cells[index], self._carried[index] = layout.cells, EMPTY_CELL
        self._position[index], self._direction[index] = layout.position, layout.direction

    def _advance(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], Mask]:
        front = self._position + self._ahead[self._direction]
        ahead = self._cells[self._all, front]  # [N, 6]
        kind = ahead[:, 0]
        self._direction = (self._direction + TURNS[actions]) % 4
        forward = actions == FORWARD
        is_open = (kind == DOOR) & (ahead[:, 2] == OPEN)
        self._position = np.where(forward & (CAN_ENTER[kind] | is_open), front, self._position)
        empty_handed = self._carried[:, 0] == EMPTY
        taken = (actions == PICKUP) & CAN_PICK_UP[kind] & empty_handed
        dropped = (actions == DROP) & (kind == EMPTY) & ~empty_handed
        toggled = actions == TOGGLE
        for act, mask in (
            (self._pick_up, taken),
            (self._drop, dropped),
            (self._toggle_doors, toggled & (kind == DOOR)),
            (self._open_boxes, toggled & (kind == BOX)),
        ):
            if mask.any():
                rows = np.flatnonzero(mask)
                act(rows, front[rows], ahead[rows])
        success = (forward & (kind == GOAL)) | (taken & (ahead[:, 5] != 0))
        rewards = np.where(success, 1 - 0.9 * (self.steps / self.max_steps), 0.0)
        return rewards, success | (forward & (kind == LAVA))

    def _pick_up(self, rows: Rows, front: Rows, ahead: Bytes) -> None:
        self._carried[rows] = ahead
        self._cells[rows, front] = EMPTY_CELL

    def _drop(self, rows: Rows, front: Rows, ahead: Bytes) -> None:
        self._cells[rows, front] = self._carried[rows]
        self._carried[rows] = EMPTY_CELL

    def _toggle_doors(self, rows: Rows, front: Rows, ahead: Bytes) -> None:
        """A locked door opens to a key of its colour; the others open and close."""
        carried, state = self._carried[rows], ahead[:, 2]
        has_key = (carried[:, 0] == KEY) & (carried[:, 1] == ahead[:, 1])
        stays = (state == LOCKED) & ~has_key
        after = np.where(state == OPEN, CLOSED, np.where(stays, LOCKED, OPEN))
        self._cells[rows, front, 2] = after

    def _open_boxes(self, rows: Rows, front: Rows, ahead: Bytes) -> None:
        """What is in a box takes its place."""
        content = np.tile(EMPTY_CELL, (len(rows), 1))
        content[:, :2] = ahead[:, 3:5]
        self._cells[rows, front] = content

    def observe(self) -> Bytes:
        """What all environments show now [N, 3 C + 2]."""
        shown = np.empty((self.num_envs, self.cells * VISIBLE + 2), dtype=np.uint8)
        grid = shown[:, :-2].reshape(self.num_envs, self.cells, VISIBLE)
        grid[:] = self._cells[:, :, :VISIBLE]
        grid[self._all, self._position, 0] = AGENT
        grid[self._all, self._position, 1] = 0
        grid[self._all, self._position, 2] = self._direction
        shown[:, -2:] = self._carried[:, :2]
        shown[self._carried[:, 0] == EMPTY, -2:] = EMPTY_HANDS
        return shown

    def get_state(self) -> States:
        """The grids, what runs in them, and the generators of the coming layouts."""
        return {
            "cells": self._cells.copy(),
            "carried": self._carried.copy(),
            "position": self._position.copy(),
            "direction": self._direction.copy(),
            "steps": self.steps.copy(),
            "running": self._running.copy(),
            "random": np.stack([pack_random(random) for random in self._random]),
        }

    def set_state(self, state: States) -> None:
        """Goes on from what `get_state` returned."""
        self._cells, self._carried = state["cells"].copy(), state["carried"].copy()
        self._position, self._direction = state["position"].copy(), state["direction"].copy()
        self.steps, self._running = state["steps"].copy(), state["running"].copy()
        self._random = [unpack_random(values) for values in state["random"]]
