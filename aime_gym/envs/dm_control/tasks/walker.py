"""Walker: a planar biped with six joints.

qvel is (z, x, pitch, six joints): heights in m, speeds in m/s and rad/s.
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
    SuiteReward,
    Task,
)
from aime_gym.envs.dm_control.tasks.tolerance import below, gaussian, linear, scalar_square

STAND_HEIGHT = 1.2  # m
STAND_MARGIN = STAND_HEIGHT / 2  # m; so far below, standing is worth a tenth.
WALK_SPEED = 1.0  # m/s
RUN_SPEED = 8.0  # m/s
FLIP_SPEED = 5.0  # rad/s
JUMP_HEIGHT = 5.0  # m
HORIZONTAL, PITCH = 1, 2  # Indices in the velocity sensor.
TORSO, Z = 1, 2  # Indices in xpos [body, axis]; body 0 is the world.
XX, XZ, ZZ = 0, 2, 8  # Indices in a row of xmat, a rotation matrix.
REST_HEIGHT = 1.3  # m; the torso's where its slide joint is at 0.
PARENTS = (0, 1, 2, 0, 4, 5)  # Of right and left thigh, leg and foot; the torso is 0.


def backward(speed: float) -> RewardFunction:
    """Stand, and move backward at `speed`; the weights are those of the suite's walk and run."""

    def reward(stand: NDArray[np.float64], sensors: Readings) -> NDArray[np.float64]:
        move = np.clip(-sensors["velocity"][..., HORIZONTAL] / speed, 0.0, 1.0)
        return stand * (5.0 * move + 1.0) / 6.0

    return reward


def flip(direction: float) -> RewardFunction:
    """Turn over at `FLIP_SPEED`; `direction` is +1 or -1."""

    def reward(stand: NDArray[np.float64], sensors: Readings) -> NDArray[np.float64]:
        return np.clip(direction * sensors["velocity"][..., PITCH] / FLIP_SPEED, 0.0, 1.0)

    return reward


def jump(stand: NDArray[np.float64], sensors: Readings) -> NDArray[np.float64]:
    """Bring the torso up."""
    return np.clip(sensors["height"][..., 0] / JUMP_HEIGHT, 0.0, 1.0)


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: each body's direction in the plane, the torso's height, speeds."""
    directions = fields["xmat"][..., 1:, [XX, XZ]]
    return {
        "orientations": directions.reshape(*directions.shape[:-2], -1),
        "height": fields["xpos"][..., TORSO, Z, None],
        "velocity": fields["qvel"],
    }


def read_pose(sensors: Readings) -> NDArray[np.float64]:
    """Height above rest, pitch and the six joints' angles, from the bodies' directions.

    A direction is (cos, sin) of a body's pitch. Hips, knees and ankles turn the other way than the
    torso does.
    """
    directions = sensors["orientations"]
    pitch = np.arctan2(directions[..., 1::2], directions[..., 0::2])
    joints = pitch[..., PARENTS] - pitch[..., 1:]
    wrapped = np.arctan2(np.sin(joints), np.cos(joints))
    return np.concatenate([sensors["height"] - REST_HEIGHT, pitch[..., :1], wrapped], axis=-1)


def stand_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward for standing high and upright."""
    lacking = below(fields["xpos"][..., TORSO, Z], STAND_HEIGHT, STAND_MARGIN)
    upright = (1.0 + fields["xmat"][..., TORSO, ZZ]) / 2.0
    reward: NDArray[np.float64] = (3.0 * gaussian(lacking, scalar_square) + upright) / 4.0
    return reward


def move_reward(speed: float) -> SuiteReward:
    """The suite's reward for standing, and for moving at `speed` at least."""

    def reward(fields: Fields) -> NDArray[np.float64]:
        move = linear(below(fields["sensordata"][..., 0], speed, speed / 2.0), value=0.5)
        return stand_reward(fields) * (5.0 * move + 1.0) / 6.0

    return reward


def stand_task(reward: RewardFunction | None = None) -> Task:
    """A task that starts as the suite's stand does, and has its reward as a part."""
    return Task("stand", stand_reward, reward)


WALKER = Body(
    name="walker",
    action_repeat=2,
    sensors=(Sensor("orientations", 14), Sensor("height", 1), Sensor("velocity", 9, "second")),
    reader=Reader(("qvel", "sensordata", "xmat", "xpos"), read_sensors),
    tasks={
        "stand": stand_task(),
        "walk": Task("walk", move_reward(WALK_SPEED)),
        "run": Task("run", move_reward(RUN_SPEED)),
        "walkbackward": stand_task(backward(WALK_SPEED)),
        "runbackward": stand_task(backward(RUN_SPEED)),
        "flip": stand_task(flip(+1.0)),
        "flipbackward": stand_task(flip(-1.0)),
        "jump": stand_task(jump),
    },
    pose=Pose((0, *range(2, 9)), read_pose),
)
