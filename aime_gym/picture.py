"""A dataset in one picture: frames of some episodes, the returns, and which states it has seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from aime_gym.datasets.coverage import project, sensor_rows
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.images import find_env
from aime_gym.evaluation.dataset_figure import Strip, check_figure_path, plot_dataset
from aime_gym.opengl import RenderingUnavailable
from aime_gym.rendering import render_states
from aime_gym.trajectory import IMAGE, Trajectory

EPISODES = 3  # Those with the least, the median and the greatest return.
FRAMES = 8  # Of each, from the first to the last.
SIZE = 160  # Pixels of a frame that is drawn.


def draw_dataset(dataset: Dataset, path: str | os.PathLike[str]) -> Path:
    """Draws a dataset into a file.

    Frames are drawn from the physics states, or else are the stored images. What a dataset does not
    have, such as rewards, is left out, with a word on why.

    Args:
        dataset: What to draw.
        path: Where the picture goes; the ending chooses the format, such as ``.png``.

    Returns:
        The path.

    Raises:
        ValueError: The ending is of no format.
    """
    check_figure_path(path)
    strips, reason = _strips(dataset)
    known = all(trajectory.rewards is not None for trajectory in dataset)
    rows = sensor_rows(dataset)
    card = dataset.card
    size = f"{len(dataset)} trajectories, {dataset.num_steps:,} steps"
    return plot_dataset(
        path,
        f"{card.name}: {size} of {card.env_id or card.body}",
        strips or reason,
        dataset.episode_returns if known else "no returns: there are no rewards",
        project({card.name: rows})[card.name] if rows.size else "no states: there are images alone",
    )


def _strips(dataset: Dataset) -> tuple[list[Strip], str]:
    """Frames of some episodes; or none, and why not."""
    drawable = [i for i, t in enumerate(dataset) if t.physics_states is not None]
    reason = "no frames: there are neither physics states nor images"
    if drawable:
        try:
            with closing(find_env(dataset)) as env:
                return [_strip(dataset[i], i, env) for i in _choose(dataset, drawable)], ""
        except (ValueError, gym.error.Error, RenderingUnavailable, ModuleNotFoundError) as error:
            reason = f"no frames: {error}"
    if dataset.has_images:
        return [_strip(dataset[i], i, None) for i in _choose(dataset, range(len(dataset)))], ""
    return [], reason


def _choose(dataset: Dataset, among: Sequence[int]) -> list[int]:
    """Of some episodes those with the least, median and greatest return; or evenly, in order."""
    order = np.array(among)
    if all(dataset[index].rewards is not None for index in among):
        returns = [dataset[index].episode_return for index in among]
        order = order[np.argsort(returns, kind="stable")]
    places = np.linspace(0, len(order) - 1, min(EPISODES, len(order))).round().astype(int)
    return [int(index) for index in order[places]]


def _strip(trajectory: Trajectory, index: int, env: gym.Env[Any, Any] | None) -> Strip:
    """Frames of one episode, drawn in an environment, or the stored ones."""
    steps = np.linspace(0, trajectory.num_steps, FRAMES).round().astype(int)
    if env is None:
        frames = trajectory.sensors[IMAGE][steps]
    else:
        assert trajectory.physics_states is not None
        states = trajectory.physics_states[steps].astype(np.float64)
        frames = render_states(env, states, SIZE, SIZE)
    known = trajectory.rewards is not None
    label = f"return\n{trajectory.episode_return:.1f}" if known else f"episode\n{index}"
    return Strip(label, steps.tolist(), frames)
