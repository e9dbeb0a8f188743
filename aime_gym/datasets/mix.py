"""Cutting datasets and putting them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aime_gym.datasets.dataset import Dataset, mixed_card


@dataclass(frozen=True)
class Selection:
    """Which trajectories of a dataset to take; the conditions apply in this order.

    Attributes:
        max_return: Only those with an episode return below this; None for all.
        stride: Only one in this many, beginning with the first.
        episodes: Only this many, the first ones; None for all.

    Raises:
        ValueError: `stride` or `episodes` is less than 1.
    """

    max_return: float | None = None
    stride: int = 1
    episodes: int | None = None

    def __post_init__(self) -> None:
        if self.stride < 1 or (self.episodes is not None and self.episodes < 1):
            raise ValueError(f"A stride and a number of episodes are at least 1: {self}.")

    def __str__(self) -> str:
        parts = [] if self.max_return is None else [f"returns below {self.max_return:g}"]
        parts += [] if self.stride == 1 else [f"one in {self.stride}"]
        parts += [] if self.episodes is None else [f"first {self.episodes}"]
        return ", ".join(parts)

    def cut(self, dataset: Dataset) -> Dataset:
        """What is selected of a dataset; the card's name says how.

        Raises:
            ValueError: No trajectory fits, there are fewer than `episodes`, or rewards are missing.
        """
        if not str(self):
            return dataset
        chosen = list(dataset)
        if self.max_return is not None:
            chosen = [t for t in chosen if t.episode_return < self.max_return]
        chosen = chosen[:: self.stride]
        if len(chosen) < (self.episodes or 1):
            raise ValueError(
                f"Of the {len(dataset)} trajectories of {dataset.card.name!r}, {len(chosen)} fit "
                f"the selection ({self})."
            )
        name = f"{dataset.card.name} ({self})"
        return Dataset(
            chosen[: self.episodes], replace(dataset.card, name=name, parts=(), sha256={})
        )


def mix(
    datasets: Sequence[Dataset],
    name: str,
    selections: Sequence[Selection] | None = None,
    **card: Any,
) -> Dataset:
    """Puts datasets of one body together, one after the other.

    Args:
        datasets: At least one.
        name: The name of the mix.
        selections: What to take of each; None for everything.
        **card: Further fields of the mix's card, such as ``description`` and ``command``.

    Raises:
        ValueError: Bodies or sensors differ, or there are not as many selections as datasets.
    """
    if not datasets:
        raise ValueError("There is nothing to mix: give at least one dataset.")
    chosen = selections or [Selection()] * len(datasets)
    if len(chosen) != len(datasets):
        raise ValueError(f"{len(datasets)} datasets need as many selections, not {len(chosen)}.")
    parts = [selection.cut(data) for selection, data in zip(chosen, datasets, strict=True)]
    common = mixed_card([part.card for part in parts], name)
    _check_sensors(parts)
    return Dataset((trajectory for part in parts for trajectory in part), replace(common, **card))


def _check_sensors(datasets: Sequence[Dataset]) -> None:
    first = datasets[0]
    for other in datasets[1:]:
        if other.sensor_shapes != first.sensor_shapes:
            raise ValueError(
                f"Only datasets with the same sensors can be mixed: {first.card.name!r} has "
                f"{first.sensor_shapes}, {other.card.name!r} has {other.sensor_shapes}."
            )
