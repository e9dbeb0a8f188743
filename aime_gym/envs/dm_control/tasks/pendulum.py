"""Pendulum: one hinge, to be swung up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, Fields, Pose, Reader, Readings, Sensor, Task
from aime_gym.envs.dm_control.tasks.tolerance import within

UPRIGHT = float(np.cos(np.deg2rad(8)))  # Of the cosine between the pole and the vertical.
POLE = 1  # Index in xmat; body 0 is the world.
ZZ, XZ = 8, 2  # Indices in a row of xmat, a rotation matrix.


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: the pole's direction, and its speed."""
    return {"orientation": fields["xmat"][..., POLE, [ZZ, XZ]], "velocity": fields["qvel"]}


def swingup_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward: whether the pole is upright."""
    return within(fields["xmat"][..., POLE, ZZ], UPRIGHT, 1.0)


def hinge(sensors: Readings) -> NDArray[np.float64]:
    """The hinge's angle, rad, from its cosine and sine."""
    cosine, sine = np.moveaxis(sensors["orientation"], -1, 0)
    angle: NDArray[np.float64] = np.arctan2(sine, cosine)[..., None]
    return angle


PENDULUM = Body(
    name="pendulum",
    action_repeat=2,
    sensors=(Sensor("orientation", 2), Sensor("velocity", 1, "second")),
    reader=Reader(("qvel", "xmat"), read_sensors),
    tasks={"swingup": Task("swingup", swingup_reward)},
    pose=Pose((0,), hinge),
)
