"""What the recipes of all agents have: evaluations on the way, and a score in the end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TypeVar

from stable_baselines3.common.callbacks import BaseCallback

from agents.actor import Actor
from agents.base import Learner
from agents.runs.callbacks import ScoreCallback
from agents.runs.figures import plot_curve
from agents.runs.logs import CURVE
from agents.runs.recipe import Recipe, Run
from aime_gym.catalogue import FINAL
from aime_gym.datasets import Dataset
from aime_gym.evaluation.evaluate import EPISODES, Evaluation, evaluate
from aime_gym.files import atomic_write

EVALUATION = "evaluation.json"
L = TypeVar("L", bound=Learner)


@dataclass(frozen=True, kw_only=True)
class AgentRecipe(Recipe[L]):
    """What a run of an agent learns, and how.

    Attributes:
        evaluation_interval: Timesteps between evaluations over 10 episodes.
        episodes: Episodes that score the agent in the end.
    """

    may_change = Recipe.may_change | {"episodes"}

    evaluation_interval: int = 1_000
    episodes: int = field(default_factory=lambda: EPISODES)

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations on the way."""
        return [ScoreCallback(self.evaluation_interval)]

    def finish(self, learner: L, data: Dataset | None, run: Run) -> None:
        """Scores the agent, and draws its curve."""
        assert isinstance(learner, Actor)
        result = self._evaluate(learner, run)
        plot_curve(run.folder / CURVE, run.folder / "figures" / "learning_curve.png")
        print(f"{result}\nThe agent is {run.folder / FINAL}.")

    def _evaluate(self, agent: Actor, run: Run, deterministic: bool = True) -> Evaluation:
        """Scores an agent, and writes the scores into the run folder."""
        result = evaluate(
            agent,
            self.env,
            self.episodes,
            deterministic=deterministic,
            progress_bar=run.progress_bar,
        )
        with atomic_write(run.folder / EVALUATION, "w") as file:
            json.dump(result.to_json(), file, indent=1)
        return result
