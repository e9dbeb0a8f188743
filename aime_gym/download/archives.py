"""Archives, ``.tgz`` or ``.zip``, that become a folder: downloaded, checked and unpacked."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, cast

from tqdm import tqdm

from aime_gym.download.transfer import check_room, download_file, explain_full_disk
from aime_gym.files import locked, sha256, write_json
from aime_gym.foreign import read_json

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
RECORDS = "checksums.json"  # Beside the folders: folder -> what it was unpacked from.
MAX_FILES = 100_000
MAX_RATIO = 100  # Of the unpacked bytes to the archive's.
MIB = 2**20
DAMAGED = (
    gzip.BadGzipFile,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    UnicodeError,
)

Record = dict[str, str]  # Of an archive: url and sha256.
Member = tuple[str, int, Callable[[], IO[bytes]]]  # Name, bytes, and what opens it.


def fetch_folder(
    url: str,
    folder: str | os.PathLike[str],
    holds: Callable[[Path], bool],
    *,
    sha256: str | None = None,
    progress_bar: bool = False,
) -> Path:
    """Downloads an archive and unpacks it into a new folder, which appears once it is whole.

    The archive's checksum is recorded in ``checksums.json`` beside the folder. If the folder is
    deleted and fetched again, other bytes under the same address are refused. Several processes
    that fetch a folder at the same time download it once. After a broken connection or on a full
    disk, what has come stays, as ``<folder>.archive`` or ``<folder>.archive.part``, and the next
    call goes on from there.

    Args:
        url: The archive's address.
        folder: Where its content goes. One that is there already is left as it is.
        holds: Whether a folder has what the archive is for. The content's top level is the one for
            which this is true: the archive's own, or that of a lone folder in it.
        sha256: The checksum that the archive has to have, hexadecimal, where it is known; it
            stands before a recorded one.
        progress_bar: Show the progress.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: The server has no such file.
        FileExistsError: The folder is there, and has something else.
        ConnectionError: The server refuses, cannot be reached, or breaks off again and again.
        OSError: The disk is full.
        ValueError: The archive has another checksum than expected, is damaged, has something
            unsafe, or does not have what it is for; it is deleted. Or `sha256` is no checksum, or
            the records are damaged.
    """
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise ValueError(f"A SHA-256 is 64 hexadecimal digits, not {sha256!r}.")
    target = Path(folder)
    with locked(target.with_name(f".{target.name}.lock")):
        if target.exists():
            if not holds(target):
                raise FileExistsError(f"{target} has something else than {url}; move it away.")
            return target
        recorded = _records(target).get(target.name)
        archive = target.with_name(f"{target.name}.archive")
        download_file(url, archive, progress_bar=progress_bar)
        try:
            checksum = _check(archive, url, sha256, recorded)
            unpack_as(archive, target, holds, progress_bar)
        except ValueError:
            archive.unlink()
            raise
        _record(target, url, checksum)
        archive.unlink()
    return target


def unpack(archive: Path, folder: Path, *, progress_bar: bool = False) -> None:
    """Unpacks a ``.tgz`` or a ``.zip`` of files and folders into a folder that is there.

    Args:
        archive: The file; its name does not matter.
        folder: An empty folder.
        progress_bar: Show the progress.

    Raises:
        OSError: The disk is full.
        ValueError: The archive is damaged or truncated; or has something that is neither a file
            nor a folder, that lies outside of the archive's own folder or inside of a file, or that
            is there twice; or unpacks to more than 100,000 files or a hundred times its size, as no
            data do.
    """
    room = MAX_RATIO * archive.stat().st_size + MIB
    try:
        members = tqdm(_members(archive), "unpacking", unit="file", disable=not progress_bar)
        for number, (name, size, open_member) in enumerate(members, start=1):
            room -= size
            if room < 0 or number > MAX_FILES:
                raise ValueError(f"{archive} unpacks to far more than data would; it is refused.")
            _write(folder / safe_path(name, archive), size, open_member)
    except DAMAGED as error:
        raise ValueError(f"{archive} is damaged or truncated, or no archive: {error}.") from error


def _members(archive: Path) -> Iterator[Member]:
    """The files of an archive, in its order."""
    with open(archive, "rb") as file:
        start = file.read(2)
    return _zip_members(archive) if start == b"PK" else _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or info.flag_bits & 1:
                raise ValueError(f"{archive} has a link, a device or a secret: {info.filename!r}.")
            if not info.is_dir():
                yield info.filename, info.file_size, partial(file.open, info)


def _tar_members(archive: Path) -> Iterator[Member]:
    with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        for info in file:
            if not (info.isreg() or info.isdir()):
                raise ValueError(f"{archive} has a link or a device: {info.name!r}.")
            if info.isreg():
                yield info.name, info.size, partial(cast(Any, file.extractfile), info)
        stream.read(MIB)  # The padding, and after it gzip's own checksum, which is compared.


def safe_path(name: str, source: str | Path) -> PurePosixPath:
    """The path of a file that others named, relative to the folder that it goes into.

    Args:
        name: The file's name, with folders.
        source: Where it comes from, for the error.

    Raises:
        ValueError: The path is absolute, or leads out of the folder.
    """
    path = PurePosixPath(name)
    windows = PureWindowsPath(name)
    if not path.parts or ".." in windows.parts or windows.drive or windows.root:
        raise ValueError(f"{source} has a file outside of its folder: {name!r}.")
    return path


def _write(path: Path, size: int, open_member: Callable[[], IO[bytes]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"The archive has {path.name} inside of a file; it is refused.") from error
    if path.exists():
        raise ValueError(f"The archive has {path.name} twice; it is refused.")
    check_room(path.parent, size)
    with open_member() as content, open(path, "xb") as file:
        shutil.copyfileobj(content, file)


def unpack_as(
    archive: Path, target: Path, holds: Callable[[Path], bool], progress_bar: bool
) -> None:
    """Unpacks an archive beside a new folder, and makes what it holds that folder.

    One process at a time may do this for one folder.

    Raises:
        OSError: The disk is full.
        ValueError: The archive cannot be unpacked, or no folder in it holds what it should.
    """
    with (
        explain_full_disk(f"{archive} stays as it is: make room, and start again."),
        _scratch_folder(target.with_name(f".{target.name}.unpacking")) as top,
    ):
        unpack(archive, top, progress_bar=progress_bar)
        while not holds(top):
            visible = [path for path in top.iterdir() if not path.name.startswith(".")]
            if len(visible) != 1 or not visible[0].is_dir():
                names = ", ".join(sorted(path.name for path in visible)[:5])
                raise ValueError(f"{archive} does not have what it is for, but {names}.")
            top = visible[0]
        top.replace(target)


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent`, which is gone afterwards, as is one of a killed process."""
    shutil.rmtree(parent, ignore_errors=True)
    try:
        (parent / "top").mkdir(parents=True)
        yield parent / "top"
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _check(archive: Path, url: str, expected: str | None, recorded: Record | None) -> str:
    """The archive's checksum, if it is the one that is expected, or else the recorded one."""
    found = sha256(archive)
    if expected is not None and found != expected.lower():
        raise ValueError(f"{url} has SHA-256 {found}, not {expected} as it should.")
    if expected is None and recorded is not None and found != recorded["sha256"]:
        raise ValueError(
            f"{url} has SHA-256 {found}. When it was downloaded first, from {recorded['url']}, it "
            f"had {recorded['sha256']}. If the publisher has replaced it, give the new checksum."
        )
    return found


def _records(target: Path) -> dict[str, Record]:
    """What the folders beside a folder were unpacked from."""
    path = target.with_name(RECORDS)
    if not path.exists():
        return {}
    try:
        records = read_json(path)
        return {
            name: {key: each[key] for key in ("url", "sha256")} for name, each in records.items()
        }
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged; move it away.") from error


def _record(target: Path, url: str, checksum: str) -> None:
    path = target.with_name(RECORDS)
    with locked(path.with_name(f".{path.name}.lock")):
        records = _records(target) | {target.name: {"url": url, "sha256": checksum}}
        write_json(path, records)
