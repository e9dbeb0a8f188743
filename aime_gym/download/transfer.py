"""One file by HTTP, which goes on where it broke off."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from requests import Response

CHUNK = 2**20  # Bytes.
TIMEOUT = (10.0, 60.0)  # Seconds, to connect and between two packets.
TRIES = 5  # In a row that bring no byte.
PAUSE = 0.25  # Seconds after a try that brought something; twice as long after each that did not.
PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
FULL = (errno.ENOSPC, errno.EDQUOT)


class _BrokenOffError(Exception):
    """This connection brought no whole file; another one may."""


@dataclass(frozen=True)
class _Part:
    """What has come of a file so far, and the version of the file that it is of."""

    path: Path
    version_path: Path

    @classmethod
    def of(cls, target: Path) -> _Part:
        part = target.with_name(f"{target.name}.part")
        return cls(part, part.with_name(f"{part.name}.version"))

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def request_headers(self) -> dict[str, str]:
        """Asks for the rest, as long as the server still has the version that was begun."""
        headers = {"Accept-Encoding": "identity"}
        if self.size and self.version_path.exists():
            version = self.version_path.read_text(encoding="utf-8")
            headers |= {"Range": f"bytes={self.size}-", "If-Range": version}
        return headers

    def start(self, response: Response) -> None:
        """Begins anew; a version that the server does not name for sure cannot be continued."""
        self.clear()
        tag = response.headers.get("ETag", "")
        version = tag if tag.startswith('"') else response.headers.get("Last-Modified")
        if version:
            self.version_path.write_text(version, encoding="utf-8")

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self.version_path.unlink(missing_ok=True)


def download_file(url: str, path: str | os.PathLike[str], *, progress_bar: bool = False) -> Path:
    """Downloads one file, which is at its place once it is whole.

    A broken connection is taken up again where it broke off, now, and by the next call after this
    one has given up: until then ``<path>.part`` keeps what has come. Where the server cannot send
    the rest alone, or has another version of the file by now, everything is sent anew. A file that
    is at its place already is not downloaded.

    Args:
        url: What to download; ``http`` or ``https``.
        path: Where the file goes. Its folder is made if need be. One process at a time may
            download to a path.
        progress_bar: Show the progress.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The server has no such file.
        ConnectionError: The server refuses, cannot be reached, or breaks off again and again.
        OSError: The disk has no room for the file.
        ValueError: The address is not one of HTTP.
    """
    import requests
    import urllib3

    if not url.startswith(("https://", "http://")):
        raise ValueError(f"An address to download from starts with https://, not as {url!r}.")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part, failures = _Part.of(target), 0
    broken_off = (
        _BrokenOffError,
        requests.ConnectionError,
        requests.Timeout,
        urllib3.exceptions.HTTPError,
    )
    while not target.exists():
        size = part.size
        try:
            with explain_full_disk(f"{part.path} keeps what has come: make room, and start again."):
                _receive(url, part, progress_bar)
            part.path.replace(target)
        except broken_off as error:
            failures = 0 if part.size > size else failures + 1
            if failures == TRIES:
                raise ConnectionError(_given_up(url, part, error)) from error
            time.sleep(PAUSE * 2**failures)
    part.clear()
    return target


def _receive(url: str, part: _Part, progress_bar: bool) -> None:
    """Appends what one connection brings; returns once the file is whole."""
    import requests

    headers = part.request_headers()
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        _check_answer(response, part)
        if response.status_code == HTTPStatus.OK:
            part.start(response)
        start, length = part.size, response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with (
            open(part.path, "ab") as file,
            tqdm(
                desc=part.path.stem,
                initial=start,
                total=total,
                unit="B",
                unit_scale=True,
                disable=not progress_bar,
            ) as bar,
        ):
            check_room(part.path.parent, 0 if total is None else total - start)
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                bar.update(file.write(chunk))
            file.flush()
            os.fsync(file.fileno())


def _check_answer(response: Response, part: _Part) -> None:
    """Raises unless the answer is the file, or what is missing of it."""
    status = response.status_code
    sent = response.headers.get("Content-Range", "")
    if status == HTTPStatus.OK or (
        status == HTTPStatus.PARTIAL_CONTENT and sent.startswith(f"bytes {part.size}-")
    ):
        return
    if status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        part.clear()
        raise _BrokenOffError("the server does not send the rest that was asked for")
    if status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _BrokenOffError(f"the server answers with HTTP status {status}")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise FileNotFoundError(f"There is nothing at {response.url} (HTTP status {status}).")
    raise ConnectionError(f"The server refuses {response.url}, with HTTP status {status}.")


def _given_up(url: str, part: _Part, error: Exception) -> str:
    kept = f" {part.path} keeps {part.size:,} bytes; start again to go on." if part.size else ""
    return f"{url} cannot be downloaded, after {TRIES} tries in a row: {error}.{kept}"


def check_room(folder: Path, size: int) -> None:
    """OSError, of a full disk, if a folder's disk has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(errno.ENOSPC, f"{size:,} bytes are needed, and {free:,} are free")


@contextmanager
def explain_full_disk(advice: str) -> Iterator[None]:
    """Says, where the block fails for want of room on the disk, what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        message = f"The disk is full ({error.strerror}). {advice}"
        raise OSError(error.errno, message) from error
