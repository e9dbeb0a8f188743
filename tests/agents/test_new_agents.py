"""What an agent costs: two toys that save, load, resume and act, without a line of archive code.

The first has two stages, three networks and two optimisers; the second learns by acting.
"""

from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from torch import nn

from agents.actor import Actor
from agents.base import OfflineLearner, OnlineLearner
from agents.nets import MLP, MLPConfig
from agents.replay import Replay, make_replay


@dataclass(frozen=True)
class TwoStageConfig:
    first_updates: int = 4
    net: MLPConfig = field(default_factory=lambda: MLPConfig(8))


@dataclass
class Stage:
    number: int = 1
    updates: int = 0


class TwoStageAgent(OfflineLearner, Actor):
    """First an inverse model of the actions, then a policy that follows it."""

    parts = ("inverse", "first_optimizer", "policy", "second_optimizer", "stage")

    def __init__(self, env, config: TwoStageConfig | None = None, **common):
        super().__init__(env, **common)
        self.config = config or TwoStageConfig()
        self.arguments = {"config": self.config}
        size = sum(self.env_info.visible.values())
        with self.initialization():
            self.inverse = MLP(2 * size, self.env_info.action_dim, self.config.net)
            self.policy = MLP(size, self.env_info.action_dim, self.config.net)
        self.first_optimizer = torch.optim.Adam(self.inverse.parameters())
        self.second_optimizer = torch.optim.SGD(self.policy.parameters(), 0.1, momentum=0.9)
        self.stage = Stage()

    def _prepare(self, demonstrations, reset, progress_bar):
        self.replay = make_replay(demonstrations, self.env_info, self.env_info.visible, 2)
        if reset:
            self.stage = Stage()

    def _update(self):
        observations, actions, _ = self.replay.sample(4, 2, self.generator)
        first, second = torch.cat([*observations.values()], dim=-1)
        inferred = torch.tanh(self.inverse(torch.cat([first, second], dim=-1)))
        if self.stage.number == 1:
            loss, optimizer = (inferred - actions[1]).square().mean(), self.first_optimizer
        else:
            error = torch.tanh(self.policy(first)) - inferred.detach()
            loss, optimizer = error.square().mean(), self.second_optimizer
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.stage.updates += 1
        if self.stage.updates == self.config.first_updates:
            self.stage = Stage(number=2, updates=self.stage.updates)
        return {"loss": loss.detach()}

    def _initial_state(self, batch):
        return ()

    def _act(self, observations, state, deterministic):
        return torch.tanh(self.policy(torch.cat([*observations.values()], dim=-1))), state


@dataclass(frozen=True)
class OnlineConfig:
    learning_rate: float = 1e-2


class OnlineAgent(OnlineLearner, Actor):
    """Policy gradients on whole episodes, with a running mean of returns as baseline."""

    parts = ("policy", "optimizer", "baseline")

    def __init__(self, env, config: OnlineConfig | None = None, **common):
        super().__init__(env, **common)
        self.config = config or OnlineConfig()
        self.arguments = {"config": self.config}
        size = sum(self.env_info.visible.values())
        with self.initialization():
            self.policy = MLP(size, self.env_info.action_dim, MLPConfig(8, 1))
            self.baseline = nn.BatchNorm1d(1)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), self.config.learning_rate)

    def _collect(self):
        self.seen, self.chosen, self.returns, over = [], [], 0.0, False
        observation = self.reset_env()
        while not over and not self.stopped:
            self.seen.append(self.env_info.split(observation, self.device))
            choice, _ = self._act(self.seen[-1], (), deterministic=False)
            self.chosen.append(choice)
            action = self._within_limits(choice)
            observation, reward, (over,), _ = self.step_env(action)
            self.returns += float(reward[0])

    def _train(self):
        logits = [self.policy(torch.cat([*o.values()], dim=-1)) for o in self.seen]
        log_prob = torch.cat([*map(self._log_prob, logits, self.chosen)]).sum()
        advantage = self.baseline(torch.tensor([[self.returns], [0.0]]))[0].detach()
        loss = (-advantage * log_prob).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def _log_prob(self, logits, choice):
        return torch.log_softmax(logits, dim=-1).gather(1, choice[:, None])

    def _initial_state(self, batch):
        return ()

    def _act(self, observations, state, deterministic):
        logits = self.policy(torch.cat([*observations.values()], dim=-1)).detach()
        if deterministic:
            return logits.argmax(dim=-1), state
        drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=self.generator)
        return drawn[:, 0], state


