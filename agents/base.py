"""What all agents share: the environment, the learning loop, acting, and archives.

A `Learner` learns offline, from a dataset: one gradient update is one timestep. An `Agent` is a
learner that acts, with Stable-Baselines3's `predict`. Their interface is Stable-Baselines3's, and
so are loggers and callbacks.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import configure_logger, get_device
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from torch import Tensor, nn
from tqdm.auto import tqdm

from agents.archive import (
    Archive,
    load_optimizer_tensors,
    load_weights,
    optimizer_tensors,
    with_prefix,
    without_prefix,
)
from agents.env_info import EnvInfo, Environment, to_vec_env
from agents.logs import STEP
from aime_gym.datasets import Dataset

MaybeCallback = (
    None | BaseCallback | list[BaseCallback] | Callable[[dict[str, Any], dict[str, Any]], bool]
)
Metrics = dict[str, Tensor]
State = tuple[NDArray[Any], ...]


class Learner(ABC):
    """Learns from a dataset by gradient updates.

    Args:
        env: An AIME id, environment or VecEnv.
        seed: Of the networks, the sampling of data, and all noise.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        verbose: 1 prints the logged values.
        tensorboard_log: Folder for TensorBoard; None for none.

    Attributes:
        env_info: What the learner knows of its environment.
        num_timesteps: Gradient updates so far.
    """

    default_timesteps: ClassVar[int] = 50_000

    def __init__(
        self,
        env: Environment | EnvInfo,
        *,
        seed: int = 0,
        device: torch.device | str = "auto",
        verbose: int = 0,
        tensorboard_log: str | None = None,
    ) -> None:
        self._env: VecEnv | None = None
        if isinstance(env, EnvInfo):
            self.env_info = env
        else:
            self._env = to_vec_env(env)
            self.env_info = EnvInfo.of(self._env)
        self.seed = seed
        self.device = get_device(device)
        self.verbose = verbose
        self.tensorboard_log = tensorboard_log
        self.num_timesteps = 0
        self._logger: Logger | None = None
        self._custom_logger = False
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._acting_generator = torch.Generator(self.device).manual_seed(seed + 1)
        self._running: dict[str, Tensor] = {}
        self._running_count = 0
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._networks = self._build().to(self.device)
        self._optimizer = self._make_optimizer()

    # What a learner defines

    @abstractmethod
    def _build(self) -> nn.Module:
        """Makes the networks that are saved."""

    @abstractmethod
    def _make_optimizer(self) -> torch.optim.Optimizer:
        """Makes the optimiser of those that are trained."""

    @abstractmethod
    def _prepare(self, dataset: Dataset, progress_bar: bool) -> None:
        """Checks a dataset and brings it to the device; errors come here, before long work."""

    @abstractmethod
    def _update(self) -> Metrics:
        """One gradient update."""

    @abstractmethod
    def _config(self) -> dict[str, Any]:
        """Keyword arguments, as plain values, that make this learner again."""

    @classmethod
    @abstractmethod
    def _from_config(cls, config: dict[str, Any], **common: Any) -> Self:
        """The inverse of `_config`."""

    def _begin(self, reset: bool) -> None:  # noqa: B027
        """Starts to learn from what `_prepare` brought, anew or going on."""

    def _finished(self) -> bool:
        """Whether learning has come to its own end."""
        return False

    def _counters(self) -> dict[str, Any]:
        """Plain values of the training which are not in the networks."""
        return {}

    def _training_tensors(self) -> dict[str, Tensor]:
        """Tensors of the training which are not in the networks."""
        return {}

    def _restore_training(  # noqa: B027
        self, counters: dict[str, Any], tensors: Mapping[str, Tensor]
    ) -> None:
        """The inverse of `_counters` and `_training_tensors`."""

    # Learning

    def learn(
        self,
        demonstrations: Dataset,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learns from a dataset; one timestep is one gradient update.

        Args:
            demonstrations: What to learn from.
            total_timesteps: Updates to make; None for the paper's number.
            callback: Stable-Baselines3 callbacks.
            log_interval: Updates between logged values, which are means over these.
            tb_log_name: Name of the run in TensorBoard; None for the class name.
            reset_num_timesteps: False goes on counting, with `total_timesteps` more updates.
            progress_bar: Show one, also while images are drawn.

        Raises:
            TypeError: There is no dataset.
            ValueError: The dataset does not fit; the message says what would.
        """
        if not isinstance(demonstrations, Dataset):
            raise TypeError(
                "learn(demonstrations, total_timesteps) takes a dataset first, such as "
                f"aime_gym.load_dataset gives, not {type(demonstrations).__name__}."
            )
        self._prepare(demonstrations, progress_bar)
        if total_timesteps is None:
            total_timesteps = self.default_timesteps
        if reset_num_timesteps:
            self.num_timesteps = 0
            self._running, self._running_count = {}, 0
        self._begin(reset_num_timesteps)
        first = self.num_timesteps
        total_timesteps += first
        self._set_up_logger(tb_log_name or type(self).__name__, reset_num_timesteps)
        callbacks = self._init_callback(callback)
        callbacks.on_training_start(locals(), globals())
        bar = tqdm(total=total_timesteps, initial=first, disable=not progress_bar, unit="update")
        going_on = True
        while going_on and self.num_timesteps < total_timesteps and not self._finished():
            metrics = self._update()
            self.num_timesteps += 1
            self._note(metrics)
            if self.num_timesteps % log_interval == 0:
                self._log()
            bar.update()
            callbacks.update_locals(locals())
            going_on = callbacks.on_step()
        bar.close()
        callbacks.on_training_end()
        return self

    def _noise(self, *shape: int) -> Tensor:
        """Standard normal noise for all but learning, which it leaves as it is."""
        return torch.randn(shape, generator=self._acting_generator, device=self.device)

    def _note(self, metrics: Metrics) -> None:
        """Sums metrics on the device, so that updates do not wait for each other."""
        for name, value in metrics.items():
            self._running[name] = self._running[name] + value if name in self._running else value
        self._running_count += 1

    def _log(self) -> None:
        for name, value in self._running.items():
            self.logger.record(f"train/{name}", float(value) / self._running_count)
        self.logger.record(STEP, self.num_timesteps)
        self.logger.dump(self.num_timesteps)
        self._running, self._running_count = {}, 0

    def _set_up_logger(self, name: str, reset: bool) -> None:
        if not self._custom_logger:
            self._logger = configure_logger(self.verbose, self.tensorboard_log, name, reset)

    def _init_callback(self, callback: MaybeCallback) -> BaseCallback:
        if callback is None:
            callback = []
        if isinstance(callback, list):
            callback = CallbackList(callback)
        if not isinstance(callback, BaseCallback):
            callback = ConvertCallback(callback)
        callback.init_callback(self)  # type: ignore[arg-type]
        return callback

    # What Stable-Baselines3's callbacks ask for

    @property
    def logger(self) -> Logger:
        """Where values are logged."""
        if self._logger is None:
            self._logger = configure_logger(self.verbose, None)
        return self._logger

    def set_logger(self, logger: Logger) -> None:
        """Replaces the logger, for every `learn` from now on."""
        self._logger, self._custom_logger = logger, True

    def get_env(self) -> VecEnv:
        """The environment, Monitor-wrapped; made anew where the learner was loaded without one."""
        if self._env is None:
            self._env = to_vec_env(self.env_info.env_id)
        return self._env

    def set_env(self, env: Environment) -> None:
        """Replaces the environment.

        Raises:
            ValueError: It has other sensors or actions.
        """
        vec_env = to_vec_env(env)
        info = EnvInfo.of(vec_env)
        if (info.layout, info.places) != (self.env_info.layout, self.env_info.places):
            raise ValueError(
                f"{info.env_id} does not fit a learner made for {self.env_info.env_id}."
            )
        self._env, self.env_info = vec_env, info

    def get_vec_normalize_env(self) -> VecNormalize | None:
        """The environment's `VecNormalize` wrapper, if it has one."""
        return unwrap_vec_normalize(self.get_env())

    # Archives

    def save(self, path: str | os.PathLike[str], compact: bool = False) -> None:
        """Writes one zip archive, whole or not at all.

        Args:
            path: Where to; ``.zip`` is added where it has no ending.
            compact: Half precision and without what is needed to go on learning.
        """
        archive = Archive(
            type(self).__name__,
            {"env": self.env_info.to_json(), "seed": self.seed, **self._config()},
            dict(self._networks.state_dict()),
        )
        if compact:
            archive.weights = {name: weight.half() for name, weight in archive.weights.items()}
        else:
            archive.counters = {
                "num_timesteps": self.num_timesteps,
                "running_count": self._running_count,
                "device_type": self.device.type,
                **self._counters(),
            }
            archive.training = {
                "generator": self._generator.get_state(),
                "acting_generator": self._acting_generator.get_state(),
                **with_prefix("optimizer", optimizer_tensors(self._optimizer)),
                **with_prefix("running", self._running),
                **self._training_tensors(),
            }
        archive.write(path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: Environment | None = None,
        device: torch.device | str = "auto",
    ) -> Self:
        """Reads an archive.

        Args:
            path: What `save` wrote.
            env: An environment to use; None to make the learner's own when it is asked for.
            device: Where to put it.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is truncated or foreign, or the environment does not fit.
        """
        archive = Archive.read(path, cls.__name__)
        config = dict(archive.config)
        info, seed = EnvInfo.from_json(config.pop("env")), config.pop("seed")
        learner = cls._from_config(config, env=info, seed=seed, device=device)
        weights = {name: w.float() for name, w in archive.weights.items()}
        load_weights(learner._networks, weights, str(path))
        if archive.counters:
            learner._resume(archive)
        if env is not None:
            learner.set_env(env)
        return learner

    def _resume(self, archive: Archive) -> None:
        self.num_timesteps = archive.counters["num_timesteps"]
        self._running_count = archive.counters["running_count"]
        running = without_prefix("running", archive.training)
        self._running = {name: value.to(self.device) for name, value in running.items()}
        self._resume_generators(archive)
        load_optimizer_tensors(self._optimizer, without_prefix("optimizer", archive.training))
        self._restore_training(archive.counters, archive.training)

    def _resume_generators(self, archive: Archive) -> None:
        """Sets the generators' states, or seeds anew where these are of another kind of device."""
        if archive.counters.get("device_type", self.device.type) == self.device.type:
            self._generator.set_state(archive.training["generator"])
            if "acting_generator" in archive.training:
                self._acting_generator.set_state(archive.training["acting_generator"])
        else:
            self._generator.manual_seed(self.seed + self.num_timesteps)
            self._acting_generator.manual_seed(self.seed + self.num_timesteps + 1)


