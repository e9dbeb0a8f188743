"""Finger: a two-link finger which spins a free body, or turns it to a target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, EpisodeValues, Sensor, Task


def get_target(physics: Any) -> NDArray[np.float64]:
    """Position (x, z) of the target site, m."""
    return np.array(physics.named.model.site_pos["target", ["x", "z"]])


def set_target(physics: Any, position: NDArray[np.float64]) -> None:
    """Moves the target site."""
    physics.named.model.site_pos["target", ["x", "z"]] = position


TARGET = EpisodeValues(get_target, set_target)
TARGET_SENSORS = (Sensor("target_position", 2), Sensor("dist_to_target", 1))

FINGER = Body(
    name="finger",
    action_repeat=2,
    sensors=(Sensor("position", 4), Sensor("velocity", 3, "second"), Sensor("touch", 2)),
    tasks={
        "spin": Task("spin"),
        "turn_easy": Task("turn_easy", sensors=TARGET_SENSORS, episode_values=TARGET),
        "turn_hard": Task("turn_hard", sensors=TARGET_SENSORS, episode_values=TARGET),
    },
)
