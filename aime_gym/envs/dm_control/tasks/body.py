"""What defines an environment: a body with its sensors, and the tasks it is given.

These tables are plain data. Reading them loads numpy alone, so ids can be registered and listed
without the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Readings = Mapping[str, NDArray[Any]]
"""Sensor name -> values [..., n]; the leading axes are those of a batch, if there is one."""

Fields = Mapping[str, NDArray[np.float64]]
"""Name of an mjData array, such as ``"qpos"`` -> values [..., *shape]; leading axes: a batch."""

SuiteReward = Callable[[Fields], NDArray[np.float64]]
"""MuJoCo's arrays after a control step [...] -> the suite's reward of it [...]."""

RewardFunction = Callable[[NDArray[np.float64], Readings], NDArray[np.float64]]
"""(suite rewards summed over the action repeat [...], sensors after it) -> reward [...]."""


@dataclass(frozen=True)
class Sensor:
    """A vector observation of a body.

    Attributes:
        name: Its key in the suite's observations.
        size: Number of values; scalars have one.
        order: ``"second"`` for velocities, which the lpomdp setup hides; ``"first"`` for the rest.
    """

    name: str
    size: int
    order: Literal["first", "second"] = "first"


@dataclass(frozen=True)
class EpisodeValues:
    """What a task changes in the MuJoCo model at each reset, beyond the physics state.

    Attributes:
        get: Reads these values from the suite's physics as one float64 vector.
        set: Writes such a vector back.
    """

    get: Callable[[Any], NDArray[np.float64]]
    set: Callable[[Any, NDArray[np.float64]], None]


@dataclass(frozen=True)
class Reader:
    """Reads sensors from MuJoCo's own arrays, of one or many environments, to the bit as the suite.

    Attributes:
        fields: The mjData arrays that the sensors and the tasks' `suite_reward` need.
        sensors: These arrays [..., *shape] -> the sensors [..., n].
    """

    fields: tuple[str, ...]
    sensors: Callable[[Fields], Readings]


@dataclass(frozen=True)
class Pose:
    """How a body stands, as far as its first-order sensors tell.

    Attributes:
        places: The entries of qpos that the sensors determine.
        read: The sensors [..., n] -> these entries [..., len(places)].
    """

    places: tuple[int, ...]
    read: Callable[[Readings], NDArray[np.float64]]


@dataclass(frozen=True)
class Task:
    """A reward for a body.

    Attributes:
        suite_task: The dm_control suite's task which sets the initial state.
        suite_reward: Its reward [...] of one control step, to the bit, from the arrays that the
            reader names.
        reward: None for the suite's own reward summed over the action repeat; else a function of
            that sum and of the sensors after the repeat.
        sensors: Further sensors which the suite gives with this task alone.
        episode_values: What the task draws anew in every episode, if anything.
        reader: Reads the sensors, further ones included; None for the body's reader.
    """

    suite_task: str
    suite_reward: SuiteReward
    reward: RewardFunction | None = None
    sensors: tuple[Sensor, ...] = ()
    episode_values: EpisodeValues | None = None
    reader: Reader | None = None


@dataclass(frozen=True)
class Body:
    """A dm_control suite domain.

    Attributes:
        name: The domain's name.
        action_repeat: Control steps an agent's action is held for.
        sensors: All vector sensors in the suite's order.
        reader: Reads them.
        tasks: Task name -> task.
        camera: The camera which takes the images.
        model_sensors: The order in which published world models concatenate the sensors, where it
            is not first-order then second-order.
        pose: How it stands, from its sensors; None where they do not determine it.
    """

    name: str
    action_repeat: int
    sensors: tuple[Sensor, ...]
    reader: Reader
    tasks: Mapping[str, Task] = field(default_factory=dict)
    camera: int = 0
    model_sensors: tuple[str, ...] = ()
    pose: Pose | None = None
