"""Datasets on disk: a folder with a card and compressed shards of whole trajectories.

    walker-run-expert/
        card.json           what it is, with a checksum of every shard
        000000.npz          one or more trajectories, their rows one after another
        000020.npz          named after the first trajectory inside
        images.npy          optional: all images, uint8, memory-mapped

A shard's arrays: ``num_steps`` [n], ``sensors/<name>`` [sum (T+1), ..], ``actions`` and
``rewards`` [sum T, ..], ``physics_states`` [sum (T+1), P], ``terminated``, ``truncated`` and
``first_step`` [n]; ``extras/<index>/<key>`` is an entry of a trajectory's extras.

Some physics states are long and hardly move, such as a terrain's. Where columns stay the same to
the bit within each trajectory of a shard, ``physics_varies`` [P] is False and they are stored once
a trajectory, in ``physics_constants`` [n, P - V]; ``physics_states`` is then [sum (T+1), V].
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from aime_gym.datasets.dataset import Card, Dataset
from aime_gym.datasets.npz import open_npz
from aime_gym.files import atomic_write, check_new_folder, sha256
from aime_gym.trajectory import IMAGE, Trajectory

CARD = "card.json"
IMAGES = "images.npy"
SHARD_BYTES = 14 * 2**20  # Before compression, so that files stay under 16 MiB.
UNKNOWN_STEP = -1
MAY_CHANGE = re.compile(r" --(?:seed|total-timesteps|record) (?:'[^']*'|\S+)")  # Cards have a seed.


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
        sensor_dtype: Of sensors and actions; float16 halves them, at three decimal digits. Rewards
            are float32. None keeps every array's own, rewards included; half precision still
            comes back as float32.
        physics_dtype: Of physics states; float64 is exact.

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


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder which takes its place once the block is done; after an error it is gone.

    Raises:
        FileExistsError: The place is taken.
    """
    check_new_folder(folder)
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        part = Path(temporary) / target.name
        part.mkdir()
        yield part
        if target.exists():
            target.rmdir()
        part.replace(target)


def read_dataset(folder: str | os.PathLike[str], verify: bool = True) -> Dataset:
    """Reads a dataset that this package wrote; images stay on disk, memory-mapped.

    Args:
        folder: Has a ``card.json``.
        verify: Compare the files with the card's checksums.

    Raises:
        FileNotFoundError: There is no card, or a file that it names is missing.
        ValueError: A file is damaged, or trajectories are missing.
    """
    folder = Path(folder)
    card = read_card(folder)
    if verify:
        _verify(folder, card)
    trajectories: list[Trajectory] = []
    for shard in shards(folder):
        if shard.stem != f"{len(trajectories):06d}":
            raise ValueError(
                f"Dataset {card.name!r} is not whole: trajectories {len(trajectories)} to "
                f"{int(shard.stem) - 1} are missing before {shard}."
            )
        trajectories.extend(read_shard(shard))
    if (folder / IMAGES).exists():
        trajectories = attach_images(trajectories, folder / IMAGES)
    return Dataset(trajectories, card)


def shards(folder: Path) -> list[Path]:
    """The shards of a dataset, in order."""
    return sorted(folder.glob("[0-9][0-9][0-9][0-9][0-9][0-9].npz"))


