"""Callbacks that runs use, for every agent and for Stable-Baselines3's own loops."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents.actor import Actor
from agents.running import STEP
from agents.runs.logs import read_curve
from aime_gym.evaluation.evaluate import EVAL_SEED, evaluate
from aime_gym.opengl import make_gl_context
from aime_gym.trajectory import IMAGE_SHAPE

SCORE, RETURN = "eval/score", "eval/mean_return"


class CheckpointCallback(BaseCallback):
    """Saves the learner every so many timesteps, and at the end.

    Args:
        path: The archive, replaced each time, whole or not at all.
        interval: Timesteps between checkpoints.
    """

    def __init__(self, path: Path, interval: int) -> None:
        super().__init__()
        self._path, self._interval = path, interval

    def _on_training_start(self) -> None:
        self._saved_at = self.model.num_timesteps

    def _on_step(self) -> bool:
        if self.model.num_timesteps % self._interval == 0:
            self._save()
        return True

    def _on_training_end(self) -> None:
        if self._saved_at < self.model.num_timesteps:
            self._save()

    def _save(self) -> None:
        self.model.save(self._path)
        self._saved_at = self.model.num_timesteps


class ScoreCallback(BaseCallback):
    """Evaluates the agent every so many timesteps, and after the last one.

    Logged: ``eval/mean_return``, ``eval/score`` (percent of the expert, where known).

    Args:
        interval: Timesteps between evaluations.
        episodes: Episodes per evaluation.
        seed: Episode i of an evaluation is reset with ``seed + i``.
        report: Called with (timesteps, mean return, score) each time.
    """

    def __init__(
        self,
        interval: int,
        episodes: int = 10,
        seed: int = EVAL_SEED,
        report: Callable[[int, float, float | None], None] | None = None,
    ) -> None:
        super().__init__()
        self._interval, self._episodes, self._seed, self._report = interval, episodes, seed, report

    def _on_training_start(self) -> None:
        self._scored_at = self.model.num_timesteps
        if self._agent.env_info.image:  # Where OpenGL is missing, this says so now.
            context, _ = make_gl_context(*IMAGE_SHAPE[:2])
            context.free()

    def _on_step(self) -> bool:
        if self.model.num_timesteps % self._interval == 0:
            self._score()
        return True

    def _on_training_end(self) -> None:
        if self._scored_at < self.model.num_timesteps:
            self._score()

    @property
    def _agent(self) -> Actor:
        agent: Any = self.model
        assert isinstance(agent, Actor)
        return agent

    def _score(self) -> None:
        agent = self._agent
        steps = self._scored_at = agent.num_timesteps
        env_id = agent.env_info.env_id
        assert env_id is not None
        result = evaluate(agent, env_id, episodes=self._episodes, seed=self._seed)
        agent.logger.record(RETURN, result.mean)
        if result.score is not None:
            agent.logger.record(SCORE, result.score)
        agent.logger.record(STEP, steps)
        agent.logger.dump(steps)
        self._on_score(result.mean)
        if self._report is not None:
            self._report(steps, result.mean, result.score)

    def _on_score(self, mean_return: float) -> None:
        """Called after every evaluation."""


class KeepBestCallback(ScoreCallback):
    """A `ScoreCallback` that also keeps the agent with the best mean return.

    Args:
        path: The archive of the best agent, compact.
        curve: The run's ``progress.csv``, which has earlier evaluations where the run goes on.
        interval: Timesteps between evaluations.
        **scoring: Further arguments of `ScoreCallback`.
    """

    def __init__(self, path: Path, curve: Path, interval: int, **scoring: Any) -> None:
        super().__init__(interval, **scoring)
        self._path, self._curve = path, curve

    def _on_training_start(self) -> None:
        super()._on_training_start()
        earlier = [row[RETURN] for row in read_curve(self._curve) if RETURN in row]
        self._best = max(earlier, default=float("-inf"))

    def _on_score(self, mean_return: float) -> None:
        if mean_return > self._best:
            self._agent.save(self._path, compact=True)
            self._best = mean_return


class SnapshotCallback(BaseCallback):
    """Saves a compact copy of the agent every so many timesteps, all of which are kept.

    Args:
        folder: Has one archive per snapshot, named after its timestep.
        interval: Timesteps between snapshots.
    """

    def __init__(self, folder: Path, interval: int) -> None:
        super().__init__()
        self._folder, self._interval = folder, interval

    def _on_step(self) -> bool:
        steps = self.model.num_timesteps
        if steps % self._interval == 0:
            agent: Any = self.model
            agent.save(self._folder / f"{steps:08d}.zip", compact=True)
        return True


class StopTrainingOnTimeout(BaseCallback):
    """Stops learning after so many seconds.

    Args:
        seconds: From the start of learning on.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def _on_training_start(self) -> None:
        self._start = time.monotonic()

    def _on_step(self) -> bool:
        return time.monotonic() - self._start < self._seconds