def test_two_stages(pendulum, tmp_path, weights, same):
    config = TwoStageConfig(first_updates=5)

    def make():
        return TwoStageAgent("AIME/pendulum-swingup-mdp", config, seed=3, device="cpu")

    whole = make().learn(pendulum, 12)
    for cut in (3, 5, 8):
        make().learn(pendulum, cut).save(tmp_path / "cut")
        again = TwoStageAgent.load(tmp_path / "cut", device="cpu")
        assert again.config == config
        again.learn(pendulum, 12 - cut, reset_num_timesteps=False)
        assert same(weights(whole), weights(again))
        assert again.stage == whole.stage
    assert not torch.equal(
        weights(whole)["policy.net.0.weight"], weights(make())["policy.net.0.weight"]
    )
    mean, _ = evaluate_policy(whole, whole.get_env(), n_eval_episodes=1)
    assert np.isfinite(mean)


def short_cart_pole():
    return TimeLimit(gym.make("CartPole-v1"), 15)


def test_learning_by_acting(tmp_path, weights, same):
    def make():
        return OnlineAgent(short_cart_pole(), OnlineConfig(0.05), seed=1, device="cpu")

    class StopAt(BaseCallback):
        """Stops at the end of an episode."""

        def __init__(self, episodes):
            super().__init__()
            self.left = episodes

        def _on_step(self):
            self.left -= bool(self.locals["dones"][0])
            return self.left > 0

    whole = make().learn(10_000, StopAt(7))
    make().learn(10_000, StopAt(3)).save(tmp_path / "cut")
    again = OnlineAgent.load(tmp_path / "cut", short_cart_pole(), device="cpu")
    assert 0 < again.num_timesteps < whole.num_timesteps
    again.learn(10_000, StopAt(4), reset_num_timesteps=False)
    assert again.num_timesteps == whole.num_timesteps
    assert same(weights(whole), weights(again))
    mean, _ = evaluate_policy(whole, whole.get_env(), n_eval_episodes=2)
    assert 5 < mean <= 15
    observation, _ = short_cart_pole().reset(seed=0)
    action, _ = again.predict(observation, deterministic=True)
    assert whole.action_space.contains(action)
    assert whole.predict(observation[None].repeat(4, axis=0))[0].shape == (4,)


def test_a_replay_is_a_part(pendulum, tmp_path):
    """Agents that gather their own data resume with them."""

    class Hoarder(TwoStageAgent):
        parts = (*TwoStageAgent.parts, "hoard")

        def __init__(self, env, config: TwoStageConfig | None = None, **common):
            super().__init__(env, config, **common)
            self.hoard = Replay(self.env_info, self.env_info.names)

    agent = Hoarder("AIME/pendulum-swingup-mdp", device="cpu")
    agent.hoard.add(pendulum)
    agent.save(tmp_path / "agent")
    again = Hoarder.load(tmp_path / "agent", device="cpu")
    assert again.hoard.lengths == agent.hoard.lengths
    assert torch.equal(again.hoard.prev_actions, agent.hoard.prev_actions)
    agent.save(tmp_path / "agent", compact=True)
    assert not Hoarder.load(tmp_path / "agent", device="cpu").hoard.lengths
    with pytest.raises(ValueError, match="holds a Hoarder, not a TwoStageAgent"):
        TwoStageAgent.load(tmp_path / "agent")
