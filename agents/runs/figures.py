"""Pictures of learning: curves, and inferred beside true actions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.aime import AIMEAgent
from agents.running import STEP
from agents.runs.callbacks import ENDS, SCORE
from agents.runs.logs import read_curve
from aime_gym.datasets import Dataset
from aime_gym.evaluation.plots import new_figure, plot_learning_curve, save_figure

SHOWN_STEPS = 150  # Of the first demonstration, in the figure.


def plot_curve(progress: Path, path: Path, label: str = "10 episodes") -> bool:
    """Draws the scores of a run's ``progress.csv``, as `plot_metric` does."""
    return plot_metric(
        progress, SCORE, path, "score (% of the expert)", label=label, references={"expert": 100.0}
    )


def plot_metric(
    progress: Path,
    key: str,
    path: Path,
    ylabel: str,
    *,
    xlabel: str = "gradient updates",
    label: str | None = None,
    references: Mapping[str, float] | None = None,
) -> bool:
    """Draws one column of a run's ``progress.csv`` over its steps; nothing where it is empty.

    Where the file has the ends of its intervals, a band shows them.

    Args:
        progress: The ``progress.csv``.
        key: The column, such as ``"train/elbo"``.
        path: Where the picture goes.
        ylabel: What the column is, with its unit.
        xlabel: The unit of the steps.
        label: Label of the curve; None for the column's name.
        references: Label -> height of a dashed line.

    Returns:
        Whether there was anything to draw.
    """
    rows = [row for row in read_curve(progress) if key in row]
    if rows:
        low, high = (key + end for end in ENDS)
        points = [
            (row[STEP], row[key], row.get(low, row[key]), row.get(high, row[key])) for row in rows
        ]
        plot_learning_curve({label or key: points}, path, xlabel, ylabel, references)
    return bool(rows)


def determination(true: NDArray[np.float64], inferred: NDArray[np.float64]) -> NDArray[np.float64]:
    """R2 of each column [N, A] -> [A]: 1 - residual / total sum of squares."""
    residual = np.square(true - inferred).sum(axis=0)
    total = np.square(true - true.mean(axis=0)).sum(axis=0)
    return np.asarray(1 - residual / np.maximum(total, 1e-12))


def plot_inferred_actions(
    agent: AIMEAgent, demonstrations: Dataset, path: Path
) -> NDArray[np.float64]:
    """Draws inferred beside true actions, one panel per joint, and returns R2 per joint [A].

    This diagnostic alone reads the demonstrations' actions.

    Raises:
        ValueError: The demonstrations have no actions.
    """
    inferred = agent.infer_actions(demonstrations)
    true = [trajectory.prev_actions[1:] for trajectory in demonstrations]
    scores = determination(
        np.concatenate(true).astype(np.float64), np.concatenate(inferred).astype(np.float64)
    )
    names = joint_names(agent)
    _draw(true[0][:SHOWN_STEPS], inferred[0][:SHOWN_STEPS], scores, names, path)
    return scores


def joint_names(agent: AIMEAgent) -> list[str]:
    """What the agent's actions move: the environment's `actuators`, else numbers."""
    try:
        return list(agent.get_env().get_attr("actuators", [0])[0])
    except (AttributeError, ValueError):
        return [f"action {number}" for number in range(agent.env_info.action_dim)]


def _draw(
    true: NDArray[np.float32],
    inferred: NDArray[np.float32],
    scores: NDArray[np.float64],
    names: list[str],
    path: Path,
) -> None:
    joints = true.shape[1]
    figure = new_figure(8, 1.3 * joints)
    panels = figure.subplots(joints, 1, sharex=True, squeeze=False)[:, 0]
    for joint, panel in enumerate(panels):
        panel.plot(true[:, joint], color="0.6", label="true")
        panel.plot(inferred[:, joint], color="C0", label="inferred")
        panel.set_ylabel(f"{names[joint]}\nR2 {scores[joint]:.2f}", fontsize=8)
    panels[0].legend(loc="upper right", ncols=2)
    panels[-1].set_xlabel("agent step")
    save_figure(figure, path)
