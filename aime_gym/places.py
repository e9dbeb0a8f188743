"""Where results go: kept for one process, and found to be writable, before the work begins.

A lock beside a file or folder, ``.<name>.aime-gym.lock``, keeps it for the process that is to write
it; a lock in a folder that grows, too, which still says afterwards that the folder is one of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from aime_gym.files import check_new_folder, clear_leftovers

MARK = ".aime-gym.lock"
"""The lock in a folder that grows."""


@contextmanager
def reserved(*files: Path | None) -> Iterator[None]:
    """Keeps the places of files that are to be written in the end.

    What killed processes left half-written there is cleared.

    Args:
        *files: None for nothing.

    Raises:
        OSError: Nothing can be written there.
        ValueError: Another process is writing there.

    Example:
        >>> with reserved(Path("scores.json")):
        ...     scores = {}  # Long work.
    """
    with ExitStack() as stack:
        for file in dict.fromkeys(filter(None, files)):
            stack.enter_context(_reserved(file))
            if file.is_dir():
                raise IsADirectoryError(f"{file} is a folder, where a file is to be written.")
        yield


@contextmanager
def reserved_folder(folder: Path) -> Iterator[None]:
    """Keeps the place of a new folder that is to be written in the end, as `reserved` does.

    Raises:
        FileExistsError: There is something already.
        OSError: Nothing can be written there.
        ValueError: Another process is writing there.
    """
    with _reserved(folder):
        check_new_folder(folder)
        yield


@contextmanager
def kept(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Keeps a folder, which may be there already, for files that are to be written in the end.

    It is made if need be, and goes again if nothing came of it.

    Args:
        folder: The folder.
        patience: Seconds to wait for another process to be done with it.

    Raises:
        OSError: Nothing can be written there.
        ValueError: Another process is writing there.
    """
    is_new = not folder.exists()
    try:
        with _reserved(folder, patience), reserved(folder / MARK):
            clear_leftovers(folder)
            yield
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Keeps a folder for a process that writes there while it works.

    It is made if need be, and goes again if nothing came of it. What killed processes left
    half-written in it, and in the folders inside, is cleared.

    Raises:
        OSError: Nothing can be written there.
        ValueError: Another process is working there.
    """
    is_new = not folder.exists()
    with ExitStack() as stack:
        try:
            stack.enter_context(_beside(folder))
        except OSError:
            if is_new:  # Else its parent alone is closed to us, as where it is mounted.
                raise
        stack.enter_context(_taken(folder / MARK, folder))
        try:
            for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
                clear_leftovers(place)
            yield
        finally:
            if is_new and [path.name for path in folder.iterdir()] == [MARK]:
                (folder / MARK).unlink()
                folder.rmdir()


def is_marked(folder: Path) -> bool:
    """Whether a process has worked in the folder."""
    return (folder / MARK).exists()


@contextmanager
def _reserved(place: Path, patience: float = 0.0) -> Iterator[None]:
    with _beside(place, patience):
        clear_leftovers(place.absolute().parent, place.absolute().name)
        yield


@contextmanager
def _beside(place: Path, patience: float = 0.0) -> Iterator[None]:
    """Keeps a place by a lock beside it, which goes in the end."""
    whole = place.absolute()
    lock = whole.with_name(f".{whole.name}{MARK}")
    with _taken(lock, place, patience):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def _taken(lock: Path, place: Path, patience: float = 0.0) -> Iterator[None]:
    """Holds a lock, for which nobody waits longer than for some seconds."""
    held = FileLock(lock, timeout=patience)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout as error:
        raise ValueError(
            f"Another process is working in {place}: wait for it to end, or choose another."
        ) from error
    except OSError as error:
        raise OSError(f"{place} cannot be written: {error.strerror or error}.") from error
    try:
        yield
    finally:
        held.release()
