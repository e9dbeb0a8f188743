"""Datasets on disk: a folder with a card and compressed shards of whole trajectories.

    walker-run-expert/
        card.json           what it is, with a checksum of every shard
        000000.npz          one or more trajectories, their rows one after another
        000020.npz          named after the first trajectory inside
        images.npy          optional: all images, uint8, memory-mapped

A shard's arrays: ``num_steps`` [n], ``sensors/<name>`` [sum (T+1), ..], ``actions`` and ``rewards``
[sum T, ..], ``physics_states`` [sum (T+1), P], ``terminated``, ``truncated`` and ``first_step`` [n].
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from aime_gym.datasets.dataset import Card, Dataset
from aime_gym.files import atomic_write, sha256
from aime_gym.trajectory import IMAGE, Trajectory

CARD = "card.json"
IMAGES = "images.npy"
SHARD_BYTES = 14 * 2**20  # Before compression, so that files stay under 16 MiB.
UNKNOWN_STEP = -1


def save_dataset(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    sensor_dtype: DTypeLike = np.float32,
    physics_dtype: DTypeLike = np.float64,
) -> Path:
    """Writes a dataset; the card goes last, so a folder with a card is whole.

    Args:
        dataset: What to write.
        folder: A new folder.
        sensor_dtype: Of sensors and actions; float16 halves them, at three decimal digits.
        physics_dtype: Of physics states; float64 is exact.

    Raises:
        FileExistsError: The folder has a dataset already.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose a new folder for the dataset.")
    first, checksums = 0, {}
    for part in _split(dataset):
        path = folder / f"{first:06d}.npz"
        write_shard(path, part, sensor_dtype, physics_dtype)
        checksums[path.name] = sha256(path)
        first += len(part)
    if dataset.has_images:
        write_images(folder, [trajectory.sensors[IMAGE] for trajectory in dataset])
        checksums[IMAGES] = sha256(folder / IMAGES)
    write_card(folder, dataclasses.replace(dataset.card, sha256=checksums))
    return folder


def read_dataset(folder: str | os.PathLike[str], verify: bool = True) -> Dataset:
    """Reads a dataset that this package wrote.

    Args:
        folder: Has a ``card.json``.
        verify: Compare the files with the card's checksums.

    Raises:
        FileNotFoundError: There is no card, or a file that it names is missing.
        ValueError: A file is damaged.
    """
    folder = Path(folder)
    card = read_card(folder)
    if verify:
        _verify(folder, card)
    shards = sorted(folder.glob("[0-9]*.npz"))
    trajectories = [trajectory for shard in shards for trajectory in read_shard(shard)]
    if (folder / IMAGES).exists():
        trajectories = _attach_images(trajectories, folder / IMAGES)
    return Dataset(trajectories, card)


def write_card(folder: Path, card: Card) -> None:
    """Writes ``card.json``."""
    with atomic_write(folder / CARD, "w") as file:
        json.dump(card.to_json(), file, indent=1)
        file.write("\n")


def read_card(folder: str | os.PathLike[str]) -> Card:
    """Reads ``card.json``.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no dataset card.
    """
    path = Path(folder) / CARD
    if not path.exists():
        raise FileNotFoundError(f"{folder} is no dataset of aime-gym: it has no {CARD}.")
    try:
        return Card.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is no dataset card: {error}.") from error


