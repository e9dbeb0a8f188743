"""Pictures of AMIGo's learning: its curves, and where its goals were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agents.amigo import AMIGoAgent
from agents.running import STEP
from agents.runs.callbacks import RETURN
from agents.runs.logs import read_curve
from aime_gym.files import atomic_write

POINTS = 300  # Of a curve, each a mean over as many rows as it takes.
PANELS = (  # Title and the columns that are drawn in one panel.
    ("return", ("train/mean_return", RETURN)),
    ("t*, and steps to goals that were reached", ("train/t_star", "train/goal_steps")),
    ("share of goals reached", ("train/goals_reached",)),
    ("teacher's reward per goal", ("train/teacher_return",)),
    ("intrinsic reward per step", ("train/intrinsic_reward",)),
    ("entropy of the student, nats", ("train/entropy",)),
    ("entropy of the teacher, nats", ("train/teacher_entropy",)),
    ("novelty", ("train/novelty",)),
)
NAMES = {RETURN: "evaluation", "train/mean_return": "training"}


def plot_learning(progress: Path, path: Path) -> bool:
    """Draws a run's curves, one panel per kind; nothing where there are none.

    Args:
        progress: The run's ``progress.csv``.
        path: Where the picture goes.

    Returns:
        Whether there was anything to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_curve(progress)
    found = {column for row in rows for column in row}
    panels = [(title, [c for c in columns if c in found]) for title, columns in PANELS]
    panels = [(title, columns) for title, columns in panels if columns]
    if not panels:
        return False
    lines = -(-len(panels) // 2)
    figure = Figure(figsize=(10, 2.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, 2, sharex=True, squeeze=False).flatten()
    for (title, columns), axis in zip(panels, axes, strict=False):
        for column in columns:
            axis.plot(*_thinned(rows, column), label=NAMES.get(column, column.split("/")[-1]))
        axis.set_title(title, fontsize="medium")
        if len(columns) > 1:
            axis.legend(fontsize="small")
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[max(len(panels) - 2, 0) : len(panels)]:
        axis.set_xlabel("frames")
    _save(figure, path)
    return True


def _thinned(rows: list[dict[str, float]], column: str) -> tuple[Any, Any]:
    """Steps and values of a column, averaged over neighbours where there are many."""
    points = np.array([(row[STEP], row[column]) for row in rows if column in row])
    parts = np.array_split(points, min(POINTS, len(points)))
    return tuple(np.array([part.mean(0) for part in parts]).T)


def plot_goals(agent: AMIGoAgent, path: Path) -> None:
    """Draws how often each cell was a goal, one map for every stage of learning.

    Args:
        agent: Has learned with a teacher.
        path: Where the picture goes.

    Raises:
        ValueError: The agent's variant has no teacher.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    agent.check_teacher()
    counts = agent.goal_map.counts.numpy().astype(float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(counts) // 2).flatten()
    largest = max(float(np.quantile(shares, 0.995)), 1e-6)
    for stage, (share, axis) in enumerate(zip(shares, axes, strict=True)):
        image = axis.imshow(share.reshape(agent.grid_shape).T, vmin=0, vmax=largest, cmap="magma")
        first, last = (100 * (stage + more) // len(counts) for more in (0, 1))
        axis.set_title(f"{first} to {last}% of the frames", fontsize="small")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(image, ax=axes, label="share of goals", shrink=0.8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)