def checksums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256, for the arrays of a dataset."""
    images = [folder / IMAGES] if (folder / IMAGES).exists() else []
    return {path.name: sha256(path) for path in (*shards(folder), *images)}


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
    sensor_dtype: DTypeLike | None = np.float32,
    physics_dtype: DTypeLike = np.float64,
) -> None:
    """Writes trajectories, without images, into one compressed file.

    Raises:
        ValueError: Some have actions, rewards or physics states, and some have not; or dtypes
            differ.
    """
    if len({_contents(trajectory) for trajectory in trajectories}) > 1:
        raise ValueError("The trajectories of a shard hold the same parts, of the same dtypes.")
    first = trajectories[0]
    arrays = _per_trajectory(trajectories)
    for name in first.sensors:
        if name != IMAGE:
            arrays[f"sensors/{name}"] = _join([t.sensors[name] for t in trajectories], sensor_dtype)
    if first.actions is not None:
        arrays["actions"] = _join([t.actions for t in trajectories], sensor_dtype)
    if first.rewards is not None:
        reward_dtype = None if sensor_dtype is None else np.float32
        arrays["rewards"] = _join([t.rewards for t in trajectories], reward_dtype)
    if first.physics_states is not None:
        arrays |= _pack_physics(trajectories, physics_dtype)
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _per_trajectory(trajectories: Sequence[Trajectory]) -> dict[str, NDArray[Any]]:
    """The arrays that have an entry, not rows, for each trajectory."""
    extras = {
        f"extras/{index}/{key}": values
        for index, trajectory in enumerate(trajectories)
        for key, values in trajectory.extras.items()
    }
    steps = [UNKNOWN_STEP if t.first_step is None else t.first_step for t in trajectories]
    return {
        "num_steps": np.array([t.num_steps for t in trajectories]),
        "terminated": np.array([t.terminated for t in trajectories]),
        "truncated": np.array([t.truncated for t in trajectories]),
        "first_step": np.array(steps),
        **extras,
    }


def _join(parts: Sequence[Any], dtype: DTypeLike | None) -> NDArray[Any]:
    """Arrays one after another, in a dtype or in their own."""
    joined: NDArray[Any] = np.concatenate(parts, dtype=parts[0].dtype if dtype is None else dtype)
    return joined


def _pack_physics(trajectories: Sequence[Trajectory], dtype: DTypeLike) -> dict[str, NDArray[Any]]:
    """Physics states, with the columns that stay the same in each trajectory stored once."""
    states = [np.asarray(t.physics_states, dtype=dtype) for t in trajectories]
    varies = np.any([_changes(rows) for rows in states], axis=0)
    if varies.all():
        return {"physics_states": np.concatenate(states)}
    return {
        "physics_states": np.concatenate([rows[:, varies] for rows in states]),
        "physics_varies": varies,
        "physics_constants": np.stack([rows[0, ~varies] for rows in states]),
    }


def _changes(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which columns of [T+1, P] do not stay the same to the bit [P]."""
    bits = rows.view(f"u{rows.dtype.itemsize}")
    changes: NDArray[np.bool_] = np.any(bits[1:] != bits[0], axis=0)
    return changes


def _unpack_physics(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """The inverse of `_pack_physics`: all rows and columns [sum (T+1), P]."""
    states = arrays.get("physics_states")
    if states is None or "physics_varies" not in arrays:
        return states
    varies, constants = arrays["physics_varies"], arrays["physics_constants"]
    whole = np.empty((len(states), len(varies)), dtype=states.dtype)
    whole[:, varies] = states
    whole[:, ~varies] = np.repeat(constants, arrays["num_steps"] + 1, axis=0)
    return whole


def read_shard(path: Path) -> list[Trajectory]:
    """Reads the trajectories of one file; half precision comes back as float32.

    Raises:
        ValueError: The file is damaged, or no shard.
    """
    with open_npz(path) as file:
        arrays = {name: _at_least_single(name, file[name]) for name in file.files}
        return _cut(arrays)


def _cut(arrays: Mapping[str, NDArray[Any]]) -> list[Trajectory]:
    """A shard's arrays -> its trajectories."""
    num_steps = arrays["num_steps"]
    row_ends, step_ends = np.cumsum(num_steps + 1), np.cumsum(num_steps)
    physics = _unpack_physics(arrays)
    trajectories = []
    for index, steps in enumerate(num_steps):
        row_slice = slice(row_ends[index] - steps - 1, row_ends[index])
        step_slice = slice(step_ends[index] - steps, step_ends[index])
        first_step = int(arrays["first_step"][index])
        sensors = _with_prefix("sensors/", arrays)
        trajectories.append(
            Trajectory(
                sensors={name: values[row_slice] for name, values in sensors.items()},
                actions=arrays["actions"][step_slice] if "actions" in arrays else None,
                rewards=arrays["rewards"][step_slice] if "rewards" in arrays else None,
                physics_states=None if physics is None else physics[row_slice],
                terminated=bool(arrays["terminated"][index]),
                truncated=bool(arrays["truncated"][index]),
                first_step=None if first_step == UNKNOWN_STEP else first_step,
                extras=_with_prefix(f"extras/{index}/", arrays),
            )
        )
    return trajectories


def _with_prefix(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }


def len_rows(trajectories: Iterable[Trajectory]) -> int:
    """Number of observations in all."""
    return sum(len(trajectory) for trajectory in trajectories)


def write_images(file: IO[bytes], rows: int, images: Iterable[NDArray[np.uint8]]) -> None:
    """Writes all images of a dataset as one .npy array [rows, H, W, 3], piece after piece."""
    for index, part in enumerate(images):
        if index == 0:
            header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *part.shape[1:])}
            np.lib.format.write_array_header_2_0(file, header)
        file.write(np.ascontiguousarray(part).data)


