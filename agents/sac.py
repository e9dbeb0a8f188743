"""Experts: soft actor-critic on the sensors, by Stable-Baselines3 or SBX.

    max over the policy of  E sum_t gamma^t [ r_t + alpha H(policy(. | o_t)) ]

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905. Learning is
left to the libraries as they are:

- ``"sac"``: Stable-Baselines3's SAC, two layers of 256.
- ``"simba"``: SBX's SAC with residual blocks and layer norm (SimBa, Lee et al. 2024,
  arXiv:2410.09754), which needs fewer steps; ``pip install 'aime-gym[expert]'``.

Both see normalised observations. What acts is a copy of the policy in PyTorch, so that a trained
expert needs neither library. Shapes: B batch, n size of the observation, A action.
"""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn
from tqdm.auto import tqdm

from agents.actor import Actor
from agents.base import MaybeCallback, OnlineLearner
from agents.checks import check_at_least, check_numbers
from agents.distributions import Normal
from agents.parts import restore_state, restore_weights, state_of, weights_of
from agents.spaces import EnvInfo, Environment
from aime_gym.ids import did_you_mean

CLIP, EPSILON = 10.0, 1e-8  # Of normalised observations; added to their variances.
MIN_LOG_STD, MAX_LOG_STD = -20.0, 2.0
SIMBA_EXPANSION = 4  # Width inside a residual block, in widths of the network.
FLAX_LAYER_NORM_EPS = 1e-6
WIDTHS = {"sac": 256, "simba": 128}


@dataclass(frozen=True)
class SACConfig:
    """Settings of an expert's training.

    Attributes:
        algorithm: Stable-Baselines3's SAC, or SBX's with SimBa networks.
        batch_size: Transitions per gradient update; there is one update per agent step.
        learning_starts: Agent steps before the first update.
        hidden_dim: Width of all networks; None for 256 with sac and 128 with simba.
        first_actions: What acts before the first update: random actions, or the policy, of an
            expert that starts from another's networks; None for random.

    Raises:
        ValueError: There is no such algorithm, no such first action, or a number is out of range.
    """

    algorithm: Literal["sac", "simba"] = "sac"
    batch_size: int = 128
    learning_starts: int = 1_000
    hidden_dim: int | None = None
    first_actions: Literal["random", "policy"] | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(1, batch_size=self.batch_size, hidden_dim=self.hidden_dim)
        check_at_least(0, learning_starts=self.learning_starts)
        if self.algorithm not in WIDTHS:
            raise ValueError(
                f"There is no algorithm {self.algorithm!r}: "
                f"{did_you_mean(self.algorithm, WIDTHS)}there are {' and '.join(WIDTHS)}."
            )
        if self.first_actions not in (None, "random", "policy"):
            raise ValueError(
                f"first_actions are 'random' or those of the 'policy'; got {self.first_actions!r}."
            )

    @property
    def width(self) -> int:
        """Width of all networks."""
        return self.hidden_dim or WIDTHS[self.algorithm]


# Networks: what acts


