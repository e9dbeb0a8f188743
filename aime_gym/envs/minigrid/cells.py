"""Grids as arrays: what is in a cell, and where that stands in an observation.

C = W x H cells; cell (x, y) has index ``x * H + y``. A cell is three visible bytes, MiniGrid's own
(object, colour, state), and three hidden ones: the object and the colour of what is in a box, and
whether the object is the one to be picked up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EMPTY, WALL, FLOOR, DOOR, KEY, BALL, BOX, GOAL, LAVA, AGENT = range(1, 11)
NAMES = {
    "wall": WALL, "floor": FLOOR, "door": DOOR, "key": KEY, "ball": BALL, "box": BOX, "goal": GOAL,
    "lava": LAVA,
}  # fmt: skip
OPEN, CLOSED, LOCKED = range(3)
OBJECTS, COLOURS, STATES, ACTIONS = 11, 6, 4, 7  # An agent's state is its direction.
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(ACTIONS)
VISIBLE, BYTES = 3, 6
NOTHING = bytes((EMPTY, 0, 0, EMPTY, 0, 0))
EMPTY_HANDS = (EMPTY, 5)  # What is carried where nothing is.


class Sensor(NamedTuple):
    """Where a sensor is in the observation.

    Attributes:
        slice: Its indices in the observation vector.
        size: Number of values.
    """

    slice: slice
    size: int


def sensors_of(cells: int) -> dict[str, Sensor]:
    """The two sensors of an observation: the grid [W, H, 3], flat, and what is carried [2]."""
    size = VISIBLE * cells
    return {"grid": Sensor(slice(0, size), size), "carried": Sensor(slice(size, size + 2), 2)}


def visible_bytes(thing: Any) -> tuple[int, int, int]:
    """MiniGrid's encoding of an object, of any class."""
    kind, colour, state = thing.encode()
    return int(kind), int(colour), int(state)


def visible_grid(env: Any) -> NDArray[np.uint8]:
    """The grid of a MiniGrid environment with the agent in it [C, 3]."""
    height, things = env.height, env.grid.grid
    grid = np.zeros((env.width * height, VISIBLE), dtype=np.uint8)
    grid[:, 0] = EMPTY
    for index, thing in enumerate(things):
        if thing is not None:
            y, x = divmod(index, env.width)
            grid[x * height + y] = visible_bytes(thing)
    x, y = env.agent_pos
    grid[int(x) * height + int(y)] = AGENT, 0, env.agent_dir
    return grid


def carried_bytes(env: Any) -> tuple[int, int]:
    """Object and colour of what the agent of a MiniGrid environment carries."""
    return EMPTY_HANDS if env.carrying is None else visible_bytes(env.carrying)[:2]
