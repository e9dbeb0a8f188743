"""Quadruped: a four-legged body with tendon-driven joints; its action limits are not +-1."""

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
    SuiteReward,
    Task,
)
from aime_gym.envs.dm_control.tasks.humanoid import in_frame
from aime_gym.envs.dm_control.tasks.tolerance import above, below, linear

WALK_SPEED, RUN_SPEED = 0.5, 5.0  # m/s
TERRAIN_SIZE = 30.0  # m
ESCAPE_TILT = 20.0  # Degrees from the vertical that cost nothing.
REACH, TARGET_RADIUS = 0.3 + 0.15, 0.4  # m; workspace and ball, and the target.
ARENA = float(15.0 * np.sqrt(2))  # m
TORSO, BALL, ZZ = 1, 18, 8  # Indices in xpos and xmat [body, ...].
HINGES, HINGE_SPEEDS = slice(7, 23), slice(6, 22)  # In qpos and qvel.
IMU, VELOCITY, FORCE_TORQUE, RANGES = slice(0, 6), slice(6, 9), slice(9, 33), slice(36, 56)
# These four are in sensordata.
WORKSPACE = 2  # Index in site_xpos; in the task with a ball, 3, and 0 is the target.


def get_terrain(physics: Any) -> NDArray[np.float64]:
    """Heights of the terrain, relative to its largest, row by row."""
    return np.array(physics.model.hfield_data, dtype=np.float64)


def set_terrain(physics: Any, heights: NDArray[np.float64]) -> None:
    """Replaces the terrain."""
    physics.model.hfield_data[:] = heights


def read_sensors(fields: Fields) -> Readings:
    """The suite's observation: joints and actuators, the torso's motion, forces at the toes."""
    hinges, speeds = fields["qpos"][..., HINGES], fields["qvel"][..., HINGE_SPEEDS]
    values = fields["sensordata"]
    return {
        "egocentric_state": np.concatenate([hinges, speeds, fields["act"]], axis=-1),
        "torso_velocity": values[..., VELOCITY],
        "torso_upright": fields["xmat"][..., TORSO, ZZ, None],
        "imu": values[..., IMU],
        "force_torque": np.arcsinh(values[..., FORCE_TORQUE]),
    }


def read_escape(fields: Fields) -> Readings:
    """The same, the way to the origin, and the distances that the rangefinders see."""
    ranges = fields["sensordata"][..., RANGES]
    return {
        **read_sensors(fields),
        "origin": in_frame(-fields["xpos"][..., TORSO, :], fields["xmat"][..., TORSO, :]),
        "rangefinder": np.where(ranges == -1.0, 1.0, np.tanh(ranges)),
    }


def read_fetch(fields: Fields) -> Readings:
    """The same, the ball's place and motion, and the way to the target."""
    torso, speeds = fields["xpos"][..., TORSO, :], fields["qvel"]
    frame = fields["xmat"][..., TORSO, :].reshape(*torso.shape[:-1], 3, 3)
    ball = [fields["xpos"][..., BALL, :] - torso, speeds[..., 22:25] - speeds[..., :3]]
    ball_state = np.stack([*ball, speeds[..., 25:28]], axis=-2) @ frame
    to_target = fields["site_xpos"][..., 0, :] - torso
    return {
        **read_sensors(fields),
        "ball_state": ball_state.reshape(*torso.shape[:-1], 9),
        "target_position": in_frame(to_target, fields["xmat"][..., TORSO, :]),
    }


def upright(fields: Fields, tilt: float = 0.0) -> NDArray[np.float64]:
    """The suite's reward for a torso that is at most so many degrees from the vertical."""
    cosine = np.cos(np.deg2rad(tilt))
    return linear(below(fields["xmat"][..., TORSO, ZZ], cosine, 1.0 + cosine), value=0.0)


def move_reward(speed: float) -> SuiteReward:
    """The suite's reward for moving forward, upright, at `speed` at least."""

    def reward(fields: Fields) -> NDArray[np.float64]:
        forward = fields["sensordata"][..., VELOCITY.start]
        return upright(fields) * linear(below(forward, speed, speed), value=0.5)

    return reward


def escape_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward for being far from the origin."""
    place = fields["site_xpos"][..., WORKSPACE, :]
    away = below(np.sqrt(np.vecdot(place, place)), TERRAIN_SIZE, TERRAIN_SIZE)
    return upright(fields, ESCAPE_TILT) * linear(away, value=0.0)


def fetch_reward(fields: Fields) -> NDArray[np.float64]:
    """The suite's reward for being at the ball, and for the ball being at the target."""
    ball = fields["xpos"][..., BALL, None, :]
    apart = (fields["site_xpos"][..., [0, WORKSPACE + 1], :] - ball)[..., :2]
    distances = np.sqrt(np.vecdot(apart, apart))
    fetch = linear(above(distances[..., 0], TARGET_RADIUS, ARENA), value=0.0)
    reach = linear(above(distances[..., 1], REACH, ARENA), value=0.0)
    return upright(fields) * (reach * (0.5 + 0.5 * fetch))


FIELDS = ("act", "qpos", "qvel", "sensordata", "xmat")
PLACES = (*FIELDS, "site_xpos", "xpos")

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
    reader=Reader(FIELDS, read_sensors),
    tasks={
        "walk": Task("walk", move_reward(WALK_SPEED)),
        "run": Task("run", move_reward(RUN_SPEED)),
        "escape": Task(
            "escape",
            escape_reward,
            reader=Reader(PLACES, read_escape),
            sensors=(Sensor("origin", 3), Sensor("rangefinder", 20)),
            episode_values=EpisodeValues(get_terrain, set_terrain),
        ),
        "fetch": Task(
            "fetch",
            fetch_reward,
            reader=Reader(PLACES, read_fetch),
            sensors=(Sensor("ball_state", 9), Sensor("target_position", 3)),
        ),
    },
)
