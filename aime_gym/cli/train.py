"""``aime-gym train``: experts, world models and agents.

Every command has a run folder with its configuration, learning curve, checkpoint and result. The
same command again goes on where the run stopped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tyro.extras import SubcommandApp

from aime_gym.cli.words import is_watched, shell_command
from aime_gym.files import atomic_write

if TYPE_CHECKING:
    from agents import WorldModel, WorldModelConfig
    from agents.base import Agent
    from aime_gym.datasets import Dataset

A = TypeVar("A", bound="Agent")
app = SubcommandApp()


@app.command
def expert(
    *,
    env: str,
    total_timesteps: int = 100_000,
    algorithm: Literal["sac", "simba"] = "sac",
    seed: int = 0,
    folder: Path | None = None,
    record: Path | None = None,
) -> None:
    """Train an expert by reinforcement learning, recording every episode on the way.

    Args:
        env: The environment, such as AIME/walker-run-mdp.
        total_timesteps: Agent steps.
        algorithm: sac (Stable-Baselines3), or simba (SBX; pip install 'aime-gym[expert]'), which
            needs fewer steps.
        seed: Of networks, environment and exploration.
        folder: The run folder; by default runs/expert-<body>-<task>-seed<seed>.
        record: Write every training episode here, as a dataset.
    """
    from agents.expert import ExpertConfig, train_expert

    folder = folder or _folder("expert", env, seed)
    train_expert(ExpertConfig(env, total_timesteps, algorithm, seed), folder, record)
    print(f"The best model is in {folder / 'best'}.")


@app.command(name="world-model")
def world_model(
    *,
    env: str,
    dataset: str,
    total_timesteps: int = 100_000,
    cell: Literal["auto", "rssm", "rssmo"] = "auto",
    deter_dim: int | None = None,
    stoch_dim: int | None = None,
    sequence_length: int = 50,
    batch_size: int = 50,
    learning_rate: float = 3e-4,
    decay_timesteps: int | None = None,
    pretrained: str | None = None,
    seed: int = 0,
    device: str = "auto",
    name: str | None = None,
    folder: Path | None = None,
    checkpoint_interval: int = 500,
) -> None:
    """Train a world model on a body's own experience (AIME's phase 1).

    Args:
        env: An environment of the body and setup, such as AIME/walker-run-mdp.
        dataset: Embodiment data: a name of `aime-gym datasets list`, or a folder.
        total_timesteps: Gradient updates.
        cell: rssm, rssmo, or auto: RSSM for the walker, RSSMO for every other body. (The paper:
            the walker's and the cheetah's; for other bodies it is this package's choice.)
        deter_dim: Size of the deterministic state; by default the paper's.
        stoch_dim: Size of the stochastic state; by default the paper's.
        sequence_length: Observations of a window.
        batch_size: Windows of an update.
        learning_rate: Of Adam.
        decay_timesteps: Updates over which the learning rate falls to a hundredth; else constant.
        pretrained: Start from the weights of this world model: a name, an archive or a folder.
        seed: Of networks, windows and noise.
        device: auto, cpu, cuda, ...
        name: Of the model; by default <dataset>-<setup>.
        folder: The run folder; by default runs/world-model-<body>-<task>-<setup>-seed<seed>.
        checkpoint_interval: Updates between checkpoints.
    """
    config = {key: value for key, value in locals().items() if key not in _NOT_IDENTITY}
    from agents import TrainingConfig, WorldModel
    from agents.figures import plot_metric
    from agents.logs import CURVE
    from agents.runs import train
    from aime_gym.datasets import load_dataset

    model_config = _model_config(env, cell, deter_dim=deter_dim, stoch_dim=stoch_dim)
    training = TrainingConfig(
        sequence_length, batch_size, learning_rate, decay_timesteps=decay_timesteps
    )
    folder = folder or _folder("world-model", env, seed)
    data = load_dataset(dataset, progress_bar=is_watched())

    def make() -> WorldModel:
        model = WorldModel(env, model_config, training, seed=seed, device=device)
        if pretrained is not None:
            model.start_from(WorldModel.load(pretrained, device=device))
        return model

    model = train(
        make,
        lambda path: WorldModel.load(path, device=device),
        data,
        folder,
        config,
        total_timesteps,
        checkpoint_interval=checkpoint_interval,
        progress_bar=is_watched(),
    )
    figure = folder / "figures" / "elbo.png"
    plot_metric(folder / CURVE, "train/elbo", figure, "evidence lower bound (nats a window)")
    name = name or f"{data.card.name}-{model.env_info.setup}"
    options = {**config, "total_timesteps": total_timesteps}
    _write_model(model, folder, name, data, shell_command("train world-model", options), seed)
    print(f"The world model is in {folder / name}.")


def _model_config(env: str, cell: str, **dims: int | None) -> WorldModelConfig:
    """The cell's configuration, with those sizes that are given."""
    from agents import WorldModelConfig
    from aime_gym.envs.setups import parse_env_id

    kinds = {
        "auto": lambda: WorldModelConfig.for_body(parse_env_id(env).body),
        "rssm": WorldModelConfig,
        "rssmo": WorldModelConfig.rssmo,
    }
    given: dict[str, Any] = {name: dim for name, dim in dims.items() if dim is not None}
    return dataclasses.replace(kinds[cell](), **given)


def _write_model(
    model: WorldModel, folder: Path, name: str, data: Dataset, command: str, seed: int
) -> None:
    """Writes the model with its card, ready to be put into a folder of AIME_GYM_MODELS."""
    from agents.logs import CURVE, STEP, read_curve
    from agents.world_models.catalogue import ARCHIVE, ModelCard
    from aime_gym.datasets.recorder import installed_versions

    model.save(folder / name / ARCHIVE, compact=True)
    updates = model.num_timesteps
    curve = [row for row in read_curve(folder / CURVE) if row.get(STEP, 0) <= updates]
    ModelCard(
        name=name,
        env_id=model.env_info.env_id,
        command=command,
        seed=seed,
        dataset=data.card.name,
        dataset_checksum=data.checksum,
        updates=updates,
        metrics=curve[-1] if curve else {},
        versions=installed_versions(),
        source=data.card.source,
    ).write(folder / name)


@app.command
def aime(
    *,
    env: str,
    world_model: str,
    demos: str,
    total_timesteps: int = 50_000,
    objective: Literal["elbo", "kl_only", "reconstruction_only"] = "elbo",
    guidance: bool = False,
    finetune: bool = False,
    num_demonstrations: int = 100,
    sequence_length: int = 50,
    batch_size: int = 50,
    learning_rate: float = 3e-4,
    seed: int = 0,
    device: str = "auto",
    folder: Path | None = None,
    evaluation_interval: int = 1_000,
    checkpoint_interval: int = 500,
) -> None:
    """Imitate demonstrations, observations only, with a world model (AIME's phase 2).

    Args:
        env: Where to act, such as AIME/walker-run-mdp.
        world_model: A name of a bundled model, an archive, or a published folder.
        demos: Demonstrations: a name of `aime-gym datasets list`, or a folder.
        total_timesteps: Gradient updates.
        objective: The whole evidence lower bound, or one term of it.
        guidance: Let the model's inverse dynamics choose the actions.
        finetune: Train the world model along.
        num_demonstrations: Use the first so many.
        sequence_length: Observations of a window.
        batch_size: Windows of an update.
        learning_rate: Of Adam.
        seed: Of the policy, windows and noise.
        device: auto, cpu, cuda, ...
        folder: The run folder; by default runs/aime-<body>-<task>-<setup>-seed<seed>.
        evaluation_interval: Updates between evaluations over 10 episodes.
        checkpoint_interval: Updates between checkpoints.
    """
    config = {key: value for key, value in locals().items() if key not in _NOT_IDENTITY}
    from agents import AIMEAgent, AIMEConfig, WorldModel
    from agents.figures import plot_inferred_actions

    phase_2 = AIMEConfig(
        objective,
        guidance,
        finetune,
        num_demonstrations,
        sequence_length,
        batch_size,
        learning_rate,
    )
    folder = folder or _folder("aime", env, seed)
    agent, demonstrations = _train_agent(
        lambda: AIMEAgent(env, WorldModel.load(world_model), phase_2, seed=seed, device=device),
        lambda path: AIMEAgent.load(path, device=device),
        folder,
        config,
        total_timesteps,
        checkpoint_interval,
    )
    if demonstrations[0].actions is not None:
        figure = folder / "figures" / "inferred_actions.png"
        print(f"R2 of the inferred actions: {plot_inferred_actions(agent, demonstrations, figure)}")


@app.command
def bc(
    *,
    env: str,
    demos: str,
    total_timesteps: int = 50_000,
    num_demonstrations: int = 100,
    seed: int = 0,
    device: str = "auto",
    folder: Path | None = None,
    evaluation_interval: int = 5_000,
    checkpoint_interval: int = 1_000,
) -> None:
    """Clone the actions of demonstrations (behavioural cloning).

    Args:
        env: Where to act, such as AIME/walker-run-mdp.
        demos: Demonstrations with actions: a name of `aime-gym datasets list`, or a folder.
        total_timesteps: Gradient updates at most; it stops earlier once validation stops improving.
        num_demonstrations: Use the first so many.
        seed: Of the policy and the order of the data.
        device: auto, cpu, cuda, ...
        folder: The run folder; by default runs/bc-<body>-<task>-<setup>-seed<seed>.
        evaluation_interval: Updates between evaluations over 10 episodes.
        checkpoint_interval: Updates between checkpoints.
    """
    config = {key: value for key, value in locals().items() if key not in _NOT_IDENTITY}
    from agents import BCAgent, BCConfig

    bc_config = BCConfig(num_demonstrations=num_demonstrations)
    _train_agent(
        lambda: BCAgent(env, bc_config, seed=seed, device=device),
        lambda path: BCAgent.load(path, device=device),
        folder or _folder("bc", env, seed),
        config,
        total_timesteps,
        checkpoint_interval,
    )


def _train_agent(
    make: Callable[[], A],
    load: Callable[[Path], A],
    folder: Path,
    config: dict[str, Any],
    total_timesteps: int,
    checkpoint_interval: int,
) -> tuple[A, Dataset]:
    """Trains an agent in a run folder, scores it over 100 episodes, and draws its curve."""
    from agents.figures import plot_curve
    from agents.runs import ScoreCallback, train
    from aime_gym.datasets import load_dataset
    from aime_gym.evaluation.evaluate import EPISODES, evaluate

    demonstrations = load_dataset(config["demos"], progress_bar=is_watched())
    scoring = ScoreCallback(config["evaluation_interval"])
    agent = train(
        make,
        load,
        demonstrations,
        folder,
        config,
        total_timesteps,
        [scoring],
        checkpoint_interval=checkpoint_interval,
        progress_bar=is_watched(),
    )
    result = evaluate(agent, config["env"], episodes=EPISODES, progress_bar=is_watched())
    with atomic_write(folder / "evaluation.json", "w") as file:
        json.dump(result.to_json(), file, indent=1)
    plot_curve(folder / "progress.csv", folder / "figures" / "learning_curve.png")
    print(result)
    print(f"The agent is {folder / 'final.zip'}.")
    return agent, demonstrations


_NOT_IDENTITY = ("name", "folder", "total_timesteps", "device", "checkpoint_interval")
"""What may differ when a run goes on."""


def _folder(kind: str, env: str, seed: int) -> Path:
    name = env.split("/")[-1]
    if kind == "expert":
        name = name.rsplit("-", 1)[0]
    return Path("runs") / f"{kind}-{name}-seed{seed}"
