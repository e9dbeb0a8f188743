"""MiniGrid's environments one after the other, for rules that the engine does not have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from aime_gym.envs.minigrid.cells import DONE
from aime_gym.envs.minigrid.environment import FullGridEnv
from aime_gym.envs.minigrid.layouts import new_random, pack_random, unpack_random
from aime_gym.envs.minigrid.vector import Bytes, GridVectorEnv, States
from aime_gym.envs.resets import Mask


class SeparateGrids(GridVectorEnv):
    """N environments of MiniGrid, each in an object of its own.

    Their state is how each episode began, and the actions since: `set_state` plays them again.

    Args:
        envs: The environments.
        autoreset_mode: When an environment whose episode is over starts anew.
        layout_seed: Every episode starts from the layout of this seed; None for new ones.
    """

    def __init__(
        self, envs: Sequence[FullGridEnv], autoreset_mode: AutoresetMode, layout_seed: int | None
    ) -> None:
        first = envs[0]
        super().__init__(first.grid_shape, first.max_steps, len(envs), autoreset_mode, layout_seed)
        self.envs = envs
        self._shown = np.zeros((len(envs), self.sensors["carried"].slice.stop), dtype=np.uint8)
        self._began = np.zeros((len(envs), 6), dtype=np.uint64)
        self._actions = np.full((len(envs), self.max_steps), DONE, dtype=np.uint8)

    def _start(self, index: int, seed: int | None) -> None:
        inner = self.envs[index].inner
        if seed is not None:
            inner.np_random = new_random(seed)
        self._began[index] = pack_random(inner.np_random)
        self._shown[index], _ = self.envs[index].reset()

    def _advance(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], Mask]:
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        for index in np.flatnonzero(self.steps > 0).tolist():
            self._actions[index, self.steps[index] - 1] = actions[index]
            self._shown[index], rewards[index], terminated[index], _, _ = self.envs[index].step(
                actions[index]
            )
        return rewards, terminated

    def observe(self) -> Bytes:
        """What all environments show now [N, n]."""
        return self._shown.copy()

    def get_state(self) -> States:
        """How the episodes began, and the actions since."""
        return {
            "began": self._began.copy(),
            "actions": self._actions.copy(),
            "steps": self.steps.copy(),
            "running": self._running.copy(),
        }

    def set_state(self, state: States) -> None:
        """Plays the episodes again up to where they were."""
        self._began, self._actions = state["began"].copy(), state["actions"].copy()
        self.steps, self._running = state["steps"].copy(), state["running"].copy()
        for index, env in enumerate(self.envs):
            env.inner.np_random = unpack_random(self._began[index])
            self._shown[index], _ = env.reset()
            for action in self._actions[index, : self.steps[index]]:
                self._shown[index], *_ = env.step(np.int64(action))

    def close_extras(self) -> None:
        """Closes the environments."""
        for env in self.envs:
            env.close()
