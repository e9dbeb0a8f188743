"""A dataset: trajectories of one body, and the card that says what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from aime_gym.trajectory import IMAGE, Trajectory

Source = Literal["aime-gym", "aime", "user"]


@dataclass(frozen=True)
class Card:
    """What a dataset is and how to make it again.

    Attributes:
        name: Its name for `load_dataset`.
        body: The body that moved, such as ``"walker"``.
        env_id: The environment, where there was one alone.
        description: One sentence.
        source: Who made it: ``"aime-gym"``, ``"aime"`` (published with the paper) or ``"user"``.
        licence: SPDX identifier of its licence.
        command: The shell command that makes it.
        seed: That command's seed.
        versions: Package -> version at the making.
        evaluation_returns: Returns of 100 episodes of the policy behind it, for an expert.
        gl_vendor: What drew the images, if there are any.
        sha256: File name -> checksum.
        parts: Names of what it was mixed from.
    """

    name: str
    body: str
    env_id: str | None = None
    description: str = ""
    source: Source = "user"
    licence: str = "MIT"
    command: str | None = None
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    evaluation_returns: tuple[float, ...] = ()
    gl_vendor: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, for ``card.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Card:
        """The inverse of `to_json`.

        Raises:
            ValueError: A field is missing, or unknown.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if not {"name", "body"} <= set(values) <= known:
            raise ValueError(
                f"A dataset card has name and body, and may have {', '.join(sorted(known))}; "
                f"this one has {', '.join(sorted(values))}."
            )
        tuples = {key: tuple(values[key]) for key in ("evaluation_returns", "parts") if key in values}
        return cls(**{**values, **tuples})


class Dataset(Sequence[Trajectory]):
    """A sequence of trajectories of one body.

    ``len(demos)``, ``demos[3]``, ``demos[:5]`` and ``demos + others`` work as for a list.

    Args:
        trajectories: At least one; all with the same sensors.
        card: What they are.

    Raises:
        ValueError: There is no trajectory, or their sensors differ.
    """

    def __init__(self, trajectories: Iterable[Trajectory], card: Card) -> None:
        self._trajectories = tuple(trajectories)
        self.card = card
        if not self._trajectories:
            raise ValueError(f"Dataset {card.name!r} has no trajectory.")
        expected = _shapes(self._trajectories[0])
        for index, trajectory in enumerate(self._trajectories):
            if _shapes(trajectory) != expected:
                raise ValueError(
                    f"All trajectories of a dataset have the same sensors: {card.name!r} starts "
                    f"with {expected}, and number {index} has {_shapes(trajectory)}."
                )

    def __len__(self) -> int:
        return len(self._trajectories)

    @overload
    def __getitem__(self, index: int) -> Trajectory: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    def __getitem__(self, index: int | slice) -> Trajectory | Dataset:
        if isinstance(index, slice):
            return Dataset(self._trajectories[index], self.card)
        return self._trajectories[index]

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self._trajectories)

    def __add__(self, other: Dataset) -> Dataset:
        if not isinstance(other, Dataset):
            return NotImplemented
        if other.card.body != self.card.body:
            raise ValueError(
                f"Cannot mix bodies: {self.card.name!r} is of {self.card.body}, "
                f"{other.card.name!r} of {other.card.body}."
            )
        return Dataset((*self, *other), _mixed_card(self.card, other.card))

    def __repr__(self) -> str:
        sensors = ", ".join(f"{name} {list(shape)}" for name, shape in self.sensor_shapes.items())
        return f"Dataset({self.card.name!r}, {len(self)} trajectories, {self.num_steps} steps: {sensors})"

    @property
    def sensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Sensor name -> shape of one reading."""
        return _shapes(self._trajectories[0])

    @property
    def num_steps(self) -> int:
        """Number of agent steps in all."""
        return sum(trajectory.num_steps for trajectory in self)

    @property
    def has_images(self) -> bool:
        """Whether images are stored."""
        return IMAGE in self.sensor_shapes

    @property
    def episode_returns(self) -> NDArray[np.float64]:
        """Undiscounted return of every trajectory [N]."""
        return np.array([trajectory.episode_return for trajectory in self])

    def observations_only(self) -> Dataset:
        """The same without actions and rewards."""
        return self.map(Trajectory.observations_only)

    def map(self, function: Any, **card: Any) -> Dataset:
        """Applies a function to every trajectory; keywords replace fields of the card."""
        return Dataset(
            (function(trajectory) for trajectory in self), dataclasses.replace(self.card, **card)
        )


def _shapes(trajectory: Trajectory) -> dict[str, tuple[int, ...]]:
    return {name: rows.shape[1:] for name, rows in trajectory.sensors.items()}


def _mixed_card(first: Card, second: Card) -> Card:
    parts = (*(first.parts or (first.name,)), *(second.parts or (second.name,)))
    return Card(
        name=" + ".join(parts),
        body=first.body,
        env_id=first.env_id if first.env_id == second.env_id else None,
        description="A mix.",
        licence=first.licence
        if first.licence == second.licence
        else f"{first.licence} AND {second.licence}",
        parts=parts,
    )