class Normalizer(nn.Module):
    """Observations in standard deviations from the mean, clipped, as `VecNormalize` gives them.

    The statistics are in double precision, which compact archives keep.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        start = RunningMeanStd(shape=(size,))
        self.register_buffer("mean", torch.as_tensor(start.mean))
        self.register_buffer("var", torch.as_tensor(start.var))
        self.register_buffer("count", torch.tensor(start.count, dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        """[B, n] -> float32 [B, n]."""
        scaled = (observations - self.mean) / (self.var + EPSILON).sqrt()
        return scaled.clamp(-CLIP, CLIP).float()

    def copy_from(self, statistics: RunningMeanStd) -> None:
        """Takes over the statistics of a `VecNormalize`."""
        for name in ("mean", "var", "count"):
            value = torch.as_tensor(getattr(statistics, name), dtype=torch.float64)
            getattr(self, name).copy_(value)

    def copy_to(self, statistics: RunningMeanStd) -> None:
        """Hands the statistics over to a `VecNormalize`."""
        statistics.mean = self.mean.cpu().numpy().copy()
        statistics.var = self.var.cpu().numpy().copy()
        statistics.count = float(self.count)


class MLPActor(nn.Module):
    """Two hidden layers with ReLU: [B, n] -> normal beneath a tanh over [B, A].

    Submodules are named as in Stable-Baselines3's actor, so that its weights load as they are.
    """

    def __init__(self, in_dim: int, out_dim: int, width: int) -> None:
        super().__init__()
        layers = [nn.Linear(in_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        self.latent_pi = nn.Sequential(*layers)
        self.mu = nn.Linear(width, out_dim)
        self.log_std = nn.Linear(width, out_dim)

    def forward(self, observations: Tensor) -> Normal:
        """Normalised observations [B, n] -> normal over [B, A]."""
        hidden = self.latent_pi(observations)
        return Normal(self.mu(hidden), _std(self.log_std(hidden)))


class SimbaActor(nn.Module):
    """One residual block between two layer norms: [B, n] -> normal beneath a tanh over [B, A]."""

    def __init__(self, in_dim: int, out_dim: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(in_dim, width)
        self.block_norm = nn.LayerNorm(width, eps=FLAX_LAYER_NORM_EPS)
        self.expand = nn.Linear(width, SIMBA_EXPANSION * width)
        self.contract = nn.Linear(SIMBA_EXPANSION * width, width)
        self.norm = nn.LayerNorm(width, eps=FLAX_LAYER_NORM_EPS)
        self.mu = nn.Linear(width, out_dim)
        self.log_std = nn.Linear(width, out_dim)

    def forward(self, observations: Tensor) -> Normal:
        """Normalised observations [B, n] -> normal over [B, A]."""
        stream = self.embed(observations)
        stream = stream + self.contract(torch.relu(self.expand(self.block_norm(stream))))
        hidden = self.norm(stream)
        return Normal(self.mu(hidden), _std(self.log_std(hidden)))


ACTORS: dict[str, type[nn.Module]] = {"sac": MLPActor, "simba": SimbaActor}
_FLAX_LAYERS = {
    "embed": ("Dense_0",),
    "block_norm": ("SimbaResidualBlock_0", "LayerNorm_0"),
    "expand": ("SimbaResidualBlock_0", "Dense_0"),
    "contract": ("SimbaResidualBlock_0", "Dense_1"),
    "norm": ("LayerNorm_0",),
    "mu": ("Dense_1",),
    "log_std": ("Dense_2",),
}
"""Submodule of `SimbaActor` -> where SBX's actor has its parameters."""


