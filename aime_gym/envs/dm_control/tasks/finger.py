"""Finger: a two-link finger which spins a free body, or turns it to a target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import (
    Body,
    EpisodeValues,
    Fields,
    Reader,
    Readings,
    Sensor,
    Task,
)

SPIN_SPEED = 15.0  # rad/s
EASY_TARGET, HARD_TARGET = 0.07, 0.03  # m; radii.
JOINTS, VELOCITIES, HINGE_VELOCITY, TOUCH = slice(0, 2), slice(2, 5), 4, slice(14, 16)
TIP, TARGET_SITE, SPINNER = slice(5, 8, 2), slice(8, 11, 2), slice(11, 14, 2)  # (x, z).
# All of these are indices in sensordata.


def get_target(physics: Any) -> NDArray[np.float64]:
    """Position (x, z) of the target site, m."""
    return np.array(physics.named.model.site_pos["target", ["x", "z"]])


def set_target(physics: Any, position: NDArray[np.float64]) -> None:
    """Moves the target site."""
    physics.named.model.site_pos["target", ["x", "z"]] = position


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: joints and the tip's place, speeds, and logarithmic touch."""
    values = fields["sensordata"]
    tip = values[..., TIP] - values[..., SPINNER]
    return {
        "position": np.concatenate([values[..., JOINTS], tip], axis=-1),
        "velocity": values[..., VELOCITIES],
        "touch": np.log1p(values[..., TOUCH]),
    }


def spin_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward: whether the body spins fast enough."""
    fast: NDArray[np.bool_] = fields["sensordata"][..., HINGE_VELOCITY] <= -SPIN_SPEED
    return fast.astype(np.float64)


def distance_to_target(fields: Fields, radius: float) -> NDArray[np.float64]:
    """From the tip to the target's surface, m; below 0 inside."""
    values = fields["sensordata"]
    spinner = values[..., SPINNER]
    to_target = (values[..., TARGET_SITE] - spinner) - (values[..., TIP] - spinner)
    distance: NDArray[np.float64] = np.sqrt(np.vecdot(to_target, to_target)) - radius
    return distance


def turn_task(suite_task: str, radius: float) -> Task:
    """A task to turn the body's tip into a target of this radius."""

    def read(fields: Fields) -> Readings:
        values = fields["sensordata"]
        return {
            **read_sensors(fields),
            "target_position": values[..., TARGET_SITE] - values[..., SPINNER],
            "dist_to_target": distance_to_target(fields, radius)[..., None],
        }

    def reward(fields: Fields) -> NDArray[np.float64]:
        return (distance_to_target(fields, radius) <= 0).astype(np.float64)

    return Task(
        suite_task,
        reward,
        sensors=TARGET_SENSORS,
        episode_values=TARGET,
        reader=Reader(FIELDS, read),
    )


FIELDS = ("sensordata",)
TARGET = EpisodeValues(get_target, set_target)
TARGET_SENSORS = (Sensor("target_position", 2), Sensor("dist_to_target", 1))

FINGER = Body(
    name="finger",
    action_repeat=2,
    sensors=(Sensor("position", 4), Sensor("velocity", 3, "second"), Sensor("touch", 2)),
    reader=Reader(FIELDS, read_sensors),
    tasks={
        "spin": Task("spin", spin_reward),
        "turn_easy": turn_task("turn_easy", EASY_TARGET),
        "turn_hard": turn_task("turn_hard", HARD_TARGET),
    },
)
