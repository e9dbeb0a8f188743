"""The recipes: world models, models of a body, imitators and experts, each in a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import tyro
from stable_baselines3.common.callbacks import BaseCallback

from agents.actor import Actor
from agents.aime import AIMEAgent, AIMEConfig
from agents.base import Learner, OnlineLearner
from agents.bc import BCAgent, BCConfig
from agents.bco import BCOAgent, BCOConfig
from agents.body_models import BodyModel, BodyModelConfig, ForwardModel, InverseModel
from agents.dreamer import DreamerAgent, DreamerConfig
from agents.iidm import IIDMAgent, IIDMConfig
from agents.plan2explore import Plan2ExploreAgent, Plan2ExploreConfig
from agents.replay import make_replay
from agents.running import STEP
from agents.runs.callbacks import (
    RETURN,
    KeepBestCallback,
    ScoreBeforeCallback,
    ScoreCallback,
    SnapshotCallback,
)
from agents.runs.figures import plot_curve, plot_inferred_actions, plot_metric
from agents.runs.folder import check_folder, read_config
from agents.runs.logs import CURVE, read_curve
from agents.runs.predictions import PredictionCallback
from agents.runs.recipe import Recipe, Run, train
from agents.runs.recording import RecordCallback, open_recording
from agents.sac import SACAgent, SACConfig, import_simba
from agents.spaces import EnvInfo, to_vec_env
from agents.stacked import default_stack
from agents.world_models.config import TrainingConfig, WorldModelConfig
from agents.world_models.dreaming import DreamingAgent, DreamingConfig
from agents.world_models.world_model import WorldModel
from aime_gym.card import Card, Origin, card_of_env, write_card
from aime_gym.catalogue import ARCHIVE, CHECKPOINT, FINAL, find_model
from aime_gym.datasets import Dataset, load_dataset
from aime_gym.datasets.storage import shards
from aime_gym.evaluation.evaluate import EPISODES, Evaluation, evaluate
from aime_gym.files import atomic_write, locked, sha256
from aime_gym.ids import body_of, find_env_id, task_name

EVALUATION, BEST, SNAPSHOTS = "evaluation.json", "best.zip", "snapshots"
BEFORE, PREDICTIONS = "before.json", "predictions"
EXPERT_SEED = 1_000_000  # Of evaluations that choose the best expert, far from training's.
EXPERT_EPISODES = 5
FLAT = tyro.conf.arg(name="")  # The flags of a nested configuration have no prefix.
L = TypeVar("L", bound=Learner)


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

    def _evaluate(self, agent: Actor, run: Run) -> Evaluation:
        """Scores an agent, and writes the scores into the run folder."""
        result = evaluate(agent, self.env, self.episodes, progress_bar=run.progress_bar)
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
        score_before: Score random actions and the start, too, before the evidence is learned from.
        config: Settings of phase 2.
    """

    learner_class = AIMEAgent
    kind = "aime"
    may_change = ImitationRecipe.may_change | {"score_before"}

    world_model: str
    score_before: bool = False
    config: Annotated[AIMEConfig, FLAT] = field(default_factory=AIMEConfig)

    def make(self) -> AIMEAgent:
        """A new agent."""
        find_model(self.world_model)
        return AIMEAgent(
            self.env, self.world_model, self.config, seed=self.seed, device=self.device
        )

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations on the way, and before the evidence."""
        before = [ScoreBeforeCallback(run.folder / BEFORE, self.episodes)]
        return [*super().callbacks(run), *(before if self.score_before else [])]

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
class BodyModelRecipe(Recipe[BodyModel]):
    """What a run of a model of a body learns, and how.

    Attributes:
        dataset: Embodiment data: a name of `aime-gym datasets list`, or a folder.
        folder: The run folder; by default runs/<kind>-<dataset>-<setup>-seed<seed>.
        config: Settings.
    """

    dataset: str
    config: Annotated[BodyModelConfig, FLAT] = field(default_factory=BodyModelConfig)

    @property
    def run_folder(self) -> Path:
        """The folder that was asked for, or the default one, which all tasks of a body share."""
        parts = find_env_id(self.env)
        seen = task_name(self.env) if parts is None else parts.setup
        name = f"{self.kind}-{Path(self.dataset).name}-{seen}-seed{self.seed}"
        return self.folder or Path("runs") / name

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is; not for which of the body's tasks."""
        parts = find_env_id(self.env)
        seen = "" if parts is None else f"-{parts.setup}"
        return {**super().identity, "env": f"{body_of(self.env)}{seen}"}

    @property
    def is_learnt(self) -> bool:
        """Whether the folder has the model, learnt to its end.

        Raises:
            ValueError: The folder has a model of other settings.
        """
        check_folder(self.run_folder, self.identity)
        archive = self.run_folder / FINAL
        if not archive.exists():
            return False
        model = self.learner_class.load(archive, device="cpu")
        assert isinstance(model, BodyModel)
        return model.finished or model.num_timesteps >= self.timesteps

    def make(self) -> BodyModel:
        """A new model."""
        learner_class = self.learner_class
        assert issubclass(learner_class, BodyModel)
        return learner_class(self.env, self.config, seed=self.seed, device=self.device)

    def data(self, progress_bar: bool) -> Dataset:
        """The embodiment data."""
        return load_dataset(self.dataset, progress_bar=progress_bar)

    def finish(self, learner: BodyModel, data: Dataset | None, run: Run) -> None:
        """Draws the validation loss."""
        figure = run.folder / "figures" / "validation_loss.png"
        plot_metric(run.folder / CURVE, "train/validation_loss", figure, "validation loss")
        print(f"The {type(learner).__name__} is {run.folder / FINAL}.")


