"""Cheetah: a planar runner with six joints.

qvel is (x, z, pitch, six joints), in m/s and rad/s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import (
    Body,
    Fields,
    Pose,
    Reader,
    Readings,
    RewardFunction,
    Sensor,
    Task,
)
from aime_gym.envs.dm_control.tasks.tolerance import below, linear

RUN_SPEED = 10.0  # m/s
FLIP_SPEED = 5.0  # rad/s
HORIZONTAL, PITCH = 0, 2  # Indices in the velocity sensor.


def turn_or_run(index: int, speed: float) -> RewardFunction:
    """Reach `speed`, signed, in one entry of the velocity sensor."""

    def reward(run: NDArray[np.float64], sensors: Readings) -> NDArray[np.float64]:
        return np.clip(sensors["velocity"][..., index] / speed, 0.0, 1.0)

    return reward


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: all joints but the horizontal position, and all speeds."""
    return {"position": fields["qpos"][..., 1:], "velocity": fields["qvel"]}


def run_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward: the trunk's speed as a part of `RUN_SPEED`."""
    return linear(below(fields["sensordata"][..., 0], RUN_SPEED, RUN_SPEED), value=0.0)


def task(reward: RewardFunction | None = None) -> Task:
    """A task that starts as the suite's run does."""
    return Task("run", run_reward, reward)


CHEETAH = Body(
    name="cheetah",
    action_repeat=2,
    sensors=(Sensor("position", 8), Sensor("velocity", 9, "second")),
    reader=Reader(("qpos", "qvel", "sensordata"), read_sensors),
    tasks={
        "run": task(),
        "runbackward": task(turn_or_run(HORIZONTAL, -RUN_SPEED)),
        "flip": task(turn_or_run(PITCH, FLIP_SPEED)),
        "flipbackward": task(turn_or_run(PITCH, -FLIP_SPEED)),
    },
    pose=Pose(tuple(range(1, 9)), lambda sensors: sensors["position"]),
)
