"""What the recipes of all agents have: evaluations on the way, and a score in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

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
from aime_gym.files import write_json

EVALUATION = "evaluation.json"
L = TypeVar("L", bound=Learner)


@dataclass(frozen=True, kw_only=True)
class AgentRecipe(Recipe[L]):
    """What a run of an agent learns, and how.

    Attributes:
        evaluation_interval: Timesteps between evaluations over 10 episodes.
        episodes: Episodes that score the agent in the end.
        format: The format of figures: png, pdf or svg.
    """

    may_change = Recipe.may_change | {"episodes", "format"}

    evaluation_interval: int = 1_000
    episodes: int = field(default_factory=lambda: EPISODES)
    format: Literal["png", "pdf", "svg"] = "png"

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations on the way."""
        return [ScoreCallback(self.evaluation_interval, at_start=True)]

    def finish(self, learner: L, data: Dataset | None, run: Run) -> None:
        """Scores the agent, and draws its curve."""
        assert isinstance(learner, Actor)
        result = self._evaluate(learner, run)
        figure = self.figure(run, "learning_curve")
        if plot_curve(run.folder / CURVE, figure):
            print(f"The learning curve is {figure}.")
        print(f"{result}\nThe agent is {run.folder / FINAL}.")

    def figure(self, run: Run, name: str) -> Path:
        """Where a figure of the run goes."""
        return run.folder / "figures" / f"{name}.{self.format}"

    def _evaluate(self, agent: Actor, run: Run, deterministic: bool = True) -> Evaluation:
        """Scores an agent, and writes the scores into the run folder."""
        result = evaluate(
            agent,
            self.env,
            self.episodes,
            deterministic=deterministic,
            progress_bar=run.progress_bar,
        )
        write_json(run.folder / EVALUATION, result.to_json())
        print(f"The scores are in {run.folder / EVALUATION}.")
        return result
