"""Runs a grid: every cell once, whoever is killed or fails on the way.

    runs/<grid>/
        grid.json                   the grid
        cells/<cell>/               a run folder, with
            cell.json               the result, once the cell is finished
            log.txt, error.txt      what it printed, and what went wrong
        first-stages/<method>/      models of a body, which its tasks share
        scores.md, scores.json      the table
        scores.png                  the figure

Several runners may work on one folder: a lock for each cell, which a killed runner leaves, keeps
them from doing the same.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from agents.checks import check_at_least, check_device
from agents.codec import decode, encode
from agents.runs.cell import CHECKSUM, ERROR, RESULT, checksum_of
from agents.runs.folder import differences
from agents.runs.gathering import Gathering
from agents.runs.grid import CELLS, Cell, Grid, Method, check_same, encode_recipe
from agents.runs.stopping import StoppedError, StopRequest, stop_request
from agents.runs.workers import Processes, RayJobs, Workers, import_ray
from aime_gym.card import Origin
from aime_gym.evaluation.benchmark import BenchmarkTable, CellScore, tabulate
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.files import atomic_write, write_json
from aime_gym.foreign import blame, read_json
from aime_gym.places import kept

__all__ = ["Grid", "Method", "Outcome", "read_grid", "run_grid", "table_of"]

GRID = "grid.json"
TABLE, SCORES, FIGURE = "scores.md", "scores.json", "scores.png"
CLAIMING = 2.0  # Seconds to wait for another runner to have claimed the folder.
PATIENCE = 1.0  # Seconds between two looks at the cells of other runners.
Say = Callable[[str], None]


@dataclass
class Outcome:
    """What came of a grid.

    Attributes:
        table: The scores of all finished cells.
        failed: Cell -> the last line of what went wrong.
    """

    table: BenchmarkTable
    failed: dict[Cell, str] = field(default_factory=dict)


def run_grid(
    grid: Grid,
    folder: str | os.PathLike[str],
    *,
    processes: int | None = None,
    ray: str | None = None,
    gather: str | None = None,
    say: Say = print,
) -> Outcome:
    """Runs the cells of a grid that are not finished yet.

    A cell that fails is tried again the next time. In the end the folder has the table and the
    figure of all finished cells. SIGINT and SIGTERM stop the cells that run with a checkpoint.

    Args:
        grid: The cells.
        folder: A new folder, or one with this grid, which may have had fewer cells or more.
        processes: Cells at once on this machine; None for as many as there are cores for, and
            on a cluster.
        ray: Address of a cluster to run them on; None for this machine.
        gather: A second place that results are copied to, a folder or a URL of fsspec's; cells
            that are finished there are fetched, and not run.
        say: Is told what happens, line by line.

    Raises:
        FileExistsError: The folder has something else.
        FileNotFoundError: A dataset or a model is missing; the message lists what there is.
        ModuleNotFoundError: Ray is not installed.
        StoppedError: It was stopped by a signal; the message says how far it came.
        ValueError: The grid names what does not exist; or the folder has another grid, or it or
            the second place has the result of another cell; or its cells need GPUs, and this
            machine has none.
    """
    folder = Path(folder).absolute()
    check_at_least(1, processes=processes)
    if ray is not None and processes is not None:
        raise ValueError(
            "processes is for this machine; on a cluster as many cells run at once as there is "
            "room for."
        )
    if ray is not None:
        import_ray()
    elif grid.gpus:
        check_device("cuda")
    grid.check()
    gathering = None if gather is None else Gathering(gather, folder)
    claim(folder, grid)
    _check_finished(grid, folder, gathering)
    cells = [grid.cell_folder(cell) for cell in grid.cells]
    if gathering is not None:
        gathering.fetch(cells)
        gathering.send_missing(cells)
    workers = Processes(grid, folder, processes) if ray is None else RayJobs(grid, folder, ray)
    with stop_request() as request, workers:
        failed = _Runner(grid, folder, workers, gathering, say, request).run()
    outcome = Outcome(table_of(grid, folder), failed)
    written = _write(outcome.table, folder)
    if gathering is not None:
        gathering.send_missing(cells)
        for path in (GRID, *written):
            gathering.send_file(Path(path))
    return outcome


def read_grid(folder: str | os.PathLike[str]) -> Grid:
    """The grid of a folder.

    Raises:
        FileNotFoundError: It has none.
        ValueError: It has one of another version.
    """
    path = Path(folder) / GRID
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no grid: `aime-gym benchmark` makes such folders.")
    with blame(path, "damaged, or of another version"):
        grid: Grid = decode(Grid, read_json(path))
        if not isinstance(grid, Grid):
            raise ValueError("it holds no grid")
    return grid


def read_result(grid: Grid, cell: Cell, folder: Path) -> dict[str, Any] | None:
    """The result of a cell; None where it is not finished."""
    path = folder / grid.cell_folder(cell) / RESULT
    if not path.is_file():
        return None
    with blame(path, "damaged, or no result of a cell"):
        result: dict[str, Any] = read_json(path)
        _check_result(result)
    return result


def _check_result(result: Any) -> None:
    """ValueError, KeyError or TypeError unless these are the values that `run_cell` writes."""
    if CHECKSUM in result and result[CHECKSUM] != checksum_of(result):
        raise ValueError("its checksum is of another result")
    if not isinstance(result["recipe"], dict):
        raise ValueError("its recipe is no object")
    Evaluation.from_json(result["evaluation"])
    _ = [Origin(**origin) for origin in result["origins"]]
    float(result["seconds"])


def table_of(grid: Grid, folder: str | os.PathLike[str]) -> BenchmarkTable:
    """The scores of the cells that are finished, beside the paper's."""
    scores = []
    for cell in grid.cells:
        result = read_result(grid, cell, Path(folder))
        if result is not None:
            method = grid.method(cell)
            score = CellScore(
                method=cell.method,
                evaluation=Evaluation.from_json(result["evaluation"]),
                embodiment=cell.embodiment,
                seconds=result["seconds"],
                budget=None if method.minutes is None else 60 * method.minutes,
                paper=method.paper,
                origins=tuple(Origin(**origin) for origin in result["origins"]),
            )
            scores.append(score)
    return tabulate(scores)