def write_shard(
    path: Path,
    trajectories: Sequence[Trajectory],
    sensor_dtype: DTypeLike = np.float32,
    physics_dtype: DTypeLike = np.float64,
) -> None:
    """Writes trajectories, without images, into one compressed file."""
    arrays: dict[str, NDArray[Any]] = {
        "num_steps": np.array([t.num_steps for t in trajectories]),
        "terminated": np.array([t.terminated for t in trajectories]),
        "truncated": np.array([t.truncated for t in trajectories]),
        "first_step": np.array(
            [UNKNOWN_STEP if t.first_step is None else t.first_step for t in trajectories]
        ),
    }
    for name in trajectories[0].sensors:
        if name != IMAGE:
            rows = np.concatenate([t.sensors[name] for t in trajectories])
            arrays[f"sensors/{name}"] = rows.astype(sensor_dtype)
    for name, dtype in (
        ("actions", sensor_dtype),
        ("rewards", np.float32),
        ("physics_states", physics_dtype),
    ):
        parts = [getattr(t, name) for t in trajectories]
        if all(part is not None for part in parts):
            arrays[name] = np.concatenate(parts).astype(dtype)
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def read_shard(path: Path) -> list[Trajectory]:
    """Reads the trajectories of one file; half precision comes back as float32.

    Raises:
        ValueError: The file is damaged, or no shard.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: _at_least_single(file[name]) for name in file.files}
        num_steps = arrays.pop("num_steps")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged, or no dataset file: {error}.") from error
    row_ends, step_ends = np.cumsum(num_steps + 1), np.cumsum(num_steps)
    trajectories = []
    for index in range(len(num_steps)):
        rows = slice(row_ends[index] - num_steps[index] - 1, row_ends[index])
        steps = slice(step_ends[index] - num_steps[index], step_ends[index])
        first_step = int(arrays["first_step"][index])
        trajectories.append(
            Trajectory(
                sensors={
                    name.removeprefix("sensors/"): values[rows]
                    for name, values in arrays.items()
                    if name.startswith("sensors/")
                },
                actions=arrays["actions"][steps] if "actions" in arrays else None,
                rewards=arrays["rewards"][steps] if "rewards" in arrays else None,
                physics_states=(
                    arrays["physics_states"][rows] if "physics_states" in arrays else None
                ),
                terminated=bool(arrays["terminated"][index]),
                truncated=bool(arrays["truncated"][index]),
                first_step=None if first_step == UNKNOWN_STEP else first_step,
            )
        )
    return trajectories


def write_images(folder: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Writes all images [N, H, W, 3] of a dataset, trajectory after trajectory."""
    with atomic_write(folder / IMAGES) as file:
        shape = (sum(len(rows) for rows in images), *images[0].shape[1:])
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        for rows in images:
            file.write(np.ascontiguousarray(rows).data)


class EpisodeWriter:
    """Writes a dataset episode by episode while it is being made.

    Every episode is on disk, in a shard of its own, as soon as `append` returns.

    Args:
        folder: A new folder, or one that an `EpisodeWriter` wrote before, which goes on.
        card: What the dataset is.
        keep: In a folder that goes on, keep this many episodes and delete later ones; None for all.
    """

    def __init__(self, folder: str | os.PathLike[str], card: Card, keep: int | None = None) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if keep is not None:
            for path in sorted(self.folder.glob("[0-9]*.npz"))[keep:]:
                path.unlink()
        self.num_episodes = len(list(self.folder.glob("[0-9]*.npz")))
        write_card(self.folder, dataclasses.replace(card, sha256={}))

    def append(self, trajectory: Trajectory) -> None:
        """Writes one episode."""
        write_shard(self.folder / f"{self.num_episodes:06d}.npz", [trajectory])
        self.num_episodes += 1


def _split(dataset: Dataset) -> Iterator[list[Trajectory]]:
    part: list[Trajectory] = []
    size = 0
    for trajectory in dataset:
        bytes_ = _num_bytes(trajectory)
        if part and size + bytes_ > SHARD_BYTES:
            yield part
            part, size = [], 0
        part.append(trajectory)
        size += bytes_
    yield part


def _num_bytes(trajectory: Trajectory) -> int:
    arrays = [rows for name, rows in trajectory.sensors.items() if name != IMAGE]
    optional = (trajectory.actions, trajectory.rewards, trajectory.physics_states)
    return sum(array.nbytes for array in (*arrays, *optional) if array is not None)


def _attach_images(trajectories: list[Trajectory], path: Path) -> list[Trajectory]:
    images = np.load(path, mmap_mode="r")
    rows = sum(len(t) for t in trajectories)
    if len(images) != rows:
        raise ValueError(f"{path} has {len(images)} images for {rows} observations.")
    result, start = [], 0
    for trajectory in trajectories:
        result.append(trajectory.with_images(images[start : start + len(trajectory)]))
        start += len(trajectory)
    return result


def _verify(folder: Path, card: Card) -> None:
    for name, expected in card.sha256.items():
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(f"Dataset {card.name!r} is not whole: {path} is missing.")
        if sha256(path) != expected:
            raise ValueError(f"{path} is damaged: its checksum is not the card's.")


def _at_least_single(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float16 else array
