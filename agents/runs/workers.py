"""Where the cells of a grid run: in processes of this machine, or on a cluster with Ray.

Both are used alike: `start` cells up to `capacity`, and ask for those that have `ended`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agents.codec import decode
from agents.runs.cell import LOG, RESULT, STOPPED, encode_job, run_job
from agents.runs.grid import Cell, Grid
from aime_gym.catalogue import CHECKPOINT
from aime_gym.files import atomic_write

ANSWER = 10.0  # Seconds that a cluster may take to answer.
RESTARTS = 3  # Of a job whose worker is lost.
SHOWN_LINES = 60  # Of a failed cell's log.
POLL = 0.1  # Seconds.
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # Colours.
VARIABLES = "AIME_GYM_"  # Environment variables that workers get.


class Workers(ABC):
    """What runs cells.

    Args:
        grid: What the cells belong to.
        folder: The grid's folder, absolute.
    """

    def __init__(self, grid: Grid, folder: Path) -> None:
        self._grid, self._folder = grid, folder

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many cells run at once."""

    @abstractmethod
    def start(self, cell: Cell) -> None:
        """Starts a cell."""

    @abstractmethod
    def ended(self, seconds: float) -> list[tuple[Cell, str | None]]:
        """Cells that have ended, with what went wrong, or None where nothing did.

        Args:
            seconds: Wait so long, if need be, for the first one.
        """

    @abstractmethod
    def stop(self) -> None:
        """Asks what runs to end with a checkpoint; `ended` has it once it did."""

    @abstractmethod
    def close(self) -> None:
        """Ends what runs, whose cells go on from their checkpoints another time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Processes(Workers):
    """Processes of this machine, started anew for every cell: a crash takes no other with it.

    Args:
        grid: What the cells belong to.
        folder: The grid's folder, absolute.
        processes: How many at once; None for as many as there are cores for.
    """

    def __init__(self, grid: Grid, folder: Path, processes: int | None = None) -> None:
        super().__init__(grid, folder)
        self._capacity = processes or max(1, (os.cpu_count() or 1) // grid.cpus)
        self._running: dict[Cell, subprocess.Popen[bytes]] = {}
        self._stopping = False

    @property
    def capacity(self) -> int:
        """How many cells run at once."""
        return self._capacity

    def start(self, cell: Cell) -> None:
        """Starts a cell; what it prints goes to its log."""
        log = self._log(cell)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "agents.runs.cell"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(self._grid.cpus)},
                start_new_session=True,  # An interruption reaches the runner alone.
            )
        self._running[cell] = process
        job = json.dumps(encode_job(self._grid, cell, self._folder))
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # Its log says why it has ended already.
            process.stdin.write(f"{job}\n".encode())
            process.stdin.flush()

    def ended(self, seconds: float) -> list[tuple[Cell, str | None]]:
        """Cells whose process has ended, with the end of its log where it failed."""
        deadline = time.monotonic() + seconds
        while not (done := [c for c, p in self._running.items() if p.poll() is not None]):
            if time.monotonic() >= deadline:
                return []
            time.sleep(POLL)
        return [(cell, self._error(cell, self._running.pop(cell).wait())) for cell in done]

    def stop(self) -> None:
        """Sends SIGTERM, which a cell that does not train ends by at once."""
        self._stopping = True
        for process in self._running.values():
            process.terminate()

    def close(self) -> None:
        """Ends the processes."""
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running.clear()

    def _log(self, cell: Cell) -> Path:
        return self._folder / self._grid.cell_folder(cell) / LOG

    def _error(self, cell: Cell, code: int) -> str | None:
        if code == 0 or (self._stopping and code in (STOPPED, -signal.SIGTERM)):
            return None
        lines = self._log(cell).read_text(encoding="utf-8", errors="replace").splitlines()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return "\n".join([f"The process {how}. The end of its log:", *lines[-SHOWN_LINES:], ""])


class RayJobs(Workers):
    """Jobs on a cluster of Ray, each with its own cores and GPUs; a lost worker's starts again.

    Where a node sees the grid's folder, its jobs work in it, and go on from their checkpoints.
    Elsewhere they work in a temporary folder of the node, and their results are sent here.

    Args:
        grid: What the cells belong to; it has the cores and GPUs of a job.
        folder: The grid's folder, absolute.
        address: The cluster's, such as ``"127.0.0.1:6379"``; ``"auto"`` for the one that this
            machine is part of, ``"local"`` for a new one of this machine alone.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ValueError: There is no cluster at the address, or no node with room for a cell.
    """

    def __init__(self, grid: Grid, folder: Path, address: str) -> None:
        super().__init__(grid, folder)
        self._ray = import_ray()
        try:
            _check_reachable(address)
            self._ray.init(address=address, log_to_driver=False, logging_level="error")
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"There is no cluster of Ray at {address!r} ({error}): start one with "
                "`ray start --head`, or choose the address 'local'."
            ) from error
        if not room(self._ray.nodes(), grid):
            self._ray.shutdown()
            raise ValueError(
                f"No node of the cluster at {address!r} has {grid.cpus} cores and {grid.gpus:g} "
                "GPUs, which a cell of this grid needs."
            )
        self._token = f".seen-{uuid.uuid4().hex}"
        (folder / self._token).touch()
        options = {"num_cpus": grid.cpus, "num_gpus": grid.gpus, "max_retries": RESTARTS}
        self._run: Any = self._ray.remote(**options)(run_on_node)
        self._running: dict[Any, Cell] = {}

    @property
    def capacity(self) -> int:
        """How many cells the nodes, as many as there are now, have cores and GPUs for."""
        return max(1, room(self._ray.nodes(), self._grid))

    def start(self, cell: Cell) -> None:
        """Hands a cell to the cluster."""
        variables = {k: v for k, v in os.environ.items() if k.startswith(VARIABLES)}
        job = encode_job(self._grid, cell, self._folder)
        self._running[self._run.remote(job, self._token, variables)] = cell

    def ended(self, seconds: float) -> list[tuple[Cell, str | None]]:
        """Cells whose jobs have ended; their files are here by then."""
        done, _ = self._ray.wait([*self._running], num_returns=1, timeout=seconds)
        return [(self._running[job], self._fetch(job, self._running.pop(job))) for job in done]

    def stop(self) -> None:
        """Interrupts the jobs, as Ctrl-C would; where a node has its own files, they are lost."""
        for job in self._running:
            self._ray.cancel(job, force=False)

    def close(self) -> None:
        """Ends the jobs, and leaves the cluster."""
        for job in self._running:
            self._ray.cancel(job, force=True)
        self._running.clear()
        self._ray.shutdown()
        (self._folder / self._token).unlink(missing_ok=True)

    def _fetch(self, job: Any, cell: Cell) -> str | None:
        """Writes a job's files into the cell's folder; what went wrong, if anything did."""
        try:
            files: dict[str, bytes] = self._ray.get(job)
        except self._ray.exceptions.TaskCancelledError:
            return None
        except self._ray.exceptions.RayError as error:
            return f"{ANSI.sub('', str(error))}\n"
        for name, content in files.items():
            with atomic_write(self._folder / self._grid.cell_folder(cell) / name) as file:
                file.write(content)
        return None


def room(nodes: Iterable[Mapping[str, Any]], grid: Grid) -> int:
    """How many cells run at once on nodes, each cell on one, as Ray describes nodes."""
    cells = 0.0
    for resources in (node["Resources"] for node in nodes if node["Alive"]):
        on_node = resources.get("CPU", 0) // grid.cpus
        if grid.gpus:
            on_node = min(on_node, resources.get("GPU", 0) // grid.gpus)
        cells += on_node
    return int(cells)


def run_on_node(
    job: Mapping[str, Any], token: str, variables: Mapping[str, str]
) -> dict[str, bytes]:
    """Runs a cell on a node of a cluster.

    Args:
        job: As `encode_job` encodes it.
        token: A file that is in the grid's folder, where a node sees that.
        variables: Environment variables; the node's own come first.

    Returns:
        Name -> content of the cell's files, the result last; nothing where the node sees the
        grid's folder.
    """
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    folder = Path(job["folder"])
    if (folder / token).exists():
        run_job(job)
        return {}
    scratch = Path(tempfile.gettempdir()) / f"aime-gym{token}"  # All jobs of the node share it.
    run_job(job, scratch)
    place = scratch / decode(Grid, job["grid"]).cell_folder(decode(Cell, job["cell"]))
    files = {path.relative_to(place).as_posix(): path.read_bytes() for path in result_files(place)}
    shutil.rmtree(place)
    return files


def result_files(place: Path) -> list[Path]:
    """The files of a finished cell that are worth keeping, its result last."""
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    kept = [path for path in files if path.name[0] != "." and path.name != CHECKPOINT]
    return sorted(kept, key=lambda path: path == place / RESULT)


def _check_reachable(address: str) -> None:
    """Tries HOST:PORT, where that is what an address says: Ray itself would try for minutes.

    Raises:
        OSError: Nothing answers.
    """
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=ANSWER).close()


def import_ray() -> Any:
    """Ray.

    Raises:
        ModuleNotFoundError: It is not installed; the message says how to get it.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "A grid runs on a cluster with Ray: pip install 'aime-gym[ray]'."
        ) from error
    return ray
