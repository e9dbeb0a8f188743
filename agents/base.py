"""What all agents share: the environment, the learning loop, acting, and archives.

    Learner            environment, device, seed, logger, save and load
      OfflineLearner   learn(demonstrations): one gradient update is one timestep
      OnlineLearner    learn(total_timesteps): one agent step is one timestep

An agent is one of the learners and an `agents.actor.Actor`. Its constructor calls the base's, makes
its networks openly, and keeps its own arguments in ``arguments``; ``parts`` names what of it has
state. Saving, loading and resuming follow from these two. Interfaces, loggers and callbacks are
those of Stable-Baselines3.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import configure_logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from torch import Tensor
from tqdm.auto import tqdm

from agents.archive import Archive, no_more_than
from agents.checks import check_at_least, check_device
from agents.codec import decode_arguments, encode_arguments
from agents.parts import (
    Parts,
    cast,
    find_parts,
    restore_state,
    restore_weights,
    state_of,
    weights_of,
)
from agents.running import STEP, Divergence, Metrics, RunningMeans, check_finite
from agents.spaces import EnvInfo, Environment, to_vec_env
from aime_gym.catalogue import find_model
from aime_gym.datasets import Dataset
from aime_gym.foreign import blame
from aime_gym.wrappers import check_unchanged

MaybeCallback = (
    None | BaseCallback | list[BaseCallback] | Callable[[dict[str, Any], dict[str, Any]], bool]
)


class Learner(ABC):
    """What learns in an environment, or from data of one.

    Args:
        env: An id, environment or VecEnv.
        seed: Seed of the networks, the sampling of data, and all noise.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        verbose: 1 prints the logged values.
        tensorboard_log: Folder for TensorBoard; None for none.

    Attributes:
        env_info: What the learner knows of its environment.
        num_timesteps: Timesteps so far.
        default_timesteps: Timesteps of `learn` where none are given.
        arguments: What a subclass's constructor takes besides these, as plain values and
            dataclasses of such: what makes the same learner again.
        parts: Names of the attributes that have state, see `agents.parts`.
    """

    parts: ClassVar[tuple[str, ...]]
    default_timesteps: ClassVar[int] = 50_000
    _takes_wrappers: ClassVar[bool] = True  # Those that change values.
    _common_parts: ClassVar[tuple[str, ...]] = ("generator", "acting_generator", "running")

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
            if not self._takes_wrappers:
                check_unchanged(self.env_info.wrappers, f"this {type(self).__name__}")
        self.arguments: Mapping[str, Any] = {}
        self.seed = seed
        self.device = check_device(device)
        self.verbose = verbose
        self.tensorboard_log = tensorboard_log
        self.num_timesteps = 0
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.acting_generator = torch.Generator(self.device).manual_seed(seed + 1)
        self.running = RunningMeans()
        self.divergence = Divergence()
        self._logger: Logger | None = None
        self._custom_logger = False

    def __repr__(self) -> str:
        """One line: what it is, where, and how far it came."""
        return (
            f"{type(self).__name__}({self.env_info}, {self.num_timesteps:,} timesteps, "
            f"seed {self.seed}, on {self.device})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """For `copy.deepcopy` and `pickle`: all but loggers, which write to open files."""
        of_a_call = {"_callbacks"}  # Of the last `learn`, with all that it was called from.
        kept = {name: value for name, value in vars(self).items() if name not in of_a_call}
        return {**kept, "_logger": None, "_custom_logger": False}

    @contextmanager
    def initialization(self) -> Iterator[None]:
        """Networks made inside this block are drawn from the learner's seed.

        PyTorch's global generator is left as it was.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            yield

    def noise(self, *shape: int) -> Tensor:
        """Standard normal noise for learning, from the learner's own generator."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def acting_noise(self, *shape: int) -> Tensor:
        """Standard normal noise for everything but learning, which it leaves unchanged."""
        return torch.randn(shape, generator=self.acting_generator, device=self.device)

    # The learning loop

    def _start(
        self,
        callback: MaybeCallback,
        log_interval: int,
        tb_log_name: str | None,
        reset_num_timesteps: bool,
    ) -> BaseCallback:
        """Resets the counters where that is asked for, and prepares logger and callbacks."""
        check_at_least(1, log_interval=log_interval)
        if reset_num_timesteps:
            self.num_timesteps = 0
            self.running = RunningMeans()
        if not self._custom_logger:
            name = tb_log_name or type(self).__name__
            self._logger = configure_logger(
                self.verbose, self.tensorboard_log, name, reset_num_timesteps
            )
        if callback is None:
            callback = []
        if isinstance(callback, list):
            callback = CallbackList(callback)
        if not isinstance(callback, BaseCallback):
            callback = ConvertCallback(callback)
        callback.init_callback(self)  # type: ignore[arg-type]
        return callback

    def _log(self) -> None:
        """Writes a row of the learning curve."""
        self.divergence.check()
        for name, value in self.running.pop().items():
            self.logger.record(f"train/{name}", value)
        self.logger.record(STEP, self.num_timesteps)
        self.logger.dump(self.num_timesteps)

    # What Stable-Baselines3's callbacks ask for

    @property
    def logger(self) -> Logger:
        """Where values are logged."""
        if self._logger is None:
            self._logger = configure_logger(self.verbose, None)
        return self._logger

    def set_logger(self, logger: Logger | None) -> None:
        """Replaces the logger, for every `learn` from now on; None for one of the learner's own."""
        self._logger, self._custom_logger = logger, logger is not None

    def get_env(self) -> VecEnv:
        """The environment, Monitor-wrapped; made anew where the learner was loaded without one.

        Raises:
            ValueError: It has no id under which it could be made, or is not what it was when the
                learner was made.
        """
        if self._env is None:
            self.set_env(self.env_info.make())
        assert self._env is not None
        return self._env

    def set_env(self, env: Environment) -> None:
        """Replaces the environment.

        Raises:
            ValueError: It has other sensors, actions, wrappers or another action repeat.
        """
        vec_env = to_vec_env(env)
        info = self.env_info.adapted_to(EnvInfo.of(vec_env), f"This {type(self).__name__}")
        self._env, self.env_info = vec_env, info

    def get_vec_normalize_env(self) -> VecNormalize | None:
        """The environment's `VecNormalize` wrapper, if it has one."""
        return unwrap_vec_normalize(self.get_env())

    # Archives

    def save(self, path: str | os.PathLike[str], compact: bool = False) -> None:
        """Writes one zip archive, whole or not at all.

        Args:
            path: Where to; ``.zip`` is added where it has no ending.
            compact: Single precision becomes half, and the tensors that are needed to go on
                learning are left out.

        Raises:
            DivergedError: Weights are no finite numbers; what was there stays as it was.
        """
        self.divergence.check()
        weights, (counters, training) = weights_of(self._parts), state_of(self._parts)
        check_finite(weights)
        if compact:
            weights, training = cast(weights, torch.float32, torch.float16), {}
        counters = {"num_timesteps": self.num_timesteps, **counters}
        if training:
            counters["device_type"] = self.device.type
        arguments = encode_arguments(type(self).__init__, self.arguments)
        kind, env = type(self).__name__, self.env_info.to_json()
        Archive(kind, env, self.seed, arguments, weights, counters, training).write(path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: Environment | None = None,
        device: torch.device | str = "auto",
    ) -> Self:
        """Loads what `save` wrote.

        Args:
            path: A name of `agents.list_models()`, an archive, a run folder, or, for `WorldModel`
                and `AIMEAgent`, a folder that was published with AIME.
            env: An environment to use; None to make the learner's own when it is asked for.
            device: Where to put it.

        Raises:
            FileNotFoundError: There is no such name or file; the message lists what there is.
            ValueError: It is truncated, of another kind, or the environment does not fit.
        """
        device = check_device(device)
        source = find_model(path)
        if source.is_dir():
            return cls._load_published(source, env, device)
        archive = Archive.read(source, cls.__name__)
        with blame(source, "damaged, or of another version"), no_more_than(archive):
            arguments = decode_arguments(cls.__init__, archive.arguments)
            info = EnvInfo.from_json(archive.env)
            learner = cls(info, **arguments, seed=archive.seed, device=device)
            learner._restore(archive, os.fspath(source))
        if env is not None:
            learner.set_env(env)
        return learner

    @classmethod
    def _load_published(
        cls, folder: Path, env: Environment | None, device: torch.device | str
    ) -> Self:
        """Loads what was published with AIME, for the kinds of learner that were."""
        raise ValueError(f"{folder} was published with AIME, and holds no {cls.__name__}.")

    def loaded(self, path: str | os.PathLike[str]) -> Self:
        """A learner of this kind from an archive, in this one's environment and on its device.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is truncated, of another kind, or the environment does not fit.
        """
        return type(self).load(path, self._env, self.device)

    @property
    def _parts(self) -> Parts:
        """Everything that has state, by name."""
        return find_parts(self, (*self._common_parts, *self.parts))

    def _restore(self, archive: Archive, source: str) -> None:
        weights = cast(archive.weights, torch.float16, torch.float32)
        restore_weights(self._parts, weights, source)
        self.num_timesteps = archive.counters.get("num_timesteps", 0)
        training = archive.training
        if archive.counters.get("device_type", self.device.type) != self.device.type:
            training = {n: t for n, t in training.items() if not n.endswith("generator.state")}
            self.generator.manual_seed(self.seed + self.num_timesteps)
            self.acting_generator.manual_seed(self.seed + self.num_timesteps + 1)
        restore_state(self._parts, archive.counters, training, self.device)


