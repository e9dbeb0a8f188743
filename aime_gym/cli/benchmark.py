"""``aime-gym benchmark``: the cells of a grid, each once, however often it is broken off."""

from __future__ import annotations

import runpy
from pathlib import Path

import tyro

from agents.runs.benchmark import FIGURE, TABLE, Grid, run_grid
from aime_gym.cli.console import say, show_table
from aime_gym.evaluation.benchmark import HEADER

VARIABLE = "grid"


def benchmark(
    file: tyro.conf.Positional[Path],
    *,
    folder: Path | None = None,
    processes: int | None = None,
    ray: str | None = None,
    gather: str | None = None,
) -> int:
    """Run a grid of agents, tasks, setups, data and seeds, or go on where that stopped.

    Args:
        file: A Python file with grid = Grid(...), of agents.runs.benchmark.
        folder: Where results go; by default runs/<name of the file>.
        processes: Cells at once; by default as many as there are cores for.
        ray: Address of a cluster to run on (HOST:PORT, auto or local), instead of here.
        gather: Copy results to this folder or URL too, and fetch those that are there.
    """
    grid = load_grid(file)
    place = folder or Path("runs") / file.stem
    outcome = run_grid(grid, place, processes=processes, ray=ray, gather=gather, say=say)
    if outcome.table.rows:
        show_table(HEADER, outcome.table.cells())
        figure = f", the figure {place / FIGURE}" if outcome.table.samples() else ""
        say(f"The table is {place / TABLE}{figure}.")
    for cell, error in outcome.failed.items():
        say(f"Failed: {cell}: {error}")
    return 1 if outcome.failed else 0


def load_grid(file: Path) -> Grid:
    """The grid that a Python file defines.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It defines no grid, or is no Python.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}: it should define grid = Grid(...).")
    try:
        grid = runpy.run_path(str(file)).get(VARIABLE)
    except SyntaxError as error:
        place = f"{error.filename}, line {error.lineno}"
        raise ValueError(f"{file} cannot be run: {error.msg} ({place}).") from error
    if not isinstance(grid, Grid):
        raise ValueError(
            f"{file} defines no grid: it should have grid = Grid(...), of agents.runs.benchmark."
        )
    return grid
