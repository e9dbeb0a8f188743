import errno
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

from aime_gym.download import archives, transfer
from aime_gym.download.archives import MAX_RATIO, fetch_folder, unpack
from aime_gym.files import sha256

FILES = {"0.npz": b"zero" * 1000, "1.npz": b"one" * 1000}


def holds(folder):
    return (folder / "0.npz").is_file()


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "walker-toy"


@pytest.fixture
def fetch(web, target):
    """A function that fetches what it is given, or what the server has, into the target."""

    def call(archive=None, **options):
        if archive is not None:
            web.files["/toy"] = archive
        return fetch_folder(f"{web.url}/toy", target, holds, **options)

    return call


@pytest.fixture
def left(target):
    """A function that lists what is in the target's folder, hidden locks aside."""
    return lambda: sorted(p.name for p in target.parent.iterdir() if p.suffix != ".lock")


@pytest.fixture
def unpacked(tmp_path):
    """A function that unpacks the bytes of an archive into a folder."""

    def call(packed):
        (tmp_path / "archive").write_bytes(packed)
        folder = tmp_path / "top" / "folder"
        folder.mkdir(parents=True)
        unpack(tmp_path / "archive", folder)
        return folder

    return call


# Fetching


@pytest.mark.parametrize("top", ["", "walker-toy/", "./", "a/b/"])
def test_a_folder_in_the_archive_or_none(tgz, fetch, target, left, top):
    assert fetch(tgz({top + name: each for name, each in FILES.items()})) == target
    assert content(target) == FILES
    assert left() == ["checksums.json", "walker-toy"]


def test_a_zip(zipped, fetch, target):
    fetch(zipped({"toy/": b"", **{f"toy/{name}": each for name, each in FILES.items()}}))
    assert content(target) == FILES


def test_hidden_files_beside_the_folder_do_not_count(tgz, fetch, target):
    fetch(tgz({"._toy": b"", **{f"toy/{name}": each for name, each in FILES.items()}}))
    assert content(target) == FILES


def test_what_is_there_is_not_fetched(tgz, fetch, web):
    fetch(tgz(FILES))
    fetch()
    assert len(web.requests) == 1


def test_a_folder_with_something_else_stays(tgz, fetch, target, web):
    target.mkdir(parents=True)
    (target / "notes").write_text("mine")
    with pytest.raises(FileExistsError, match="has something else than http"):
        fetch(tgz(FILES))
    assert content(target) == {"notes": b"mine"}
    assert not web.requests


def test_the_checksum_is_recorded_and_holds_for_later_downloads(tgz, fetch, target, left, web):
    fetch(tgz(FILES))
    recorded = json.loads((target.parent / "checksums.json").read_text())
    assert recorded["walker-toy"]["url"] == f"{web.url}/toy"
    first = recorded["walker-toy"]["sha256"]
    shutil.rmtree(target)
    other = tgz({"0.npz": b"other"})
    with pytest.raises(ValueError, match=f"it had {first}.*give the new checksum"):
        fetch(other)
    assert left() == ["checksums.json"]
    new = sha256_of(other, target.parent)
    fetch(other, sha256=new.upper())
    assert content(target) == {"0.npz": b"other"}
    shutil.rmtree(target)
    fetch(other)
    assert json.loads((target.parent / "checksums.json").read_text())["walker-toy"]["sha256"] == new


def sha256_of(packed, folder):
    (folder / "packed").write_bytes(packed)
    checksum = sha256(folder / "packed")
    (folder / "packed").unlink()
    return checksum


def test_a_wrong_checksum(tgz, fetch, left):
    wrong = 16 * "12aB"
    with pytest.raises(ValueError, match=rf"has SHA-256 [0-9a-f]{{64}}, not {wrong} as it should"):
        fetch(tgz(FILES), sha256=wrong)
    assert left() == []


