"""The report of a grid's folder: what its cells left there, put together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agents.running import STEP
from agents.runs.benchmark import describe, read_grid, read_result, table_of
from agents.runs.callbacks import SCORE
from agents.runs.cell import ERROR
from agents.runs.grid import Cell, Grid
from agents.runs.logs import CURVE, read_curve
from agents.runs.recipe import Recipe
from aime_gym.card import Origin
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.evaluation.plots import Point
from aime_gym.evaluation.report import Report, ReportedRun

VIDEOS = "videos"  # In the grid's folder.
Command = Callable[[Recipe[Any]], str]


def report_of(folder: str | os.PathLike[str], command: Command) -> Report:
    """What a grid's folder holds.

    Args:
        folder: The grid's folder.
        command: Gives the shell command that carries out a recipe.

    Raises:
        FileNotFoundError: The folder has no grid.
        ValueError: It has one of another version.
    """
    place = Path(folder)
    grid = read_grid(place)
    return Report(
        title=place.resolve().name,
        table=table_of(grid, place),
        runs=[_run(grid, cell, place, command) for cell in grid.cells],
        curves=learning_curves(grid, place),
        videos={path.stem: path for path in sorted((place / VIDEOS).glob("*.mp4"))},
    )


def learning_curves(grid: Grid, folder: Path) -> dict[str, dict[str, list[Point]]]:
    """Environment -> method -> points (updates, mean score over the seeds, least, greatest)."""
    curves: dict[str, dict[str, dict[float, list[float]]]] = {}
    for cell in grid.cells:
        label = cell.label if len(grid.embodiments) > 1 else cell.method
        for row in read_curve(folder / grid.cell_folder(cell) / CURVE):
            if SCORE in row:
                curve = curves.setdefault(cell.env_id, {}).setdefault(label, {})
                curve.setdefault(row[STEP], []).append(row[SCORE])
    return {
        env_id: {
            label: [_point(*item) for item in sorted(of.items())] for label, of in each.items()
        }
        for env_id, each in curves.items()
    }


def _point(step: float, scores: list[float]) -> Point:
    return step, float(np.mean(scores)), min(scores), max(scores)


def _run(grid: Grid, cell: Cell, folder: Path, command: Command) -> ReportedRun:
    line = command(grid.recipe(cell, folder))
    result = read_result(grid, cell, folder)
    if result is None:
        error = folder / grid.cell_folder(cell) / ERROR
        text = error.read_text(encoding="utf-8") if error.is_file() else ""
        return ReportedRun(str(cell), line, error=text)
    return ReportedRun(
        name=str(cell),
        command=line,
        score=describe(Evaluation.from_json(result["evaluation"])),
        seconds=result["seconds"],
        machine=result["machine"],
        origins=tuple(str(Origin(**origin)) for origin in result["origins"]),
        versions=result["versions"],
    )
