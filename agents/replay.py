"""Sequences to learn from: rows of trajectories on the training device, drawn in windows.

Rows of all trajectories lie one after another in one tensor per sensor, images as uint8. A window
is `length` consecutive rows of one trajectory; windows are drawn uniformly over all, with
replacement. Axes are [T, B, ..]: T time, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.spaces import REWARD, EnvInfo
from aime_gym.datasets import Card, Dataset, cached_images, check_dataset
from aime_gym.trajectory import IMAGE, Trajectory

PREV_ACTION = "prev_action"
Embedder = Callable[[Mapping[str, Tensor]], Tensor]
"""Sensor -> [rows, n] to embeddings [rows, E]."""


class Batch(NamedTuple):
    """A batch of windows.

    Attributes:
        observations: Sensor -> [T, B, n]; images uint8 [T, B, H, W, 3]; with rewards, ``"reward"``
            [T, B, 1], what led to each observation.
        prev_actions: The actions that led to each observation in -1 .. 1 [T, B, A], zero in an
            episode's first row; None where the replay has no actions.
        embeds: Embeddings of the observations [T, B, E]; None unless `Replay.embed` was called.
        rows: Numbers of the rows [T, B].
    """

    observations: dict[str, Tensor]
    prev_actions: Tensor | None
    embeds: Tensor | None
    rows: Tensor


class Replay:
    """Rows of trajectories on one device; it can grow.

    Args:
        info: The environment, which gives the action limits.
        sensors: Sensors to keep.
        actions: Whether to keep the actions, too.
        rewards: Whether to keep the rewards, too, as a sensor ``"reward"`` of one value.
        device: Where the rows are kept.
    """

    def __init__(
        self,
        info: EnvInfo,
        sensors: Sequence[str],
        *,
        actions: bool = True,
        rewards: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self._info, self._sensors = info, list(sensors)
        self._actions, self._rewards = actions, rewards
        self.device = torch.device(device)
        self.lengths: list[int] = []
        self._capacity = 0
        self._columns: dict[str, Tensor] = {}
        self._embeds: Tensor | None = None
        self._starts: dict[int, Tensor] = {}
        self._is_first: Tensor | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return sum(self.lengths)

    # Filling

    def add(self, trajectories: Iterable[Trajectory]) -> Replay:
        """Adds trajectories at the end.

        Raises:
            ValueError: One has no actions or no rewards, though these are kept.
        """
        trajectories = list(trajectories)
        if not trajectories:
            return self
        first, added = len(self), sum(len(trajectory) for trajectory in trajectories)
        self._grow(first + added, trajectories[0])
        for trajectory in trajectories:
            for name, rows in self._rows(trajectory).items():
                values = torch.from_numpy(np.array(rows)).to(self.device)
                self._columns[name][first : first + len(rows)] = values
            if self._actions:
                self._scale_actions(slice(first, first + len(trajectory)))
            first += len(trajectory)
            self.lengths.append(len(trajectory))
        self._starts, self._embeds, self._is_first = {}, None, None
        return self

    def _rows(self, trajectory: Trajectory) -> dict[str, NDArray[Any]]:
        """What is kept of a trajectory: column -> rows."""
        rows: dict[str, NDArray[Any]] = {name: trajectory.sensors[name] for name in self._sensors}
        if self._actions:
            rows[PREV_ACTION] = trajectory.prev_actions
        if self._rewards:
            if trajectory.rewards is None:
                raise ValueError("A trajectory has no rewards to learn from.")
            rows[REWARD] = np.append(0.0, trajectory.rewards)[:, None]
        return rows

    def _grow(self, needed: int, like: Trajectory) -> None:
        """Makes room for rows: exactly at first, later for at least twice as many as before."""
        if needed <= self._capacity:
            return
        self._capacity = max(needed, 2 * self._capacity)
        for name, rows in self._rows(like).items():
            dtype = torch.uint8 if rows.dtype == np.uint8 else torch.float32
            shape = (self._capacity, *rows.shape[1:])
            column = torch.empty(shape, dtype=dtype, device=self.device)
            if name in self._columns:
                column[: len(self)] = self._columns[name][: len(self)]
            self._columns[name] = column

    def _scale_actions(self, rows: slice) -> None:
        """Brings actions to -1 .. 1; a first row, which no action led to, stays zero."""
        column = self._columns[PREV_ACTION]
        column[rows] = self._info.to_unit(column[rows])
        column[rows.start] = 0

    # Drawing

    @property
    def firsts(self) -> Tensor:
        """Numbers of the first rows of all trajectories [N]."""
        return torch.tensor(np.cumsum([0, *self.lengths[:-1]]), device=self.device)

    @property
    def is_first(self) -> Tensor:
        """Whether rows are the first ones of trajectories [rows]."""
        if self._is_first is None:
            self._is_first = torch.zeros(len(self), dtype=torch.bool, device=self.device)
            self._is_first[self.firsts] = True
        return self._is_first

    @property
    def columns(self) -> dict[str, Tensor]:
        """Sensor -> all rows [rows, n]."""
        kept = {name: c for name, c in self._columns.items() if name != PREV_ACTION}
        return {name: column[: len(self)] for name, column in kept.items()}

    @property
    def prev_actions(self) -> Tensor | None:
        """The actions that led to all rows, in -1 .. 1 [rows, A]."""
        return self._columns[PREV_ACTION][: len(self)] if self._actions else None

    @torch.no_grad()
    def map_rows(self, function: Embedder, chunk: int = 1_000) -> Tensor:
        """A function of all rows [rows, E], in chunks, so that images fit any memory."""
        parts = [
            function({name: column[i : i + chunk] for name, column in self.columns.items()})
            for i in range(0, len(self), chunk)
        ]
        return torch.cat(parts)

    def embed(self, function: Embedder, chunk: int = 1_000) -> Tensor:
        """Computes the embeddings of all rows once; batches have them until rows are added.

        Args:
            function: Sensor -> [rows, n] to embeddings [rows, E].
            chunk: Rows at a time.

        Returns:
            The embeddings [rows, E].
        """
        self._embeds = self.map_rows(function, chunk)
        return self._embeds

    def embedded(self, function: Embedder) -> Tensor:
        """The embeddings of all rows [rows, E]: those of `embed`, or computed anew."""
        return self.map_rows(function) if self._embeds is None else self._embeds

    @torch.no_grad()
    def embedded_rows(self, function: Embedder, rows: Tensor) -> Tensor:
        """The same for rows with these numbers [B] alone, [B, E]."""
        if self._embeds is not None:
            return self._embeds[rows]
        return function({name: column[rows] for name, column in self.columns.items()})

    def num_windows(self, length: int) -> int:
        """Number of windows of `length` rows."""
        return len(self._window_starts(length))

    def sample(self, batch_size: int, length: int, generator: torch.Generator) -> Batch:
        """Draws B windows of T = `length` rows."""
        chosen = torch.randint(
            self.num_windows(length), (batch_size,), generator=generator, device=self.device
        )
        return self.gather(chosen, length)

    def gather(self, chosen: Tensor, length: int) -> Batch:
        """The windows of T = `length` rows with these numbers [B]."""
        offsets = torch.arange(length, device=self.device)
        index = self._window_starts(length)[chosen] + offsets[:, None]  # [T, B]
        return Batch(
            {name: column[index] for name, column in self.columns.items()},
            None if self.prev_actions is None else self.prev_actions[index],
            None if self._embeds is None else self._embeds[index],
            index,
        )

    def _window_starts(self, length: int) -> Tensor:
        """First rows of all windows of a length."""
        if length not in self._starts:
            first, starts = 0, []
            for rows in self.lengths:
                starts.append(torch.arange(first, first + max(rows - length + 1, 0)))
                first += rows
            self._starts[length] = torch.cat(starts).to(self.device)
        return self._starts[length]

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """All rows, under flat names."""
        columns = {f"rows.{name}": c[: len(self)] for name, c in self._columns.items()}
        return {"lengths": torch.tensor(self.lengths), **columns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.lengths = state["lengths"].tolist()
        self._columns = {
            name.removeprefix("rows."): column.to(self.device)
            for name, column in state.items()
            if name.startswith("rows.")
        }
        self._capacity = len(self)
        self._starts, self._embeds, self._is_first = {}, None, None


def make_replay(
    dataset: Dataset,
    info: EnvInfo,
    sensors: Mapping[str, int],
    length: int,
    *,
    actions: bool = True,
    rewards: bool = False,
    device: torch.device | str = "cpu",
    progress_bar: bool = False,
) -> Replay:
    """A dataset as a replay, checked against an environment; images are drawn where they lack.

    Args:
        dataset: What to learn from.
        info: The environment.
        sensors: Vector sensors that are needed -> sizes; images of visual setups come along.
        length: Rows of a window.
        actions: Whether actions are needed.
        rewards: Whether rewards are needed.
        device: Where the rows are kept.
        progress_bar: Show one while images are drawn.

    Raises:
        ValueError: The dataset does not fit; the message says what would.
    """
    check_dataset(
        dataset,
        body=info.body,
        sensors=sensors,
        actions=actions,
        min_rows=length,
        action_repeat=info.action_repeat,
    )
    if actions:
        _check_actions(dataset, info)
    if info.image:
        _check_drawing(dataset, info)
        dataset = cached_images(dataset, progress_bar=progress_bar)
        needed = info.observation_space.shape
        if dataset.sensor_shapes[IMAGE] != needed:
            raise ValueError(
                f"Images of {dataset.card.name!r} have shape {dataset.sensor_shapes[IMAGE]}; "
                f"needed is {needed}."
            )
    if rewards and any(trajectory.rewards is None for trajectory in dataset):
        raise ValueError(f"Dataset {dataset.card.name!r} has no rewards to learn from.")
    names = [*([IMAGE] if info.image else []), *sensors]
    replay = Replay(info, names, actions=actions, rewards=rewards, device=device)
    return replay.add(dataset)


def _check_drawing(dataset: Dataset, info: EnvInfo) -> None:
    """ValueError where images that this package draws, exactly, are not those of the environment.

    Images of other origins do not tell how they were drawn.
    """
    drawn = not dataset.has_images or dataset.card.gl_vendor is not None
    if drawn and info.drawing not in (None, "exact"):
        raise ValueError(
            f"The images of {dataset.card.name!r} are drawn exactly, those of {info} with "
            f"drawing={info.drawing!r}; make the environment with drawing='exact'."
        )


def _check_actions(dataset: Dataset, info: EnvInfo) -> None:
    actions, size = dataset[0].actions, info.box_actions.shape[0]
    if actions is not None and actions.shape[1] != size:
        raise ValueError(
            f"Actions of {info} have {size} values; those of {dataset.card.name!r} have "
            f"{actions.shape[1]}."
        )


def alone(trajectory: Trajectory, info: EnvInfo) -> Dataset:
    """A dataset of one trajectory, of the environment of whoever reads it."""
    card = Card(name="one-trajectory", body=info.body, env_id=info.env_id)
    return Dataset([trajectory], card)
