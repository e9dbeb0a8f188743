"""Pictures of what a world model predicts, on demand and while an agent learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agents.runs.callbacks import IntervalCallback
from agents.spaces import REWARD, EnvInfo
from agents.world_models.dreaming import DreamingAgent
from agents.world_models.prediction import Readings, imagination, open_loop
from aime_gym.evaluation.plots import plot_predictions
from aime_gym.opengl import make_gl_context
from aime_gym.physics import has_pose
from aime_gym.rendering import (
    FPS,
    VIDEO_SIZE,
    draw_observations,
    prediction_video,
    side_by_side,
    write_video,
)
from aime_gym.trajectory import Trajectory

ROWS, SEEN = 100, 20  # Shown, and of these seen by the model.
SMALL = 120  # Pixels of a picture, while learning.


def draw_video(
    info: EnvInfo,
    truth: Trajectory,
    predicted: Readings,
    seen: int,
    path: Path,
    size: int = VIDEO_SIZE,
) -> None:
    """Writes a video of what happened, what is predicted, and the difference.

    Args:
        info: The environment.
        truth: What happened, T rows.
        predicted: What `open_loop` gives.
        seen: Rows that the model has seen.
        path: An ``.mp4`` file.
        size: Width and height of each picture, pixels.

    Raises:
        ValueError: Sensors do not determine how this body stands.
    """
    with info.make() as env:
        if not info.image and not has_pose(env):
            raise ValueError(
                f"How the body of {info} stands is not known from its sensors, so there is no "
                "video of them: a .png file shows them as curves."
            )
        prediction_video(path, env, truth, predicted, seen, size)


def draw_curves(truth: Trajectory, predicted: Readings, seen: int, path: Path) -> None:
    """Draws predicted beside true sensors, and rewards where these are predicted.

    Args:
        truth: What happened, T rows.
        predicted: What `open_loop` gives.
        seen: Rows that the model has seen.
        path: Where the picture goes; the ending chooses the format.

    Raises:
        ValueError: Images alone are predicted.
    """
    true = dict(truth.sensors)
    if truth.rewards is not None:
        true[REWARD] = np.append(0.0, truth.rewards)[:, None]
    plot_predictions(true, predicted, seen, path)


class PredictionCallback(IntervalCallback):
    """Shows what an agent's world model predicts, every so many timesteps and at the end.

    It is shown on the last episode that was collected: as curves of the sensors and the reward; as
    a video of the open-loop prediction; and as one of what the policy does in imagination, from
    where the open loop starts. Videos are made where the observation is an image, or the body's
    sensors determine how it stands. Learning is the same with and without.

    Args:
        folder: Has ``<timesteps>-curves.png``, ``-prediction.mp4`` and ``-imagination.mp4``.
        interval: Timesteps between two times.

    Raises:
        RenderingUnavailable: When learning starts: there is no working OpenGL for the videos.
        ValueError: When learning starts: the environment has no id.
    """

    def __init__(self, folder: Path, interval: int) -> None:
        super().__init__(interval)
        self._folder = folder

    def _on_training_start(self) -> None:
        super()._on_training_start()
        agent: Any = self.model
        assert isinstance(agent, DreamingAgent)
        self._agent, self._is_due = agent, False
        with agent.env_info.make() as env:
            self._films = agent.env_info.image or has_pose(env)
        if self._films:
            context, _ = make_gl_context(SMALL, SMALL)
            context.free()

    def _on_interval(self) -> None:
        self._is_due = True

    def _on_rollout_start(self) -> None:
        if self._is_due and self._agent.episodes:
            self._show()

    def _on_training_end(self) -> None:
        if self._agent.episodes:
            self._show()

    def _show(self) -> None:
        self._is_due = False
        agent, episode = self._agent, self._agent.episodes[-1]
        model, info = agent.world_model, agent.env_info
        truth = episode.window(0, min(ROWS, len(episode)))
        seen = min(SEEN, len(truth) // 2)
        predicted = open_loop(model, truth, seen)
        start = self._folder / f"{agent.num_timesteps:08d}"
        if not info.image or REWARD in predicted:
            draw_curves(truth, predicted, seen, start.with_name(f"{start.name}-curves.png"))
        if not self._films:
            return
        path = start.with_name(f"{start.name}-prediction.mp4")
        draw_video(info, truth, predicted, seen, path, SMALL)
        imagined = imagination(model, agent.policy, truth.window(0, seen), len(truth) - seen)
        with info.make() as env:
            frames = side_by_side({"imagined": draw_observations(env, imagined, SMALL)})
            fps = env.unwrapped.metadata.get("render_fps", FPS)
            write_video(start.with_name(f"{start.name}-imagination.mp4"), frames, fps)