@pytest.mark.parametrize("sha256", ["", "1234", 64 * "x"])
def test_what_is_no_checksum_is_refused_before_the_download(tgz, fetch, target, web, sha256):
    with pytest.raises(ValueError, match=f"64 hexadecimal digits, not '{sha256}'"):
        fetch(tgz(FILES), sha256=sha256)
    assert not web.requests
    assert not target.parent.exists()


def test_records_that_are_damaged_are_found_before_the_download(tgz, fetch, target, web):
    target.parent.mkdir()
    for text in ("[]", "{", '{"walker-toy": 1}', '{"walker-toy": {"url": "u"}}'):
        (target.parent / "checksums.json").write_text(text)
        with pytest.raises(ValueError, match=r"checksums\.json is damaged"):
            fetch(tgz(FILES))
    assert not web.requests


def test_a_truncated_archive_leaves_nothing(tgz, fetch, target, left):
    whole = tgz({"0.npz": os.urandom(10_000), "1.npz": os.urandom(10_000)})
    with pytest.raises(ValueError, match="damaged or truncated"):
        fetch(whole[:15_000])
    assert left() == []
    fetch(whole)
    assert sorted(content(target)) == ["0.npz", "1.npz"]


def test_an_archive_of_something_else_leaves_nothing(tgz, fetch, left):
    with pytest.raises(ValueError, match=r"does not have what it is for, but a\.npz, b\.npz"):
        fetch(tgz({"a.npz": b"", "b.npz": b""}))
    assert left() == []


def test_a_broken_connection(tgz, fetch, target, left, web):
    packed = tgz(FILES)
    web.cuts = [100, *[0] * transfer.TRIES]
    with pytest.raises(ConnectionError):
        fetch(packed)
    assert left() == ["walker-toy.archive.part", "walker-toy.archive.part.version"]
    fetch()
    assert content(target) == FILES
    assert web.requests[-1] == ("/toy", "bytes=100-")


def test_a_disk_that_fills_up_while_unpacking(tgz, fetch, target, left, web, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(archives.shutil, "copyfileobj", no_room)
        with pytest.raises(
            OSError, match=r"walker-toy\.archive stays as it is: make room"
        ) as error:
            fetch(tgz(FILES))
    assert error.value.errno == errno.ENOSPC
    assert left() == ["walker-toy.archive"]
    fetch()
    assert content(target) == FILES
    assert len(web.requests) == 1


def no_room(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_a_killed_process_had_unpacked_goes(tgz, fetch, target):
    stale = target.with_name(".walker-toy.unpacking") / "top" / "2.npz"
    stale.parent.mkdir(parents=True)
    stale.touch()
    fetch(tgz(FILES))
    assert content(target) == FILES
    assert not stale.exists()


FETCH = """
import sys
from pathlib import Path
from aime_gym.download import fetch_folder

print("ready", flush=True)
fetch_folder(sys.argv[1], sys.argv[2], lambda folder: (folder / "0.npz").is_file())
"""


def test_processes_at_the_same_time_download_once(tgz, target, web):
    web.files["/toy"], web.stalls = tgz(FILES), [10]
    words = [sys.executable, "-c", FETCH, f"{web.url}/toy", target]
    others = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(3)]
    assert [other.stdout.readline() for other in others] == [b"ready\n"] * 3
    time.sleep(0.3)  # Whoever did not wait for the first would ask the server by now.
    web.go_on.set()
    assert [other.communicate(timeout=60) and other.returncode for other in others] == [0, 0, 0]
    assert content(target) == FILES
    assert len(web.requests) == 1


def test_a_process_that_was_killed_is_taken_over(tgz, target, fetch, web):
    packed = tgz({"0.npz": os.urandom(3_000_000)})
    web.files["/toy"], web.stalls = packed, [2_000_000]
    words = [sys.executable, "-c", FETCH, f"{web.url}/toy", target]
    part = target.with_name("walker-toy.archive.part")
    with subprocess.Popen(words) as other:
        while not (part.exists() and part.stat().st_size):
            assert other.poll() is None
            time.sleep(0.01)
        other.kill()
    web.go_on.set()
    fetch()
    assert list(content(target)) == ["0.npz"]
    assert web.requests[-1] == ("/toy", f"bytes={transfer.CHUNK}-")


# Unpacking


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../outside", "a/../../outside", "C:\\outside", "..\\outside", "a/.."]
)
@pytest.mark.parametrize("kind", ["tgz", "zipped"])
def test_paths_outside(unpacked, tmp_path, request, kind, name):
    pack = request.getfixturevalue(kind)
    with pytest.raises(ValueError, match="a file outside of its folder"):
        unpacked(pack({"0.npz": b"", name: b"evil"}))
    assert sorted(p.name for p in (tmp_path / "top").rglob("*")) == ["0.npz", "folder"]
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices(tgz, unpacked, kind):
    member = tarfile.TarInfo("1.npz")
    member.type, member.linkname = kind, "0.npz"
    with pytest.raises(ValueError, match=r"has a link or a device: '1\.npz'"):
        unpacked(tgz(FILES | {"1.npz": b""}, member))


