"""The figure of few-shot imitation: score by number of trajectories."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from aime_gym.files import atomic_write


def plot_few_shot(
    curves: Mapping[str, Mapping[int, tuple[float, float, float]]],
    zero_shot: float | None,
    path: str | os.PathLike[str],
) -> Path:
    """Draws the score of every method against the number of trajectories that it has seen.

    Args:
        curves: Method -> number of trajectories -> score, low and high end of its interval,
            percent of the expert.
        zero_shot: Score of the base body's policy; None where it is unknown.
        path: Where it goes; the ending chooses the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        shots = sorted(points)
        scores = [points[k][0] for k in shots]
        below = [max(0.0, points[k][0] - points[k][1]) for k in shots]
        above = [max(0.0, points[k][2] - points[k][0]) for k in shots]
        axes.errorbar(shots, scores, yerr=[below, above], marker="o", capsize=3, label=name)
    axes.axhline(100, color="grey", linewidth=1, label="the body's expert")
    if zero_shot is not None:
        axes.axhline(zero_shot, color="grey", linestyle=":", label="base body's policy")
    axes.set_xscale("log")
    ticks = sorted({k for points in curves.values() for k in points})
    axes.set_xticks(ticks, [str(k) for k in ticks], minor=False)
    axes.set_xlabel("trajectories")
    axes.set_ylabel("score, percent of the expert")
    axes.legend()
    target = Path(path)
    with atomic_write(target) as file:
        figure.savefig(file, format=target.suffix.removeprefix(".") or "png", dpi=150)
    return target
