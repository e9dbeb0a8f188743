"""Experts by reinforcement learning: soft actor-critic on the sensors, from Stable-Baselines3.

Two algorithms share all of the plumbing:

- ``"sac"``: Stable-Baselines3's SAC, two layers of 256.
- ``"simba"``: SBX's SAC with residual blocks and layer norm (SimBa, Lee et al. 2024,
  arXiv:2410.09754); needs fewer steps, and ``pip install 'aime-gym[expert]'``.

Both see normalised observations. Every training episode can be recorded, from the first on: these
recordings are the embodiment data that world models learn from.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents.figures import plot_metric
from agents.logs import CURVE, STEP, make_logger
from aime_gym.datasets.recorder import RecordEpisodes, card_of_env
from aime_gym.datasets.storage import EpisodeWriter
from aime_gym.envs.setups import parse_env_id
from aime_gym.files import atomic_write

BEST, CHECKPOINT, PROGRESS = "best", "checkpoint", "checkpoint.json"
EVALUATION_SEED = 1_000_000  # Far from the training environment's seeds.
EVALUATION_EPISODES = 5


@dataclass(frozen=True)
class ExpertConfig:
    """How an expert is trained.

    Attributes:
        env_id: The environment.
        total_timesteps: Agent steps.
        algorithm: ``"sac"`` or ``"simba"``.
        seed: Of the networks, the environment and the exploration.
        batch_size: Transitions per update; there is one update a step.
        checkpoint_interval: Agent steps between checkpoints, taken where an episode ends.
        evaluation_interval: Agent steps between evaluations over 5 episodes.
    """

    env_id: str
    total_timesteps: int = 100_000
    algorithm: Literal["sac", "simba"] = "sac"
    seed: int = 0
    batch_size: int = 128
    checkpoint_interval: int = 10_000
    evaluation_interval: int = 5_000


class Expert:
    """A trained expert, for anything that calls Stable-Baselines3's `predict`."""

    def __init__(self, model: OffPolicyAlgorithm, normalizer: VecNormalize) -> None:
        self._model = model
        self._normalizer = normalizer
        self.observation_space = model.observation_space
        self.action_space = model.action_space

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Observations [n] or [B, n] -> actions [A] or [B, A]; the state is passed through."""
        normalized = self._normalizer.normalize_obs(np.asarray(observation))
        action, _ = self._model.predict(normalized, deterministic=deterministic)
        return action, state

    @classmethod
    def load(cls, folder: Path | str) -> Expert:
        """Loads the best model of a `train_expert` run.

        Raises:
            FileNotFoundError: The folder is no such run, or has no model yet.
        """
        folder = Path(folder)
        if not (folder / "config.json").exists() or not (folder / BEST / "model.zip").exists():
            raise FileNotFoundError(f"{folder} is no run of `aime-gym train expert` with a model.")
        config = _read_config(folder)
        return cls(
            *_load_model(folder / BEST, config, DummyVecEnv([lambda: gym.make(config.env_id)]))
        )


def train_expert(config: ExpertConfig, folder: Path, record: Path | None = None) -> Expert:
    """Trains an expert, or goes on from the folder's last checkpoint.

    Args:
        config: What to train, and how.
        folder: The run folder: configuration, learning curve, checkpoint and best model.
        record: Where to write every training episode; None for nowhere.

    Returns:
        The best model, by the mean return of the evaluations.

    Raises:
        ModuleNotFoundError: The algorithm's package is missing; the message says what to install.
        ValueError: There is no such environment, or the folder has a run of another configuration.
    """
    parse_env_id(config.env_id)
    algorithm = _algorithm(config)
    _claim(folder, config)
    progress = _read_progress(folder)
    writer = None
    if record is not None:
        card = card_of_env(
            config.env_id,
            name=f"{config.env_id.split('/')[1].rsplit('-', 1)[0]}-training",
            description=f"All training episodes of a {config.algorithm} expert, in order.",
            command=_command(config, record),
            seed=config.seed,
        )
        writer = EpisodeWriter(record, card, keep=progress["episodes"])
    env = _training_env(config, writer, progress["step"])
    if progress["step"]:
        model, normalizer = _load_model(_checkpoint(folder, progress), config, env)
        normalizer.training = True
        model.set_random_seed(config.seed + progress["step"])  # Not the first steps' noise again.
        model.load_replay_buffer(_checkpoint(folder, progress) / "replay.pkl")
    else:
        normalizer = VecNormalize(env, norm_reward=False)
        model = algorithm(env=normalizer, seed=config.seed, batch_size=config.batch_size)
    model.set_logger(make_logger(folder, resumed_at=progress["step"]))
    remaining = config.total_timesteps - model.num_timesteps
    if remaining > 0:
        model.learn(
            remaining,
            callback=_Keeper(config, folder, normalizer, progress["best_return"]),
            reset_num_timesteps=False,
        )
    if writer is not None:
        writer.finish()
    plot_metric(
        folder / CURVE,
        "eval/mean_reward",
        folder / "figures" / "learning_curve.png",
        "return",
        xlabel="agent steps",
        label=f"{EVALUATION_EPISODES} episodes",
    )
    return Expert.load(folder)


class _Keeper(BaseCallback):
    """Evaluates, keeps the best model, and checkpoints where an episode ends."""

    def __init__(
        self, config: ExpertConfig, folder: Path, normalizer: VecNormalize, best_return: float
    ) -> None:
        super().__init__()
        self._config, self._folder, self._normalizer = config, folder, normalizer
        self._best_return = best_return
        self._evaluation_env = DummyVecEnv([lambda: Monitor(gym.make(config.env_id))])
        self._episodes = 0

    def _on_training_start(self) -> None:
        self._evaluated_at = self._saved_at = self.num_timesteps
        self._episodes = _read_progress(self._folder)["episodes"]

    def _on_step(self) -> bool:
        if self.locals["dones"][0]:
            self._episodes += 1
            last = self.num_timesteps >= self._config.total_timesteps
            if last or self.num_timesteps - self._evaluated_at >= self._config.evaluation_interval:
                self._evaluate()
            if last or self.num_timesteps - self._saved_at >= self._config.checkpoint_interval:
                self._save()
        return True

    def _on_training_end(self) -> None:
        if self._evaluated_at < self.num_timesteps:
            self._evaluate()

    def _evaluate(self) -> None:
        assert isinstance(self.model, OffPolicyAlgorithm)
        self._evaluated_at = self.num_timesteps
        self._evaluation_env.seed(EVALUATION_SEED)
        mean, _ = evaluate_policy(
            Expert(self.model, self._normalizer), self._evaluation_env, EVALUATION_EPISODES
        )
        self.logger.record("eval/mean_reward", mean)
        self.logger.record(STEP, self.num_timesteps)
        self.logger.dump(self.num_timesteps)
        assert isinstance(mean, float)
        if mean > self._best_return:
            self._best_return = mean
            _save_model(self._folder / BEST, self.model, self._normalizer)

    def _save(self) -> None:
        assert isinstance(self.model, OffPolicyAlgorithm)
        self._saved_at = self.num_timesteps
        before = _read_progress(self._folder)
        progress = {
            "step": self.num_timesteps,
            "episodes": self._episodes,
            "best_return": self._best_return,
        }
        target = _checkpoint(self._folder, progress)
        _save_model(target, self.model, self._normalizer)
        self.model.save_replay_buffer(target / "replay.pkl")
        with atomic_write(self._folder / PROGRESS, "w") as file:
            json.dump(progress, file)
        if before["step"]:
            shutil.rmtree(_checkpoint(self._folder, before), ignore_errors=True)


def _command(config: ExpertConfig, record: Path) -> str:
    """The shell command that makes the recordings."""
    return (
        f"aime-gym train expert --env {config.env_id} --algorithm {config.algorithm} "
        f"--seed {config.seed} --total-timesteps {config.total_timesteps} "
        f"--record {shlex.quote(os.fspath(record))}"
    )


def _algorithm(config: ExpertConfig) -> Any:
    """The model's constructor, given env, seed and batch_size."""
    if config.algorithm == "sac":
        return lambda **kwargs: SAC("MlpPolicy", learning_starts=1_000, **kwargs)
    sbx = _import_sbx()
    net_arch = {"pi": [128], "qf": [128]}
    return lambda **kwargs: sbx.SAC(
        "SimbaPolicy", learning_starts=1_000, policy_kwargs={"net_arch": net_arch}, **kwargs
    )


