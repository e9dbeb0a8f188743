"""The figure of a benchmark: scores by environment, aggregates, and performance profiles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aime_gym.evaluation.benchmark import PAPER, BenchmarkRow, BenchmarkTable
from aime_gym.evaluation.plots import new_figure, save_figure
from aime_gym.evaluation.statistics import performance_profile
from aime_gym.ids import NAMESPACE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, ROW_HEIGHT = 11.0, 0.16  # Inches.
THRESHOLDS = np.linspace(0.0, 120.0, 121)  # Scores, percent of the expert.
SPREAD = 0.75  # Of the height of an environment's rows.


def plot_benchmark(table: BenchmarkTable, path: str | os.PathLike[str]) -> Path:
    """Draws a benchmark.

    Left, the score of every method in every environment, with its 95% interval, and the paper's as
    a ring. Right, the aggregates with theirs, and for every score the share of runs that exceed it.

    Args:
        table: The scores.
        path: Where the figure goes; the ending chooses the format.

    Raises:
        ValueError: There are no scores.
    """
    samples = table.samples()
    if not samples:
        raise ValueError("There are no scores to draw: no environment has a known expert.")
    methods = [method for method in samples if not method.endswith(f", {PAPER}")]
    colors = {method: f"C{index % 10}" for index, method in enumerate(methods)}
    statistics = table.aggregates()
    rows = [row for row in table.rows if row.scores.is_scored]
    height = max(5.5, 2.0 + ROW_HEIGHT * len(rows) + 0.12 * len({r.scores.env_id for r in rows}))
    figure = new_figure(WIDTH, height)
    layout = figure.add_gridspec(2, 1 + len(statistics), width_ratios=(3, *(1 for _ in statistics)))
    _draw_scores(figure.add_subplot(layout[:, 0]), table, colors)
    for index, name in enumerate(statistics):
        axes = figure.add_subplot(layout[0, 1 + index])
        _draw_aggregate(axes, name, statistics[name], colors, labelled=index == 0)
    _draw_profiles(figure.add_subplot(layout[1, 1:]), table, colors)
    return save_figure(figure, path)


def _draw_scores(axes: Axes, table: BenchmarkTable, colors: dict[str, str]) -> None:
    rows = [row for row in table.rows if row.scores.is_scored]
    groups = _groups(rows)
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(colors) + 2)[1:-1]
    offset = dict(zip(colors, offsets, strict=True))
    for row in rows:
        for place, (env_id, data) in enumerate(groups):
            if env_id != row.scores.env_id or row.embodiment not in (None, data):
                continue
            y, color = place + offset[row.scores.method], colors[row.scores.method]
            low, high = row.scores.interval
            axes.plot([low, high], [y, y], color=color, linewidth=2, alpha=0.5)
            axes.plot(row.scores.score, y, "o", color=color, markersize=4)
            if row.published is not None:
                axes.plot(row.published.mean(), y, "o", mfc="none", color=color, markersize=7)
    several = len({data for _, data in groups}) > 1
    labels = [_short(env_id) + (f"\n{data}" if several else "") for env_id, data in groups]
    axes.set_yticks(range(len(groups)), labels)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.axvline(100.0, linestyle="--", color="0.6", linewidth=1)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("score, % of the expert (ring: the paper's)")
    for method, color in colors.items():
        axes.plot([], [], "o", color=color, label=method)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)


def _draw_aggregate(
    axes: Axes,
    name: str,
    found: dict[str, tuple[float, float, float]],
    colors: dict[str, str],
    labelled: bool,
) -> None:
    axes.use_sticky_edges = False  # Intervals end inside the panel.
    for place, (method, (value, low, high)) in enumerate(found.items()):
        published = method.endswith(f", {PAPER}")
        color = colors[method.removesuffix(f", {PAPER}")]
        axes.barh(place, high - low, left=low, height=0.6, color=color, alpha=0.4)
        axes.plot([value, value], [place - 0.3, place + 0.3], color="black", linewidth=1.5)
        if published:
            axes.plot(value, place, "o", mfc="white", color=color, markersize=6)
    axes.set_yticks(range(len(found)), [*found] if labelled else [""] * len(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=3)
    axes.set_title(name, fontsize="medium")
    axes.grid(axis="x", alpha=0.3)


def _draw_profiles(axes: Axes, table: BenchmarkTable, colors: dict[str, str]) -> None:
    for method, strata in table.samples().items():
        published = method.endswith(f", {PAPER}")
        color = colors[method.removesuffix(f", {PAPER}")]
        share, low, high = performance_profile(strata, THRESHOLDS)
        axes.plot(THRESHOLDS, share, color=color, linestyle=":" if published else "-")
        axes.fill_between(THRESHOLDS, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xlabel("score s, % of the expert (dotted: the paper's)")
    axes.set_ylabel("share of scores above s")
    axes.set_ylim(0.0, 1.02)
    axes.grid(alpha=0.3)


def _groups(rows: Sequence[BenchmarkRow]) -> list[tuple[str, str | None]]:
    """(environment, data) in order; what reads no data is shown with all of an environment's."""
    data: dict[str, list[str]] = {}
    for row in rows:
        found = data.setdefault(row.scores.env_id, [])
        if row.embodiment is not None and row.embodiment not in found:
            found.append(row.embodiment)
    return [(env_id, each) for env_id, found in data.items() for each in (*found,) or (None,)]


def _short(env_id: str) -> str:
    return env_id.removeprefix(f"{NAMESPACE}/")