def attach_images(trajectories: Sequence[Trajectory], path: Path) -> list[Trajectory]:
    """Adds the images of a .npy file [rows, H, W, 3], memory-mapped.

    Raises:
        ValueError: The file is damaged, or has another number of images.
    """
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    rows = len_rows(trajectories)
    if len(images) != rows:
        raise ValueError(f"{path} has {len(images)} images for {rows} observations.")
    result, start = [], 0
    for trajectory in trajectories:
        result.append(trajectory.with_images(images[start : start + len(trajectory)]))
        start += len(trajectory)
    return result


class EpisodeWriter:
    """Writes a dataset episode by episode while it is being made.

    Every episode is on disk, in a shard of its own, as soon as `append` returns.

    Args:
        folder: A new folder, or one that an `EpisodeWriter` wrote before, which goes on.
        card: What the dataset is.
        keep: In a folder that goes on, keep this many episodes and delete later ones; None for all.

    Raises:
        ValueError: The folder has another dataset, or not all of its episodes; nothing is changed.
    """

    def __init__(self, folder: str | os.PathLike[str], card: Card, keep: int | None = None) -> None:
        self.folder = Path(folder)
        present = shards(self.folder)
        if present or (self.folder / CARD).exists():
            _check_same(self.folder, card)
        kept = present[:keep]
        self.num_episodes = len(kept)
        if [path.stem for path in kept] != [f"{index:06d}" for index in range(len(kept))]:
            raise ValueError(f"{self.folder} has not one shard an episode, 000000, 000001, ...")
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in present[len(kept) :]:
            path.unlink()
        self._card = dataclasses.replace(card, sha256={})
        write_card(self.folder, self._card)

    def append(self, trajectory: Trajectory) -> None:
        """Writes one episode."""
        write_shard(self.folder / f"{self.num_episodes:06d}.npz", [trajectory])
        self.num_episodes += 1

    def finish(self) -> None:
        """Writes the checksums of all episodes into the card."""
        card = dataclasses.replace(self._card, sha256=checksums(self.folder))
        write_card(self.folder, card)


def _check_same(folder: Path, card: Card) -> None:
    """ValueError unless the folder's card is of the same dataset."""
    if not (folder / CARD).exists():
        raise ValueError(f"{folder} has episodes and no {CARD}; choose another folder.")
    before = read_card(folder)
    if _identity(before) != _identity(card):
        raise ValueError(
            f"{folder} has another dataset, {before.name!r} of {before.command!r} with seed "
            f"{before.seed}; choose another folder."
        )


def _identity(card: Card) -> tuple[object, ...]:
    """What stays when a dataset goes on: the run may become longer, and the folder may move."""
    return card.name, card.env_id, card.seed, MAY_CHANGE.sub("", card.command or "")


def _split(dataset: Dataset) -> Iterator[list[Trajectory]]:
    """Runs of trajectories that fit one shard and hold the same parts."""
    part: list[Trajectory] = []
    size = 0
    for trajectory in dataset:
        bytes_ = _num_bytes(trajectory)
        if part and (size + bytes_ > SHARD_BYTES or _contents(part[0]) != _contents(trajectory)):
            yield part
            part, size = [], 0
        part.append(trajectory)
        size += bytes_
    yield part


def _contents(trajectory: Trajectory) -> frozenset[tuple[str, np.dtype[Any]]]:
    """The names and dtypes of the parts that there are, but for images."""
    parts = {
        **{f"sensors/{name}": rows for name, rows in trajectory.sensors.items() if name != IMAGE},
        "actions": trajectory.actions,
        "rewards": trajectory.rewards,
        "physics_states": trajectory.physics_states,
    }
    return frozenset((name, rows.dtype) for name, rows in parts.items() if rows is not None)


def _num_bytes(trajectory: Trajectory) -> int:
    arrays = [rows for name, rows in trajectory.sensors.items() if name != IMAGE]
    optional = (trajectory.actions, trajectory.rewards, trajectory.physics_states)
    return sum(array.nbytes for array in (*arrays, *optional) if array is not None)


def _verify(folder: Path, card: Card) -> None:
    for name, expected in card.sha256.items():
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(f"Dataset {card.name!r} is not whole: {path} is missing.")
        if sha256(path) != expected:
            raise ValueError(f"{path} is damaged: its checksum is not the card's.")


def _at_least_single(name: str, array: NDArray[Any]) -> NDArray[Any]:
    half = array.dtype == np.float16 and not name.startswith("extras/")
    return array.astype(np.float32) if half else array