class OfflineLearner(Learner):
    """Learns from a dataset by gradient updates; one timestep is one update."""

    _takes_wrappers = False  # Data are recorded without those that change values.

    @abstractmethod
    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        """Checks a dataset and brings it to the device; errors come here, before long work.

        With `reset`, learning begins anew; without, it goes on.
        """

    @abstractmethod
    def _update(self) -> Metrics:
        """Makes one gradient update."""

    @property
    def finished(self) -> bool:
        """Whether learning has come to its own end."""
        return False

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
            total_timesteps: Updates to make; None for the learner's default.
            callback: Stable-Baselines3 callbacks.
            log_interval: Updates between logged values, which are means over these.
            tb_log_name: Name of the run in TensorBoard; None for the class name.
            reset_num_timesteps: False goes on counting, with `total_timesteps` more updates.
            progress_bar: Show one, also while images are drawn.

        Raises:
            TypeError: There is no dataset.
            ValueError: The dataset does not fit; the message says what would.
        """
        loop = self.updates(
            demonstrations,
            total_timesteps,
            callback,
            log_interval,
            tb_log_name,
            reset_num_timesteps,
            progress_bar,
        )
        for _ in loop:
            loop.send(self._update())
        return self

    def updates(
        self,
        demonstrations: Dataset,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Generator[None, Metrics | None, None]:
        """What `learn` does around its updates, for whoever makes these.

        Everything is checked and prepared before the first one.

        Yields:
            Where an update is due; then it takes its metrics, by `send`, and yields once more.
        """
        if not isinstance(demonstrations, Dataset):
            raise TypeError(
                "learn(demonstrations, total_timesteps) takes a dataset first, such as "
                f"aime_gym.load_dataset gives, not {type(demonstrations).__name__}."
            )
        self._prepare(demonstrations, reset_num_timesteps, progress_bar)
        if total_timesteps is None:
            total_timesteps = self.default_timesteps
        callbacks = self._start(callback, log_interval, tb_log_name, reset_num_timesteps)
        first = self.num_timesteps
        total_timesteps += first
        callbacks.on_training_start(locals(), globals())
        bar = tqdm(total=total_timesteps, initial=first, disable=not progress_bar, unit="update")
        going_on = True
        while going_on and self.num_timesteps < total_timesteps and not self.finished:
            metrics = yield
            assert metrics is not None
            self.divergence.watch(metrics, self.num_timesteps + 1)
            self.num_timesteps += 1
            self.running.add(metrics)
            if self.num_timesteps % log_interval == 0:
                self._log()
            bar.update()
            callbacks.update_locals(locals())
            going_on = callbacks.on_step()
            yield
        bar.close()
        callbacks.on_training_end()


@dataclass
class Rounds:
    """How often an online learner has collected and trained.

    Attributes:
        count: Rounds that are done.
    """

    count: int = 0


class OnlineLearner(Learner):
    """Learns by acting; one timestep is one agent step in one environment.

    Learning alternates between `_collect`, which acts with `step_env`, and `_train`. Every call of
    `reset_env` is seeded with the learner's seed and the timesteps so far, so that a learner whose
    rounds begin with it, and that was saved between two of them, goes on exactly as if it had not
    been. Callbacks are told of a round's start, when it may be saved, by `on_rollout_start`.

    An agent has `_collect` and `_train`, or a loop of its own in `_learn`.
    """

    default_timesteps: ClassVar[int] = 100_000
    _common_parts: ClassVar[tuple[str, ...]] = (*Learner._common_parts, "rounds")

    def __init__(self, env: Environment | EnvInfo, **common: Any) -> None:
        super().__init__(env, **common)
        self.rounds = Rounds()

    @property
    def num_episodes(self) -> int:
        """Episodes that have ended so far, for learners whose episodes are recorded."""
        raise NotImplementedError(f"{type(self).__name__} does not count its episodes.")

    def _collect(self) -> None:
        """Acts for a while, by `reset_env` and `step_env`; ends early where `stopped` is set."""
        raise NotImplementedError(f"{type(self).__name__} has neither _collect nor _learn.")

    def _train(self) -> Metrics:
        """Learns from what was collected; returns metrics, or nothing where there are none."""
        raise NotImplementedError(f"{type(self).__name__} has neither _train nor _learn.")

    def learn(
        self,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learns by acting in the environment.

        Args:
            total_timesteps: Agent steps to take, at least; None for the learner's default.
            callback: Stable-Baselines3 callbacks.
            log_interval: Rounds of collecting and training between logged values, which are means
                over these.
            tb_log_name: Name of the run in TensorBoard; None for the class name.
            reset_num_timesteps: False goes on counting, with `total_timesteps` more steps.
            progress_bar: Show one.
        """
        if total_timesteps is None:
            total_timesteps = self.default_timesteps
        if reset_num_timesteps:
            self.rounds = Rounds()
        self._callbacks = self._start(callback, log_interval, tb_log_name, reset_num_timesteps)
        first = self.num_timesteps
        total_timesteps += first
        self.stopped = False
        self._callbacks.on_training_start(locals(), globals())
        with tqdm(
            total=total_timesteps, initial=first, disable=not progress_bar, unit="step"
        ) as bar:
            self._learn(total_timesteps, log_interval, reset_num_timesteps, bar)
        self._callbacks.on_training_end()
        return self

    def _learn(self, total_timesteps: int, log_interval: int, reset: bool, bar: tqdm[Any]) -> None:
        """Collects and trains until there are so many timesteps in all."""
        while self.num_timesteps < total_timesteps and not self.stopped:
            self._callbacks.on_rollout_start()
            self._collect()
            self._callbacks.on_rollout_end()
            metrics = self._train()
            self.divergence.watch(metrics, self.rounds.count + 1, "round")
            self.running.add(metrics)
            self.rounds.count += 1
            if self.rounds.count % log_interval == 0:
                self._log()
            bar.update(self.num_timesteps - bar.n)

    def reset_env(self) -> NDArray[Any]:
        """Starts episodes in all environments -> their first observations [N, ..]."""
        env = self.get_env()
        env.seed(self.seed + self.num_timesteps)
        observation = env.reset()
        assert isinstance(observation, np.ndarray)
        return observation

    def step_env(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One agent step with actions [N, ..] in all environments.

        Returns:
            Observations [N, ..] (of the next episode, where one ended), rewards [N], whether an
            episode ended [N], and infos, as Stable-Baselines3's VecEnv gives them.
        """
        observation, rewards, dones, infos = self.get_env().step(actions)
        self.num_timesteps += self.get_env().num_envs
        self._callbacks.update_locals(locals())
        self.stopped |= not self._callbacks.on_step()
        assert isinstance(observation, np.ndarray)
        return observation, rewards, dones, infos
