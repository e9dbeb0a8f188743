"""Reacher: a planar two-link arm and a target which is drawn anew in every episode."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import (
    Body,
    EpisodeValues,
    Fields,
    Pose,
    Reader,
    Readings,
    Sensor,
    SuiteReward,
    Task,
)
from aime_gym.envs.dm_control.tasks.tolerance import within

BIG_TARGET, SMALL_TARGET = 0.05, 0.015  # m; radii.
FINGER_RADIUS = 0.01  # m
TARGET_GEOM, FINGER_GEOM = 6, 9  # Indices in geom_xpos.


def get_target(physics: Any) -> NDArray[np.float64]:
    """Position (x, y) of the target, m."""
    return np.array(physics.named.model.geom_pos["target", ["x", "y"]])


def set_target(physics: Any, position: NDArray[np.float64]) -> None:
    """Moves the target."""
    physics.named.model.geom_pos["target", ["x", "y"]] = position


def to_target(fields: Fields) -> NDArray[np.float64]:
    """From the finger to the target (x, y), m."""
    places = fields["geom_xpos"]
    return places[..., TARGET_GEOM, :2] - places[..., FINGER_GEOM, :2]


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: joints, the way to the target, and speeds."""
    return {"position": fields["qpos"], "to_target": to_target(fields), "velocity": fields["qvel"]}


def reach_reward(radius: float) -> SuiteReward:
    """The suite's reward: whether the finger touches a target of this radius."""

    def reward(fields: Fields) -> NDArray[np.float64]:
        vector = to_target(fields)
        return within(np.sqrt(np.vecdot(vector, vector)), 0.0, radius + FINGER_RADIUS)

    return reward


TARGET = EpisodeValues(get_target, set_target)

REACHER = Body(
    name="reacher",
    action_repeat=4,
    sensors=(Sensor("position", 2), Sensor("to_target", 2), Sensor("velocity", 2, "second")),
    reader=Reader(("geom_xpos", "qpos", "qvel"), read_sensors),
    tasks={
        "easy": Task("easy", reach_reward(BIG_TARGET), episode_values=TARGET),
        "hard": Task("hard", reach_reward(SMALL_TARGET), episode_values=TARGET),
    },
    pose=Pose((0, 1), lambda sensors: sensors["position"]),
)
