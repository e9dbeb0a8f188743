import errno
import os
import random
from types import SimpleNamespace

import pytest

from aime_gym.download import transfer
from aime_gym.download.transfer import TRIES, download_file

CONTENT = random.Random(0).randbytes(3_000_000)  # Three chunks.


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "file"


def only(path):
    """Whether a file is alone in its folder: whole, with nothing left beside it."""
    return [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_is_downloaded_once(web, path):
    web.files["/file"] = CONTENT
    for _ in range(2):
        assert download_file(f"{web.url}/file", path) == path
    assert path.read_bytes() == CONTENT
    assert only(path)
    assert web.requests == [("/file", None)]


def test_an_empty_file(web, path):
    web.files["/file"] = b""
    assert download_file(f"{web.url}/file", path).read_bytes() == b""


def test_a_broken_connection_is_taken_up_where_it_broke_off(web, path):
    web.files["/file"], web.cuts = CONTENT, [1_000_000, 1_500_000]
    download_file(f"{web.url}/file", path)
    assert path.read_bytes() == CONTENT
    assert only(path)
    asked = [asked for _, asked in web.requests]
    assert asked == [None, "bytes=1000000-", "bytes=2500000-"]


def test_a_later_call_goes_on(web, path):
    web.files["/file"], web.cuts = CONTENT, [1_000_000, *[0] * TRIES]
    with pytest.raises(ConnectionError, match=r"file\.part keeps 1,000,000 bytes; start again"):
        download_file(f"{web.url}/file", path)
    assert not path.exists()
    assert len(web.requests) == 1 + TRIES
    download_file(f"{web.url}/file", path)
    assert path.read_bytes() == CONTENT
    assert only(path)
    assert web.requests[-1] == ("/file", "bytes=1000000-")


def test_a_file_that_has_changed_is_sent_anew(web, path):
    web.files["/file"], web.cuts = CONTENT, [1_000_000, *[0] * TRIES]
    with pytest.raises(ConnectionError):
        download_file(f"{web.url}/file", path)
    web.files["/file"] = CONTENT[::-1]
    download_file(f"{web.url}/file", path)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("what", "value", "asked"),
    [
        ("ranges", False, "bytes=1000000-"),
        ("version", "date", "bytes=1000000-"),
        ("version", "weak", None),
        ("version", None, None),
    ],
)
def test_versions_and_servers_that_cannot_continue(web, path, what, value, asked):
    setattr(web, what, value)
    web.files["/file"], web.cuts = CONTENT, [1_000_000]
    download_file(f"{web.url}/file", path)
    assert path.read_bytes() == CONTENT
    assert only(path)
    assert web.requests == [("/file", None), ("/file", asked)]


def test_a_server_that_sends_another_part(web, path):
    web.files["/file"], web.cuts, web.shift = CONTENT, [1_000_000], 100
    download_file(f"{web.url}/file", path)
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked in web.requests] == [None, "bytes=1000000-", None]


def test_without_a_length_the_end_of_the_connection_is_the_end(web, path):
    web.lengths = False
    web.files["/file"] = CONTENT
    assert download_file(f"{web.url}/file", path).read_bytes() == CONTENT


def test_a_rest_that_is_refused_is_asked_for_as_a_whole(web, path):
    web.files["/file"], web.cuts = CONTENT, [1_000_000]
    web.statuses = [200, 416]
    download_file(f"{web.url}/file", path)
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked in web.requests] == [None, "bytes=1000000-", None]


def test_a_busy_server_is_asked_again(web, path):
    web.files["/file"], web.statuses = CONTENT, [503, 429, 500]
    download_file(f"{web.url}/file", path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, FileNotFoundError, "nothing at http.*/file"),
        (403, ConnectionError, "refuses http.*/file, with HTTP status 403"),
    ],
)
def test_a_refusal_is_final(web, path, status, error, message):
    web.statuses = [status]
    with pytest.raises(error, match=message):
        download_file(f"{web.url}/file", path)
    assert len(web.requests) == 1
    assert not list(path.parent.iterdir())


def test_no_server(web, path):
    address = web.url.rpartition(":")[0]
    with pytest.raises(ConnectionError, match=f"after {TRIES} tries in a row"):
        download_file(f"{address}:1/file", path)


def test_an_address_of_another_kind(path):
    with pytest.raises(ValueError, match=r"starts with https://, not as 'ftp://host/file'"):
        download_file("ftp://host/file", path)


def test_too_little_room_is_found_before_the_download(web, path, monkeypatch):
    web.files["/file"] = CONTENT
    usage = SimpleNamespace(free=10_000)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="3,000,000 bytes are needed, and 10,000 are free") as caught:
        download_file(f"{web.url}/file", path)
    assert caught.value.errno == errno.ENOSPC
    assert path.with_name("file.part").stat().st_size == 0


def test_a_disk_that_fills_up_keeps_what_has_come(web, path, monkeypatch):
    web.files["/file"] = CONTENT

    class Full:
        """A file that fails at its third chunk, as on a disk that has filled up meanwhile."""

        def __init__(self, path, mode):
            self.file = open(path, mode)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, chunk):
            if self.file.tell() + len(chunk) > 2_500_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(chunk)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "open", Full, raising=False)
        with pytest.raises(OSError, match=r"disk is full.*file\.part keeps what has come") as error:
            download_file(f"{web.url}/file", path)
    assert error.value.errno == errno.ENOSPC
    assert not path.exists()
    size = path.with_name("file.part").stat().st_size
    assert size == 2 * transfer.CHUNK
    assert download_file(f"{web.url}/file", path).read_bytes() == CONTENT
    assert web.requests[-1] == ("/file", f"bytes={size}-")


def test_the_bar_shows_what_came_before(web, path, capsys):
    web.files["/file"], web.cuts = CONTENT, [1_000_000]
    download_file(f"{web.url}/file", path, progress_bar=True)
    shown = capsys.readouterr().err
    assert "file: 100%" in shown
    assert "3.00M/3.00M" in shown
    download_file(f"{web.url}/file", path.with_name("other"))
    assert not capsys.readouterr().err
