"""Humanoid: a three-dimensional body with 21 joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.tasks.body import (
    Body,
    Fields,
    Reader,
    Readings,
    Sensor,
    SuiteReward,
    Task,
)
from aime_gym.envs.dm_control.tasks.tolerance import below, gaussian, linear, quadratic
from aime_gym.envs.dm_control.tasks.tolerance import scalar_square as power

STAND_HEIGHT = 1.4  # m
WALK_SPEED, RUN_SPEED = 1.0, 10.0  # m/s
UPRIGHT, UPRIGHT_MARGIN = 0.9, 1.9  # Of the cosine between the torso and the vertical.
DRIFT_MARGIN = 2.0  # m/s
TORSO, HEAD, Z = 1, 2, 2  # Indices in xpos [body, axis].
LIMBS = (16, 10, 13, 7)  # Left hand, left foot, right hand, right foot.
ZX, ZZ = 6, 8  # Indices in a row of xmat, a rotation matrix.
COM_VELOCITY = slice(0, 3)  # In sensordata.


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: joints, head, hands and feet as the torso sees them, and speeds."""
    torso = fields["xmat"][..., TORSO, :]
    to_limbs = fields["xpos"][..., LIMBS, :] - fields["xpos"][..., TORSO, None, :]
    extremities = in_frame(to_limbs, torso[..., None, :])
    return {
        "joint_angles": fields["qpos"][..., 7:],
        "head_height": fields["xpos"][..., HEAD, Z, None],
        "extremities": extremities.reshape(*extremities.shape[:-2], -1),
        "torso_vertical": torso[..., ZX : ZZ + 1],
        "com_velocity": fields["sensordata"][..., COM_VELOCITY],
        "velocity": fields["qvel"],
    }


def in_frame(vectors: NDArray[np.float64], frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors [..., 3] as seen in frames, rotation matrices in rows [..., 9]."""
    rows = vectors[..., None, :] @ frame.reshape(*frame.shape[:-1], 3, 3)
    turned: NDArray[np.float64] = rows[..., 0, :]
    return turned


def stand_reward(fields: Fields) -> NDArray[np.float64]:
    """The part of the suite's rewards for little effort, times that for standing upright."""
    head = below(fields["xpos"][..., HEAD, Z], STAND_HEIGHT, STAND_HEIGHT / 4.0)
    tilt = below(fields["xmat"][..., TORSO, ZZ], UPRIGHT, UPRIGHT_MARGIN)
    effort = quadratic(np.abs(fields["ctrl"])).mean(axis=-1)
    small_control = (4.0 + effort) / 5.0
    stand: NDArray[np.float64] = small_control * (gaussian(head, power) * linear(tilt, value=0.0))
    return stand


def still_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward for standing where it is."""
    drift = np.abs(fields["sensordata"][..., COM_VELOCITY][..., :2]) / DRIFT_MARGIN
    reward: NDArray[np.float64] = stand_reward(fields) * gaussian(drift).mean(axis=-1)
    return reward


def move_reward(speed: float) -> SuiteReward:
    """The suite's reward for standing, and for moving at `speed` in any direction."""

    def reward(fields: Fields) -> NDArray[np.float64]:
        velocity = fields["sensordata"][..., COM_VELOCITY][..., :2]
        move = linear(below(np.sqrt(np.vecdot(velocity, velocity)), speed, speed), value=0.0)
        return stand_reward(fields) * ((5.0 * move + 1.0) / 6.0)

    return reward


HUMANOID = Body(
    name="humanoid",
    action_repeat=2,
    sensors=(
        Sensor("joint_angles", 21),
        Sensor("head_height", 1),
        Sensor("extremities", 12),
        Sensor("torso_vertical", 3),
        Sensor("com_velocity", 3, "second"),
        Sensor("velocity", 27, "second"),
    ),
    reader=Reader(("ctrl", "qpos", "qvel", "sensordata", "xmat", "xpos"), read_sensors),
    tasks={
        "stand": Task("stand", still_reward),
        "walk": Task("walk", move_reward(WALK_SPEED)),
        "run": Task("run", move_reward(RUN_SPEED)),
    },
)