@dataclass(frozen=True, kw_only=True)
class InverseModelRecipe(BodyModelRecipe):
    """Learn which actions lead from observation to observation (BCO's first stage)."""

    learner_class = InverseModel
    kind = "inverse-model"


@dataclass(frozen=True, kw_only=True)
class ForwardModelRecipe(BodyModelRecipe):
    """Learn which observations follow from actions (IIDM's first stage)."""

    learner_class = ForwardModel
    kind = "forward-model"


@dataclass(frozen=True, kw_only=True)
class EmbodiedRecipe(ImitationRecipe[L]):
    """What a run of an imitator with a model of its body learns, and how.

    The model is learnt first, in a run folder that all tasks of the body share. Of several runs at
    once one learns it, and the others wait.

    Attributes:
        dataset: Embodiment data: a name of `aime-gym datasets list`, or a folder.
        body_model_timesteps: Updates of the model; by default its own number.
        body_model_folder: The model's run folder; by default
            runs/<inverse-model or forward-model>-<dataset>-<setup>-seed<seed>.
    """

    body_model_recipe: ClassVar[type[BodyModelRecipe]]
    may_change = ImitationRecipe.may_change | {"body_model_folder"}

    dataset: str
    body_model_timesteps: int | None = None
    body_model_folder: Path | None = None

    @property
    def body_model(self) -> BodyModelRecipe:
        """How the model of the body is made."""
        return self.body_model_recipe(
            env=self.env,
            dataset=self.dataset,
            total_timesteps=self.body_model_timesteps,
            seed=self.seed,
            device=self.device,
            folder=self.body_model_folder,
            config=self.config.body_model,  # type: ignore[attr-defined]
        )

    def data(self, progress_bar: bool) -> Dataset:
        """The demonstrations, which are checked before the model of the body is learnt."""
        demonstrations = super().data(progress_bar)
        info = EnvInfo.of(to_vec_env(self.env))
        stack = self.config.stack or default_stack(info)  # type: ignore[attr-defined]
        make_replay(
            demonstrations.observations_only(),
            info,
            info.visible,
            stack + 1,
            actions=False,
            progress_bar=progress_bar,
        )
        return demonstrations

    def prepare(self, run: Run) -> None:
        """Learns the model of the body, or goes on where that stopped; a learnt one stays as it is.

        Raises:
            ValueError: The folder has a model of other settings.
        """
        model = self.body_model
        with locked(model.run_folder / ".shared.lock"):
            if not model.is_learnt:
                train(model, progress_bar=run.progress_bar)

    def make(self) -> Any:
        """A new agent."""
        model = self.body_model.run_folder / FINAL
        learner_class: Any = self.learner_class
        config = self.config  # type: ignore[attr-defined]
        return learner_class(self.env, model, config, seed=self.seed, device=self.device)


