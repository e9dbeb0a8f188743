"""Recipes of agents that learn by acting, whose episodes can be recorded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from stable_baselines3.common.callbacks import BaseCallback

from agents.base import Learner, OnlineLearner
from agents.dreamer import DreamerAgent, DreamerConfig
from agents.plan2explore import Plan2ExploreAgent, Plan2ExploreConfig
from agents.runs.callbacks import RETURN, KeepBestCallback, ScoreCallback, SnapshotCallback
from agents.runs.export import load_world_model
from agents.runs.figures import plot_metric
from agents.runs.folder import read_config
from agents.runs.logs import CURVE
from agents.runs.predictions import PredictionCallback
from agents.runs.recipe import FLAT, Run
from agents.runs.recipes.agent import AgentRecipe
from agents.runs.recording import (
    RecordCallback,
    check_empty_or_dataset,
    check_mark,
    open_recording,
)
from agents.sac import SACAgent, SACConfig, import_simba
from agents.world_models.dreaming import DreamingAgent
from agents.world_models.dreaming_config import DreamingConfig
from aime_gym.card import Card, card_of_env
from aime_gym.catalogue import CHECKPOINT
from aime_gym.datasets import Dataset
from aime_gym.datasets.storage import shards
from aime_gym.ids import body_of, task_name

BEST, BEST_FULL = "best.zip", "best-full.zip"  # What acts; all networks, without the replay.
SNAPSHOTS, PREDICTIONS = "snapshots", "predictions"
EXPERT_SEED = 1_000_000  # Of evaluations that choose the best expert, far from training's.
EXPERT_EPISODES = 5
L = TypeVar("L", bound=Learner)


@dataclass(frozen=True, kw_only=True)
class OnlineRecipe(AgentRecipe[L]):
    """What a run of an agent learns that acts, and how.

    Attributes:
        record: Where to write every training episode as a dataset; by default nowhere.
        folder: The run folder; by default runs/<kind>-<body>-<task>-seed<seed>.
    """

    may_change = AgentRecipe.may_change | {"record"}
    data_name: ClassVar[str]
    data_description: ClassVar[str]

    record: Path | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is; its recording may move, and neither begin nor end on the way."""
        return {**super().identity, "record": self.record is not None}

    @property
    def places(self) -> tuple[Path, ...]:
        """The run folder, and that of the recording."""
        return (*super().places, *(() if self.record is None else (self.record,)))

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations, and the recording.

        Raises:
            ValueError: The recording would get gaps, or replace another one.
        """
        self._check_recording(run.folder)
        chosen = [self._evaluations(run)]
        if self.record is not None:
            chosen.append(RecordCallback(self.record, self._card(run), run.folder))
        return chosen

    def finish(self, learner: L, data: Dataset | None, run: Run) -> None:
        """Closes the recording, scores the agent, and draws the curve."""
        assert isinstance(learner, OnlineLearner)
        if self.record is not None:
            open_recording(self.record, self._card(run), learner).finish()
            print(f"Its episodes are in {self.record}.")
        self._score(learner, run)

    def _evaluations(self, run: Run) -> BaseCallback:
        """Evaluations on the way."""
        return ScoreCallback(self.evaluation_interval)

    def _score(self, learner: L, run: Run) -> None:
        """Scores the agent, draws its curve, and says what came out."""
        super().finish(learner, None, run)

    def _check_recording(self, folder: Path) -> None:
        before, has_begun = read_config(folder), (folder / CHECKPOINT).exists()
        if has_begun and before["record"] != (self.record is not None):
            was = "was" if before["record"] else "was not"
            go_on = "go on with" if before["record"] else "go on without"
            raise ValueError(
                f"The run in {folder} {was} recorded: {go_on} --record, or choose another folder."
            )
        if self.record is None:
            return
        if not has_begun and shards(self.record):
            raise ValueError(
                f"{self.record} already has episodes, and the run in {folder} is a new one or has "
                "lost its checkpoint: record into another folder."
            )
        check_empty_or_dataset(self.record)
        check_mark(self.record, folder)

    def _card(self, run: Run) -> Card:
        """The card of the recording."""
        names = {"task": task_name(self.env), "body": body_of(self.env)}
        return card_of_env(
            self.env,
            name=self.data_name.format(**names),
            description=self.data_description.format(recipe=self),
            command=run.command,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class ExpertRecipe(OnlineRecipe[SACAgent]):
    """Train an expert by reinforcement learning (soft actor-critic).

    Attributes:
        evaluation_interval: Timesteps between evaluations over 5 episodes; the best agent is kept.
        checkpoint_interval: Timesteps between checkpoints.
        folder: The run folder; by default runs/expert-<body>-<task>-seed<seed>.
        snapshot_interval: Timesteps between copies of the agent that are kept; by default none are.
        pretrained: Start from the networks of this expert: its run folder (final.zip), or
            best-full.zip of that. It may be of another environment with the same observations and
            actions.
        config: Algorithm and its settings.
    """

    learner_class = SACAgent
    kind = "expert"
    may_change = OnlineRecipe.may_change | {"snapshot_interval"}
    data_name = "{task}-training"
    data_description = "All training episodes of a {recipe.config.algorithm} expert, in order."

    evaluation_interval: int = 5_000
    checkpoint_interval: int = 10_000
    snapshot_interval: int | None = None
    pretrained: str | None = None
    config: Annotated[SACConfig, FLAT] = field(default_factory=SACConfig)

    @property
    def run_folder(self) -> Path:
        """The folder that was asked for, or the default one."""
        return self.folder or Path("runs") / f"expert-{task_name(self.env)}-seed{self.seed}"

    def make(self) -> SACAgent:
        """A new agent.

        Raises:
            FileNotFoundError: The expert to start from is missing.
            ModuleNotFoundError: The algorithm's package is missing.
            ValueError: The expert to start from has other networks, or no critics.
        """
        if self.config.algorithm == "simba":
            import_simba()
        agent = SACAgent(self.env, self.config, seed=self.seed, device=self.device)
        if self.pretrained is not None:
            agent.start_from(SACAgent.load(self.pretrained, device=self.device))
        return agent

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations that keep the best agent, recordings and snapshots.

        Raises:
            ValueError: The recording would get gaps, or replace another one.
        """
        chosen = super().callbacks(run)
        if self.snapshot_interval is not None:
            chosen.append(SnapshotCallback(run.folder / SNAPSHOTS, self.snapshot_interval))
        return chosen

    def _evaluations(self, run: Run) -> BaseCallback:
        return KeepBestCallback(
            run.folder / BEST,
            run.folder / BEST_FULL,
            run.folder / CURVE,
            self.evaluation_interval,
            episodes=EXPERT_EPISODES,
            seed=EXPERT_SEED,
        )

    def _score(self, learner: SACAgent, run: Run) -> None:
        """Scores the best agent, not the last one."""
        best = SACAgent.load(run.folder / BEST, device=self.device)
        result = self._evaluate(best, run)
        figure = self.figure(run, "learning_curve")
        plot_metric(
            run.folder / CURVE,
            RETURN,
            figure,
            "return",
            xlabel="agent steps",
            label=f"{EXPERT_EPISODES} episodes",
        )
        print(f"The learning curve is {figure}.")
        print(f"{result}\nThe best agent by evaluation is {run.folder / BEST}.")


