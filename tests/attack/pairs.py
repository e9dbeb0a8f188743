"""Two commands at once on one folder: the first one works, the second one says why it does not.

python tests/attack/pairs.py              every pair
python tests/attack/pairs.py --first bc   one command against all
python tests/attack/pairs.py --second bc  all against one
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from commands import COMMANDS, UPDATES, Server, prepare
from filelock import FileLock, Timeout

FIRST = (
    "Another process is working in",
    "not empty",
    "is a folder",
    "no grid",
    "another grid",
    "is no folder of",
    "cannot be written",
)
SHARED = ({"benchmark"}, {"benchmark", "diagnose"})  # Several runners of a grid; other files.
BRIEF = {
    "make", "render", "from-minari", "to-minari", "demo", "video", "report", "few-shot", "export",
    "imujoco-build", "imujoco-show", "imujoco-train", "imujoco-read", "imujoco-write",
}  # fmt: skip
"""Commands that come second alone: they end before others could meet them, or share their folder
with others of their kind, whose bodies or cells each have a lock."""
TRIES = 3
LARGE = "datasets mix" + 500 * " toy" + " --name large --out ../data/large"


def main() -> int:
    """Tries the pairs, and says what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    first = [name for name in COMMANDS if name not in BRIEF]
    parser.add_argument("--first", nargs="*", default=first, choices=first)
    parser.add_argument("--second", nargs="*", default=[*COMMANDS], choices=[*COMMANDS])
    options = parser.parse_args()
    server, root = Server(), Path(tempfile.mkdtemp())
    prepare(server, root, options.second)
    assert server.run(LARGE, root / "prepared") == 0
    wrong, pairs = [], 0
    for first in options.first:
        place = root / first
        words = {
            name: command.words.replace("run.png", "run") for name, command in COMMANDS.items()
        }
        for name in ("picture", "predict", "imujoco-show"):
            words[name] = COMMANDS[name].words
        held = Held(server, lengthened(words[first]), place)
        for second in options.second:
            line = words[second]
            if out_of(first) != out_of(second) or {first, second} in SHARED:
                continue
            pairs += 1
            start = time.monotonic()
            code, said = held.meet(line)
            if code != 2 or not any(reason in said for reason in FIRST):
                wrong.append(f"{first}, then {second}: exit code {code}: {said[-300:]}")
            print(f"{first}, then {second}: {time.monotonic() - start:.1f} s", flush=True)
        if held.process.exitcode not in (None, 0):
            wrong.append(f"{first}: was disturbed")
        held.process.kill()
        held.process.join()
    print("\n".join(wrong), file=sys.stderr)
    print(f"{pairs} pairs, {len(wrong)} faults")
    shutil.rmtree(root, ignore_errors=True)
    return int(bool(wrong))


class Held:
    """A command at work in a folder, started anew where it ends before others could meet it.

    Args:
        server: What starts commands.
        words: The command.
        place: Where it works.

    Attributes:
        process: The command's process.
    """

    def __init__(self, server: Server, words: str, place: Path) -> None:
        self._server, self._words, self._place = server, words, place
        self._start()

    def _start(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        self.process = self._server.start(self._words, self._place, updates=10_000 * UPDATES)
        wait_for_lock(self._place, self.process)

    def meet(self, words: str) -> tuple[int | None, str]:
        """Runs another command there: its exit code, and what it said."""
        for _ in range(TRIES):
            if self.process.exitcode == 0:
                self._start()
            log = self._place.with_suffix(".log")
            before = len(log.read_text())
            code = self._server.run(words, self._place)
            said = log.read_text()[before:]
            if code != 0 or self.process.exitcode != 0:  # Else one began after the other's end.
                break
        return code, said


def out_of(name: str) -> str:
    """The name that a command writes to."""
    return COMMANDS[name].out


def lengthened(words: str) -> str:
    """The same command with work for minutes, or at least for seconds."""
    words = words.replace("convert toy", "convert large").replace("mix toy", f"mix{60 * ' large'}")
    for option in ("--total-timesteps", "--episodes", "--body-model-timesteps", "--updates"):
        parts = words.split(f"{option} ")
        if len(parts) == 2:
            number, space, rest = parts[1].partition(" ")
            words = f"{parts[0]}{option} {int(number) * 10_000}{space}{rest}"
    return words


def wait_for_lock(place: Path, holder: object) -> bool:
    """Waits until a command keeps its place."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and holder.exitcode is None:  # type: ignore[attr-defined]
        for lock in place.glob(".run*.aime-gym.lock"):
            if lock.exists():
                try:
                    with FileLock(lock, timeout=0):
                        pass
                except Timeout:
                    return True
        time.sleep(0.02)
    return False


if __name__ == "__main__":
    sys.exit(main())