class Agent(Learner):
    """A learner that acts."""

    def __init__(self, env: Environment | EnvInfo, **common: Any) -> None:
        super().__init__(env, **common)
        self.observation_space = self.env_info.observation_space
        self.action_space = self.env_info.action_space

    @abstractmethod
    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """The recurrent state at an episode's start, [B, ..] each; empty without one."""

    @abstractmethod
    def _act(
        self,
        observations: dict[str, Tensor],
        state: tuple[Tensor, ...],
        deterministic: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Sensor -> [B, ..], state [B, ..] -> actions in -1 .. 1 [B, A], next state."""

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], State | None]:
        """Acts, as Stable-Baselines3's policies do.

        Args:
            observation: One or a batch, of the environment's space; images channel last or first.
            state: What the previous call returned; None at the start. It is not changed.
            episode_start: Rows that start anew [B].
            deterministic: Without random choices.

        Returns:
            Actions [A] or [B, A] within the limits, and the recurrent state, batch first.

        Raises:
            ValueError: The observation has another shape, or is the tuple that `reset` returns.
        """
        batch, single = self._as_batch(observation)
        fresh = self._initial_state(len(batch))
        if state is not None and fresh:
            starts = np.zeros(len(batch)) if episode_start is None else episode_start
            restarted = torch.as_tensor(np.asarray(starts, dtype=bool), device=self.device)
            fresh = self._restart(state, fresh, restarted)
        observations = self.env_info.split(batch, self.device)
        with torch.no_grad():
            actions, held = self._act(observations, fresh, deterministic)
            actions = self.env_info.from_unit(actions)
        low, high = self.action_space.low, self.action_space.high
        clipped = np.clip(actions.cpu().numpy(), low, high)
        new_state = tuple(part.cpu().numpy() for part in held) if held else state
        return (clipped[0] if single else clipped), new_state

    def _restart(
        self, state: State, fresh: tuple[Tensor, ...], starts: Tensor
    ) -> tuple[Tensor, ...]:
        """The state, with a fresh one in the rows that start [B]."""
        shapes, needed = [np.shape(part) for part in state], [tuple(part.shape) for part in fresh]
        if shapes != needed:
            raise ValueError(
                f"The state has arrays of shapes {shapes}; needed for {len(starts)} observations "
                f"are {needed}."
            )
        return tuple(
            torch.where(
                starts.reshape(-1, *[1] * (new.ndim - 1)),
                new,
                torch.as_tensor(old, device=self.device),
            )
            for new, old in zip(fresh, state, strict=True)
        )

    def _as_batch(self, observation: Any) -> tuple[NDArray[Any], bool]:
        if isinstance(observation, tuple):
            raise ValueError(
                "predict takes an observation, not the tuple (observation, info) that "
                "env.reset() returns."
            )
        observation = np.asarray(observation)
        shape = self.observation_space.shape
        single = observation.ndim == len(shape)
        batch = observation[None] if single else observation
        if len(shape) == 3 and batch.shape[1:] == (shape[2], *shape[:2]):
            batch = np.moveaxis(batch, 1, -1)
        if batch.shape[1:] != shape:
            raise ValueError(
                f"An observation of {self.env_info.env_id} has shape {shape}, or [B, *{shape}]; "
                f"got {observation.shape}."
            )
        return batch, single
