"""The format of AIME's published datasets: a folder with one .npz file per trajectory.

    walker-run-expert/
        0.npz, 1.npz, ..., 99.npz

    key                                   rows 0 .. T hold
    <sensor>  [T+1, n], or [T+1]          o_t; at least one
    image     [T+1, H, W, 3], uint8       the image at t
    pre_action  [T+1, A]                  0, a_0 .. a_{T-1}: what led to o_t
    reward    [T+1, 1], or [T+1]          0, r_0 .. r_{T-1}
    is_first, is_last, is_terminal        where the episode starts, ends, and ends for good
    physics_state  [T+1, P]               ours, optional: p_t
    agent_step  [T+1, 1]                  ours, optional: first_step + t
    truncated  [1]                        ours, where an episode was both terminated and truncated

Reading and writing lose nothing, in either direction. Where a file differs from what `to_arrays`
makes of the trajectory by itself, the trajectory's `extras` has, under the file's key:

- for a key of the table, the file's first row, which gives the dtype, the shape of a row and the
  values of row 0; or no rows, if the file lacks the key;
- for any other key, the whole array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aime_gym.card import Card
from aime_gym.catalogue import guess_dataset_card
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.image_files import attach_images, len_rows, unpack_images
from aime_gym.datasets.npz import open_npz
from aime_gym.files import atomic_write, new_folder, sha256
from aime_gym.foreign import blame
from aime_gym.trajectory import IMAGE, Trajectory

ACTION, REWARD = "pre_action", "reward"
FIRST, LAST, TERMINAL = "is_first", "is_last", "is_terminal"
FLAGS = (FIRST, LAST, TERMINAL)
PHYSICS, STEP, TRUNCATED = "physics_state", "agent_step", "truncated"
RESERVED = {IMAGE, ACTION, REWARD, *FLAGS, PHYSICS, STEP, TRUNCATED}

Arrays = Mapping[str, NDArray[Any]]


def read_aime_npz(
    folder: str | os.PathLike[str],
    card: Card | None = None,
    *,
    images: bool = True,
    progress_bar: bool = False,
) -> Dataset:
    """Reads a folder of files 0.npz, 1.npz, ..., in the order of their numbers.

    Images are unpacked once, into one memory-mapped file in the cache.

    Args:
        folder: Has the files.
        card: What they are. None takes body and task from the folder's name.
        images: Read the images, where there are any.
        progress_bar: Show the progress over the files.

    Raises:
        FileNotFoundError: There are no such files.
        ValueError: A file is damaged, or no trajectory; or the name does not tell the body.
    """
    folder = Path(folder)
    card = card or guess_dataset_card(folder)
    paths = numbered_files(folder)
    trajectories, checksums, with_images = [], {}, []
    for path in tqdm(paths, "reading", unit="file", disable=not progress_bar):
        trajectory, has_image = _read_file(path)
        trajectories.append(trajectory)
        with_images.append(has_image)
        checksums[path.name] = sha256(path)
    if images and any(with_images):
        if not all(with_images):
            raise ValueError(f"{paths[with_images.index(False)]} has no images, but others do.")
        unpacked = _images(paths, progress_bar)
        cached = unpack_images(checksums, len_rows(trajectories), unpacked)
        trajectories = attach_images(trajectories, cached)
    with blame(folder, "no whole dataset"):
        return Dataset(trajectories, replace(card, sha256=checksums))


def write_aime_npz(dataset: Dataset, folder: str | os.PathLike[str]) -> Path:
    """Writes one file per trajectory; the folder appears once it is whole.

    Args:
        dataset: What to write; its card is not part of the format.
        folder: A new folder.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder is there already and is not empty.
        ValueError: A sensor has a name that the format uses for something else.
    """
    with new_folder(folder) as part:
        for index, trajectory in enumerate(dataset):
            with atomic_write(part / f"{index}.npz") as file:
                np.savez_compressed(file, **to_arrays(trajectory))  # type: ignore[arg-type]
    return Path(folder)


def numbered_files(folder: Path) -> list[Path]:
    """The files of a folder, in the order of their numbers.

    Raises:
        FileNotFoundError: There are none, or a number is missing.
    """
    numbered = {int(p.stem): p for p in folder.glob("*.npz") if p.stem.isdecimal()}
    if not numbered:
        raise FileNotFoundError(f"{folder} has no files 0.npz, 1.npz, ...")
    missing = set(range(len(numbered))) - set(numbered)
    if missing:
        raise FileNotFoundError(f"{folder} is not whole: {min(missing)}.npz is missing.")
    return [numbered[number] for number in sorted(numbered)]


def from_arrays(arrays: Arrays) -> Trajectory:
    """The arrays of a file -> a trajectory, whose extras keep what it cannot hold itself.

    Raises:
        ValueError: They do not describe one trajectory.
    """
    for name in {ACTION, REWARD, PHYSICS, STEP} & set(arrays):
        if arrays[name].dtype.kind not in "fiu":
            raise ValueError(f"{name} has {arrays[name].dtype}, not real numbers")
    rows = _count_rows(arrays)
    terminated, truncated = _read_ending(arrays, rows)
    trajectory = Trajectory(
        sensors={
            name: values if name == IMAGE else _columns(name, values)
            for name, values in arrays.items()
            if name == IMAGE or _is_sensor(name, values, rows)
        },
        actions=_columns(ACTION, arrays[ACTION])[1:] if ACTION in arrays else None,
        rewards=_single_column(arrays[REWARD])[1:] if REWARD in arrays else None,
        physics_states=arrays.get(PHYSICS),
        terminated=terminated,
        truncated=truncated,
        first_step=int(arrays[STEP].flat[0]) if STEP in arrays else None,
    )
    return replace(trajectory, extras=_extras(arrays, _own_arrays(trajectory)))


def _extras(arrays: Arrays, own: Arrays) -> dict[str, NDArray[Any]]:
    """What to add to a trajectory's own arrays, to make a file's."""
    extras = {name: values for name, values in arrays.items() if name not in own}
    for name, values in own.items():
        if name not in arrays:
            extras[name] = values[:0]
        elif not _same(values, arrays[name]):
            extras[name] = arrays[name][:1]
            if not _same(_lay_out(values, extras[name]), arrays[name]):
                raise ValueError(f"{name} does not fit the other arrays: is it of this trajectory?")
    return extras


def to_arrays(trajectory: Trajectory) -> dict[str, NDArray[Any]]:
    """A trajectory -> the arrays of a file; the inverse of `from_arrays`.

    Raises:
        ValueError: A sensor has a name that the format uses for something else.
    """
    clashes = set(trajectory.sensors) & (RESERVED - {IMAGE})
    if clashes:
        raise ValueError(f"No sensor in this format may be named {', '.join(clashes)}.")
    own = _own_arrays(trajectory)
    foreign = {name: rows for name, rows in trajectory.extras.items() if name not in own}
    laid_out = {
        name: _lay_out(values, trajectory.extras[name]) if name in trajectory.extras else values
        for name, values in own.items()
    }
    present = {name: rows for name, rows in laid_out.items() if len(rows)}
    return present | foreign


def _own_arrays(trajectory: Trajectory) -> dict[str, NDArray[Any]]:
    """What the trajectory itself says, in the format's usual layout."""
    rows = len(trajectory)
    arrays: dict[str, NDArray[Any]] = dict(trajectory.sensors)
    if trajectory.actions is not None:
        arrays[ACTION] = trajectory.prev_actions
    if trajectory.rewards is not None:
        zero = np.zeros_like(trajectory.rewards[:1])
        arrays[REWARD] = np.concatenate([zero, trajectory.rewards])[:, None]
    arrays |= {name: np.zeros((rows, 1), dtype=bool) for name in FLAGS}
    arrays[FIRST][0] = True
    arrays[LAST][-1] = trajectory.terminated or trajectory.truncated
    arrays[TERMINAL][-1] = trajectory.terminated
    if trajectory.terminated and trajectory.truncated:
        arrays[TRUNCATED] = np.ones(1, dtype=bool)
    if trajectory.physics_states is not None:
        arrays[PHYSICS] = trajectory.physics_states
    if trajectory.first_step is not None:
        arrays[STEP] = trajectory.first_step + np.arange(rows)[:, None]
    return arrays


