"""Recipes of models: of a world, and of a body, which agents are made of later."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from agents.body_models import BodyModel, BodyModelConfig, ForwardModel, InverseModel
from agents.running import STEP
from agents.runs.export import load_world_model
from agents.runs.figures import plot_metric
from agents.runs.folder import check_folder
from agents.runs.logs import CURVE, read_curve
from agents.runs.recipe import FLAT, Recipe, Run
from agents.world_models.config import TrainingConfig, WorldModelConfig
from agents.world_models.world_model import WorldModel
from aime_gym.card import Origin, card_of_env, write_card
from aime_gym.catalogue import ARCHIVE, FINAL
from aime_gym.datasets import Dataset, load_dataset
from aime_gym.files import sha256
from aime_gym.ids import body_of, find_env_id, task_name


@dataclass(frozen=True, kw_only=True)
class WorldModelRecipe(Recipe[WorldModel]):
    """Train a world model on a body's own experience (AIME's phase 1).

    Attributes:
        dataset: Embodiment data: a name of `aime-gym datasets list`, or a folder.
        name: The model's name; by default <dataset>-<setup>.
        pretrained: Start from the weights of this world model: a name, a folder, or an archive or
            run folder of a world model or of an agent that has one.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.only_idm and self.pretrained is None:
            raise ValueError("only_idm needs a pretrained world model, on whose states it learns.")

    def make(self) -> WorldModel:
        """A new world model."""
        model = WorldModel(self.env, self.config, self.training, seed=self.seed, device=self.device)
        if self.pretrained is not None:
            model.start_from(load_world_model(self.pretrained, self.device)[0])
        return model

    def data(self, progress_bar: bool) -> Dataset:
        """The embodiment data."""
        return load_dataset(self.dataset, progress_bar=progress_bar)

    def finish(self, learner: WorldModel, data: Dataset | None, run: Run) -> None:
        """Draws its curve, and writes the model with its card, ready for AIME_GYM_MODELS."""
        assert data is not None
        curve = run.folder / CURVE
        metric, label = "train/elbo", "evidence lower bound (nats per window)"
        if self.training.only_idm:
            metric, label = "train/idm_mse", "squared error of inverse dynamics"
        figure = run.folder / "figures" / f"{metric.removeprefix('train/')}.png"
        if plot_metric(curve, metric, figure, label):
            print(f"Its curve is {figure}.")
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
        if plot_metric(run.folder / CURVE, "train/validation_loss", figure, "validation loss"):
            print(f"Its curve is {figure}.")
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
