"""Results of a grid in a second place: a folder, or a bucket that fsspec knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec

from agents.runs.cell import RESULT
from agents.runs.workers import result_files
from aime_gym.files import atomic_write
from aime_gym.foreign import parse_json


class Gathering:
    """Copies cells that are finished to a place, and fetches those that are finished there.

    A cell is finished where its result is, which is copied last.

    Args:
        place: A folder, or a URL such as ``s3://bucket/grid``; buckets need fsspec's package for
            them, such as s3fs.
        folder: The grid's folder on this machine.

    Raises:
        ValueError: fsspec does not know such places, or lacks a package for them.
    """

    def __init__(self, place: str, folder: Path) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(place)
        except (ValueError, ImportError) as error:
            raise ValueError(f"Results cannot be gathered in {place!r}: {error}") from error
        self._folder = folder

    def result(self, cell: Path) -> dict[str, Any] | None:
        """The result of a cell that is finished there; None for others.

        Args:
            cell: Its folder, relative to the grid's.
        """
        if not self._has(cell):
            return None
        place = f"{self.there(cell)}/{RESULT}"
        result: dict[str, Any] = parse_json(self._files.cat_file(place), place)
        return result

    def fetch(self, cells: Iterable[Path]) -> None:
        """Fetches cells that are finished there, and not here.

        Args:
            cells: Their folders, relative to the grid's.
        """
        for cell in cells:
            here, there = self._folder / cell, self.there(cell)
            if (here / RESULT).exists() or not self._has(cell):
                continue
            names = [name[name.index(there) + len(there) + 1 :] for name in self._files.find(there)]
            for name in sorted(names, key=lambda name: name == RESULT):
                with atomic_write(here / name) as file:
                    file.write(self._files.cat_file(f"{there}/{name}"))

    def send_missing(self, cells: Iterable[Path]) -> None:
        """Copies cells that are finished here, and not there.

        Args:
            cells: Their folders, relative to the grid's.
        """
        for cell in cells:
            if (self._folder / cell / RESULT).exists() and not self._has(cell):
                self.send(cell)

    def send(self, cell: Path) -> None:
        """Copies a finished cell there.

        Args:
            cell: Its folder, relative to the grid's.
        """
        for path in result_files(self._folder / cell):
            self.send_file(path.relative_to(self._folder))

    def send_file(self, path: Path) -> None:
        """Copies a file there.

        Args:
            path: Relative to the grid's folder.
        """
        target = self.there(path)
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(target, (self._folder / path).read_bytes())

    def _has(self, cell: Path) -> bool:
        return bool(self._files.exists(f"{self.there(cell)}/{RESULT}"))

    def there(self, path: Path) -> str:
        """Where a file or folder is there.

        Args:
            path: Relative to the grid's folder.
        """
        return f"{self._root}/{path.as_posix()}"
