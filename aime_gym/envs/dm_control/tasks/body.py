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
class BatchReader:
    """Reads many environments at once from MuJoCo's own arrays, to the bit as the suite reads one.

    Attributes:
        fields: The mjData arrays that the sensors and every task's `batch_reward` need.
        sensors: These arrays [..., *shape] -> the body's sensors [..., n].
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
        suite_task: The dm_control suite's task which sets the initial state and the suite's reward.
        reward: None for the suite's own reward summed over the action repeat; else a function of
            that sum and of the sensors after the repeat.
        sensors: Further sensors which the suite gives with this task alone.
        episode_values: What the task draws anew in every episode, if anything.
        batch_reward: The suite's reward [...] of one control step, from the arrays that the body's
            `batch_reader` names; None where the suite computes it, one environment at a time.
    """

    suite_task: str
    reward: RewardFunction | None = None
    sensors: tuple[Sensor, ...] = ()
    episode_values: EpisodeValues | None = None
    batch_reward: Callable[[Fields], NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class Body:
    """A dm_control suite domain.

    Attributes:
        name: The domain's name.
        action_repeat: Control steps an agent's action is held for.
        sensors: All vector sensors in the suite's order.
        tasks: Task name -> task.
        camera: The camera which takes the images.
        model_sensors: The order in which published world models concatenate the sensors, where it
            is not first-order then second-order.
        batch_reader: Reads a batch quickly; None where the suite reads one by one.
        pose: How it stands, from its sensors; None where they do not determine it.
    """

    name: str
    action_repeat: int
    sensors: tuple[Sensor, ...]
    tasks: Mapping[str, Task] = field(default_factory=dict)
    camera: int = 0
    model_sensors: tuple[str, ...] = ()
    batch_reader: BatchReader | None = None
    pose: Pose | None = None
