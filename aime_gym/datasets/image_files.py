"""All images of a dataset in one .npy file [rows, H, W, 3], uint8, which is memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from aime_gym.catalogue import cache_folder
from aime_gym.files import atomic_write
from aime_gym.foreign import blame
from aime_gym.trajectory import Trajectory


def image_folder() -> Path:
    """The folder in the cache for images, with one file per dataset."""
    return cache_folder() / "images"


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


def unpack_images(
    checksums: Mapping[str, str], rows: int, images: Iterable[NDArray[np.uint8]]
) -> Path:
    """The file in the cache with a dataset's images, which is written where it is not there yet.

    Args:
        checksums: Those of the files that the images come from; they tell datasets apart.
        rows: Number of images in all.
        images: The images of one trajectory after another [T+1, H, W, 3].
    """
    key = hashlib.sha256("".join(checksums.values()).encode()).hexdigest()
    target = image_folder() / f"{key}.npy"
    if not target.exists():
        with atomic_write(target) as file:
            write_images(file, rows, images)
    return target


def open_images(path: Path, rows: int) -> NDArray[np.uint8]:
    """The images of a .npy file [rows, H, W, 3], memory-mapped.

    Raises:
        ValueError: The file is damaged, or has another number of images.
    """
    with blame(path):
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError("images are one array, uint8 [rows, H, W, 3]")
    if len(images) != rows:
        raise ValueError(f"{path} has {len(images)} images for {rows} observations.")
    return images


def attach_images(trajectories: Sequence[Trajectory], path: Path) -> list[Trajectory]:
    """Adds the images of a .npy file [rows, H, W, 3], memory-mapped.

    Raises:
        ValueError: The file is damaged, or has another number of images.
    """
    images = open_images(path, len_rows(trajectories))
    result, start = [], 0
    for trajectory in trajectories:
        result.append(trajectory.with_images(images[start : start + len(trajectory)]))
        start += len(trajectory)
    return result
