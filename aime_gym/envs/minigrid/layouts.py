"""Layouts from MiniGrid's own generators, as arrays; and which environments have its rules."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium.utils import seeding
from numpy.random import Generator
from numpy.typing import NDArray

from aime_gym.envs.minigrid.cells import BOX, BYTES, EMPTY, NAMES, NOTHING, WALL

RULES = ("reset", "_reward", "front_pos", "dir_vec")  # What must be that of the base class.
BASE_MODULE = "minigrid.minigrid_env"  # Its step picks up no object in particular.
WALL_CELL = bytes((WALL, 5, 0, EMPTY, 0, 0))


class Layout(NamedTuple):
    """The start of an episode.

    Attributes:
        cells: [C, 6] bytes.
        position: The agent's cell.
        direction: Where it looks: 0 right, 1 down, 2 left, 3 up.
    """

    cells: NDArray[np.uint8]
    position: int
    direction: int


def why_not_covered(env: Any) -> str | None:
    """Why the engine cannot play an environment of MiniGrid; None where it can.

    It can where the class takes steps, resets and rewards as MiniGrid's base class does, or picks
    up an object as KeyCorridor and ObstructedMaze do, and the grid holds MiniGrid's objects alone.
    """
    from minigrid.core.world_object import WorldObj
    from minigrid.envs.keycorridor import KeyCorridorEnv
    from minigrid.envs.obstructedmaze import ObstructedMazeEnv
    from minigrid.minigrid_env import MiniGridEnv

    kind = type(env)
    if kind.step not in (MiniGridEnv.step, KeyCorridorEnv.step, ObstructedMazeEnv.step):
        return f"{kind.__name__} takes steps of its own"
    changed = [name for name in RULES if getattr(kind, name) is not getattr(MiniGridEnv, name)]
    if changed:
        return f"{kind.__name__} has a {' and a '.join(changed)} of its own"
    env.reset(seed=0)
    foreign = {
        type(thing).__name__
        for thing in env.grid.grid
        if isinstance(thing, WorldObj) and not _is_known(thing)
    }
    return f"it has objects of its own: {', '.join(sorted(foreign))}" if foreign else None


def _is_known(thing: Any) -> bool:
    inside = thing.contains
    plain = type(thing).__module__ == "minigrid.core.world_object" and thing.type in NAMES
    return plain and (inside is None or (_is_known(inside) and inside.contains is None))


def generate(env: Any, random: Generator) -> Layout:
    """The next layout that a generator of random numbers gives.

    Args:
        env: The MiniGrid environment whose generator makes it.
        random: In place of the environment's own; it moves on as that would.
    """
    env.np_random = random
    env.agent_pos, env.agent_dir = (-1, -1), -1
    env._gen_grid(env.width, env.height)
    x, y = env.agent_pos
    return Layout(_cells(env), int(x) * env.height + int(y), int(env.agent_dir))


def _cells(env: Any) -> NDArray[np.uint8]:
    """All cells of a grid [C, 6]; MiniGrid keeps them row by row."""
    target = env.obj if type(env).step.__module__ != BASE_MODULE else None
    rows = [NOTHING if thing is None else _cell(thing, target) for thing in env.grid.grid]
    by_row = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(env.height, env.width, BYTES)
    return by_row.transpose(1, 0, 2).reshape(-1, BYTES)


def _cell(thing: Any, target: Any) -> bytes:
    kind = NAMES[thing.type]
    if kind == WALL and thing.color == "grey":
        return WALL_CELL
    inside = thing.contains.encode()[:2] if kind == BOX and thing.contains else (EMPTY, 0)
    return bytes((*thing.encode(), *inside, thing is target))


# Generators of random numbers, as arrays

_HALF = 2**64


def new_random(seed: int | None) -> Generator:
    """The generator that MiniGrid has after ``reset(seed=seed)``."""
    return seeding.np_random(seed)[0]


def pack_random(random: Generator) -> NDArray[np.uint64]:
    """The state of a generator [6]."""
    state: Any = random.bit_generator.state
    number, step = state["state"]["state"], state["state"]["inc"]
    values = (*divmod(number, _HALF), *divmod(step, _HALF), state["has_uint32"], state["uinteger"])
    return np.array(values, dtype=np.uint64)


def unpack_random(values: NDArray[np.uint64]) -> Generator:
    """The inverse of `pack_random`."""
    high, low, step_high, step_low, has_half, half = (int(value) for value in values)
    random = new_random(0)
    random.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high * _HALF + low, "inc": step_high * _HALF + step_low},
        "has_uint32": has_half,
        "uinteger": half,
    }
    return random
