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
from aime_gym.evaluation.evaluate import evaluate
from aime_gym.files import atomic_write

SCORE = "eval/score"
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
    """Evaluates the agent every so many updates.

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

    def _on_step(self) -> bool:
        agent: Any = self.model
        assert isinstance(agent, Agent)
        steps = agent.num_timesteps
        if steps % self._interval == 0:
            result = evaluate(agent, agent.env_info.env_id, episodes=self._episodes)
            self.logger.record("eval/mean_return", result.mean)
            if result.score is not None:
                self.logger.record(SCORE, result.score)
            self.logger.record(STEP, steps)
            self.logger.dump(steps)
            if self._report is not None:
                self._report(steps, result.mean, result.score)
        return True


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

    A run that was killed at any moment ends with the same weights as one that was not.

    Args:
        make: Makes a new learner.
        load: Loads one from a checkpoint.
        dataset: What to learn from.
        folder: The run folder.
        config: What the run is; a folder with another configuration is refused.
        total_timesteps: Updates in all.
        callbacks: Further callbacks.
        checkpoint_interval: Updates between checkpoints.
        log_interval: Updates between rows of the learning curve.
        progress_bar: Show one.

    Raises:
        ValueError: The folder has another run.
    """
    claim(folder, config)
    checkpoint = folder / "checkpoint.zip"
    learner = load(checkpoint) if checkpoint.exists() else make()
    learner.set_logger(make_logger(folder, learner.num_timesteps, tensorboard=True, verbose=0))
    remaining = total_timesteps - learner.num_timesteps
    if remaining > 0:
        learner.learn(
            dataset,
            remaining,
            callback=[*(callbacks or []), Checkpoint(checkpoint, checkpoint_interval)],
            log_interval=log_interval,
            reset_num_timesteps=False,
            progress_bar=progress_bar,
        )
    learner.save(folder / "final.zip")
    return learner


def claim(folder: Path, config: dict[str, Any]) -> None:
    """Writes the run's configuration, or checks that it is the folder's.

    Raises:
        ValueError: The folder has a run of another configuration.
    """
    path = folder / "config.json"
    text = json.dumps(config, indent=1, default=str)
    if path.exists():
        before = path.read_text(encoding="utf-8")
        if before.strip() != text:
            raise ValueError(
                f"{folder} has a run of another configuration, {before}; choose another folder."
            )
        return
    with atomic_write(path, "w") as file:
        file.write(f"{text}\n")
