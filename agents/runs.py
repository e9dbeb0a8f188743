"""Run folders: training that shows progress, checkpoints, and goes on where it stopped.

runs/aime-walker-run-mdp-seed0/
config.json         what the run is
progress.csv        learning curve
checkpoint.zip      the learner as it was at the last checkpoint
final.zip           the learner at the end
figures/            learning curve
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from stable_baselines3.common.callbacks import BaseCallback

from agents.base import Agent, Learner
from agents.logs import STEP, make_logger
from aime_gym.datasets import Dataset
from aime_gym.envs.renderer import make_gl_context
from aime_gym.envs.setups import IMAGE_SHAPE
from aime_gym.evaluation.evaluate import evaluate
from aime_gym.files import atomic_write

SCORE = "eval/score"
CHECKPOINT, FINAL = "checkpoint.zip", "final.zip"
L = TypeVar("L", bound=Learner)


class Checkpoint(BaseCallback):
    """Saves the learner to one file every so many updates.

    Args:
        path: The archive, replaced each time, whole or not at all.
        interval: Updates between checkpoints.
    """

    def __init__(self, path: Path, interval: int) -> None:
        super().__init__()
        self._path, self._interval = path, interval

    def _on_step(self) -> bool:
        if self.model.num_timesteps % self._interval == 0:
            self.model.save(self._path)
        return True


class ScoreCallback(BaseCallback):
    """Evaluates the agent every so many updates, and after the last one.

    Logged: ``eval/mean_return``, ``eval/score`` (percent of the expert, where known).

    Args:
        interval: Updates between evaluations.
        episodes: Of each.
        report: Told (updates, mean return, score) each time.
    """

    def __init__(
        self,
        interval: int,
        episodes: int = 10,
        report: Callable[[int, float, float | None], None] | None = None,
    ) -> None:
        super().__init__()
        self._interval, self._episodes, self._report = interval, episodes, report

    def _on_training_start(self) -> None:
        self._scored_at = self.num_timesteps
        if self._agent.env_info.setup == "visual":  # Where OpenGL is missing, this says so now.
            context, _ = make_gl_context(*IMAGE_SHAPE[:2])
            context.free()

    def _on_step(self) -> bool:
        if self.num_timesteps % self._interval == 0:
            self._score()
        return True

    def _on_training_end(self) -> None:
        if self._scored_at < self.num_timesteps:
            self._score()

    @property
    def _agent(self) -> Agent:
        agent: Any = self.model
        assert isinstance(agent, Agent)
        return agent

    def _score(self) -> None:
        steps = self._scored_at = self._agent.num_timesteps
        result = evaluate(self._agent, self._agent.env_info.env_id, episodes=self._episodes)
        self.logger.record("eval/mean_return", result.mean)
        if result.score is not None:
            self.logger.record(SCORE, result.score)
        self.logger.record(STEP, steps)
        self.logger.dump(steps)
        if self._report is not None:
            self._report(steps, result.mean, result.score)


class TimeLimit(BaseCallback):
    """Stops learning after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def _on_training_start(self) -> None:
        self._start = time.monotonic()

    def _on_step(self) -> bool:
        return time.monotonic() - self._start < self._seconds


def train(
    make: Callable[[], L],
    load: Callable[[Path], L],
    dataset: Dataset,
    folder: Path,
    config: dict[str, Any],
    total_timesteps: int,
    callbacks: list[BaseCallback] | None = None,
    checkpoint_interval: int = 1_000,
    log_interval: int = 100,
    progress_bar: bool = True,
) -> L:
    """Trains in a run folder, or goes on from the folder's checkpoint.

    A run that was killed at any moment ends with the same weights as one that was not. The folder
    is the run's once learner and data are found to be right.

    Args:
        make: Makes a new learner.
        load: Loads one from a checkpoint.
        dataset: What to learn from.
        folder: The run folder.
        config: What the run is; a folder with a run of another configuration is refused.
        total_timesteps: Updates in all.
        callbacks: Further callbacks.
        checkpoint_interval: Updates between checkpoints.
        log_interval: Updates between rows of the learning curve.
        progress_bar: Show one.

    Raises:
        ValueError: The folder has another run.
    """
    check_folder(folder, config)
    checkpoint = folder / CHECKPOINT
    learner = load(checkpoint) if checkpoint.exists() else make()
    learner.set_logger(make_logger(folder, learner.num_timesteps, tensorboard=True, verbose=0))
    remaining = total_timesteps - learner.num_timesteps
    if remaining > 0:
        learner.learn(
            dataset,
            remaining,
            callback=[
                _Claim(folder, config),
                *(callbacks or []),
                Checkpoint(checkpoint, checkpoint_interval),
            ],
            log_interval=log_interval,
            reset_num_timesteps=False,
            progress_bar=progress_bar,
        )
    claim(folder, config)
    learner.save(folder / FINAL)
    return learner


class _Claim(BaseCallback):
    """Claims the folder when training starts: the data are checked by then."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        super().__init__()
        self._folder, self._config = folder, config

    def _on_training_start(self) -> None:
        claim(self._folder, self._config)

    def _on_step(self) -> bool:
        return True


def claim(folder: Path, config: dict[str, Any]) -> None:
    """Writes the run's configuration, or checks that it is the folder's.

    Raises:
        ValueError: The folder has a run of another configuration.
    """
    check_folder(folder, config)
    if not _claimed(folder):
        with atomic_write(folder / "config.json", "w") as file:
            file.write(f"{json.dumps(config, indent=1, default=str)}\n")


def check_folder(folder: Path, config: dict[str, Any]) -> None:
    """Checks that a folder has no run of another configuration; options of None do not count.

    Raises:
        ValueError: It has one.
    """
    if _claimed(folder):
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if _chosen(before) != _chosen(json.loads(json.dumps(config, default=str))):
            raise ValueError(
                f"{folder} has a run of another configuration, {before}; choose another folder."
            )


def _claimed(folder: Path) -> bool:
    """Whether a run has come as far as its first checkpoint."""
    saved = any((folder / name).exists() for name in (CHECKPOINT, FINAL))
    return saved and (folder / "config.json").exists()


def _chosen(config: dict[str, Any]) -> dict[str, Any]:
    """Without options of None, which a later version may have added."""
    return {key: value for key, value in config.items() if value is not None}
