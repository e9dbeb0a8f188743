"""One cell of a grid: trained, scored, and written down.

A runner starts this module as a process of its own for every cell, which ends when the runner does:

    python -m agents.runs.cell      reads what to do from its standard input
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from agents.codec import decode, encode
from agents.products import use_fast_products
from agents.runs.callbacks import IntervalCallback
from agents.runs.folder import read_config
from agents.runs.grid import Cell, Grid, encode_recipe
from agents.runs.recipe import train
from agents.runs.recipes.agent import EVALUATION
from agents.runs.stopping import StoppedError
from aime_gym.card import installed_versions
from aime_gym.evaluation.origins import origins_of
from aime_gym.files import locked, write_json
from aime_gym.foreign import read_json

RESULT, CLOCK, ERROR, LOG = "cell.json", "clock.json", "error.txt", "log.txt"
CHECKSUM = "sha256"  # In a result: of all else that is in it.
ORPHANED, STOPPED = 3, 4  # Exit codes: the runner is gone; it stopped with a checkpoint.


def run_cell(grid: Grid, cell: Cell, folder: Path) -> None:
    """Trains and scores a cell in its run folder, or goes on where that stopped.

    Its result is ``cell.json``, written last: what the cell is, its evaluation, what it learned
    from, its seconds in all, and the versions of what it ran with.

    Args:
        grid: What the cell belongs to.
        cell: One of its cells.
        folder: The grid's folder.
    """
    recipe = grid.recipe(cell, folder)
    place = recipe.run_folder
    with locked(place / ".cell.lock"):  # One that was killed may take a moment to end.
        clock = Stopwatch(place / CLOCK, recipe.checkpoint_interval)
        train(recipe, [clock])
        clock.write()
        result = {
            "cell": encode(cell),
            "recipe": encode_recipe(grid, cell),
            "evaluation": read_json(place / EVALUATION),
            "origins": [vars(origin) for origin in origins_of(read_config(place))],
            "seconds": clock.seconds,
            "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
            "versions": {**installed_versions(), "torch": torch.__version__},
        }
        write_json(place / RESULT, {**result, CHECKSUM: checksum_of(result)})


def checksum_of(result: Mapping[str, Any]) -> str:
    """A checksum of a cell's result, by which a changed one is told."""
    values = {name: value for name, value in result.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Stopwatch(IntervalCallback):
    """Adds up the seconds that a cell takes, over all of the processes that work on it.

    Args:
        path: A JSON file with the seconds so far, and the process that spends them.
        interval: Timesteps between two times that it is written.
    """

    def __init__(self, path: Path, interval: int) -> None:
        super().__init__(interval)
        self._path = path
        self._before = float(read_json(path)["seconds"]) if path.exists() else 0.0
        self._start = time.monotonic()
        self.write()

    @property
    def seconds(self) -> float:
        """Seconds so far; what a killed process did after its last checkpoint is not among them."""
        return float(self._before + time.monotonic() - self._start)

    def write(self) -> None:
        """Writes the seconds so far."""
        process = {"process": os.getpid(), "host": platform.node()}
        write_json(self._path, {"seconds": round(self.seconds, 1), **process})

    def _on_interval(self) -> None:
        self.write()


# In another process


def encode_job(grid: Grid, cell: Cell, folder: Path) -> dict[str, Any]:
    """What another process, or another machine, needs to know of a cell, as plain values."""
    return {"grid": encode(grid), "cell": encode(cell), "folder": str(folder)}


def run_job(job: Mapping[str, Any], folder: Path | None = None) -> None:
    """Runs the cell that `encode_job` encoded, in the grid's folder or in another one."""
    grid: Grid = decode(Grid, job["grid"])
    torch.set_num_threads(grid.cpus)
    use_fast_products()
    run_cell(grid, decode(Cell, job["cell"]), folder or Path(job["folder"]))


def main() -> None:
    """Runs the cell that standard input names, and ends at once when that is closed.

    SIGTERM stops it with a checkpoint.
    """
    line = sys.stdin.readline()
    threading.Thread(target=_end_with_runner, daemon=True).start()
    try:
        run_job(json.loads(line))
    except StoppedError as stop:
        print(stop)
        sys.exit(STOPPED)


def _end_with_runner() -> None:
    os.read(sys.stdin.fileno(), 1)  # Nothing comes; the runner's end closes it.
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
