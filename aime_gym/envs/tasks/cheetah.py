"""Cheetah: a planar runner with six joints.

qvel is (x, z, pitch, six joints), in m/s and rad/s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.tasks.body import Body, Readings, RewardFunction, Sensor, Task

RUN_SPEED = 10.0  # m/s
FLIP_SPEED = 5.0  # rad/s
HORIZONTAL, PITCH = 0, 2  # Places in the velocity sensor.


def turn_or_run(place: int, speed: float) -> RewardFunction:
    """Reach `speed`, signed, in one entry of the velocity sensor."""

    def reward(run: NDArray[np.float64], sensors: Readings) -> NDArray[np.float64]:
        return np.clip(sensors["velocity"][..., place] / speed, 0.0, 1.0)

    return reward


CHEETAH = Body(
    name="cheetah",
    action_repeat=2,
    sensors=(Sensor("position", 8), Sensor("velocity", 9, "second")),
    tasks={
        "run": Task("run"),
        "runbackward": Task("run", turn_or_run(HORIZONTAL, -RUN_SPEED)),
        "flip": Task("run", turn_or_run(PITCH, FLIP_SPEED)),
        "flipbackward": Task("run", turn_or_run(PITCH, -FLIP_SPEED)),
    },
)