def describe(evaluation: Evaluation) -> str:
    """The score of an evaluation with its interval; its return where there is no expert."""
    if evaluation.score_interval is None:
        return f"return {evaluation.mean:.1f}"
    low, high = evaluation.score_interval
    return f"score {evaluation.score:.1f} ({low:.1f} to {high:.1f})"


@dataclass
class _Runner:
    """Hands out the cells of a grid, and says what comes of them."""

    grid: Grid
    folder: Path
    workers: Workers
    gathering: Gathering | None
    say: Say
    request: StopRequest
    began: float = field(default_factory=time.time)
    held: dict[Cell, FileLock] = field(default_factory=dict)
    failed: dict[Cell, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)  # Of finished cells, by method.

    def run(self) -> dict[Cell, str]:
        """Runs the cells; returns those that failed, with the last line of what went wrong."""
        waiting = deque(cell for cell in self.grid.cells if not self._take_note(cell))
        self._announce(waiting)
        try:
            self._work(waiting)
        finally:
            for lock in self.held.values():
                lock.release()
        return self.failed

    def _work(self, waiting: deque[Cell]) -> None:
        while waiting or self.held:
            if self.request.is_made:
                self._stop()
            for _ in range(len(waiting)):
                if len(self.held) >= self.workers.capacity:
                    break
                cell = waiting.popleft()
                if not self._take_note(cell) and not self._start(cell):
                    waiting.append(cell)
            if not self.held:
                time.sleep(PATIENCE)  # What is left is with other runners.
            for cell, error in self.workers.ended(PATIENCE) if self.held else ():
                self._end(cell, error)

    def _stop(self) -> None:
        """Lets the cells that run end with a checkpoint.

        Raises:
            StoppedError: Always; the message says what is saved.
        """
        self.workers.stop()
        while self.held:
            for cell, error in self.workers.ended(PATIENCE):
                self._end(cell, error)
        results = [read_result(self.grid, cell, self.folder) for cell in self.grid.cells]
        finished = sum(result is not None for result in results)
        raise StoppedError(
            f"Stopped with {finished} of {len(results)} cells finished and what the others have "
            f"learned saved in {self.folder}: the same command goes on from there."
        )

    def _announce(self, waiting: Sequence[Cell]) -> None:
        total, at_once = len(self.grid.cells), self.workers.capacity
        budgets = [self.grid.method(cell).minutes for cell in waiting]
        known = [minutes for minutes in budgets if minutes is not None]
        work = f" of at most {sum(known):.0f} min in all" if known and None not in budgets else ""
        self.say(
            f"{total} cells, {total - len(waiting)} of them finished; {len(waiting)} to run{work}, "
            f"{at_once} at once."
        )

    def _take_note(self, cell: Cell) -> bool:
        """Whether a cell is finished, or has failed with another runner since this one began."""
        result = read_result(self.grid, cell, self.folder)
        error = self.folder / self.grid.cell_folder(cell) / ERROR
        if result is not None:
            self.seconds.setdefault(cell.method, []).append(result["seconds"])
        elif error.exists() and error.stat().st_mtime >= self.began:
            self.failed[cell] = _last_line(error.read_text(encoding="utf-8"))
        else:
            return False
        return True

    def _start(self, cell: Cell) -> bool:
        """Starts a cell, unless another runner has it."""
        place = self.folder / self.grid.cell_folder(cell)
        lock = FileLock(place.with_name(f".{place.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        if self._take_note(cell):
            lock.release()
            return True
        self.held[cell] = lock
        minutes, taken = self.grid.method(cell).minutes, self.seconds.get(cell.method)
        budget = "" if minutes is None else f", budget {minutes:g} min"
        estimate = f", about {sum(taken) / len(taken) / 60:.1f} min" if taken else ""
        self.say(f"{cell}: started{budget}{estimate}")
        self.workers.start(cell)
        return True

    def _end(self, cell: Cell, error: str | None) -> None:
        """Notes what came of a cell, and lets go of it."""
        name = self.grid.cell_folder(cell)
        result = read_result(self.grid, cell, self.folder)
        if result is None and error is None and self.request.is_made:
            self.say(f"{cell}: stopped")
        elif result is None:
            error = error or "The job ended without a result.\n"
            with atomic_write(self.folder / name / ERROR, "w") as file:
                file.write(error)
            self.failed[cell] = _last_line(error)
            self.say(f"{cell}: failed: {self.failed[cell]} (see {self.folder / name / ERROR})")
        else:
            (self.folder / name / ERROR).unlink(missing_ok=True)
            if self.gathering is not None:
                self._gather(cell, self.gathering)
            self.seconds.setdefault(cell.method, []).append(result["seconds"])
            self.say(f"{cell}: {self._describe(cell, result)}")
        self.held.pop(cell).release()

    def _gather(self, cell: Cell, gathering: Gathering) -> None:
        """Copies a finished cell to the second place; where that fails, again in the end."""
        try:
            gathering.send(self.grid.cell_folder(cell))
        except OSError as error:
            self.say(f"{cell}: not copied yet, which is tried again in the end: {error}")

    def _describe(self, cell: Cell, result: dict[str, Any]) -> str:
        score = describe(Evaluation.from_json(result["evaluation"]))
        minutes, budget = result["seconds"] / 60, self.grid.method(cell).minutes
        over = "" if budget is None else f" of {budget:g}"
        late = ", over its budget" if budget is not None and minutes > budget else ""
        return f"{score} in {minutes:.1f}{over} min{late}"


def claim(folder: Path, grid: Grid) -> None:
    """Makes the folder this grid's.

    Raises:
        FileExistsError: It has something else.
        ValueError: It has another grid, or another process is working in it.
    """
    if folder.is_file() or (folder.is_dir() and not (folder / GRID).exists()):
        others = [] if folder.is_file() else [p for p in folder.iterdir() if p.name[0] != "."]
        if folder.is_file() or others:
            raise FileExistsError(f"{folder} has no grid, and is not empty; choose a new folder.")
    with kept(folder, CLAIMING):
        if (folder / GRID).exists():
            check_same(read_grid(folder), grid, folder)
        write_json(folder / GRID, encode(grid))
        (folder / CELLS).mkdir(exist_ok=True)


def _check_finished(grid: Grid, folder: Path, gathering: Gathering | None) -> None:
    """Checks that finished cells are what the grid says, also where it had been another meanwhile.

    Nothing has been fetched from the second place by then.

    Raises:
        ValueError: One is not.
    """
    for cell in grid.cells:
        name = grid.cell_folder(cell)
        found = {str(folder / name): read_result(grid, cell, folder)}
        if gathering is not None:
            found[gathering.there(name)] = gathering.result(name)
        for place, result in found.items():
            recipe = encode_recipe(grid, cell)
            changes = "" if result is None else differences(result["recipe"], recipe)
            if changes:
                raise ValueError(
                    f"{place} has the result of another {cell}, of {changes}; choose another "
                    "folder, or another name for the method."
                )


def _write(table: BenchmarkTable, folder: Path) -> list[str]:
    """Writes table and figure; returns the names of the files."""
    if not table.rows:
        return []
    with atomic_write(folder / TABLE, "w") as file:
        file.write(table.to_markdown())
    write_json(folder / SCORES, table.to_json())
    written = [TABLE, SCORES]
    if any(row.scores.is_scored for row in table.rows):
        table.plot(folder / FIGURE)
        written.append(FIGURE)
    return written


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing is known"
