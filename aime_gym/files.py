"""Files that are either whole or absent, and locks between processes."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock


@contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["wb", "w"] = "wb"
) -> Iterator[IO[Any]]:
    """Opens a file that takes its place only once everything is on disk.

    If writing fails, as on a full disk, the file that was there stays as it was.

    Args:
        path: Where the file goes. Its folder is made if need be.
        mode: ``"wb"`` for bytes, ``"w"`` for text in UTF-8.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with open(
            temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8"
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Lets one process at a time run the block; the others wait.

    Args:
        path: The lock file, which stays empty. Its folder is made if need be.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target):
        yield


def check_new_folder(folder: str | os.PathLike[str]) -> None:
    """Refuses a folder that is in use, before the work is done whose result is to go there.

    Raises:
        FileExistsError: The folder is not empty, or is a file.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is not empty; choose a new folder.")


def sha256(path: str | os.PathLike[str]) -> str:
    """A file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
