"""What a recipe is: everything that makes a run, from names to a trained learner in a run folder.

A recipe is a dataclass of plain values. `train` carries it out; Python users, the command line, a
benchmark grid and jobs on a cluster all call it. The command line makes a flag of every field.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback

from agents.base import Learner, OfflineLearner, OnlineLearner
from agents.checks import check_at_least, check_device, check_numbers
from agents.codec import encode
from agents.runs.folder import (
    DATA,
    KIND,
    check_data,
    check_folder,
    check_ours,
    train_in_folder,
)
from aime_gym.card import installed_versions
from aime_gym.datasets import Dataset
from aime_gym.ids import check_env_id, plain_id
from aime_gym.places import occupied

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
        check_numbers(self)
        ends = ("_timesteps", "_interval", "episodes")
        counted = [f.name for f in fields(self) if f.name.endswith(ends)]
        check_at_least(1, **{name: getattr(self, name) for name in counted})
        check_at_least(0, seed=self.seed)

    def prepare(self, run: Run) -> None:
        """Long work that comes before the run, in a run folder of its own; there is none."""

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
    def places(self) -> tuple[Path, ...]:
        """The folders that the run writes to while it works."""
        return (self.run_folder,)

    @property
    def timesteps(self) -> int:
        """Timesteps in all."""
        chosen = self.total_timesteps
        return self.learner_class.default_timesteps if chosen is None else chosen

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
        FileExistsError: The folder has something else than a run.
        StoppedError: The run was stopped by a signal, and saved.
        ValueError: Something does not fit, the folder has another run, another process works there,
            or training diverged.
    """
    check_env_id(recipe.env)
    check_device(recipe.device)
    run = Run(recipe.run_folder, progress_bar, command)
    check_ours(run.folder)
    with ExitStack() as stack:
        for place in recipe.places:
            stack.enter_context(occupied(place))
        chosen = [*recipe.callbacks(run), *(callbacks or [])]
        check_folder(run.folder, recipe.identity)
        data = recipe.data(progress_bar)
        if data is not None:
            check_data(run.folder, data.checksum, data.card.name)
        recipe.prepare(run)
        learner = train_in_folder(
            run.folder,
            recipe.identity,
            recipe.make,
            partial(_learn, data, progress_bar),
            recipe.timesteps,
            chosen,
            recipe.checkpoint_interval,
            about={
                "command": command,
                "versions": {**installed_versions(), "torch": torch.__version__},
                **({} if data is None else {DATA: data.checksum}),
            },
        )
        recipe.finish(learner, data, run)
    return learner


def _learn(
    data: Dataset | None,
    progress_bar: bool,
    learner: Learner,
    timesteps: int,
    callbacks: list[BaseCallback],
) -> None:
    """Lets a learner learn, from data or by acting."""
    options: dict[str, Any] = {"reset_num_timesteps": False, "progress_bar": progress_bar}
    if isinstance(learner, OnlineLearner):
        learner.learn(timesteps, callbacks, **options)
    elif isinstance(learner, OfflineLearner):
        assert data is not None
        learner.learn(data, timesteps, callbacks, **options)
    else:
        raise TypeError(
            f"A run trains an OfflineLearner or an OnlineLearner, not {type(learner).__name__}."
        )
