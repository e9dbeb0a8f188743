"""The table of a benchmark: methods in many environments, beside the paper's numbers.

A sample is the scores of one method in one environment: of its training seeds, each the mean over
episodes, where every environment has several; else of its episodes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aime_gym.card import Origin
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.evaluation.reference import published_scores
from aime_gym.evaluation.statistics import (
    Statistic,
    bootstrap_interval,
    interquartile_mean,
    mean,
    optimality_gap,
    stratified_interval,
)
from aime_gym.evaluation.table import NONE, ScoreRow, markdown
from aime_gym.ids import body_of, find_env_id

HEADER = (
    "environment", "method", "data", "n", "return", "score", "95% interval", "IQM", "the paper's",
    "minutes",
)  # fmt: skip
AGGREGATES: dict[str, Statistic] = {
    "IQM": interquartile_mean,
    "mean": mean,
    "optimality gap": optimality_gap,
}
"""Name -> statistic of the samples of all environments together."""
Aggregates = dict[str, dict[str, tuple[float, float, float]]]
"""Statistic -> method -> (value, low end, high end of the interval)."""
PAPER = "the paper's"


@dataclass(frozen=True)
class CellScore:
    """What came of one run.

    Attributes:
        method: The method's name.
        evaluation: Its episodes.
        embodiment: The data of its body, such as ``"mix"``; None where it reads none.
        seconds: How long it took.
        budget: How long it might take, seconds; None where unknown.
        paper: The method's name among the paper's scores; None for none.
        origins: The world model and the datasets that it learned from.
    """

    method: str
    evaluation: Evaluation
    embodiment: str | None = None
    seconds: float = 0.0
    budget: float | None = None
    paper: str | None = None
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True)
class BenchmarkRow:
    """One method in one environment.

    Attributes:
        scores: Its evaluations, one for each training seed.
        embodiment: The data of its body; None where it reads none.
        published: The paper's scores of the same [100], percent of the expert; None for none.
        seconds: Of each training seed.
        budget: Of each training seed, seconds; None where unknown.
    """

    scores: ScoreRow
    embodiment: str | None
    published: NDArray[np.float64] | None
    seconds: tuple[float, ...]
    budget: float | None

    @property
    def minutes(self) -> str:
        """The longest run's minutes, and its budget."""
        taken = f"{max(self.seconds) / 60:.1f}"
        return taken if self.budget is None else f"{taken} of {self.budget / 60:g}"

    def cells(self) -> tuple[str, ...]:
        """What the table shows, in the order of `HEADER`."""
        env_id, method, _, *numbers = self.scores.cells()
        beside = NONE
        if self.published is not None:
            low, high = bootstrap_interval(self.published)
            beside = f"{self.published.mean():.1f} ({low:.1f} to {high:.1f})"
        return (env_id, method, self.embodiment or NONE, *numbers, beside, self.minutes)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.scores.to_json(),
            "embodiment": self.embodiment,
            "published_score": None if self.published is None else float(self.published.mean()),
            "seconds": list(self.seconds),
            "budget": self.budget,
        }


