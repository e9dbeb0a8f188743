import os
import subprocess
import sys

import pytest

from aime_gym.files import atomic_write
from aime_gym.places import MARK, is_marked, occupied, reserved, reserved_folder

HOLD = """
import sys, time
from pathlib import Path
from aime_gym import places

with getattr(places, sys.argv[1])(Path(sys.argv[2])):
    print("holding", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """A function that starts a process which keeps a place, and another one to kill it."""
    started = []

    def start(how, place):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, how, str(place)], stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline() == b"holding\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


KEEPING = {"reserved": reserved, "reserved_folder": reserved_folder, "occupied": occupied}


@pytest.mark.parametrize("second", KEEPING)
@pytest.mark.parametrize("first", KEEPING)
def test_one_process_at_a_place(tmp_path, hold, first, second):
    place = tmp_path / "new" / "place"
    process = hold(first, place)
    refused = pytest.raises((ValueError, OSError), match=r"Another process is working in .*place")
    with refused, KEEPING[second](place):
        pass
    with reserved(tmp_path / "new" / "other"):
        pass
    process.kill()
    process.wait()
    if (place / MARK).exists():
        (place / MARK).unlink()
        place.rmdir()
    with KEEPING[second](place):
        pass
    assert not list(place.parent.iterdir())


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for keep in KEEPING.values():
        with pytest.raises(OSError, match="cannot be written"), keep(tmp_path / "file" / "place"):
            pass
    with pytest.raises(IsADirectoryError, match="is a folder"), reserved(tmp_path):
        pass
    with pytest.raises(FileExistsError, match="choose a new folder"), reserved_folder(tmp_path):
        pass
    with reserved(None):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_is_free_again_after_an_error(tmp_path):
    for keep in KEEPING.values():
        for _ in range(2):
            with pytest.raises(RuntimeError), keep(tmp_path / "place"):
                raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_grows_says_so_afterwards(tmp_path):
    folder = tmp_path / "folder"
    assert not is_marked(folder)
    with occupied(folder), atomic_write(folder / "file") as file:
        file.write(b"result")
    assert is_marked(folder)
    assert sorted(path.name for path in folder.iterdir()) == [MARK, "file"]
    folder.rename(tmp_path / "moved")
    with occupied(tmp_path / "moved"):
        pass


def test_leftovers_are_cleared(tmp_path):
    name = f".file.{'0' * 32}"
    for folder in (tmp_path, tmp_path / "inside"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"half")
    with reserved(tmp_path / "other"):
        assert (tmp_path / name).exists()
    with reserved(tmp_path / "file"):
        assert not (tmp_path / name).exists()
    with occupied(tmp_path):
        assert not (tmp_path / "inside" / name).exists()


def test_a_folder_whose_parent_is_closed(tmp_path, monkeypatch):
    """As where the folder alone is mounted."""
    (tmp_path / "run").mkdir()
    is_open = os.open

    def closed(path, *arguments, **options):
        if str(path).endswith(f".run{MARK}"):
            raise PermissionError(13, "Permission denied", str(path))
        return is_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", closed)
    with occupied(tmp_path / "run"):
        assert is_marked(tmp_path / "run")
    denied = pytest.raises(OSError, match="cannot be written: Permission denied")
    with denied, reserved(tmp_path / "run"):
        pass