def test_links_and_secrets_in_a_zip(zipped, unpacked):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with pytest.raises(ValueError, match="has a link, a device or a secret: 'link'"):
        unpacked(zipped({link: b"0.npz"}))


def test_a_secret_in_a_zip(zipped, unpacked):
    packed = bytearray(zipped({"0.npz": b"secret"}))
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ValueError, match=r"a device or a secret: '0\.npz'"):
        unpacked(bytes(packed))


def test_a_file_that_is_there_twice(unpacked, tgz):
    with pytest.raises(ValueError, match=r"has 0\.npz twice"):
        unpacked(tgz({"0.npz": b"first", "./0.npz": b"second"}))


@pytest.mark.parametrize("inner", ["0.npz/a", "0.npz/a/b"])
def test_a_file_inside_of_a_file(unpacked, tgz, inner):
    with pytest.raises(ValueError, match=rf"has {inner[-1]} inside of a file; it is refused"):
        unpacked(tgz({"0.npz": b"first", inner: b"second"}))


@pytest.mark.parametrize("kind", ["tgz", "zipped"])
def test_a_bomb(unpacked, tmp_path, request, kind):
    size = 30 * 2**20
    packed = request.getfixturevalue(kind)({"0.npz": bytes(size)})
    assert size > MAX_RATIO * len(packed) + archives.MIB
    with pytest.raises(ValueError, match="unpacks to far more than data would"):
        unpacked(packed)
    assert not content(tmp_path / "top")


def test_too_many_files(tgz, unpacked, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 2)
    with pytest.raises(ValueError, match="unpacks to far more than data would"):
        unpacked(tgz(FILES | {"2.npz": b""}))


@pytest.mark.parametrize("packed", [b"", b"PK and no more", b"<html>Sign in</html>", b"\x1f\x8b"])
def test_no_archive(unpacked, packed):
    with pytest.raises(ValueError, match="damaged or truncated, or no archive"):
        unpacked(packed)


@pytest.mark.parametrize("kind", ["tgz", "zipped"])
def test_flipped_bytes(unpacked, request, kind):
    packed = bytearray(request.getfixturevalue(kind)({"0.npz": os.urandom(100_000)}))
    packed[50_000] ^= 0xFF
    with pytest.raises(ValueError, match="damaged or truncated"):
        unpacked(bytes(packed))


def test_unpacking_shows_its_progress(tgz, tmp_path, capsys):
    (tmp_path / "archive").write_bytes(tgz(FILES))
    (tmp_path / "folder").mkdir()
    unpack(tmp_path / "archive", tmp_path / "folder", progress_bar=True)
    assert "unpacking: 2file" in capsys.readouterr().err