def simba_weights(params: Mapping[str, Any]) -> dict[str, Tensor]:
    """The parameters of SBX's SimBa actor as the weights of a `SimbaActor`."""
    weights = dict[str, Tensor]()
    for name, path in _FLAX_LAYERS.items():
        layer: Any = params
        for key in path:
            layer = layer[key]
        kernel = np.array(layer["kernel"]).T if "kernel" in layer else np.array(layer["scale"])
        weights[f"{name}.weight"] = torch.from_numpy(kernel)
        weights[f"{name}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    return weights


def _std(log_std: Tensor) -> Tensor:
    return log_std.clamp(MIN_LOG_STD, MAX_LOG_STD).exp()


# Algorithms: what learns


class Algorithm(ABC):
    """A library's SAC, and how its state is read and put back.

    Args:
        model: The library's own object.

    Attributes:
        model: The same.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def act_by_policy(self) -> None:
        """Has the policy act before the first update, too, and not random actions."""
        sample = self.model._sample_action
        self.model._sample_action = lambda learning_starts, *rest: sample(0, *rest)

    @abstractmethod
    def actor_weights(self) -> dict[str, Tensor]:
        """The policy's weights, for the actor in PyTorch."""

    @abstractmethod
    def networks(self) -> dict[str, Tensor]:
        """All networks and optimisers, under flat names."""

    @abstractmethod
    def load_networks(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `networks`."""

    def state_dict(self) -> dict[str, Tensor]:
        """Networks, optimisers, replay and counters, under flat names."""
        networks = {f"networks.{name}": value for name, value in self.networks().items()}
        replay = {f"replay.{n}": v for n, v in replay_state(self.model.replay_buffer).items()}
        counts = {"updates": self.model._n_updates, "episodes": self.model._episode_num}
        return {**networks, **replay, **{n: torch.tensor(v) for n, v in counts.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`; networks alone go on with an empty replay."""
        self.load_networks(_below("networks.", state))
        if replay := _below("replay.", state):
            load_replay_state(self.model.replay_buffer, replay)
            self.model._n_updates = int(state["updates"])
            self.model._episode_num = int(state["episodes"])


class SB3Algorithm(Algorithm):
    """Stable-Baselines3's SAC."""

    def __init__(
        self, env: VecNormalize, config: SACConfig, seed: int, device: torch.device
    ) -> None:
        super().__init__(
            SAC(
                "MlpPolicy",
                env,
                learning_starts=config.learning_starts,
                batch_size=config.batch_size,
                policy_kwargs={"net_arch": [config.width, config.width]},
                seed=seed,
                device=device,
            )
        )
        self._parts = {
            "policy": self.model.policy,
            "actor_optimizer": self.model.actor.optimizer,
            "critic_optimizer": self.model.critic.optimizer,
            "entropy_optimizer": self.model.ent_coef_optimizer,
        }

    def actor_weights(self) -> dict[str, Tensor]:
        """The policy's weights."""
        return dict(self.model.actor.state_dict())

    def networks(self) -> dict[str, Tensor]:
        """All networks and optimisers, under flat names."""
        _, tensors = state_of(self._parts)
        entropy = {"log_ent_coef": self.model.log_ent_coef.detach()}
        return {**weights_of(self._parts), **tensors, **entropy}

    def load_networks(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `networks`."""
        policy = {name: value for name, value in state.items() if name.startswith("policy.")}
        restore_weights(self._parts, policy, "the checkpoint")
        restore_state(self._parts, {}, state, self.model.device)
        self.model.log_ent_coef.data.copy_(state["log_ent_coef"])


class SBXAlgorithm(Algorithm):
    """SBX's SAC with SimBa networks.

    Raises:
        ModuleNotFoundError: SBX is missing; the message says what to install.
    """

    def __init__(
        self, env: VecNormalize, config: SACConfig, seed: int, device: torch.device
    ) -> None:
        self._tree_util = import_simba("jax").tree_util
        super().__init__(
            import_simba("sbx").SAC(
                "SimbaPolicy",
                env,
                learning_starts=config.learning_starts,
                batch_size=config.batch_size,
                policy_kwargs={"net_arch": {"pi": [config.width], "qf": [config.width]}},
                seed=seed,
            )
        )

    def actor_weights(self) -> dict[str, Tensor]:
        """The policy's weights."""
        return simba_weights(self.model.policy.actor_state.params["params"])

    def networks(self) -> dict[str, Tensor]:
        """All networks and optimisers, under flat names."""
        leaves, _ = self._tree_util.tree_flatten_with_path(self._states())
        return {self._name(path): torch.from_numpy(np.array(leaf)) for path, leaf in leaves}

    def load_networks(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `networks`."""
        states = self._tree_util.tree_map_with_path(
            lambda path, _: import_simba("jax").numpy.asarray(state[self._name(path)].numpy()),
            self._states(),
        )
        policy = self.model.policy
        policy.actor_state, policy.qf_state = states["actor"], states["critic"]
        self.model.ent_coef_state = states["entropy"]

    def _states(self) -> dict[str, Any]:
        policy = self.model.policy
        entropy = self.model.ent_coef_state
        return {"actor": policy.actor_state, "critic": policy.qf_state, "entropy": entropy}

    def _name(self, path: Any) -> str:
        return str(self._tree_util.keystr(path, simple=True, separator="."))


ALGORITHMS: dict[str, type[SB3Algorithm | SBXAlgorithm]] = {
    "sac": SB3Algorithm,
    "simba": SBXAlgorithm,
}


def import_simba(package: str = "sbx") -> Any:
    """Imports SBX, or what it needs.

    Raises:
        ModuleNotFoundError: It is missing; the message says what to install.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The simba algorithm needs SBX: pip install 'aime-gym[expert]', or choose "
            "--algorithm sac."
        ) from error


_REPLAY_COLUMNS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def replay_state(buffer: ReplayBuffer) -> dict[str, Tensor]:
    """The filled rows of a replay buffer, and where the next one goes."""
    rows = {n: torch.from_numpy(getattr(buffer, n)[: buffer.size()]) for n in _REPLAY_COLUMNS}
    return {**rows, "pos": torch.tensor(buffer.pos), "full": torch.tensor(buffer.full)}


def load_replay_state(buffer: ReplayBuffer, state: Mapping[str, Tensor]) -> None:
    """The inverse of `replay_state`."""
    for name in _REPLAY_COLUMNS:
        getattr(buffer, name)[: len(state[name])] = state[name].cpu().numpy()
    buffer.pos, buffer.full = int(state["pos"]), bool(state["full"])


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}


class Training:
    """The algorithm, which is made when learning starts; until then, its saved state.

    Attributes:
        algorithm: What learns; None before learning starts.
    """

    def __init__(self) -> None:
        self.algorithm: Algorithm | None = None
        self._saved: Mapping[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For copies: they make an algorithm of their own, as after loading an archive."""
        return {**vars(self), "algorithm": None, "_saved": self.state_dict()}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to go on from."""
        return self.algorithm is None and not self._saved

    def start(self, algorithm: Algorithm) -> None:
        """Begins with an algorithm, which goes on from the saved state where there is one."""
        if self._saved:
            algorithm.load_state_dict(self._saved)
        self.algorithm, self._saved = algorithm, {}

    def start_from(self, other: Training) -> None:
        """Has the next algorithm begin with the networks and optimisers of another's state."""
        state = other.state_dict()
        self._saved = {name: value for name, value in state.items() if name.startswith("networks.")}

    def pause(self) -> None:
        """Drops the algorithm, and keeps its state for the next one."""
        self.algorithm, self._saved = None, self.state_dict()

    def state_dict(self) -> Mapping[str, Tensor]:
        """The algorithm's state, under flat names; empty where there is none."""
        return self._saved if self.algorithm is None else self.algorithm.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.algorithm, self._saved = None, dict(state)


# The agent


@dataclass
class Progress:
    """What was done so far.

    Attributes:
        episodes: Training episodes that came to their end.
    """

    episodes: int = 0


class SACAgent(OnlineLearner, Actor):
    """An expert that learns by soft actor-critic.

    Learning draws from the global generators of Python, NumPy and PyTorch, which it seeds. One that
    was saved goes on with the same networks, optimisers, replay and counters, and with other random
    numbers; an unfinished episode is dropped.

    Args:
        env: An id, environment or VecEnv with vector observations and Box actions.
        config: Settings; None for the defaults.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Attributes:
        progress: What was done so far.

    Raises:
        TypeError: Observations are images, or actions are discrete.

    Example:
        >>> SACAgent("AIME/walker-run-mdp").learn(100_000)  # doctest: +SKIP
    """

    parts: ClassVar[tuple[str, ...]] = ("actor", "normalizer", "progress", "training")

    def __init__(
        self, env: Environment | EnvInfo, config: SACConfig | None = None, **common: Any
    ) -> None:
        super().__init__(env, **common)
        self.config = config = config or SACConfig()
        self.arguments = {"config": config}
        info = self.env_info
        if info.image:
            raise TypeError(f"This agent sees vectors; the observations of {info} are images.")
        size, out_dim = info.observation_space.shape[0], info.box_actions.shape[0]
        self._sensors = sorted(info.slices, key=lambda name: info.slices[name])
        with self.initialization():
            self.actor = ACTORS[config.algorithm](size, out_dim, config.width).to(self.device)
        self.actor.requires_grad_(False)
        self.normalizer = Normalizer(size).to(self.device)
        self.progress = Progress()
        self.training = Training()
        self._mirrored = False  # Whether actor and normaliser are those of the algorithm.

    def __getstate__(self) -> dict[str, Any]:
        """For copies: they go on as from an archive."""
        self._mirror()
        return super().__getstate__()

    # Learning

    def start_from(self, other: SACAgent) -> None:
        """Begins where another expert of the same kind is, with an empty replay.

        Args:
            other: What to take networks, optimisers and the normalisation of observations from; it
                is from ``checkpoint.zip``, ``final.zip`` or ``best-full.zip`` of its run.

        Raises:
            ValueError: Its networks are others, or it is from a compact archive.
        """
        if (self.config.algorithm, self.config.width) != (
            other.config.algorithm,
            other.config.width,
        ):
            raise ValueError(
                f"An expert of {self.config.algorithm}, {self.config.width} wide, cannot start "
                f"from one of {other.config.algorithm}, {other.config.width} wide."
            )
        if other.training.empty:
            raise ValueError(
                "An expert from a compact archive has no critics to start from: take "
                "best-full.zip, checkpoint.zip or final.zip of its run."
            )
        other._mirror()
        self.actor.load_state_dict(other.actor.state_dict())
        self.normalizer.load_state_dict(other.normalizer.state_dict())
        self.training.start_from(other.training)

    def without_replay(self) -> SACAgent:
        """A copy with all networks and optimisers, which goes on learning with an empty replay."""
        copy = SACAgent(self.env_info, self.config, seed=self.seed, device=self.device)
        copy.start_from(self)
        copy.num_timesteps = self.num_timesteps
        return copy

    def learn(
        self,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learns by acting in the environment.

        Args:
            total_timesteps: Agent steps to take, at least; None for the agent's default.
            callback: Stable-Baselines3 callbacks.
            log_interval: Episodes between logged values.
            tb_log_name: Name of the run in TensorBoard; None for the class name.
            reset_num_timesteps: False goes on counting, with `total_timesteps` more steps.
            progress_bar: Show one.

        Raises:
            ModuleNotFoundError: The algorithm's package is missing; the message says what to
                install.
            ValueError: The agent is from a compact archive, which cannot go on learning.
        """
        if self.num_timesteps and self.training.empty:
            raise ValueError(
                "This agent is from a compact archive, which has no critics and no replay to go "
                "on learning with: load checkpoint.zip or final.zip of its run."
            )
        if reset_num_timesteps:
            self.progress = Progress()
        return super().learn(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )

    def _learn(self, total_timesteps: int, log_interval: int, reset: bool, bar: tqdm[Any]) -> None:
        """The algorithm's own loop."""
        model = self._get_algorithm().model
        model.set_logger(self.logger)
        model.num_timesteps = self.num_timesteps
        model.learn(
            total_timesteps - self.num_timesteps,
            _Forward(self, self._callbacks, bar),
            log_interval,
            reset_num_timesteps=reset,
        )
        self._mirrored = False
        self.check_losses()

    def check_losses(self) -> None:
        """Checks the losses of the algorithm's last update.

        Raises:
            DivergedError: One is no finite number.
        """
        assert self.training.algorithm is not None
        model = self.training.algorithm.model
        losses = {
            name: torch.tensor(value, dtype=torch.float64)
            for name, value in self.logger.name_to_value.items()
            if name.endswith("_loss") and isinstance(value, float | np.floating)
        }
        self.divergence.watch(losses, model._n_updates)

    def _get_algorithm(self) -> Algorithm:
        """What learns, made in the environment where there is none yet."""
        if self.training.algorithm is None:
            env = VecNormalize(self.get_env(), norm_reward=False, clip_obs=CLIP, epsilon=EPSILON)
            assert isinstance(env.obs_rms, RunningMeanStd)
            self.normalizer.copy_to(env.obs_rms)
            make = ALGORITHMS[self.config.algorithm]
            algorithm = make(env, self.config, self.seed + self.num_timesteps, self.device)
            if self.config.first_actions == "policy":
                algorithm.act_by_policy()
            self.training.start(algorithm)
        assert self.training.algorithm is not None
        return self.training.algorithm

    @property
    def num_episodes(self) -> int:
        """Training episodes that have ended so far."""
        return self.progress.episodes

    def took_step(self, num_timesteps: int, episodes: int) -> None:
        """The algorithm came to a number of timesteps, and some episodes ended with them."""
        self.num_timesteps = num_timesteps
        self.progress.episodes += episodes
        self._mirrored = False

    def set_env(self, env: Environment) -> None:
        """Replaces the environment; learning goes on with an episode of the new one.

        Raises:
            ValueError: It has other sensors or actions.
        """
        super().set_env(env)
        self._mirror()
        self.training.pause()

    def save(self, path: str | os.PathLike[str], compact: bool = False) -> None:
        """Writes one zip archive, whole or not at all.

        Args:
            path: Where to; ``.zip`` is added where it has no ending.
            compact: Half precision and without what is needed to go on learning.
        """
        self._mirror()
        super().save(path, compact)

    # Acting

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return ()

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        self._mirror()
        rows = torch.cat([observations[name] for name in self._sensors], dim=-1)  # [B, n]
        normal: Normal = self.actor(self.normalizer(rows))
        if deterministic:
            return torch.tanh(normal.mean), ()
        return torch.tanh(normal.sample(self.acting_noise(*normal.mean.shape))), ()

    def _mirror(self) -> None:
        """Brings actor and normaliser up to date with the algorithm."""
        algorithm = self.training.algorithm
        if algorithm is None or self._mirrored:
            return
        self.actor.load_state_dict(algorithm.actor_weights())
        self.normalizer.copy_from(algorithm.model.get_vec_normalize_env().obs_rms)
        self._mirrored = True


class _Forward(BaseCallback):
    """Tells the agent and its callbacks of the algorithm's steps."""

    def __init__(self, agent: SACAgent, callbacks: BaseCallback, bar: Any) -> None:
        super().__init__()
        self._agent, self._callbacks, self._bar = agent, callbacks, bar

    def _on_rollout_start(self) -> None:
        self._agent.check_losses()
        self._callbacks.on_rollout_start()

    def _on_step(self) -> bool:
        self._agent.took_step(self.num_timesteps, int(self.locals["dones"].sum()))
        self._bar.update(self.num_timesteps - self._bar.n)
        self._callbacks.update_locals(self.locals)
        return self._callbacks.on_step()

    def _on_rollout_end(self) -> None:
        self._callbacks.on_rollout_end()
