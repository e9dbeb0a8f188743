"""A dataset: trajectories of one body, and the card that says what they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from aime_gym.card import Card
from aime_gym.trajectory import IMAGE, Trajectory

Several = slice | Sequence[int] | Sequence[bool] | NDArray[np.integer[Any]] | NDArray[np.bool_]
"""Which trajectories: a slice, their numbers, or a mask with one boolean for each."""


class Dataset(Sequence[Trajectory]):
    """A sequence of trajectories of one body.

    ``len(demos)``, ``demos[3]``, ``demos[:5]`` and ``demos + others`` work as for a list;
    ``demos[[0, 3]]`` and ``demos[demos.episode_returns > 500]`` as for an array.

    Args:
        trajectories: At least one; all with the same sensors.
        card: What they are.

    Raises:
        ValueError: There is no trajectory, or their sensors or actions differ in shape.
    """

    def __init__(self, trajectories: Iterable[Trajectory], card: Card) -> None:
        self._trajectories = tuple(trajectories)
        self.card = card
        if not self._trajectories:
            raise ValueError(f"Dataset {card.name!r} has no trajectory.")
        _check_alike(self._trajectories, card.name)

    def __len__(self) -> int:
        return len(self._trajectories)

    @overload
    def __getitem__(self, index: int) -> Trajectory: ...

    @overload
    def __getitem__(self, index: Several) -> Dataset: ...

    def __getitem__(self, index: int | Several) -> Trajectory | Dataset:
        if isinstance(index, slice):
            return self._of(self._trajectories[index])
        if isinstance(index, int | np.integer):
            return self._at(int(index))
        return self._of(self._at(number) for number in _chosen(index, len(self)))

    def _at(self, number: int) -> Trajectory:
        if not -len(self) <= number < len(self):
            raise IndexError(
                f"{self.card.name!r} has trajectories 0 to {len(self) - 1}; there is no {number}."
            )
        return self._trajectories[number]

    def _of(self, trajectories: Iterable[Trajectory]) -> Dataset:
        """A part of this dataset: its card, without the checksums of the whole."""
        return Dataset(trajectories, dataclasses.replace(self.card, sha256={}))

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self._trajectories)

    def __add__(self, other: Dataset) -> Dataset:
        if not isinstance(other, Dataset):
            return NotImplemented
        return Dataset((*self, *other), mixed_card([self.card, other.card]))

    def __repr__(self) -> str:
        sensors = ", ".join(f"{name} {list(shape)}" for name, shape in self.sensor_shapes.items())
        size = f"{len(self)} trajectories, {self.num_steps} steps"
        return f"Dataset({self.card.name!r}, {size}: {sensors})"

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

    @cached_property
    def checksum(self) -> str:
        """One SHA-256: of the card's checksums, or of the arrays where it has none."""
        return self.card.checksum or _hash_text(
            "".join(_hash_arrays(trajectory) for trajectory in self)
        )

    def observations_only(self) -> Dataset:
        """The same without actions and rewards."""
        return self.map(Trajectory.observations_only)

    def filter(self, predicate: Callable[[Trajectory], bool]) -> Dataset:
        """The trajectories for which a predicate holds.

        Raises:
            ValueError: It holds for none.
        """
        kept = [trajectory for trajectory in self if predicate(trajectory)]
        if not kept:
            raise ValueError(f"None of the {len(self)} trajectories of {self.card.name!r} remains.")
        return self._of(kept)

    def map(self, function: Callable[[Trajectory], Trajectory], **card: Any) -> Dataset:
        """Applies a function to every trajectory; keywords replace fields of the card.

        The card's checksums go, as they were those of other arrays.
        """
        fields: dict[str, Any] = {"sha256": {}, **card}
        return Dataset(
            (function(trajectory) for trajectory in self), dataclasses.replace(self.card, **fields)
        )


def _chosen(index: Any, count: int) -> list[int]:
    """The numbers of the trajectories that a list of numbers or a mask chooses.

    Raises:
        IndexError: There is no trajectory of that number, or a mask has another length.
        TypeError: It is neither.
    """
    chosen = np.asarray(index)
    if chosen.ndim == 1 and chosen.dtype == np.bool_:
        if len(chosen) != count:
            raise IndexError(
                f"A mask has a boolean for each of the {count} trajectories; this one has "
                f"{len(chosen)}."
            )
        return [int(number) for number in np.flatnonzero(chosen)]
    if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
        raise TypeError(
            "Trajectories are chosen by a number, a slice, a list of numbers or a mask of "
            f"booleans; got {index!r}."
        )
    return [int(number) for number in chosen]


def mixed_card(cards: Sequence[Card], name: str | None = None) -> Card:
    """The card of a concatenation: what all cards agree on, and the names of the parts.

    Raises:
        ValueError: The cards are of different bodies or action repeats.
    """
    if len({card.body for card in cards}) > 1:
        bodies = ", ".join(f"{card.name!r} is of {card.body}" for card in cards)
        raise ValueError(f"Cannot mix bodies: {bodies}.")
    repeats = {card.name: card.action_repeat for card in cards if card.action_repeat is not None}
    if len({*repeats.values()}) > 1:
        held = ", ".join(f"{name!r} holds an action for {n} steps" for name, n in repeats.items())
        raise ValueError(f"Cannot mix action repeats: {held}.")
    parts = tuple(part for card in cards for part in (card.parts or (card.name,)))
    first = cards[0]

    def agreed(attribute: str, otherwise: Any) -> Any:
        values = [getattr(card, attribute) for card in cards]
        return values[0] if all(value == values[0] for value in values) else otherwise

    return Card(
        name=name or " + ".join(parts),
        body=first.body,
        env_id=agreed("env_id", None),
        description="A mix.",
        source=agreed("source", "user"),
        license=" AND ".join(dict.fromkeys(card.license for card in cards)),
        versions=agreed("versions", {}),
        gl_vendor=agreed("gl_vendor", None),
        action_repeat=agreed("action_repeat", None),
        parts=parts,
    )


def _check_alike(trajectories: Sequence[Trajectory], name: str) -> None:
    expected = _shapes(trajectories[0])
    num_actions = None
    for index, trajectory in enumerate(trajectories):
        if _shapes(trajectory) != expected:
            raise ValueError(
                f"All trajectories of a dataset have the same sensors: {name!r} starts "
                f"with {expected}, and number {index} has {_shapes(trajectory)}."
            )
        if trajectory.actions is None:
            continue
        size = trajectory.actions.shape[1]
        num_actions = size if num_actions is None else num_actions
        if size != num_actions:
            raise ValueError(
                f"All actions of a dataset have the same size: {name!r} has some of "
                f"{num_actions} values, and number {index} has {size}."
            )


def _shapes(trajectory: Trajectory) -> dict[str, tuple[int, ...]]:
    return {name: rows.shape[1:] for name, rows in trajectory.sensors.items()}


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_arrays(trajectory: Trajectory) -> str:
    parts = {
        **{f"sensors/{name}": rows for name, rows in trajectory.sensors.items()},
        "actions": trajectory.actions,
        "rewards": trajectory.rewards,
        "physics_states": trajectory.physics_states,
    }
    digest = hashlib.sha256(f"{trajectory.terminated} {trajectory.truncated}".encode())
    for name, array in sorted(parts.items()):
        if array is not None:
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
