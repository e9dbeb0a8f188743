"""Reading .npz files that may be damaged, foreign or hostile: never a pickle, always an error."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.lib.npyio import NpzFile

from aime_gym.foreign import blame, check_zip

ENDING = ".npy"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[NpzFile]:
    """Opens a file for reading; whatever goes wrong inside the block is the file's fault.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or of another format; the message names it.
    """
    with blame(path, "damaged, or no dataset file"):
        if os.path.isdir(path):
            raise ValueError("it is a folder")
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, NpzFile):
            raise ValueError("it holds a single array")
        with file:
            _check_sizes(file)
            yield file


def _check_sizes(file: NpzFile) -> None:
    """Compares what the headers of all arrays declare with what is there, before any is made."""
    archive = cast(Any, file.zip)
    check_zip(archive)
    for member in archive.infolist():
        if not member.filename.endswith(ENDING):
            raise ValueError(f"{member.filename!r} is no array")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version not in HEADERS:
                raise ValueError(f"{member.filename!r} is of another version of the format")
            shape, _, dtype = HEADERS[version](stream)
            declared, there = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
        if dtype.hasobject:
            raise ValueError(f"{member.filename!r} has pickled objects, which are never read")
        if min(shape, default=0) < 0 or declared != there:
            raise ValueError(
                f"{member.filename!r} declares {list(shape)} of {dtype}, and has {there:,} bytes"
            )
