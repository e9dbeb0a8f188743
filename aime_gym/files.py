"""Files and folders that are either whole or absent, and locks between processes.

What is being written lies beside its place under a temporary name. The process that writes keeps it
locked, so that what killed processes left can be told from what living ones are at.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where a file that is open cannot be deleted anyway.
    fcntl = None  # type: ignore[assignment]

TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}")
IN_USE = ".in-use"  # In a temporary folder: the file that its process keeps locked.
YOUNG = 60.0  # Seconds in which a process has surely locked what it made.


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
    temporary = _temporary(target)
    try:
        with open(
            temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8"
        ) as file:
            _lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes plain values as a JSON file, whole or not at all.

    Raises:
        ValueError: A number is NaN or infinite, for which JSON has no value.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"{path}: a number is NaN or infinite, and JSON has no value for these."
        ) from error
    with atomic_write(path, "w") as file:
        file.write(f"{text}\n")


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder beside a file or folder that is to be made; it is gone after the block.

    Args:
        target: What is to be made. Its folder is made if need be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = _temporary(target)
    folder.mkdir()
    try:
        with (folder / IN_USE).open("x") as file:
            _lock(file)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder that is moved to `folder` after the block; after an error it is gone.

    Raises:
        FileExistsError: `folder` is there already and is not empty.
    """
    check_new_folder(folder)
    target = Path(folder)
    with temporary_folder(target) as temporary:
        part = temporary / target.name
        part.mkdir()
        yield part
        if target.exists():
            target.rmdir()
        part.replace(target)


def clear_leftovers(folder: Path, name: str | None = None) -> None:
    """Deletes what killed processes left half-written in a folder; of living ones, nothing.

    Args:
        folder: Where to look; not in folders inside.
        name: Of this file or folder alone; None for all.
    """
    for path in list(folder.glob(f".{name or '*'}.*")) if folder.is_dir() else ():
        found = TEMPORARY.fullmatch(path.name)
        if found is not None and name in (None, found["name"]) and _is_abandoned(path):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}")


def _lock(file: IO[Any]) -> None:
    """Marks a file as one that a living process has open."""
    if fcntl is not None:
        with suppress(OSError):  # There are file systems without locks.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_abandoned(path: Path) -> bool:
    """Whether no process has something temporary open."""
    marked = path / IN_USE if path.is_dir() else path
    if fcntl is None:
        return not path.is_dir()
    try:
        age = time.time() - path.stat().st_mtime
        with marked.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return age > YOUNG or path.is_dir() or path.stat().st_size > 0
    except FileNotFoundError:  # Its process ended before it locked the folder, or is about to.
        return path.is_dir() and age > YOUNG
    except OSError:
        return False


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


def home_folder() -> Path:
    """The user's home folder; where there is none, as in some containers, a temporary one."""
    try:
        return Path.home()
    except RuntimeError:
        return _temporary_home()


@lru_cache(maxsize=1)
def _temporary_home() -> Path:
    """A folder of this user among the temporary files; a warning says so, once."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"aime-gym-{user}"
    warnings.warn(
        f"This user has no home folder: what would be kept there goes to {folder}. HOME, or "
        "AIME_GYM_CACHE for the cache, names another place.",
        stacklevel=2,
    )
    return folder
