"""Whether a dataset fits what is to learn from it, before any long work starts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.images import can_draw
from aime_gym.trajectory import IMAGE


def check_dataset(
    dataset: Dataset,
    *,
    body: str,
    sensors: Mapping[str, int],
    actions: bool,
    min_rows: int,
    action_repeat: int | None = None,
) -> None:
    """Raises an error unless the dataset fits.

    Args:
        dataset: What to check.
        body: The body it must be of.
        sensors: Sensor name -> number of values of a reading; an image has H x W x 3.
        actions: Whether actions are needed.
        min_rows: Observations of a window. Trajectories that are shorter are passed over, with a
            warning.
        action_repeat: Steps for which an action must have been held, where the dataset's card knows
            for how many it was; None for any.

    Raises:
        ValueError: It does not fit; the message says what does not, and what would.
    """
    name = dataset.card.name
    if dataset.card.body != body:
        raise ValueError(f"Dataset {name!r} is of body {dataset.card.body!r}; needed is {body!r}.")
    made = dataset.card.action_repeat
    if None not in (made, action_repeat) and made != action_repeat:
        raise ValueError(
            f"Dataset {name!r} was made with an action repeat of {made}; needed is {action_repeat}."
        )
    _check_sensors(dataset, sensors)
    without = sum(trajectory.actions is None for trajectory in dataset)
    if actions and without:
        raise ValueError(
            f"Actions are needed, and {without} of the {len(dataset)} trajectories of {name!r} "
            "have none: they hold observations alone."
        )
    _check_lengths(dataset, min_rows)


def _check_lengths(dataset: Dataset, min_rows: int) -> None:
    """ValueError where no trajectory has a window; a warning where some have none."""
    name, rows = dataset.card.name, [len(trajectory) for trajectory in dataset]
    short = sum(number < min_rows for number in rows)
    needed = f"a window of {min_rows} observations (sequence_length, or for cloning stack + 1)"
    if short == len(rows):
        raise ValueError(
            f"The trajectories of {name!r} are shorter than {needed}: the longest has {max(rows)}."
        )
    if short:
        warnings.warn(
            f"{short} of the {len(rows)} trajectories of {name!r} are passed over: they are "
            f"shorter than {needed}.",
            stacklevel=2,
        )


def _check_sensors(dataset: Dataset, sensors: Mapping[str, int]) -> None:
    name, shapes = dataset.card.name, dataset.sensor_shapes
    missing = [sensor for sensor in sensors if sensor not in shapes]
    if missing:
        hint = ""
        if IMAGE in missing and dataset[0].physics_states is not None and can_draw(dataset.card):
            hint = " Images can be drawn: load_dataset(name, images='render')."
        raise ValueError(
            f"Dataset {name!r} lacks {', '.join(missing)}; it has {', '.join(shapes)}.{hint}"
        )
    for sensor, size in sensors.items():
        if math.prod(shapes[sensor]) != size:
            raise ValueError(
                f"Sensor {sensor!r} of dataset {name!r} has {math.prod(shapes[sensor])} values; "
                f"needed are {size}."
            )
