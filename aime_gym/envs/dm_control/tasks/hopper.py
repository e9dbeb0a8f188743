"""Hopper: a planar one-legged hopper with toe and heel touch sensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, Fields, Pose, Reader, Readings, Sensor, Task
from aime_gym.envs.dm_control.tasks.tolerance import below, linear, quadratic, within

STAND_HEIGHT, STAND_LIMIT = 0.6, 2.0  # m, of the torso above the foot.
HOP_SPEED = 2.0  # m/s
TORSO, FOOT, Z = 1, 5, 2  # Indices in xipos [body, axis].
SPEED, TOUCH = 0, slice(3, 5)  # Indices in sensordata.


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: joints but the horizontal position, speeds, log of touch."""
    return {
        "position": fields["qpos"][..., 1:],
        "velocity": fields["qvel"],
        "touch": np.log1p(fields["sensordata"][..., TOUCH]),
    }


def standing(fields: Fields) -> NDArray[np.float64]:
    """1 while the torso is high above the foot."""
    height = fields["xipos"][..., TORSO, Z] - fields["xipos"][..., FOOT, Z]
    return within(height, STAND_HEIGHT, STAND_LIMIT)


def stand_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward for standing with little effort."""
    small_control = quadratic(np.abs(fields["ctrl"])).mean(axis=-1)
    reward: NDArray[np.float64] = standing(fields) * ((small_control + 4.0) / 5.0)
    return reward


def hop_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward for moving forward while it stands high."""
    speed = fields["sensordata"][..., SPEED]
    return standing(fields) * linear(below(speed, HOP_SPEED, HOP_SPEED / 2.0), value=0.5)


HOPPER = Body(
    name="hopper",
    action_repeat=2,
    sensors=(Sensor("position", 6), Sensor("velocity", 7, "second"), Sensor("touch", 2)),
    reader=Reader(("ctrl", "qpos", "qvel", "sensordata", "xipos"), read_sensors),
    tasks={"stand": Task("stand", stand_reward), "hop": Task("hop", hop_reward)},
    pose=Pose(tuple(range(1, 7)), lambda sensors: sensors["position"]),
)
