"""Recipes: everything that makes a run, from names to a trained learner in a run folder.

A recipe is a dataclass of plain values. `train` carries it out; Python users, the command line, a
benchmark grid and jobs on a cluster all call it. The command line makes a flag of every field.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import tyro
from stable_baselines3.common.callbacks import BaseCallback

from agents.actor import Actor
from agents.aime import AIMEAgent, AIMEConfig
from agents.base import Learner, OfflineLearner, OnlineLearner
from agents.bc import BCAgent, BCConfig
from agents.checks import check_at_least
from agents.codec import encode
from agents.running import STEP
from agents.runs.callbacks import RETURN, KeepBestCallback, ScoreCallback, SnapshotCallback
from agents.runs.figures import plot_curve, plot_inferred_actions, plot_metric
from agents.runs.folder import KIND, read_config, train_in_folder
from agents.runs.logs import CURVE, read_curve
from agents.runs.recording import RecordCallback, open_recording
from agents.sac import SACAgent, SACConfig, import_simba
from agents.world_models.config import TrainingConfig, WorldModelConfig
from agents.world_models.world_model import WorldModel
from aime_gym.card import Card, Origin, card_of_env, write_card
from aime_gym.catalogue import ARCHIVE, CHECKPOINT, FINAL, find_model
from aime_gym.datasets import Dataset, load_dataset
from aime_gym.datasets.storage import shards
from aime_gym.evaluation.evaluate import EPISODES, Evaluation, evaluate
from aime_gym.files import atomic_write, sha256
from aime_gym.ids import check_env_id, plain_id, task_name

EVALUATION, BEST, SNAPSHOTS = "evaluation.json", "best.zip", "snapshots"
EXPERT_SEED = 1_000_000  # Of evaluations that choose the best expert, far from training's.
EXPERT_EPISODES = 5
FLAT = tyro.conf.arg(name="")  # The flags of a nested configuration have no prefix.
L = TypeVar("L", bound=Learner)


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC, Generic[L]):
    """What a run learns, and how.

    Attributes:
        env: The environment, such as AIME/walker-run-mdp.
        total_timesteps: Timesteps in all; by default the learner's own number.
        seed: Seed of networks, data order and noise.
        device: Where to train: auto, cpu, cuda, ...
        folder: The run folder; by default runs/<kind>-<environment>-seed<seed>.
        checkpoint_interval: Timesteps between checkpoints.

    Raises:
        ValueError: A number of timesteps is less than 1.
    """

    learner_class: ClassVar[type[Learner]]
    kind: ClassVar[str]
    may_change: ClassVar[set[str]] = {
        "total_timesteps", "device", "folder", "checkpoint_interval"
    }  # fmt: skip

    env: str
    total_timesteps: int | None = None
    seed: int = 0
    device: str = "auto"
    folder: Path | None = None
    checkpoint_interval: int = 500

    def __post_init__(self) -> None:
        counted = [f.name for f in fields(self) if f.name.endswith(("_timesteps", "_interval"))]
        check_at_least(1, **{name: getattr(self, name) for name in counted})

    @abstractmethod
    def make(self) -> L:
        """A new learner."""

    def data(self, progress_bar: bool) -> Dataset | None:
        """What an offline learner learns from; None for one that learns by acting."""
        return None

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Callbacks of the run, besides checkpoints."""
        return []

    @abstractmethod
    def finish(self, learner: L, data: Dataset | None, run: Run) -> None:
        """Writes results and figures, and says what came out."""

    @property
    def run_folder(self) -> Path:
        """The folder that was asked for, or the default one."""
        name = plain_id(self.env).rpartition("/")[2]
        return self.folder or Path("runs") / f"{self.kind}-{name}-seed{self.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is, as plain values: all fields but those that may change."""
        names = [f.name for f in fields(self) if f.name not in self.may_change]
        values = {name: encode(getattr(self, name)) for name in names}
        return {KIND: self.kind, **values, "env": plain_id(self.env)}


