"""Datasets on disk: a folder with a card and compressed shards of whole trajectories.

    walker-run-expert/
        card.json           what it is, with a checksum of every shard
        000000.npz          one or more trajectories, their rows one after another
        000020.npz          named after the first trajectory inside
        images.npy          optional: all images, uint8, memory-mapped

`aime_gym.datasets.shards` says what the .npz files hold.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from aime_gym.card import check_files, write_card
from aime_gym.catalogue import read_card_of
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.image_files import len_rows, open_images, write_images
from aime_gym.datasets.shards import contents, num_rows, read_shard, write_shard
from aime_gym.files import atomic_write, new_folder, sha256
from aime_gym.foreign import blame
from aime_gym.trajectory import IMAGE, Trajectory

IMAGES = "images.npy"
SHARD_BYTES = 14 * 2**20  # Before compression, so that files stay under 16 MiB.


def save_dataset(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    sensor_dtype: DTypeLike | None = np.float32,
    physics_dtype: DTypeLike = np.float64,
) -> Path:
    """Writes a dataset; the folder appears once it is whole.

    Args:
        dataset: What to write.
        folder: A new folder.
        sensor_dtype: The type that sensors and actions are stored in. float16 halves them, at three
            decimal digits; integer actions stay as they are, and rewards are float32. None keeps
            every array's own type, that of rewards included; half precision still comes back as
            float32.
        physics_dtype: The type that physics states are stored in. float64 is exact.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder is there already and is not empty.
        OSError: Writing failed, as on a full disk; nothing is left behind.
    """
    with new_folder(folder) as part:
        first = 0
        for trajectories in _split(dataset):
            write_shard(part / f"{first:06d}.npz", trajectories, sensor_dtype, physics_dtype)
            first += len(trajectories)
        if dataset.has_images:
            with atomic_write(part / IMAGES) as file:
                write_images(file, len_rows(dataset), (t.sensors[IMAGE] for t in dataset))
        write_card(part, dataclasses.replace(dataset.card, sha256=checksums(part)))
    return Path(folder)


def read_dataset(folder: str | os.PathLike[str], verify: bool = True) -> Dataset:
    """Reads a dataset that this package wrote; images stay on disk, memory-mapped.

    Args:
        folder: Has a ``card.json``.
        verify: Compare the files with the card's checksums.

    Raises:
        FileNotFoundError: There is no card, or a file that it names is missing.
        ValueError: The card or a file is damaged, trajectories are missing, or the card is that of
            a model.
    """
    folder = Path(folder)
    card = read_card_of("dataset", folder)
    if verify:
        check_files(folder, card)
    trajectories: list[Trajectory] = []
    for shard, images in _with_images(folder):
        if shard.stem != f"{len(trajectories):06d}":
            raise ValueError(
                f"Dataset {card.name!r} is not whole: trajectories {len(trajectories)} to "
                f"{int(shard.stem) - 1} are missing before {shard}."
            )
        trajectories.extend(read_shard(shard, images))
    with blame(folder, "no whole dataset"):
        return Dataset(trajectories, card)


def _with_images(folder: Path) -> Iterator[tuple[Path, NDArray[np.uint8] | None]]:
    """The shards of a dataset, in order, each with its part of the images, if there are any."""
    paths = shards(folder)
    if not (folder / IMAGES).exists():
        yield from ((path, None) for path in paths)
        return
    ends = np.cumsum([num_rows(path) for path in paths])
    images = open_images(folder / IMAGES, rows=int(ends[-1]) if paths else 0)
    yield from zip(paths, np.split(images, ends[:-1]), strict=True)


def shards(folder: Path) -> list[Path]:
    """The shards of a dataset, in order."""
    return sorted(folder.glob("[0-9][0-9][0-9][0-9][0-9][0-9].npz"))


def checksums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256, for the arrays of a dataset."""
    images = [folder / IMAGES] if (folder / IMAGES).exists() else []
    return {path.name: sha256(path) for path in (*shards(folder), *images)}


def _split(dataset: Dataset) -> Iterator[list[Trajectory]]:
    """Runs of trajectories that fit one shard and hold the same parts."""
    part: list[Trajectory] = []
    size = 0
    for trajectory in dataset:
        bytes_ = _num_bytes(trajectory)
        if part and (size + bytes_ > SHARD_BYTES or contents(part[0]) != contents(trajectory)):
            yield part
            part, size = [], 0
        part.append(trajectory)
        size += bytes_
    yield part


def _num_bytes(trajectory: Trajectory) -> int:
    arrays = [rows for name, rows in trajectory.sensors.items() if name != IMAGE]
    optional = (trajectory.actions, trajectory.rewards, trajectory.physics_states)
    return sum(array.nbytes for array in (*arrays, *optional) if array is not None)
