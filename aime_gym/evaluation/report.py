"""A benchmark as one HTML file: nothing in it is fetched from anywhere."""

from __future__ import annotations

import base64
import datetime
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from aime_gym.evaluation.benchmark import HEADER, BenchmarkTable
from aime_gym.evaluation.plots import Point, plot_learning_curve
from aime_gym.files import atomic_write

TEMPLATE = "assets/report/report.html"
KINDS = {".png": "image/png", ".svg": "image/svg+xml", ".mp4": "video/mp4"}
FINISHED, FAILED, MISSING = "finished", "failed", "not run yet"


@dataclass(frozen=True)
class ReportedRun:
    """One run of a benchmark.

    Attributes:
        name: What it is.
        command: The shell command that makes it again.
        score: Its score or return, with an interval; empty where it is not finished.
        seconds: How long it took; None where it is not finished.
        machine: What it ran on.
        origins: The world model and the datasets that it learned from.
        versions: Package -> version that it ran with.
        error: What went wrong; empty where nothing did.
    """

    name: str
    command: str
    score: str = ""
    seconds: float | None = None
    machine: str = ""
    origins: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def status(self) -> str:
        """Whether it is finished, has failed, or is still to run."""
        if self.seconds is not None:
            return FINISHED
        return FAILED if self.error else MISSING

    @property
    def summary(self) -> str:
        """Its score, or why it has none."""
        return self.score or self.status

    @property
    def minutes(self) -> str:
        """How long it took."""
        return "" if self.seconds is None else f"{self.seconds / 60:.1f}"


@dataclass(frozen=True)
class Report:
    """What a report shows.

    Attributes:
        title: Its title.
        table: The scores.
        runs: Every run, in the order to show.
        curves: Environment -> method -> points of its learning curve (updates, mean score, low end,
            high end).
        videos: Title -> an ``.mp4`` file.
    """

    title: str
    table: BenchmarkTable
    runs: Sequence[ReportedRun]
    curves: Mapping[str, Mapping[str, Sequence[Point]]] = field(default_factory=dict)
    videos: Mapping[str, Path] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, str]:
        """Package -> the version that the runs ran with, or all of them where they differ."""
        found: dict[str, dict[str, None]] = {}
        for run in self.runs:
            for package, version in run.versions.items():
                found.setdefault(package, {})[version] = None
        return {package: ", ".join(versions) for package, versions in found.items()}


def write_report(report: Report, path: str | os.PathLike[str]) -> Path:
    """Writes a report as one HTML file, with pictures and videos inside it.

    Args:
        report: What it shows.
        path: Where it goes; its folder is made.
    """
    from jinja2 import Environment

    template = (files("aime_gym") / TEMPLATE).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder)
        html = (
            Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
            .from_string(template)
            .render(
                title=report.title,
                date=datetime.date.today().isoformat(),
                counts=_counts(report.runs),
                table=report.table,
                header=HEADER,
                aggregates=report.table.aggregate_tables(),
                figure=_figure(report.table, drawn / "scores.svg"),
                curves=_curves(report.curves, drawn),
                videos={name: _embedded(video) for name, video in report.videos.items()},
                runs=report.runs,
                versions=report.versions,
            )
        )
    target = Path(path)
    with atomic_write(target, "w") as file:
        file.write(html)
    return target


def _counts(runs: Sequence[ReportedRun]) -> str:
    counts = Counter(run.status for run in runs)
    found = [f"{counts[name]} {name}" for name in (FINISHED, FAILED, MISSING) if counts[name]]
    return ", ".join(found)


def _figure(table: BenchmarkTable, path: Path) -> str:
    return _embedded(table.plot(path)) if table.samples() else ""


def _curves(curves: Mapping[str, Mapping[str, Sequence[Point]]], folder: Path) -> dict[str, str]:
    """Environment -> its picture."""
    pictures = {}
    for number, (name, found) in enumerate(curves.items()):
        path = folder / f"{number}.svg"
        plot_learning_curve(found, path, "gradient updates", "score, % of the expert")
        pictures[name] = _embedded(path)
    return pictures


def _embedded(path: Path) -> str:
    """A file as an address that holds all of it."""
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{KINDS[path.suffix]};base64,{content}"