@dataclass(frozen=True)
class Run:
    """Where and how a recipe is carried out.

    Attributes:
        folder: The run folder.
        progress_bar: Whether to show progress bars.
        command: The shell command that does the same, for cards; None where unknown.
    """

    folder: Path
    progress_bar: bool = False
    command: str | None = None


def train(
    recipe: Recipe[L],
    callbacks: list[BaseCallback] | None = None,
    progress_bar: bool = False,
    command: str | None = None,
) -> L:
    """Carries out a recipe in its run folder, or goes on where that stopped.

    Args:
        recipe: What to train.
        callbacks: Further callbacks.
        progress_bar: Show one.
        command: The shell command that does the same, for cards.

    Returns:
        The trained learner.

    Raises:
        FileNotFoundError: A dataset or a model is missing; the message lists what there is.
        TypeError: The recipe's learner is neither an `OfflineLearner` nor an `OnlineLearner`.
        ValueError: Something does not fit, or the folder has another run.
    """
    check_env_id(recipe.env)
    run = Run(recipe.run_folder, progress_bar, command)
    data = recipe.data(progress_bar)

    def learn(learner: Learner, timesteps: int, all_callbacks: list[BaseCallback]) -> None:
        options: dict[str, Any] = {"reset_num_timesteps": False, "progress_bar": progress_bar}
        if isinstance(learner, OnlineLearner):
            learner.learn(timesteps, all_callbacks, **options)
        elif isinstance(learner, OfflineLearner):
            assert data is not None
            learner.learn(data, timesteps, all_callbacks, **options)
        else:
            raise TypeError(
                f"A run trains an OfflineLearner or an OnlineLearner, not {type(learner).__name__}."
            )

    timesteps = recipe.total_timesteps
    learner = train_in_folder(
        run.folder,
        recipe.identity,
        recipe.make,
        learn,
        recipe.learner_class.default_timesteps if timesteps is None else timesteps,
        [*recipe.callbacks(run), *(callbacks or [])],
        recipe.checkpoint_interval,
    )
    recipe.finish(learner, data, run)
    return learner


# World models


@dataclass(frozen=True, kw_only=True)
class WorldModelRecipe(Recipe[WorldModel]):
    """Train a world model on a body's own experience (AIME's phase 1).

    Attributes:
        dataset: Embodiment data: a name of `aime-gym datasets list`, or a folder.
        name: The model's name; by default <dataset>-<setup>.
        pretrained: Start from the weights of this world model: a name, an archive or a folder.
        config: Networks and losses; by default those of a residual cell.
        training: Windows and optimiser.
    """

    learner_class = WorldModel
    kind = "world-model"
    may_change = Recipe.may_change | {"name"}

    dataset: str
    name: str | None = None
    pretrained: str | None = None
    config: Annotated[WorldModelConfig, FLAT] = field(default_factory=WorldModelConfig.residual)
    training: Annotated[TrainingConfig, FLAT] = field(default_factory=TrainingConfig)

    def make(self) -> WorldModel:
        """A new world model."""
        model = WorldModel(self.env, self.config, self.training, seed=self.seed, device=self.device)
        if self.pretrained is not None:
            model.start_from(WorldModel.load(self.pretrained, device=self.device))
        return model

    def data(self, progress_bar: bool) -> Dataset:
        """The embodiment data."""
        return load_dataset(self.dataset, progress_bar=progress_bar)

    def finish(self, learner: WorldModel, data: Dataset | None, run: Run) -> None:
        """Draws the bound, and writes the model with its card, ready for AIME_GYM_MODELS."""
        assert data is not None
        curve = run.folder / CURVE
        figure = run.folder / "figures" / "elbo.png"
        plot_metric(curve, "train/elbo", figure, "evidence lower bound (nats per window)")
        name = self.name or f"{data.card.name}-{learner.env_info.setup}"
        target = run.folder / name
        learner.save(target / ARCHIVE, compact=True)
        rows = [row for row in read_curve(curve) if row.get(STEP, 0) <= learner.num_timesteps]
        card = card_of_env(
            self.env,
            name,
            kind="model",
            command=run.command,
            seed=self.seed,
            source="user",
            license=data.card.license,
            learned_from=(Origin(data.card.name, data.card.source, data.checksum),),
            updates=learner.num_timesteps,
            metrics=rows[-1] if rows else {},
            sha256={ARCHIVE: sha256(target / ARCHIVE)},
        )
        write_card(target, card)
        print(f"The world model is in {target}.")


