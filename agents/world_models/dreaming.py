"""What Dreamer and Plan2Explore share: collecting episodes, and learning inside a world model.

A round collects an episode in every environment, then makes updates. Each update is one batch: a
step of the world model, then from all states that it filtered one of the policy and one of its
value, see `imagination`. The two agents differ in the reward of what is imagined.
Axes are [T, B, ..]: T time, B batch.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.actor import Actor
from agents.base import OnlineLearner
from agents.nets import MLP, NormalHead, RunningStandardizer, Standardizer
from agents.replay import Replay
from agents.returns import lambda_returns
from agents.running import Metrics
from agents.spaces import EnvInfo, Environment
from agents.world_models.acting import filter_and_act, initial_acting_state
from agents.world_models.config import WorldModelConfig
from agents.world_models.dreaming_config import DreamingConfig
from agents.world_models.imagination import (
    Imagined,
    advantages,
    imagine_with,
    policy_loss,
    reinforced,
    return_range,
    value_loss,
)
from agents.world_models.network import WorldModelNet
from agents.world_models.pretrained import Pretrained, copy_pretrained, learning_parameters
from agents.world_models.rssm import Latent
from aime_gym.rollout import EpisodeRecorder
from aime_gym.trajectory import IMAGE, Trajectory

RANGE_KEPT = 0.99  # Of the range of returns, from one update to the next.


@dataclass
class ReturnScale:
    """The range of imagined returns, smoothed over updates.

    Attributes:
        range: The present range []; the first one that is seen counts whole.
        updates: Ranges that were seen.
    """

    range: Tensor
    updates: int = 0

    def update(self, returns: Tensor) -> Tensor:
        """Takes in the returns of an update [H-1, N]; returns what to divide them by [], from 1."""
        now = return_range(returns)
        kept = RANGE_KEPT if self.updates else 0.0
        self.range = kept * self.range + (1 - kept) * now
        self.updates += 1
        return self.range.clamp(min=1.0)


class Worth(NamedTuple):
    """What imagined states are worth.

    Attributes:
        rewards: r_0 .. r_{H-1} [H, N].
        values: v_0 .. v_{H-1} [H, N].
        returns: R_0 .. R_{H-2} [H-1, N].
    """

    rewards: Tensor
    values: Tensor
    returns: Tensor


class DreamingAgent(OnlineLearner, Actor):
    """Learns a world model by acting, and to act inside the world model.

    Args:
        env: An id, environment or VecEnv, whose episodes have a time limit.
        config: Settings.
        pretrained: A world model to start from, or its name; None for a new one. (A configuration
            makes an untrained one, for weights that are still to be loaded.)
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Attributes:
        standardizer: What policy and value network see of features [.., F] -> [.., F].
        episodes: The episodes of the last round, as they were collected.
    """

    parts: ClassVar[tuple[str, ...]] = (
        "world_model", "policy", "value", "standardizer",
        "model_optimizer", "policy_optimizer", "value_optimizer", "return_scale", "replay",
    )  # fmt: skip
    default_timesteps: ClassVar[int] = 500_000

    def __init__(
        self,
        env: Environment | EnvInfo,
        config: DreamingConfig,
        pretrained: Pretrained | None = None,
        **common: Any,
    ) -> None:
        super().__init__(env, **common)
        self.config = config
        assert self.env_info.box_actions
        with self.initialization():
            self.world_model = self._make_world_model(pretrained)
            features = self.world_model.feature_dim
            self.policy = NormalHead(features, self.world_model.action_dim, config.policy)
            self.value = MLP(features, 1, config.value)
            self.standardizer: nn.Module = (
                nn.Identity()
                if config.feature_gain is None
                else RunningStandardizer(features, config.feature_gain)
            )
        for module in (self.world_model, self.policy, self.value, self.standardizer):
            module.to(self.device)
        self.env_info = self.world_model.info
        used = None if pretrained is None else self.world_model.config
        self.arguments = {"config": config, "pretrained": used}
        self._learnt = [*learning_parameters(self.world_model, config.frozen)]
        self.world_model.requires_grad_(False)
        self._let_learn()
        self.model_optimizer = _adam(self.world_model, config.training.learning_rate)
        self.policy_optimizer = _adam(self.policy, config.policy_learning_rate)
        self.value_optimizer = _adam(self.value, config.value_learning_rate)
        self.return_scale = ReturnScale(torch.zeros((), device=self.device))
        self.replay = Replay(
            self.env_info,
            self.env_info.names,
            rewards=self.world_model.config.reward,
            device=self.device,
        )
        self.episodes: list[Trajectory] = []

    def _make_world_model(self, pretrained: Pretrained | None) -> WorldModelNet:
        """A new world model, or a copy of one that has learnt before.

        A new one has no probes: hidden sensors are not collected.
        """
        info, config = self.env_info, self.config
        if pretrained is not None:
            return copy_pretrained(pretrained, info, self._adapted, "pretrained")
        if config.frozen:
            raise ValueError("Only a pretrained world model can be frozen, and there is none.")
        network = config.world_model or WorldModelConfig.paper(info.body)
        return WorldModelNet(dataclasses.replace(info, hidden={}), self._adapted(network))

    @abstractmethod
    def _adapted(self, network: WorldModelConfig) -> WorldModelConfig:
        """The world model's networks, with what the agent's reward needs."""

    @abstractmethod
    def _imagined_rewards(self, imagined: Imagined) -> Tensor:
        """Rewards of what was imagined [H, N], with gradients."""

    # Collecting

    @property
    def num_episodes(self) -> int:
        """Episodes that have been collected so far."""
        return len(self.replay.lengths)

    def _collect(self) -> None:
        """Whole episodes: random ones in the first round, then one in every environment."""
        rounds = self.config.random_episodes if self.rounds.count == 0 else 1
        self.episodes = []
        while not self.stopped and len(self.episodes) < rounds:
            self.episodes += self._play(random=self.rounds.count == 0)
        self.replay.add(self.episodes)
        if self.rounds.count == 0:
            self._standardize()

    def _play(self, random: bool) -> list[Trajectory]:
        """One episode in every environment; those that are cut off by a callback are left out."""
        observation = self.reset_env()
        count = len(observation)
        recorders = [EpisodeRecorder(self._sensors(row)) for row in observation]
        found: list[Trajectory | None] = [None] * count
        state, starts = None, np.ones(count, dtype=bool)
        while not self.stopped and any(episode is None for episode in found):
            action, state = self._explore(observation, state, starts, random)
            observation, rewards, dones, infos = self.step_env(action)
            starts = dones
            for index, recorder in enumerate(recorders):
                if found[index] is not None:
                    continue
                seen = infos[index]["terminal_observation"] if dones[index] else observation[index]
                recorder.step(action[index], float(rewards[index]), self._sensors(seen))
                if dones[index]:
                    cut = bool(infos[index].get("TimeLimit.truncated", False))
                    found[index] = recorder.trajectory(terminated=not cut, truncated=cut)
        return [episode for episode in found if episode is not None]

    def _explore(self, observation: Any, state: Any, starts: Any, random: bool) -> tuple[Any, Any]:
        """Actions [N, A] while collecting."""
        space = self.env_info.box_actions
        shape = (len(observation), *space.shape)
        if random:
            uniform = torch.rand(shape, generator=self.acting_generator, device=self.device)
            return self._within_limits(2 * uniform - 1), None
        action, state = self.predict(observation, state, starts, deterministic=True)
        if self.config.exploration_std:
            unit = self.env_info.to_unit(torch.as_tensor(action, device=self.device))
            unit = unit + self.config.exploration_std * self.acting_noise(*shape)
            action = self._within_limits(unit.clamp(-1, 1))
            state = (*state[:-1], unit.clamp(-1, 1).cpu().numpy())  # What was done.
        return action, state

    def _sensors(self, observation: Any) -> dict[str, Any]:
        """The visible sensors of one observation."""
        if self.env_info.image:
            return {IMAGE: observation}
        return {
            name: observation[start:stop] for name, (start, stop) in self.env_info.slices.items()
        }

    def _standardize(self) -> None:
        columns = self.replay.columns
        for name, standardizer in self.world_model.standardizers.items():
            assert isinstance(standardizer, Standardizer)
            if name in columns and not standardizer.fitted:
                standardizer.fit(columns[name])

    # Learning

    def _train(self) -> Metrics:
        """The round's updates; metrics are means over them."""
        config = self.config
        if not self.replay.num_windows(config.training.sequence_length):
            return {}
        if self.rounds.count == 0:
            for number in range(config.pretrain_updates):
                self.divergence.watch(self._learn_model()[1], number + 1)
        sums: dict[str, Tensor] = {}
        done = config.pretrain_updates + self.rounds.count * config.round_updates
        for number in range(done, done + config.round_updates):
            metrics = self._update()
            self.divergence.watch(metrics, number + 1)
            for name, value in metrics.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        returns = [sum(t.rewards) for t in self.episodes if t.rewards is not None]
        metrics = {name: value / config.round_updates for name, value in sums.items()}
        if returns:
            metrics["return"] = torch.tensor(float(np.mean(returns)))
        return metrics

    def _update(self) -> Metrics:
        """One batch: a step of the world model, of the policy, and of the value network."""
        states, metrics = self._learn_model()
        starts = self._starts(states)
        if isinstance(self.standardizer, RunningStandardizer):
            self.standardizer.update(starts.feature)
        imagined, worth = self._imagine(starts)
        config, returns = self.config, worth.returns
        scale = self.return_scale.update(returns) if config.normalize_returns else 1.0
        gains = self._gains(imagined, worth) / scale
        actor = policy_loss(gains, imagined.choices, config.discount, config.entropy_scale)
        metrics["policy_grad_norm"] = _step(
            self.policy_optimizer, actor, self.policy, config.grad_clip
        )
        critic = value_loss(
            self.value, self.standardizer(imagined.after[:-1]), returns, config.discount
        )
        metrics["value_grad_norm"] = _step(
            self.value_optimizer, critic, self.value, config.grad_clip
        )
        metrics |= {
            "policy_loss": actor.detach(),
            "value_loss": critic.detach(),
            "imagined_return": returns.detach().mean(),
            "action_std": imagined.choices.std.detach().mean(),
        }
        return metrics

    def _gains(self, imagined: Imagined, worth: Worth) -> Tensor:
        """What the policy maximises [H-1, N], a gain per action: returns, or in part REINFORCE."""
        share = self.config.reinforce_share
        if not share:
            return worth.returns
        better = advantages(*worth, self.config.discount)
        chosen = reinforced(better, imagined.choices, imagined.beneath)
        return (1 - share) * worth.returns + share * functional.pad(chosen, (0, 0, 1, 0))

    def _learn_model(self) -> tuple[Latent, Metrics]:
        training = self.config.training
        observations, prev_actions, *_ = self.replay.sample(
            training.batch_size, training.sequence_length, self.generator
        )
        assert prev_actions is not None
        noise = self.noise(*prev_actions.shape[:2], self.world_model.config.stoch_dim)
        loss, metrics, states = self.world_model.loss_and_states(observations, prev_actions, noise)
        metrics["grad_norm"] = _step(
            self.model_optimizer, loss, self.world_model, training.grad_clip
        )
        return states, metrics

    def _starts(self, states: Latent) -> Latent:
        """Filtered states [N, ..], all or some, without gradient."""
        flat = Latent(*(part.detach().flatten(0, 1) for part in states))
        wanted = self.config.imagined_states
        if wanted is None or wanted >= len(flat.deter):
            return flat
        chosen = torch.randint(
            len(flat.deter), (wanted,), generator=self.generator, device=self.device
        )
        return Latent(*(part[chosen] for part in flat))

    def _imagine(self, start: Latent) -> tuple[Imagined, Worth]:
        """What follows from states, and what it is worth; the model has no gradient.

        The policy's choices have gradients; actions and what follows from them have where the
        policy's gradient goes through the model.
        """
        config, model = self.config, self.world_model
        sizes = (config.horizon, len(start.deter))
        noise_action = self.noise(*sizes, model.action_dim)
        noise_state = self.noise(*sizes, model.config.stoch_dim)
        for module in (model, self.value):
            module.requires_grad_(False)
        through_model = config.reinforce_share < 1
        with torch.set_grad_enabled(through_model):
            imagined = imagine_with(
                model, self.policy, start, noise_action, noise_state, self.standardizer
            )
            rewards = self._imagined_rewards(imagined)
            values = self.value(self.standardizer(imagined.after))[..., 0] / (1 - config.discount)
            returns = lambda_returns(rewards, values, config.discount, config.trace)
        if not through_model:
            imagined = imagined._replace(choices=self.policy(self.standardizer(imagined.before)))
        self._let_learn()
        return imagined, Worth(rewards, values, returns)

    def _let_learn(self) -> None:
        """Gives the value network gradients again, and what of the world model learns."""
        for parameter in (*self._learnt, *self.value.parameters()):
            parameter.requires_grad_(True)

    # Acting

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return initial_acting_state(self.world_model, batch)

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        noise_state, noise_action = (
            None if deterministic else self.acting_noise(*part.shape) for part in state[1:]
        )
        return filter_and_act(
            self.world_model,
            self.policy,
            observations,
            state,
            noise_state,
            noise_action,
            standardize=self.standardizer,
        )


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True)


def _step(
    optimizer: torch.optim.Optimizer, loss: Tensor, module: nn.Module, grad_clip: float
) -> Tensor:
    """A step of an optimiser; returns the gradient's norm before clipping."""
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), grad_clip)
    optimizer.step()
    return norm
