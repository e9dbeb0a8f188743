import os
import stat
import subprocess
import sys

import pytest

from aime_gym.files import atomic_write, check_new_folder, clear_leftovers, locked, sha256


def test_atomic_write(tmp_path):
    path = tmp_path / "new" / "file"
    with atomic_write(path) as file:
        file.write(b"one")
        assert not path.exists()
    with pytest.raises(TypeError), atomic_write(path, "w") as file:
        file.write(b"bytes, where text is due")
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]
    with atomic_write(path, "w") as file:
        file.write("zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_atomic_write_honours_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


APPEND = """
import sys, time
from pathlib import Path
from aime_gym.files import locked

path = Path(sys.argv[1])
with locked(path.with_suffix(".lock")):
    text = path.read_text() if path.exists() else ""
    time.sleep(0.05)
    path.write_text(text + sys.argv[2])
"""


def test_locked_lets_one_process_at_a_time(tmp_path):
    path = tmp_path / "new" / "file"
    others = [subprocess.Popen([sys.executable, "-c", APPEND, path, letter]) for letter in "abc"]
    assert [other.wait(60) for other in others] == [0, 0, 0]
    assert sorted(path.read_text()) == ["a", "b", "c"]


def test_locked_is_released_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path / "lock"):
        raise RuntimeError
    with locked(tmp_path / "lock"):
        pass


def test_check_new_folder(tmp_path):
    check_new_folder(tmp_path / "new")
    check_new_folder(tmp_path)
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError, match="choose a new folder"):
            check_new_folder(taken)


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert sha256(tmp_path / "file").startswith("e3b0c442")


WRITING = """
import sys, time
from pathlib import Path
from aime_gym.files import atomic_write, new_folder

target = Path(sys.argv[1])
with new_folder(target / "folder"), atomic_write(target / "file") as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    killed, living = (
        subprocess.Popen([sys.executable, "-c", WRITING, tmp_path], stdout=subprocess.PIPE)
        for _ in range(2)
    )
    try:
        assert killed.stdout.readline() == living.stdout.readline() == b"writing\n"
        (tmp_path / ".file.txt").touch()
        assert len(list(tmp_path.iterdir())) == 5
        clear_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 5
        killed.kill()
        killed.wait()
        clear_leftovers(tmp_path, "another")
        clear_leftovers(tmp_path, "file")
        assert len(list(tmp_path.iterdir())) == 4
        clear_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3
    finally:
        for process in (killed, living):
            process.kill()
            process.communicate()
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".file.txt"]


def test_what_was_made_just_now_may_be_about_to_be_locked(tmp_path):
    for name in ("file", "folder"):
        (tmp_path / f".{name}.{'0' * 32}").touch()
    empty = tmp_path / f".empty.{'0' * 32}"
    empty.mkdir()
    clear_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())
