"""Reacher: a planar two-link arm and a target which is drawn anew in every episode."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, EpisodeValues, Pose, Sensor, Task


def get_target(physics: Any) -> NDArray[np.float64]:
    """Position (x, y) of the target, m."""
    return np.array(physics.named.model.geom_pos["target", ["x", "y"]])


def set_target(physics: Any, position: NDArray[np.float64]) -> None:
    """Moves the target."""
    physics.named.model.geom_pos["target", ["x", "y"]] = position


TARGET = EpisodeValues(get_target, set_target)

REACHER = Body(
    name="reacher",
    action_repeat=4,
    sensors=(Sensor("position", 2), Sensor("to_target", 2), Sensor("velocity", 2, "second")),
    tasks={
        "easy": Task("easy", episode_values=TARGET),
        "hard": Task("hard", episode_values=TARGET),
    },
    pose=Pose((0, 1), lambda sensors: sensors["position"]),
)