# Agents


@dataclass(frozen=True, kw_only=True)
class AgentRecipe(Recipe[L]):
    """What a run of an agent learns, and how.

    Attributes:
        evaluation_interval: Timesteps between evaluations over 10 episodes.
    """

    evaluation_interval: int = 1_000

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations on the way."""
        return [ScoreCallback(self.evaluation_interval)]

    def finish(self, learner: L, data: Dataset | None, run: Run) -> None:
        """Scores the agent over 100 episodes, and draws its curve."""
        assert isinstance(learner, Actor)
        result = _evaluate(learner, self.env, run)
        plot_curve(run.folder / CURVE, run.folder / "figures" / "learning_curve.png")
        print(f"{result}\nThe agent is {run.folder / FINAL}.")


def _evaluate(agent: Actor, env_id: str, run: Run) -> Evaluation:
    """Scores an agent over 100 episodes, and writes the scores into the run folder."""
    result = evaluate(agent, env_id, EPISODES, progress_bar=run.progress_bar)
    with atomic_write(run.folder / EVALUATION, "w") as file:
        json.dump(result.to_json(), file, indent=1)
    return result


@dataclass(frozen=True, kw_only=True)
class ImitationRecipe(AgentRecipe[L]):
    """What a run of an imitator learns, and how.

    Attributes:
        demos: Demonstrations: a name of `aime-gym datasets list`, or a folder.
    """

    may_change = AgentRecipe.may_change | {"evaluation_interval"}

    demos: str

    def data(self, progress_bar: bool) -> Dataset:
        """The demonstrations."""
        return load_dataset(self.demos, progress_bar=progress_bar)


@dataclass(frozen=True, kw_only=True)
class AIMERecipe(ImitationRecipe[AIMEAgent]):
    """Imitate demonstrations, observations only, with a world model (AIME's phase 2).

    Attributes:
        world_model: A name of `aime-gym models list`, an archive, a run or a published folder.
        config: Settings of phase 2.
    """

    learner_class = AIMEAgent
    kind = "aime"

    world_model: str
    config: Annotated[AIMEConfig, FLAT] = field(default_factory=AIMEConfig)

    def make(self) -> AIMEAgent:
        """A new agent."""
        find_model(self.world_model)
        return AIMEAgent(
            self.env, self.world_model, self.config, seed=self.seed, device=self.device
        )

    def finish(self, learner: AIMEAgent, data: Dataset | None, run: Run) -> None:
        """Scores the agent, and draws inferred beside true actions, where these are known."""
        super().finish(learner, data, run)
        assert data is not None
        if data[0].actions is not None:
            figure = run.folder / "figures" / "inferred_actions.png"
            print(f"R2 of the inferred actions: {plot_inferred_actions(learner, data, figure)}")


@dataclass(frozen=True, kw_only=True)
class BCRecipe(ImitationRecipe[BCAgent]):
    """Clone the actions of demonstrations (behavioural cloning).

    Attributes:
        config: Settings of behavioural cloning.
    """

    learner_class = BCAgent
    kind = "bc"

    config: Annotated[BCConfig, FLAT] = field(default_factory=BCConfig)

    def make(self) -> BCAgent:
        """A new agent."""
        return BCAgent(self.env, self.config, seed=self.seed, device=self.device)


@dataclass(frozen=True, kw_only=True)
class ExpertRecipe(AgentRecipe[SACAgent]):
    """Train an expert by reinforcement learning (soft actor-critic).

    Attributes:
        record: Where to write every training episode as a dataset; by default nowhere.
        evaluation_interval: Timesteps between evaluations over 5 episodes; the best agent is kept.
        checkpoint_interval: Timesteps between checkpoints.
        folder: The run folder; by default runs/expert-<body>-<task>-seed<seed>.
        snapshot_interval: Timesteps between copies of the agent that are kept; by default none are.
        config: Algorithm and its settings.
    """

    learner_class = SACAgent
    kind = "expert"
    may_change = Recipe.may_change | {"record", "snapshot_interval"}

    record: Path | None = None
    evaluation_interval: int = 5_000
    checkpoint_interval: int = 10_000
    snapshot_interval: int | None = None
    config: Annotated[SACConfig, FLAT] = field(default_factory=SACConfig)

    @property
    def run_folder(self) -> Path:
        """The folder that was asked for, or the default one."""
        return self.folder or Path("runs") / f"expert-{task_name(self.env)}-seed{self.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is; its recording may move, and neither begin nor end on the way."""
        return {**super().identity, "record": self.record is not None}

    def make(self) -> SACAgent:
        """A new agent.

        Raises:
            ModuleNotFoundError: The algorithm's package is missing.
        """
        if self.config.algorithm == "simba":
            import_simba()
        return SACAgent(self.env, self.config, seed=self.seed, device=self.device)

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations that keep the best agent, recordings and snapshots.

        Raises:
            ValueError: The recording would get gaps, or replace another one.
        """
        self._check_recording(run.folder)
        best = KeepBestCallback(
            run.folder / BEST,
            run.folder / CURVE,
            self.evaluation_interval,
            episodes=EXPERT_EPISODES,
            seed=EXPERT_SEED,
        )
        chosen: list[BaseCallback] = [best]
        if self.record is not None:
            chosen.append(RecordCallback(self.record, self._card(run)))
        if self.snapshot_interval is not None:
            chosen.append(SnapshotCallback(run.folder / SNAPSHOTS, self.snapshot_interval))
        return chosen

    def finish(self, learner: SACAgent, data: Dataset | None, run: Run) -> None:
        """Closes the recording, scores the best agent over 100 episodes, and draws the curve."""
        if self.record is not None:
            open_recording(self.record, self._card(run), learner.progress.episodes).finish()
        best = SACAgent.load(run.folder / BEST, device=self.device)
        result = _evaluate(best, self.env, run)
        plot_metric(
            run.folder / CURVE,
            RETURN,
            run.folder / "figures" / "learning_curve.png",
            "return",
            xlabel="agent steps",
            label=f"{EXPERT_EPISODES} episodes",
        )
        print(f"{result}\nThe best agent by evaluation is {run.folder / BEST}.")

    def _check_recording(self, folder: Path) -> None:
        before = read_config(folder).get("record")
        if not (folder / CHECKPOINT).exists():
            cut_short = read_config(folder) == self.identity
            if self.record is not None and shards(self.record) and not cut_short:
                raise ValueError(
                    f"{self.record} already has episodes, and the run in {folder} is a new one: "
                    "record into another folder."
                )
            return
        if before == (self.record is not None):
            return
        should = "was recorded: go on with" if before else "was not recorded: go on without"
        raise ValueError(f"The run in {folder} {should} --record, or choose another folder.")

    def _card(self, run: Run) -> Card:
        """The card of the recordings."""
        return card_of_env(
            self.env,
            name=f"{task_name(self.env)}-training",
            description=f"All training episodes of a {self.config.algorithm} expert, in order.",
            command=run.command,
            seed=self.seed,
        )


RECIPES: tuple[type[Recipe[Any]], ...] = (WorldModelRecipe, AIMERecipe, BCRecipe, ExpertRecipe)
"""Every recipe; the command line has a command for each."""
