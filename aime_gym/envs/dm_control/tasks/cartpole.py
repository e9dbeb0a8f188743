"""Cartpole: a cart on a rail and a pole hinged to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import Body, Fields, Pose, Reader, Readings, Sensor, Task
from aime_gym.envs.dm_control.tasks.tolerance import gaussian, quadratic, scalar_square

CENTRE_MARGIN = 2.0  # m
SPEED_MARGIN = 5.0  # rad/s
CART = 0  # Index in qpos and qvel; the pole's is 1.
POLE = 2  # Index in xmat; body 0 is the world, 1 the cart.
ZZ, XZ = 8, 2  # Indices in a row of xmat, a rotation matrix.


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: the cart's position, the pole's direction, and speeds."""
    pole = fields["xmat"][..., POLE, [ZZ, XZ]]
    position = np.concatenate([fields["qpos"][..., CART, None], pole], axis=-1)
    return {"position": position, "velocity": fields["qvel"]}


def smooth_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward for a pole that is upright, still and in the middle, at little effort."""
    upright = (fields["xmat"][..., POLE, ZZ] + 1.0) / 2.0
    off_centre = np.abs(fields["qpos"][..., CART]) / CENTRE_MARGIN
    centred = (1.0 + gaussian(off_centre, scalar_square)) / 2.0
    small_control = (4.0 + quadratic(np.abs(fields["ctrl"][..., 0]))) / 5.0
    small_velocity = (1.0 + gaussian(np.abs(fields["qvel"][..., 1]) / SPEED_MARGIN)) / 2.0
    reward: NDArray[np.float64] = upright * small_control * small_velocity * centred
    return reward


def slider_and_hinge(sensors: Readings) -> NDArray[np.float64]:
    """The cart's position, m, and the pole's angle, rad, from its cosine and sine."""
    cart, cosine, sine = np.moveaxis(sensors["position"], -1, 0)
    return np.stack([cart, np.arctan2(sine, cosine)], axis=-1)


CARTPOLE = Body(
    name="cartpole",
    action_repeat=8,
    sensors=(Sensor("position", 3), Sensor("velocity", 2, "second")),
    reader=Reader(("ctrl", "qpos", "qvel", "xmat"), read_sensors),
    tasks={"swingup": Task("swingup", smooth_reward), "balance": Task("balance", smooth_reward)},
    pose=Pose((0, 1), slider_and_hinge),
)
