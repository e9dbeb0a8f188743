"""Callbacks that runs use, for every agent and for Stable-Baselines3's own loops."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents.actor import Actor
from agents.aime import AIMEAgent
from agents.base import OnlineLearner
from agents.checks import check_at_least
from agents.running import STEP
from agents.runs.logs import read_curve
from agents.runs.stopping import StoppedError, StopRequest, describe_stop
from aime_gym.evaluation.evaluate import EVAL_SEED, evaluate
from aime_gym.files import write_json
from aime_gym.foreign import read_json
from aime_gym.opengl import make_gl_context
from aime_gym.rollout import Policy, RandomPolicy
from aime_gym.trajectory import IMAGE_SHAPE

SCORE, RETURN = "eval/score", "eval/mean_return"
ENDS = ("_low", "_high")  # Of the names of an interval's ends.


class IntervalCallback(BaseCallback):
    """Does something whenever the timesteps reach or pass a multiple of an interval.

    Where several environments step at once, a multiple may be passed without being met. Multiples
    count from zero, so that a run that was cut goes on with the same ones.

    Args:
        interval: Timesteps between two times.

    Raises:
        ValueError: The interval is less than 1.
    """

    def __init__(self, interval: int) -> None:
        super().__init__()
        check_at_least(1, interval=interval)
        self._interval = interval

    def _on_training_start(self) -> None:
        self._passed = self._multiples

    def _on_step(self) -> bool:
        if self._passed < self._multiples:
            self._passed = self._multiples
            self._on_interval()
        return True

    @property
    def _multiples(self) -> int:
        return int(self.model.num_timesteps // self._interval)

    @abstractmethod
    def _on_interval(self) -> None:
        """Called when a multiple is reached or passed."""


class CheckpointCallback(IntervalCallback):
    """Saves the learner every so many timesteps, and at the end.

    A learner that acts is saved before its next round of acting and training: what it has seen in
    an unfinished round is no part of its state. Callbacks that change files come before this one.

    Args:
        path: The archive, replaced each time, whole or not at all.
        interval: Timesteps between checkpoints.
        request: Whether to save and stop as soon as possible; None for never.

    Raises:
        StoppedError: It was requested to stop, and the learner is saved.
    """

    def __init__(self, path: Path, interval: int, request: StopRequest | None = None) -> None:
        super().__init__(interval)
        self._path, self._request = path, request or StopRequest()

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._saved_at, self._is_due = self.model.num_timesteps, False

    def _on_interval(self) -> None:
        if isinstance(self.model, OnlineLearner):
            self._is_due = True
        elif not self._is_last:
            self._save()

    def _on_step(self) -> bool:
        super()._on_step()
        if not isinstance(self.model, OnlineLearner) and not self._is_last:
            self._stop_if_asked()
        return True

    @property
    def _is_last(self) -> bool:
        """Whether this update is the last: it is saved with what other callbacks do at the end."""
        learner: Any = self.model
        return bool(learner.num_timesteps >= self.locals["total_timesteps"] or learner.finished)

    def _on_rollout_start(self) -> None:
        if self._is_due:
            self._save()
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._request.is_made:
            if self._saved_at < self.model.num_timesteps:
                self._save()
            raise StoppedError(describe_stop(self._path.parent, self.model.num_timesteps))

    def _on_training_end(self) -> None:
        if self._saved_at < self.model.num_timesteps:
            self._save()

    def _save(self) -> None:
        self.model.save(self._path)
        self._saved_at, self._is_due = self.model.num_timesteps, False


class ScoreCallback(IntervalCallback):
    """Evaluates the agent every so many timesteps, and after the last one.

    Logged: ``eval/mean_return``, ``eval/score`` (percent of the expert, where known), and the ends
    of its 95% bootstrap interval, ``eval/score_low`` and ``eval/score_high``.

    Args:
        interval: Timesteps between evaluations.
        episodes: Episodes per evaluation.
        seed: Episode i of an evaluation is reset with ``seed + i``.
        report: Called with (timesteps, mean return, score) each time.
        deterministic: Score the best actions, not sampled ones.
        at_start: Score the agent before its first timestep, too: where its curve begins.

    Raises:
        TypeError: When learning starts: the learner does not act.
        ValueError: When learning starts: its environment has no id.
    """

    def __init__(
        self,
        interval: int,
        episodes: int = 10,
        seed: int = EVAL_SEED,
        report: Callable[[int, float, float | None], None] | None = None,
        deterministic: bool = True,
        at_start: bool = False,
    ) -> None:
        super().__init__(interval)
        self._at_start = at_start
        self._episodes, self._seed, self._report = episodes, seed, report
        self._deterministic = deterministic

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._scored_at = self.model.num_timesteps
        self._agent = self._check_agent()
        if self._agent.env_info.image:  # Where OpenGL is missing, this says so now.
            context, _ = make_gl_context(*IMAGE_SHAPE[:2])
            context.free()
        if self._at_start and self.model.num_timesteps == 0:
            self._score()

    def _on_interval(self) -> None:
        self._score()

    def _on_training_end(self) -> None:
        if self._scored_at < self.model.num_timesteps:
            self._score()

    def _check_agent(self) -> Actor:
        agent: Any = self.model
        if not isinstance(agent, Actor):
            raise TypeError(f"Only what acts can be scored, and a {type(agent).__name__} does not.")
        if agent.env_info.env_id is None:
            raise ValueError(
                "Scores need an environment with an id, which makes it anew: register it with "
                "gymnasium.register, and use gymnasium.make."
            )
        return agent

    def _score(self) -> None:
        agent = self._agent
        steps = self._scored_at = agent.num_timesteps
        env_id = agent.env_info.env_id
        assert env_id is not None
        result = evaluate(
            agent, env_id, self._episodes, seed=self._seed, deterministic=self._deterministic
        )
        agent.logger.record(RETURN, result.mean)
        if result.score is not None and result.score_interval is not None:
            agent.logger.record(SCORE, result.score)
            for end, score in zip(ENDS, result.score_interval, strict=True):
                agent.logger.record(SCORE + end, score)
        agent.logger.record(STEP, steps)
        agent.logger.dump(steps)
        self._on_score(result.mean)
        if self._report is not None:
            self._report(steps, result.mean, result.score)

    def _on_score(self, mean_return: float) -> None:
        """Called after every evaluation."""


class KeepBestCallback(ScoreCallback):
    """A `ScoreCallback` that also keeps the expert with the best mean return.

    Args:
        path: The archive of the best expert, compact.
        full: The archive of the same expert with what others can start from: all networks and
            optimisers, without the replay.
        curve: The run's ``progress.csv``, which has earlier evaluations where the run goes on.
        interval: Timesteps between evaluations.
        **scoring: Further arguments of `ScoreCallback`.
    """

    def __init__(self, path: Path, full: Path, curve: Path, interval: int, **scoring: Any) -> None:
        super().__init__(interval, **scoring)
        self._path, self._full, self._curve = path, full, curve

    def _on_training_start(self) -> None:
        super()._on_training_start()
        earlier = [row[RETURN] for row in read_curve(self._curve) if RETURN in row]
        self._best = max(earlier, default=float("-inf"))

    def _on_score(self, mean_return: float) -> None:
        if mean_return > self._best:
            agent: Any = self._agent
            agent.without_replay().save(self._full)
            agent.save(self._path, compact=True)
            self._best = mean_return


class ScoreBeforeCallback(BaseCallback):
    """Scores what an AIME agent is better than: random actions, and its own start.

    Random actions are scored when learning starts, the start when its last update is made and the
    evidence has not acted yet. What the file has already is not scored again.

    Args:
        path: A JSON file: ``"random"`` and ``"start"`` -> what `Evaluation.to_json` gives.
        episodes: Episodes of each score.
    """

    def __init__(self, path: Path, episodes: int) -> None:
        super().__init__()
        self._path, self._episodes = path, episodes

    def _on_training_start(self) -> None:
        agent: Any = self.model
        assert isinstance(agent, AIMEAgent)
        self._agent = agent
        self._score("random", RandomPolicy(agent.action_space, EVAL_SEED))

    def _on_step(self) -> bool:
        if self._agent.progress.updates == self._agent.config.start_updates:
            self._score("start", self._agent)
        return True

    def _score(self, name: str, policy: Policy) -> None:
        found = read_json(self._path) if self._path.exists() else {}
        if name in found:
            return
        env_id = self._agent.env_info.env_id
        assert env_id is not None
        result = evaluate(policy, env_id, self._episodes)
        write_json(self._path, {**found, name: result.to_json()})
        print(f"{name}: {result}")


class SnapshotCallback(IntervalCallback):
    """Saves a compact copy of the agent every so many timesteps, all of which are kept.

    Args:
        folder: Has one archive per snapshot, named after its timestep.
        interval: Timesteps between snapshots.
    """

    def __init__(self, folder: Path, interval: int) -> None:
        super().__init__(interval)
        self._folder = folder

    def _on_interval(self) -> None:
        agent: Any = self.model
        agent.save(self._folder / f"{agent.num_timesteps:08d}.zip", compact=True)


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
