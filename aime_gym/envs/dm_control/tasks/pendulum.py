"""Pendulum: one hinge, to be swung up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, Pose, Readings, Sensor, Task


def hinge(sensors: Readings) -> NDArray[np.float64]:
    """The hinge's angle, rad, from its cosine and sine."""
    cosine, sine = np.moveaxis(sensors["orientation"], -1, 0)
    angle: NDArray[np.float64] = np.arctan2(sine, cosine)[..., None]
    return angle


PENDULUM = Body(
    name="pendulum",
    action_repeat=2,
    sensors=(Sensor("orientation", 2), Sensor("velocity", 1, "second")),
    tasks={"swingup": Task("swingup")},
    pose=Pose((0,), hinge),
)
