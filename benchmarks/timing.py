"""What all benchmarks share: paths measured in turn, ratios with their spread, JSON and tables.

Other work on a machine slows what happens to run beside it. So every path is measured in turn,
again and again; a ratio is the median over the rounds of that within a round, and its spread goes
from the first to the third quartile.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("aime-gym", "dm_control", "gymnasium", "mujoco", "numpy", "shimmy", "torch", "envpool")

Timed = Callable[[], float]
"""Runs a path once, and returns its seconds."""
Seconds = dict[str, list[float]]
"""Path -> seconds of each of its runs."""


def seconds_of(run: Callable[[], Any]) -> float:
    """How long a run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turn(paths: Mapping[str, Timed], rounds: int) -> Seconds:
    """Measures every path once a round, after one run of each to warm up."""
    for run in paths.values():
        run()
    seconds: Seconds = {name: [] for name in paths}
    for _ in range(rounds):
        for name, run in paths.items():
            seconds[name].append(run())
    return seconds


def ratio(seconds: Seconds, name: str, to: str) -> dict[str, float]:
    """Time of one path over that of another: median, first and third quartile."""
    return spread([a / b for a, b in zip(seconds[name], seconds[to], strict=True)])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, and the first and third quartile."""
    if len(values) == 1:
        return dict.fromkeys(("median", "low", "high"), values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def shown(values: Mapping[str, float], digits: int = 2) -> str:
    """A ratio for a table, such as ``0.85 (0.83 to 0.88)``."""
    median, low, high = (f"{values[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table that is Markdown, too."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(f"| {' | '.join(padded)} |")
        if number == 0:
            print(f"| {' | '.join('-' * width for width in widths)} |")


def save(name: str, options: Mapping[str, Any], results: Any, out: Path | None) -> None:
    """Writes results as JSON, with commit, versions and machine.

    Args:
        name: Of the benchmark; the file's, where `out` is None.
        options: What it was called with.
        results: Plain values.
        out: Another file to write.
    """
    report = {
        "benchmark": name,
        "commit": commit(),
        "options": {k: v for k, v in options.items() if k != "out"},
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        },
        "versions": {package: found for package in PACKAGES if (found := _version(package))},
        "results": results,
    }
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, default=str) + "\n")
    print(f"Wrote {path}")


def commit() -> str:
    """The commit of this checkout, with ``-dirty`` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """The processor's own name, where the system tells it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
