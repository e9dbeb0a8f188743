"""Windows of sequences, sampled on the training device from compact arrays.

Rows of all trajectories lie one after another in one tensor per sensor, images as uint8. A window
is `length` consecutive rows of one trajectory; windows are drawn uniformly over all, with
replacement. Axes are [T, B, ..].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.env_info import EnvInfo
from agents.layout import REWARD
from aime_gym.datasets import Dataset, cached_images, check_dataset
from aime_gym.envs.setups import IMAGE_SHAPE
from aime_gym.trajectory import IMAGE


def fit_dataset(
    dataset: Dataset,
    info: EnvInfo,
    sensors: Mapping[str, int],
    length: int,
    actions: bool,
    progress_bar: bool = False,
) -> Dataset:
    """The dataset, checked against an environment, with images drawn where they are wanted.

    Args:
        dataset: What to check.
        info: The environment.
        sensors: Vector sensors that are needed -> sizes.
        length: Rows of a window.
        actions: Whether actions are needed.
        progress_bar: Show one while images are drawn.

    Raises:
        ValueError: It does not fit; the message says what would.
    """
    check_dataset(dataset, body=info.body, sensors=sensors, actions=actions, min_rows=length)
    first, size = dataset[0].actions, len(info.action_low)
    if actions and first is not None and first.shape[1] != size:
        raise ValueError(
            f"Actions of {info.env_id} have {size} values; those of {dataset.card.name!r} have "
            f"{first.shape[1]}."
        )
    if info.setup == "visual":
        dataset = cached_images(dataset, progress_bar=progress_bar)
        if dataset.sensor_shapes[IMAGE] != IMAGE_SHAPE:
            raise ValueError(
                f"Images of {dataset.card.name!r} have shape {dataset.sensor_shapes[IMAGE]}; "
                f"needed is {IMAGE_SHAPE}."
            )
    return dataset


class Batch(NamedTuple):
    """A batch of windows.

    Attributes:
        observations: Sensor -> [T, B, n]; images uint8 [T, B, H, W, 3].
        prev_actions: What led to each observation [T, B, A]; zero in an episode's first row.
    """

    observations: dict[str, Tensor]
    prev_actions: Tensor | None


class Rows:
    """All rows of a dataset on one device.

    Args:
        dataset: Where they come from.
        sensors: Which sensors to keep.
        actions: Keep the actions, too.
        device: Where to.
    """

    def __init__(
        self, dataset: Dataset, sensors: Sequence[str], actions: bool, device: torch.device
    ) -> None:
        self.columns = {
            name: _to_device([t.sensors[name] for t in dataset], device) for name in sensors
        }
        self.prev_actions = (
            _to_device([t.prev_actions for t in dataset], device) if actions else None
        )
        self.lengths = [len(trajectory) for trajectory in dataset]
        self.device = device

    def scale_actions(self, info: EnvInfo) -> None:
        """Brings actions to -1 .. 1; first rows, which no action led to, stay zero."""
        assert self.prev_actions is not None
        self.prev_actions = info.to_unit(self.prev_actions)
        firsts = np.cumsum([0, *self.lengths[:-1]])
        self.prev_actions[torch.as_tensor(firsts, device=self.device)] = 0

    def add_rewards(self, dataset: Dataset) -> None:
        """Keeps the reward that led to each row, as a column [rows, 1]."""
        columns = []
        for trajectory in dataset:
            if trajectory.rewards is None:
                raise ValueError(f"Dataset {dataset.card.name!r} has no rewards to learn from.")
            columns.append(np.append(0.0, trajectory.rewards)[:, None])
        self.columns[REWARD] = _to_device(columns, self.device)


class Windows:
    """Windows of `length` consecutive rows.

    Args:
        rows: The rows.
        length: Rows of a window, T; no trajectory is shorter.
    """

    def __init__(self, rows: Rows, length: int) -> None:
        first, starts = 0, []
        for rows_here in rows.lengths:
            starts.append(torch.arange(first, first + rows_here - length + 1))
            first += rows_here
        self._rows = rows
        self._starts = torch.cat(starts).to(rows.device)
        self._offsets = torch.arange(length, device=rows.device)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._starts)

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Draws B windows."""
        device = self._starts.device
        chosen = torch.randint(len(self), (batch_size,), generator=generator, device=device)
        return self.gather(chosen)

    def gather(self, chosen: Tensor) -> Batch:
        """The windows of these numbers [B]."""
        index = self._starts[chosen] + self._offsets[:, None]  # [T, B]
        rows = self._rows
        return Batch(
            {name: column[index] for name, column in rows.columns.items()},
            None if rows.prev_actions is None else rows.prev_actions[index],
        )


def _to_device(parts: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Joins the parts; floats become float32 and bytes stay bytes."""
    rows = sum(len(part) for part in parts)
    dtype = torch.uint8 if parts[0].dtype == np.uint8 else torch.float32
    joined = torch.empty((rows, *parts[0].shape[1:]), dtype=dtype, device=device)
    start = 0
    for part in parts:
        joined[start : start + len(part)] = torch.from_numpy(np.array(part))
        start += len(part)
    return joined
