"""Bar charts and learning curves, as files.

Figures are drawn without pyplot: nothing opens a window, and no global setting is read or changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aime_gym.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float, float, float]  # x, mean, low end, high end of the interval.
Bar = tuple[str, float, float, float]  # Label, mean, low end, high end of the interval.

DPI = 150
HEIGHT = 4.0  # Inches.
WIDTH = 6.4
WIDTH_PER_BAR = 1.1
MARKED_POINTS = 40  # Of a curve with more, no point is marked.


def plot_bars(
    bars: Sequence[Bar], path: str | os.PathLike[str], ylabel: str, title: str = ""
) -> Path:
    """Draws a bar chart with intervals.

    Args:
        bars: (label, mean, low, high) each.
        path: Where the chart goes; the ending chooses the format.
        ylabel: What is drawn, with its unit.
        title: Title above the chart.
    """
    figure, axes = _figure(width=max(HEIGHT, 1.5 + WIDTH_PER_BAR * len(bars)))
    labels, means, low, high = zip(*bars, strict=True)
    positions = np.arange(len(bars))
    axes.bar(
        positions, means, width=0.7, color=[f"C{index % 10}" for index in positions], alpha=0.85
    )
    errors = np.abs(np.array([low, high]) - np.array(means))
    axes.errorbar(positions, means, yerr=errors, fmt="none", ecolor="black", capsize=4)
    axes.set_xticks(positions, labels)
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    return save_figure(figure, path)


def plot_learning_curve(
    curves: Mapping[str, Sequence[Point]],
    path: str | os.PathLike[str],
    xlabel: str,
    ylabel: str,
    references: Mapping[str, float] | None = None,
) -> Path:
    """Draws learning curves with bands for their intervals.

    Args:
        curves: Label -> points (x, mean, low, high).
        path: Where the picture goes; the ending chooses the format.
        xlabel: The unit of x, such as ``"agent steps"``.
        ylabel: What is drawn, with its unit.
        references: Label -> height of a dashed line, such as the expert's return.

    Raises:
        ValueError: A curve has no point.
    """
    figure, axes = _figure(WIDTH)
    for label, points in curves.items():
        if not points:
            raise ValueError(f"Curve {label!r} has no point.")
        x, mean, low, high = np.array(points, dtype=np.float64).T
        marker = "o" if len(points) <= MARKED_POINTS else ""
        (line,) = axes.plot(x, mean, marker=marker, markersize=4, label=label)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    for index, (label, height) in enumerate((references or {}).items()):
        axes.axhline(height, linestyle="--", color=f"{0.35 + 0.15 * (index % 3):.2f}", label=label)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend()
    return save_figure(figure, path)


def plot_coverage(planes: Mapping[str, NDArray[np.float64]], path: str | os.PathLike[str]) -> Path:
    """Draws what sources of data have seen, one panel per source on the background of all.

    Args:
        planes: Source -> rows on two axes [N, 2].
        path: Where the picture goes; the ending chooses the format.
    """
    columns = min(6, len(planes))
    lines = -(-len(planes) // columns)
    figure = new_figure(2.2 * columns, 2.2 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    everything = np.concatenate([*planes.values()])[::25]
    for panel, (name, plane) in zip(panels, planes.items(), strict=False):
        panel.plot(*everything.T, ",", color="0.85")
        panel.plot(*plane[:: max(1, len(plane) // 5_000)].T, ",", color="C0")
        panel.set_title(name, fontsize=7)
    return save_figure(figure, path)


def plot_predictions(
    true: Mapping[str, NDArray[Any]],
    predicted: Mapping[str, NDArray[Any]],
    seen: int,
    path: str | os.PathLike[str],
) -> Path:
    """Draws predicted beside true sensors over time, one panel for each of their values.

    Args:
        true: Sensor -> [T, n].
        predicted: Sensor -> [T, n], in the same units; sensors whose truth is not known, and
            images, are left out.
        seen: Rows that the model has seen; a dashed line marks where it goes on by itself.
        path: Where the picture goes; the ending chooses the format.

    Raises:
        ValueError: There is nothing to draw.
    """
    curves = [
        (f"{name} {index}" if values.shape[1] > 1 else name, true[name][:, index], values[:, index])
        for name, values in predicted.items()
        if name in true and values.ndim == 2
        for index in range(values.shape[1])
    ]
    if not curves:
        raise ValueError("No sensor is both predicted and known; images are shown as a video.")
    columns = min(4, len(curves))
    lines = -(-len(curves) // columns)
    figure = new_figure(3 * columns, 1.5 * lines + 0.5)
    panels = figure.subplots(lines, columns, sharex=True, squeeze=False)
    for panel, (title, truth, guess) in zip(panels.flat, curves, strict=False):
        panel.plot(truth, color="0.6", label="true")
        panel.plot(guess, color="C0", label="predicted", linewidth=1)
        panel.axvline(seen - 0.5, color="0.3", linestyle="--", linewidth=1)
        panel.set_title(title, fontsize=8)
        panel.tick_params(labelsize=7)
    for panel in panels.flat[len(curves) :]:
        panel.set_visible(False)
    panels[0, 0].legend(fontsize=7)
    figure.supxlabel("agent step", fontsize=8)
    return save_figure(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(width: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, HEIGHT)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure, whole or not at all; the ending chooses the format."""
    target = Path(path)
    with atomic_write(target) as file:
        figure.savefig(file, format=target.suffix.removeprefix(".") or "png")
    return target