@dataclass(frozen=True, kw_only=True)
class BCORecipe(EmbodiedRecipe[BCOAgent]):
    """Clone the actions that an inverse model finds behind demonstrations (BCO).

    Attributes:
        config: Settings of both stages.
    """

    learner_class = BCOAgent
    kind = "bco"
    body_model_recipe = InverseModelRecipe

    config: Annotated[BCOConfig, FLAT] = field(default_factory=BCOConfig)


@dataclass(frozen=True, kw_only=True)
class IIDMRecipe(EmbodiedRecipe[IIDMAgent]):
    """Imitate demonstrations through a forward model (IIDM).

    Attributes:
        config: Settings of both stages.
    """

    learner_class = IIDMAgent
    kind = "iidm"
    body_model_recipe = ForwardModelRecipe

    config: Annotated[IIDMConfig, FLAT] = field(default_factory=IIDMConfig)


# Learners that act


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

    def callbacks(self, run: Run) -> list[BaseCallback]:
        """Evaluations, and the recording.

        Raises:
            ValueError: The recording would get gaps, or replace another one.
        """
        self._check_recording(run.folder)
        chosen = [self._evaluations(run)]
        if self.record is not None:
            chosen.append(RecordCallback(self.record, self._card(run)))
        return chosen

    def finish(self, learner: L, data: Dataset | None, run: Run) -> None:
        """Closes the recording, scores the agent, and draws the curve."""
        assert isinstance(learner, OnlineLearner)
        if self.record is not None:
            open_recording(self.record, self._card(run), learner.num_episodes).finish()
            print(f"Its episodes are in {self.record}.")
        self._score(learner, run)

    def _evaluations(self, run: Run) -> BaseCallback:
        """Evaluations on the way."""
        return ScoreCallback(self.evaluation_interval)

    def _score(self, learner: L, run: Run) -> None:
        """Scores the agent, draws its curve, and says what came out."""
        super().finish(learner, None, run)

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
    config: Annotated[SACConfig, FLAT] = field(default_factory=SACConfig)

    @property
    def run_folder(self) -> Path:
        """The folder that was asked for, or the default one."""
        return self.folder or Path("runs") / f"expert-{task_name(self.env)}-seed{self.seed}"

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
        chosen = super().callbacks(run)
        if self.snapshot_interval is not None:
            chosen.append(SnapshotCallback(run.folder / SNAPSHOTS, self.snapshot_interval))
        return chosen

    def _evaluations(self, run: Run) -> BaseCallback:
        return KeepBestCallback(
            run.folder / BEST,
            run.folder / CURVE,
            self.evaluation_interval,
            episodes=EXPERT_EPISODES,
            seed=EXPERT_SEED,
        )

    def _score(self, learner: SACAgent, run: Run) -> None:
        """Scores the best agent, not the last one."""
        best = SACAgent.load(run.folder / BEST, device=self.device)
        result = self._evaluate(best, run)
        plot_metric(
            run.folder / CURVE,
            RETURN,
            run.folder / "figures" / "learning_curve.png",
            "return",
            xlabel="agent steps",
            label=f"{EXPERT_EPISODES} episodes",
        )
        print(f"{result}\nThe best agent by evaluation is {run.folder / BEST}.")


Preset = Literal["small", "paper"]


@dataclass(frozen=True, kw_only=True)
class DreamingRecipe(OnlineRecipe[L]):
    """What a run of an agent learns that dreams, and how.

    Attributes:
        preset: The settings: small ones, which learn on a CPU, or the paper's.
        pretrained: Start from the weights of this world model: a name, an archive or a folder.
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
        return learner_class(self.env, config, self.pretrained, seed=self.seed, device=self.device)


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


RECIPES: tuple[type[Recipe[Any]], ...] = (
    WorldModelRecipe,
    AIMERecipe,
    BCRecipe,
    BCORecipe,
    IIDMRecipe,
    InverseModelRecipe,
    ForwardModelRecipe,
    DreamerRecipe,
    Plan2ExploreRecipe,
    ExpertRecipe,
)
"""Every recipe; the command line has a command for each."""
