"""The recipe of AMIGo, in grid worlds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from stable_baselines3.common.callbacks import BaseCallback

from agents.amigo import AMIGoAgent, AMIGoConfig, Variant
from agents.runs.callbacks import ScoreCallback
from agents.runs.goal_figures import plot_goals, plot_learning
from agents.runs.logs import CURVE
from agents.runs.recipe import FLAT, Run
from agents.runs.recipes.agent import AgentRecipe
from aime_gym.catalogue import FINAL
from aime_gym.datasets import Dataset
from aime_gym.ids import plain_id


@dataclass(frozen=True, kw_only=True)
class AMIGoRecipe(AgentRecipe[AMIGoAgent]):
    """Learn a grid world of MiniGrid's by reaching goals that a teacher sets (AMIGo).

    Attributes:
        env: The environment, such as MiniGrid-DoorKey-8x8-v0.
        variant: Who sets goals: a teacher whose target grows, a teacher whose target adapts within
            a window, novelty, or none.
        folder: The run folder; by default runs/amigo-<environment>-<variant>-seed<seed>.
        evaluation_interval: Frames between evaluations over 10 episodes.
        checkpoint_interval: Frames between checkpoints.
        config: Settings.
    """

    learner_class = AMIGoAgent
    kind = "amigo"
    may_change = AgentRecipe.may_change | {"evaluation_interval"}

    variant: Variant = "default"
    evaluation_interval: int = 250_000
    checkpoint_interval: int = 100_000
    config: Annotated[AMIGoConfig, FLAT] = field(default_factory=AMIGoConfig)

    @property
    def run_folder(self) -> Path:
        """The folder that was asked for, or the default one."""
        name = plain_id(self.env).rpartition("/")[2]
        return self.folder or Path("runs") / f"amigo-{name}-{self.variant}-seed{self.seed}"

    def make(self) -> AMIGoAgent:
        """A new agent."""
        return AMIGoAgent(self.env, self.variant, self.config, seed=self.seed, device=self.device)

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations on the way, of sampled actions as in learning."""
        return [ScoreCallback(self.evaluation_interval, deterministic=False)]

    def finish(self, learner: AMIGoAgent, data: Dataset | None, run: Run) -> None:
        """Scores the agent, and draws how it learned and where its goals were."""
        figures = run.folder / "figures"
        plot_learning(run.folder / CURVE, figures / "learning.png")
        if learner.teacher is not None:
            plot_goals(learner, figures / "goals.png")
        result = self._evaluate(learner, run, deterministic=False)
        low, high = result.interval
        print(
            f"{result.env_id}: mean return {result.mean:.3f} over {len(result.returns)} episodes "
            f"(95% interval {low:.3f} to {high:.3f}).\nThe agent is {run.folder / FINAL}."
        )
