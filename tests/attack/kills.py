"""Kills long commands at random moments, runs them again to their end, and compares.

    python tests/attack/kills.py              every command, 4 kills each
    python tests/attack/kills.py --kills 1 --only bc collect

What is left must be equal to what a run without a kill leaves: weights and arrays to the bit,
curves and tables, cards and scores; an expert's counts alone, as its libraries draw from global
generators. Nothing half-written may lie about.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from commands import COMMANDS, Command, Server, prepare

from aime_gym.files import TEMPORARY

PASSING = {"seconds", "machine", "process", "host", "minutes"}  # What differs from run to run.
IGNORED = ("events.out.tfevents", "log.txt", "clock.json", "before.json", "scores.md")
HIDDEN = (".aime-gym.lock", ".recording", ".shared.lock", ".cell.lock", ".in-use")


def facts_of(place: Path, same: bool) -> dict[str, Any]:
    """What a result says, file by file, without what differs between any two runs."""
    paths = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    facts = {}
    for path in paths:
        if not path.name.startswith((*IGNORED, ".")):
            facts[str(path.relative_to(place))] = _facts(path, same, str(place.parent))
    return facts


def _facts(path: Path, same: bool, own: str) -> Any:
    """What one file says; where the result lies, `own`, is left out of paths in it."""
    from agents.archive import Archive
    from agents.runs.logs import read_curve

    if path.suffix == ".zip":
        archive = Archive.read(path)
        if not same:
            return archive.counters["num_timesteps"] if path.stem != "best" else None
        tensors = {**archive.weights, **archive.training}
        return archive.counters, {n: t.numpy().tobytes() for n, t in sorted(tensors.items())}
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {n: a.shape if not same else a.tobytes() for n, a in file.items()}
    if path.suffix == ".csv":
        rows = [{k: v for k, v in row.items() if "fps" not in k} for row in read_curve(path)]
        return rows if same else [row["time/total_timesteps"] for row in rows]
    if path.suffix == ".html":
        return re.sub(r"base64,[^\"]*", "", path.read_text())  # Figures have random names inside.
    if path.suffix == ".json" or path.name == "run":
        values = _without_passing(json.loads(path.read_text().replace(own, "")))
        if path.name == "cell.json":
            del values["sha256"]  # Of the file itself, and of the seconds in it.
        return values if same else sorted(values)
    return path.read_bytes() if same else None


def _without_passing(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_passing(inner)
            for key, inner in value.items()
            if key not in PASSING and not (key == "sha256" and isinstance(inner, dict))
        }
    return [_without_passing(inner) for inner in value] if isinstance(value, list) else value


def leftovers(place: Path) -> Iterator[Path]:
    """What is half-written, or a lock that nobody needs, in a folder and beside it.

    An empty file may be one that a living process is about to lock, and is kept for a minute.
    """
    for path in place.parent.rglob(".*"):
        locks = path.name.endswith(".lock") and path.parent.name in ("cells", "first-stages")
        locks = locks or path.name.endswith(".queue.lock")
        young = TEMPORARY.fullmatch(path.name) and path.is_file() and not path.stat().st_size
        if path.name not in HIDDEN and not locks and not young and path != place:
            yield path


def attack(
    name: str, command: Command, server: Server, root: Path, kills: int, seed: int
) -> tuple[int, list[str]]:
    """Kills a command so many times; returns the kills, and what went wrong."""
    chance = random.Random(f"{name} {seed}")
    whole = root / f"{name}-whole"
    start = time.monotonic()
    if (code := server.run(command.words, whole)) != 0:
        wrong = [f"{name}: exit code {code} without a kill: {_end_of(whole)}"]
        print(*wrong, flush=True)
        return 0, wrong
    seconds = time.monotonic() - start
    expected = facts_of(whole / command.out, command.same)
    done, trial, wrong = 0, 0, []
    while done < kills and trial < 4 * kills:
        place = root / f"{name}-{trial}"
        trial += 1
        for _ in range(chance.randint(1, 3)):
            process = server.start(command.words, place)
            process.join(chance.uniform(0.05, seconds))
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            done += 1
        code = server.run(command.words, place)
        if code != 0 and not (not command.goes_on and code == 2 and (place / command.out).exists()):
            wrong.append(f"{name}: exit code {code} after a kill: {_end_of(place)}")
            continue
        found = facts_of(place / command.out, command.same)
        differing = [f for f in {*expected, *found} if expected.get(f) != found.get(f)]
        if differing:
            wrong.append(f"{name}: {', '.join(sorted(differing))} differ after a kill in {place}")
        if left := list(leftovers(place / command.out)):
            wrong.append(f"{name}: left over: {', '.join(map(str, left))}")
    print(
        f"{name}: {seconds:.1f} s, {done} kills in {trial} trials, {len(wrong)} faults", flush=True
    )
    print("".join(f"{line}\n" for line in wrong), end="", file=sys.stderr)
    return done, wrong


def _end_of(place: Path) -> str:
    log = place.with_suffix(".log")
    return " / ".join(log.read_text().strip().splitlines()[-3:]) if log.exists() else "no log"


def main() -> int:
    """Attacks commands, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=4, help="of each command, at least")
    parser.add_argument("--only", nargs="*", default=[*COMMANDS], choices=[*COMMANDS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="work here, and leave everything")
    options = parser.parse_args()
    server = Server()
    root = options.keep or Path(tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    prepare(server, root.absolute(), options.only)
    total, wrong = 0, []
    for name in options.only:
        done, found = attack(
            name, COMMANDS[name], server, root.absolute(), options.kills, options.seed
        )
        total, wrong = total + done, wrong + found
    print(f"{total} kills of {len(options.only)} commands, {len(wrong)} faults")
    if options.keep is None:
        shutil.rmtree(root)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
