"""Walker: a planar biped with six joints.

qvel is (z, x, pitch, six joints): heights in m, speeds in m/s and rad/s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.tasks.body import Body, Readings, RewardFunction, Sensor, Task

WALK_SPEED = 1.0  # m/s
RUN_SPEED = 8.0  # m/s
FLIP_SPEED = 5.0  # rad/s
JUMP_HEIGHT = 5.0  # m
HORIZONTAL, PITCH = 1, 2  # Places in the velocity sensor.


def backward(speed: float) -> RewardFunction:
    """Stand, and move backward at `speed`; the weights are those of the suite's walk and run."""

    def reward(stand: NDArray[np.float64], sensors: Readings) -> NDArray[np.float64]:
        move = np.clip(-sensors["velocity"][..., HORIZONTAL] / speed, 0.0, 1.0)
        return stand * (5.0 * move + 1.0) / 6.0

    return reward


def flip(direction: float) -> RewardFunction:
    """Turn over at `FLIP_SPEED`; `direction` is +1 or -1."""

    def reward(stand: NDArray[np.float64], sensors: Readings) -> NDArray[np.float64]:
        return np.clip(direction * sensors["velocity"][..., PITCH] / FLIP_SPEED, 0.0, 1.0)

    return reward


def jump(stand: NDArray[np.float64], sensors: Readings) -> NDArray[np.float64]:
    """Bring the torso up."""
    return np.clip(sensors["height"][..., 0] / JUMP_HEIGHT, 0.0, 1.0)


WALKER = Body(
    name="walker",
    action_repeat=2,
    sensors=(Sensor("orientations", 14), Sensor("height", 1), Sensor("velocity", 9, "second")),
    tasks={
        "stand": Task("stand"),
        "walk": Task("walk"),
        "run": Task("run"),
        "walkbackward": Task("stand", backward(WALK_SPEED)),
        "runbackward": Task("stand", backward(RUN_SPEED)),
        "flip": Task("stand", flip(+1.0)),
        "flipbackward": Task("stand", flip(-1.0)),
        "jump": Task("stand", jump),
    },
)