@dataclass(frozen=True)
class BenchmarkTable:
    """A benchmark's scores.

    Attributes:
        rows: In the order to show.
    """

    rows: tuple[BenchmarkRow, ...]

    def cells(self) -> list[tuple[str, ...]]:
        """What the table shows, row by row, in the order of `HEADER`."""
        return [row.cells() for row in self.rows]

    @property
    def bodies(self) -> list[str]:
        """The bodies of the environments, each once."""
        return [*dict.fromkeys(body_of(row.scores.env_id) for row in self.rows)]

    def samples(self, body: str | None = None) -> dict[str, list[NDArray[np.float64]]]:
        """Method -> its samples of scores, one per row, of all environments or of one body's.

        A method whose every row has published scores is followed by the paper's. Rows without an
        expert, and methods without any other row, are left out.
        """
        rows = [row for row in self.rows if body in (None, body_of(row.scores.env_id))]
        scored = [row for row in rows if row.scores.is_scored]
        found: dict[str, list[NDArray[np.float64]]] = {}
        seeds = all(len(row.scores.evaluations) > 1 for row in scored)
        for method in dict.fromkeys(row.scores.method for row in scored):
            rows = [row for row in scored if row.scores.method == method]
            found[method] = [_sample(row.scores, seeds) for row in rows]
            published = [row.published for row in rows if row.published is not None]
            if len(published) == len(rows):
                found[f"{method}, {PAPER}"] = published
        return found

    def aggregates(self, body: str | None = None) -> Aggregates:
        """Statistic of `AGGREGATES` -> method -> (value, low end, high end), percent.

        Args:
            body: Of this body's environments, one of `bodies`; None for all.
        """
        return self._aggregates[body]

    @cached_property
    def _aggregates(self) -> dict[str | None, Aggregates]:
        found: dict[str | None, Aggregates] = {None: _aggregate(self.samples())}
        for body in self.bodies:
            several = len(self.bodies) > 1
            found[body] = _aggregate(self.samples(body)) if several else found[None]
        return found

    def aggregate_tables(self) -> dict[str, list[tuple[str, ...]]]:
        """Title -> header and rows of the aggregates: of all environments, and of each body's."""
        bodies = self.bodies if len(self.bodies) > 1 else []
        tables = {}
        for body in (None, *bodies):
            methods = [*self.samples(body)]
            if methods:
                rows = [
                    (name, *(f"{v:.1f} ({low:.1f} to {high:.1f})" for v, low, high in of.values()))
                    for name, of in self.aggregates(body).items()
                ]
                tables[body or "all environments"] = [("", *methods), *rows]
        return tables

    def to_markdown(self) -> str:
        """The table and, where there are scores, the aggregates, in Markdown."""
        tables = self.aggregate_tables().items()
        aggregates = (markdown((title, *header[1:]), rows) for title, (header, *rows) in tables)
        return "\n".join([markdown(HEADER, self.cells()), *aggregates])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        aggregates = {body: self.aggregates(body) for body in self.bodies}
        return {
            "rows": [row.to_json() for row in self.rows],
            "aggregates": {"all": self.aggregates(), **aggregates},
        }

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draws scores by environment, aggregates and performance profiles, as one figure.

        Args:
            path: Where it goes; the ending chooses the format.

        Raises:
            ValueError: There are no scores.
        """
        from aime_gym.evaluation.benchmark_figure import plot_benchmark

        return plot_benchmark(self, path)


def tabulate(scores: Sequence[CellScore]) -> BenchmarkTable:
    """The table of some runs; those that differ in the training seed alone share a row.

    Args:
        scores: The runs, in the order to show.

    Raises:
        ValueError: Runs of one row differ in the expert.
    """
    groups: dict[tuple[str, str | None, str], list[CellScore]] = {}
    for score in scores:
        key = (score.evaluation.env_id, score.embodiment, score.method)
        groups.setdefault(key, []).append(score)
    order = {env_id: n for n, env_id in enumerate(dict.fromkeys(key[0] for key in groups))}
    return BenchmarkTable(
        tuple(_row(groups[key]) for key in sorted(groups, key=lambda key: order[key[0]]))
    )


def _aggregate(samples: dict[str, list[NDArray[np.float64]]]) -> Aggregates:
    """The statistics of some methods' samples, with their intervals."""
    return {
        name: {
            method: (
                float(statistic(np.concatenate(strata))),
                *stratified_interval(strata, statistic),
            )
            for method, strata in samples.items()
        }
        for name, statistic in AGGREGATES.items()
    }


def _row(runs: Sequence[CellScore]) -> BenchmarkRow:
    first = runs[0]
    evaluations = tuple(run.evaluation for run in runs)
    return BenchmarkRow(
        scores=ScoreRow(first.method, evaluations, first.origins),
        embodiment=first.embodiment,
        published=_published(first),
        seconds=tuple(run.seconds for run in runs),
        budget=first.budget,
    )


def _published(score: CellScore) -> NDArray[np.float64] | None:
    """The paper's scores of the same method, task, setup and embodiment data, if there are any."""
    parts = find_env_id(score.evaluation.env_id)
    if parts is None or score.paper is None or score.embodiment is None:
        return None
    try:
        return published_scores(parts.body, score.embodiment, parts.task, score.paper, parts.setup)
    except ValueError:
        return None


def _sample(row: ScoreRow, seeds: bool) -> NDArray[np.float64]:
    scores = [evaluation.scores for evaluation in row.evaluations]
    rows = [values for values in scores if values is not None]
    return np.array([values.mean() for values in rows]) if seeds else np.concatenate(rows)