def _lay_out(values: NDArray[Any], layout: NDArray[Any]) -> NDArray[Any]:
    """Rows with the dtype and shape of a file's first row, which stands in for row 0."""
    if not len(layout):
        return layout
    rest = values[1:].reshape(len(values) - 1, *layout.shape[1:])
    joined = np.concatenate([layout, rest.astype(layout.dtype)])
    return joined.astype(layout.dtype)


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Equal to the bit, in dtype and in shape."""
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and first.tobytes() == second.tobytes()
    )


def _count_rows(arrays: Arrays) -> int:
    """T + 1, from the first array that must have as many rows."""
    for name in (ACTION, REWARD, *FLAGS, IMAGE):
        if name in arrays and arrays[name].ndim:
            return len(arrays[name])
    raise ValueError(
        f"it has none of {ACTION}, {REWARD}, {', '.join(FLAGS)} and {IMAGE}, but "
        f"{', '.join(arrays) or 'nothing'}"
    )


def _is_sensor(name: str, values: NDArray[Any], rows: int) -> bool:
    floats = np.issubdtype(values.dtype, np.floating)
    return name not in RESERVED and floats and values.ndim in (1, 2) and len(values) == rows


def _columns(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """[T+1] -> [T+1, 1]."""
    if values.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {list(values.shape)}, not [T+1, n]")
    return values[:, None] if values.ndim == 1 else values


def _single_column(values: NDArray[Any]) -> NDArray[Any]:
    """[T+1, 1] or [T+1] -> [T+1]."""
    columns = _columns(REWARD, values)
    if columns.shape[1] != 1:
        raise ValueError(f"{REWARD} has shape {list(values.shape)}, not [T+1, 1] or [T+1]")
    return columns[:, 0]


def _read_ending(arrays: Arrays, rows: int) -> tuple[bool, bool]:
    """(terminated, truncated)."""
    flags = {name: np.asarray(arrays[name]).reshape(-1) for name in FLAGS if name in arrays}
    for name, values in flags.items():
        inner = values[1:] if name == FIRST else values[:-1]
        if len(values) != rows or inner.any():
            raise ValueError(f"{name} is set in between: the file is not one trajectory")
    terminated = bool(flags[TERMINAL][-1]) if TERMINAL in flags else False
    ended = bool(flags[LAST][-1]) if LAST in flags else True
    return terminated, ended and (not terminated or TRUNCATED in arrays)


def _read_file(path: Path) -> tuple[Trajectory, bool]:
    """A file without its image, and whether it has one."""
    with open_npz(path) as file:
        arrays = {name: file[name] for name in file.files if name != IMAGE}
        return from_arrays(arrays), IMAGE in file.files


def _images(paths: list[Path], progress_bar: bool) -> Iterator[NDArray[np.uint8]]:
    for path in tqdm(paths, "unpacking images", unit="file", disable=not progress_bar):
        with open_npz(path) as arrays:
            image = arrays[IMAGE]
            if image.dtype != np.uint8:
                raise ValueError(f"{IMAGE} has {image.dtype}; images are uint8, from 0 to 255")
        yield image
