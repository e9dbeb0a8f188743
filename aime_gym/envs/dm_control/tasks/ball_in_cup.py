"""Ball in cup: a planar cup, and a ball on a string to be caught."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, Fields, Pose, Reader, Readings, Sensor, Task

ROOM = 0.05 - 0.025  # m; half of the target's width and height, less the ball's radius.
TARGET, BALL = 1, 2  # Indices in site_xpos and xpos.
XZ = slice(None, None, 2)  # Of three axes.


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: the state."""
    return {"position": fields["qpos"], "velocity": fields["qvel"]}


def catch_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward: whether the ball is in the cup."""
    to_target = fields["site_xpos"][..., TARGET, XZ] - fields["xpos"][..., BALL, XZ]
    caught: NDArray[np.bool_] = np.all(np.abs(to_target) < ROOM, axis=-1)
    return caught.astype(np.float64)


BALL_IN_CUP = Body(
    name="ball_in_cup",
    action_repeat=4,
    sensors=(Sensor("position", 4), Sensor("velocity", 4, "second")),
    reader=Reader(("qpos", "qvel", "site_xpos", "xpos"), read_sensors),
    tasks={"catch": Task("catch", catch_reward)},
    pose=Pose(tuple(range(4)), lambda sensors: sensors["position"]),
)
