"""Quadruped: a four-legged body with tendon-driven joints; its action limits are not +-1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, EpisodeValues, Sensor, Task


def get_terrain(physics: Any) -> NDArray[np.float64]:
    """Heights of the terrain, relative to its largest, row by row."""
    return np.array(physics.model.hfield_data, dtype=np.float64)


def set_terrain(physics: Any, heights: NDArray[np.float64]) -> None:
    """Replaces the terrain."""
    physics.model.hfield_data[:] = heights


QUADRUPED = Body(
    name="quadruped",
    action_repeat=2,
    camera=2,
    sensors=(
        Sensor("egocentric_state", 44),
        Sensor("torso_velocity", 3, "second"),
        Sensor("torso_upright", 1),
        Sensor("imu", 6),
        Sensor("force_torque", 24),
    ),
    model_sensors=("egocentric_state", "torso_velocity", "torso_upright", "imu", "force_torque"),
    tasks={
        "walk": Task("walk"),
        "run": Task("run"),
        "escape": Task(
            "escape",
            sensors=(Sensor("origin", 3), Sensor("rangefinder", 20)),
            episode_values=EpisodeValues(get_terrain, set_terrain),
        ),
        "fetch": Task("fetch", sensors=(Sensor("ball_state", 9), Sensor("target_position", 3))),
    },
)
