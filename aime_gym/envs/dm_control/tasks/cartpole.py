"""Cartpole: a cart on a rail and a pole hinged to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, Pose, Readings, Sensor, Task


def slider_and_hinge(sensors: Readings) -> NDArray[np.float64]:
    """The cart's position, m, and the pole's angle, rad, from its cosine and sine."""
    cart, cosine, sine = np.moveaxis(sensors["position"], -1, 0)
    return np.stack([cart, np.arctan2(sine, cosine)], axis=-1)


CARTPOLE = Body(
    name="cartpole",
    action_repeat=8,
    sensors=(Sensor("position", 3), Sensor("velocity", 2, "second")),
    tasks={"swingup": Task("swingup"), "balance": Task("balance")},
    pose=Pose((0, 1), slider_and_hinge),
)