Preset = Literal["small", "paper"]


@dataclass(frozen=True, kw_only=True)
class DreamingRecipe(OnlineRecipe[L]):
    """What a run of an agent learns that dreams, and how.

    Attributes:
        preset: The settings: small ones, which learn on a CPU, or the paper's.
        pretrained: Start from the weights of this world model: a name, a folder, or an archive or
            run folder of a world model or of an agent that has one.
        frozen: Leave these as they are; the reward decoder and the ensemble learn in any case.
        evaluation_interval: Timesteps between evaluations over 10 episodes.
        checkpoint_interval: Timesteps between checkpoints, with the replay.
        prediction_interval: Timesteps between pictures and videos of what the world model predicts,
            in the run folder; by default none are made.
    """

    learner_class: ClassVar[type[DreamingAgent]]
    config_class: ClassVar[type[DreamingConfig]]
    may_change = OnlineRecipe.may_change | {"prediction_interval"}

    preset: Preset = "small"
    pretrained: str | None = None
    frozen: bool = False
    evaluation_interval: int = 10_000
    checkpoint_interval: int = 10_000
    prediction_interval: int | None = None

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations, the recording, and pictures of predictions.

        Raises:
            ValueError: The recording would get gaps, or replace another one.
        """
        chosen = super().callbacks(run)
        if self.prediction_interval is not None:
            chosen.append(PredictionCallback(run.folder / PREDICTIONS, self.prediction_interval))
        return chosen

    def make(self) -> Any:
        """A new agent."""
        small = self.preset == "small"
        config = self.config_class.small() if small else self.config_class()
        config = replace(config, frozen=self.frozen)
        learner_class: Any = self.learner_class
        pretrained = None
        if self.pretrained is not None:
            pretrained, _ = load_world_model(self.pretrained, self.device)
        return learner_class(self.env, config, pretrained, seed=self.seed, device=self.device)


@dataclass(frozen=True, kw_only=True)
class DreamerRecipe(DreamingRecipe[DreamerAgent]):
    """Learn a task inside a world model that is learnt on the way (Dreamer)."""

    learner_class = DreamerAgent
    config_class = DreamerConfig
    kind = "dreamer"
    data_name = "{task}-buffer"
    data_description = "All training episodes of Dreamer, in order."


@dataclass(frozen=True, kw_only=True)
class Plan2ExploreRecipe(DreamingRecipe[Plan2ExploreAgent]):
    """Explore what a body can do, without a reward (Plan2Explore)."""

    learner_class = Plan2ExploreAgent
    config_class = Plan2ExploreConfig
    kind = "plan2explore"
    data_name = "{body}-plan2explore-buffer"
    data_description = "All training episodes of Plan2Explore, in order."
