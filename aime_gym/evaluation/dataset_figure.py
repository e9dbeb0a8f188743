"""The figure of a dataset: frames of episodes, a histogram of returns, a map of states.

F frames, H and W pixels, N rows; frames are uint8 [F, H, W, 3].
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aime_gym.evaluation.plots import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, BELOW = 9.0, 3.0  # Inches of the figure, and of the height of what is below the frames.
NOTE = 0.6  # Inches of the height of what stands instead of them.
GAP = 0.04  # Between frames, in their widths.
BINS = 20  # Of the histogram, at most.
CELLS = 10, 60  # Along each axis of the map: for few states, and for many.


class Strip(NamedTuple):
    """Some frames of one episode.

    Attributes:
        label: What stands before them.
        steps: The step of each frame [F].
        frames: The pictures [F, H, W, 3].
    """

    label: str
    steps: Sequence[int]
    frames: NDArray[np.uint8]


def check_figure_path(path: str | os.PathLike[str]) -> None:
    """Raises ValueError unless the ending of a path is one of a picture's formats."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in known:
        endings = ", ".join(f".{ending}" for ending in known)
        raise ValueError(f"{Path(path).name!r} has the ending of no picture: these are {endings}.")


def plot_dataset(
    path: str | os.PathLike[str],
    title: str,
    strips: Sequence[Strip] | str,
    returns: NDArray[np.float64] | str,
    plane: NDArray[np.float64] | str,
) -> Path:
    """Draws a dataset; a text instead of a part says why there is none.

    Args:
        path: Where the picture goes; the ending chooses the format.
        title: What stands above.
        strips: Frames of some episodes, as many of each.
        returns: The return of every episode [N].
        plane: Every state on two axes [N, 2].
    """
    above = NOTE if isinstance(strips, str) else _sheet_height(strips)
    figure = new_figure(WIDTH, above + BELOW)
    figure.suptitle(title, fontsize=11)
    halves: Any = figure.subfigures(2, 1, height_ratios=(above, BELOW))
    upper, lower = halves
    sheet, (histogram, cells) = upper.subplots(), lower.subplots(1, 2)
    _say(sheet, strips) if isinstance(strips, str) else _draw_strips(sheet, strips)
    _say(histogram, returns) if isinstance(returns, str) else _draw_returns(histogram, returns)
    _say(cells, plane) if isinstance(plane, str) else _draw_plane(cells, plane)
    return save_figure(figure, path)


def _sheet_height(strips: Sequence[Strip]) -> float:
    """Inches that leave the frames about as wide as the figure."""
    count, height, width, _ = strips[0].frames.shape
    return float(0.4 + 0.94 * WIDTH * len(strips) / count * height / width)


def _say(panel: Axes, reason: str) -> None:
    """Why there is no picture."""
    panel.axis("off")
    panel.text(0.5, 0.5, reason, ha="center", va="center", color="0.45", fontsize=9, wrap=True)


def _draw_strips(panel: Axes, strips: Sequence[Strip]) -> None:
    """One row of frames an episode, with the step in each frame's corner."""
    _, height, width, _ = strips[0].frames.shape
    across, down = width * (1 + GAP), height * (1 + GAP)
    for line, strip in enumerate(strips):
        for column, (step, frame) in enumerate(zip(strip.steps, strip.frames, strict=True)):
            left, top = column * across, line * down
            panel.imshow(frame, extent=(left, left + width, top + height, top))
            panel.text(
                left + 0.04 * width,
                top + 0.04 * height,
                str(step),
                color="white",
                fontsize=7,
                va="top",
            )
    panel.set_xlim(0, len(strips[0].steps) * across - GAP * width)
    panel.set_ylim(len(strips) * down - GAP * height, 0)
    panel.set_yticks([line * down + height / 2 for line in range(len(strips))])
    panel.set_yticklabels([strip.label for strip in strips], fontsize=8)
    panel.set_xticks([])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


def _draw_returns(panel: Axes, returns: NDArray[np.float64]) -> None:
    """How many episodes have which return, and their mean."""
    from matplotlib.ticker import MaxNLocator

    panel.hist(returns, bins=min(BINS, 3 + len(returns) // 4), color="C0", alpha=0.85)
    panel.axvline(returns.mean(), color="0.2", linestyle="--", linewidth=1)
    spread = f"mean {returns.mean():.1f}, standard deviation {returns.std():.1f}"
    panel.set_title(f"returns: {spread}", fontsize=9)
    panel.set_xlabel("return of an episode", fontsize=8)
    panel.set_ylabel("episodes", fontsize=8)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _draw_plane(panel: Axes, plane: NDArray[np.float64]) -> None:
    """How many states are in which cell of the plane, on a logarithmic scale."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import NullFormatter

    cells = int(np.clip(np.sqrt(len(plane)) / 3, *CELLS))
    counts, across, up = np.histogram2d(plane[:, 0], plane[:, 1], bins=cells)
    shown = panel.pcolormesh(
        across, up, np.ma.masked_equal(counts.T, 0), norm=LogNorm(), cmap="viridis", rasterized=True
    )
    bar = panel.figure.colorbar(shown, ax=panel)
    bar.set_label("states in a cell", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.set_major_formatter("{x:,.0f}")
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    panel.set_title(f"states: {np.count_nonzero(counts)} of {counts.size} cells", fontsize=9)
    panel.set_xlabel("first principal component of the sensors", fontsize=8)
    panel.set_ylabel("second", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