def _import_sbx() -> Any:
    try:
        import sbx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The simba algorithm needs SBX: pip install 'aime-gym[expert]', or choose "
            "--algorithm sac."
        ) from error
    return sbx


def _training_env(
    config: ExpertConfig, writer: EpisodeWriter | None, first_step: int
) -> DummyVecEnv:
    def make() -> gym.Env[Any, Any]:
        env: gym.Env[Any, Any] = gym.make(config.env_id)
        if writer is not None:
            env = RecordEpisodes(env, writer.append, first_step)
        return Monitor(env)

    env = DummyVecEnv([make])
    env.seed(config.seed + first_step)
    return env


def _claim(folder: Path, config: ExpertConfig) -> None:
    """Writes the configuration, or a ValueError where the folder has models of another run."""
    path = folder / "config.json"
    trained = (folder / PROGRESS).exists() or (folder / BEST / "model.zip").exists()
    if trained and path.exists():
        before = _read_config(folder)
        if replace(before, total_timesteps=config.total_timesteps) != config:
            raise ValueError(f"{folder} has another run, {before}; choose another folder.")
    with atomic_write(path, "w") as file:
        json.dump(asdict(config), file, indent=1)


def _read_config(folder: Path) -> ExpertConfig:
    """The run's configuration, with the defaults of options that were added later."""
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return ExpertConfig(**{key: value for key, value in values.items() if value is not None})


def _read_progress(folder: Path) -> dict[str, Any]:
    path = folder / PROGRESS
    if not path.exists():
        return {"step": 0, "episodes": 0, "best_return": float("-inf")}
    progress: dict[str, Any] = json.loads(path.read_text())
    return progress


def _checkpoint(folder: Path, progress: dict[str, Any]) -> Path:
    return folder / f"{CHECKPOINT}-{progress['step']}"


def _save_model(folder: Path, model: OffPolicyAlgorithm, normalizer: VecNormalize) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "new-model.zip")
    normalizer.save(str(folder / "new-normalizer.pkl"))
    for name in ("model.zip", "normalizer.pkl"):
        os.replace(folder / f"new-{name}", folder / name)


def _load_model(
    folder: Path, config: ExpertConfig, env: DummyVecEnv
) -> tuple[OffPolicyAlgorithm, VecNormalize]:
    normalizer = VecNormalize.load(str(folder / "normalizer.pkl"), env)
    normalizer.training = False
    model_class = SAC if config.algorithm == "sac" else _import_sbx().SAC
    return model_class.load(folder / "model.zip", env=normalizer), normalizer
