"""Score tables: methods compared in one environment or in several."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aime_gym.card import Origin
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.evaluation.statistics import bootstrap_interval, interquartile_mean

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.table import Table

HEADER = ("environment", "method", "from", "n", "return", "score", "95% interval", "IQM")
NONE = "-"
SHOWN_ROWS = 4  # In the short form of a table.


@dataclass(frozen=True)
class ScoreRow:
    """One method in one environment.

    Attributes:
        method: The method's name.
        evaluations: One for each training seed.
        origins: The world model and the datasets that it learned from.

    Raises:
        ValueError: There is no evaluation, or they differ in environment or expert.
    """

    method: str
    evaluations: tuple[Evaluation, ...]
    origins: tuple[Origin, ...] = ()

    def __post_init__(self) -> None:
        kinds = {(e.env_id, e.expert_return) for e in self.evaluations}
        if len(kinds) != 1:
            raise ValueError(
                f"The evaluations of {self.method!r} should be of one environment and one expert; "
                f"they are of {sorted(kinds, key=str) or 'none'}."
            )

    def __repr__(self) -> str:
        """The method and its score, or its return where there is no expert."""
        low, high = self.interval
        unit = "%" if self.is_scored else ""
        return f"{self.method} {self.score:.1f}{unit} ({low:.1f} to {high:.1f})"

    @property
    def env_id(self) -> str:
        """The environment."""
        return self.evaluations[0].env_id

    @property
    def num_episodes(self) -> int:
        """Episodes in all."""
        return sum(len(evaluation.returns) for evaluation in self.evaluations)

    @property
    def mean(self) -> float:
        """Mean return over all episodes."""
        return float(np.concatenate([e.returns for e in self.evaluations]).mean())

    @property
    def is_scored(self) -> bool:
        """Whether there is an expert; else score, interval and IQM are returns."""
        return self.evaluations[0].expert_return is not None

    @property
    def score(self) -> float:
        """Mean score, percent of the expert; the mean return where there is none."""
        return float(np.concatenate(self._values).mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval of `score`: over training seeds, or episodes if there is one."""
        if len(self._values) == 1:
            return bootstrap_interval(self._values[0])
        return bootstrap_interval([values.mean() for values in self._values])

    @property
    def iqm(self) -> float:
        """Interquartile mean over all episodes, in the unit of `score`."""
        return float(interquartile_mean(np.concatenate(self._values)))

    @property
    def _values(self) -> list[Any]:
        return [e.returns if e.scores is None else e.scores for e in self.evaluations]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "method": self.method,
            "env_id": self.env_id,
            "origins": [vars(origin) for origin in self.origins],
            "num_episodes": self.num_episodes,
            "mean": self.mean,
            "score": self.score if self.is_scored else None,
            "interval": list(self.interval),
            "iqm": self.iqm,
            "evaluations": [evaluation.to_json() for evaluation in self.evaluations],
        }

    def cells(self) -> tuple[str, ...]:
        """What a table shows, in the order of `HEADER`."""
        low, high = self.interval
        seeds, episodes = len(self.evaluations), self.num_episodes
        return (
            self.env_id,
            self.method,
            "; ".join(map(str, self.origins)) or NONE,
            str(episodes) if seeds == 1 else f"{episodes} ({seeds} seeds)",
            f"{self.mean:.1f}",
            f"{self.score:.1f}" if self.is_scored else NONE,
            f"{low:.1f} to {high:.1f}",
            f"{self.iqm:.1f}",
        )


@dataclass(frozen=True)
class ScoreTable:
    """Methods compared.

    Scores, their intervals and their IQMs are in percent of the expert; without an expert, the
    intervals and IQMs are of returns.

    Attributes:
        rows: In the order to show.
    """

    rows: tuple[ScoreRow, ...]

    def __repr__(self) -> str:
        """One line: how many rows, and the first few in short."""
        shown = "; ".join(map(repr, self.rows[:SHOWN_ROWS]))
        more = len(self.rows) - SHOWN_ROWS
        return f"ScoreTable({shown}{f'; and {more} more' if more > 0 else ''})"

    def __str__(self) -> str:
        """The table in Markdown."""
        return self.to_markdown()

    def to_markdown(self) -> str:
        """A Markdown table."""
        return markdown(HEADER, [row.cells() for row in self.rows])

    def to_rich(self) -> Table:
        """A table for the terminal."""
        from rich.table import Table

        table = Table()
        for name in HEADER:
            is_text = name in HEADER[:3]
            justify: JustifyMethod = "left" if is_text else "right"
            table.add_column(name, justify=justify, no_wrap=not is_text, overflow="fold")
        for row in self.rows:
            table.add_row(*row.cells())
        return table

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values, one object per row."""
        return [row.to_json() for row in self.rows]

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draws one bar per row with its interval; the file's ending chooses the format.

        Raises:
            ValueError: Some rows have scores, and others returns alone.
        """
        from aime_gym.evaluation.plots import plot_bars

        if len({row.is_scored for row in self.rows}) != 1:
            raise ValueError("A chart is of scores or of returns; some rows have no expert.")
        one_env = len({row.env_id for row in self.rows}) == 1
        labels = [row.method if one_env else f"{row.method}\n{row.env_id}" for row in self.rows]
        return plot_bars(
            [
                (label, row.score, *row.interval)
                for label, row in zip(labels, self.rows, strict=True)
            ],
            path,
            ylabel="score, % of the expert" if self.rows[0].is_scored else "return",
            title=self.rows[0].env_id if one_env else "",
        )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def compare(
    evaluations: Mapping[str, Evaluation | Sequence[Evaluation]],
    origins: Mapping[str, Sequence[Origin]] | None = None,
) -> ScoreTable:
    """A table of methods.

    Args:
        evaluations: Method -> its evaluation, or one for each training seed.
        origins: Method -> the world model and datasets that it learned from.

    Raises:
        ValueError: A method's evaluations differ in environment or expert, or origins are of a
            method that is not compared.
    """
    unknown = set(origins or {}) - set(evaluations)
    if unknown:
        raise ValueError(
            f"No evaluations of {', '.join(sorted(unknown))}: there are {', '.join(evaluations)}."
        )
    return ScoreTable(
        tuple(
            ScoreRow(
                method,
                (found,) if isinstance(found, Evaluation) else tuple(found),
                tuple((origins or {}).get(method, ())),
            )
            for method, found in evaluations.items()
        )
    )
