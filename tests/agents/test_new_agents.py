"""What an agent costs: two toys that save, load, resume and act, without a line of archive code.

The first has two stages, three networks and two optimisers; the second learns by acting.
"""

import json
import zipfile
from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit, TransformReward
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from agents.actor import Actor
from agents.base import OfflineLearner, OnlineLearner
from agents.nets import MLP, MLPConfig
from agents.replay import Replay, make_replay
from agents.runs.callbacks import IntervalCallback
from agents.runs.folder import train_in_folder
from agents.runs.logs import read_curve


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
        observations, actions, *_ = self.replay.sample(4, 2, self.generator)
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
    with pytest.raises(ValueError, match="another agent: Hoarder, not TwoStageAgent"):
        TwoStageAgent.load(tmp_path / "agent")


def run_online(folder, callbacks=(), total=150):
    def make():
        env = TransformReward(short_cart_pole(), lambda reward: 2 * reward)  # Has no id of its own.
        return OnlineAgent(env, OnlineConfig(0.05), seed=1, device="cpu")

    def learn(learner, steps, callbacks):
        learner.learn(steps, callbacks, log_interval=3, reset_num_timesteps=False)

    return train_in_folder(
        folder, {"seed": 1}, make, learn, total, callbacks, checkpoint_interval=20
    )


def test_a_killed_run_that_acts_goes_on(tmp_path, weights, same, kill):
    whole = run_online(tmp_path / "whole")
    curve = read_curve(tmp_path / "whole" / "progress.csv")
    assert len(curve) > 2
    for at in (7, 25, 47, 48, 100):
        folder = tmp_path / f"cut-{at}"
        with pytest.raises(kill.Error):
            run_online(folder, [kill(at)])
        again = run_online(folder)
        assert again.num_timesteps == whole.num_timesteps
        assert same(weights(whole), weights(again))
        assert read_curve(folder / "progress.csv") == curve


def test_a_run_that_acts_may_be_prolonged(tmp_path, weights, same):
    at_once = run_online(tmp_path / "at once")
    run_online(tmp_path / "longer", total=40)
    assert same(weights(at_once), weights(run_online(tmp_path / "longer")))


def test_intervals_are_passed_where_several_environments_step():
    class Noted(IntervalCallback):
        def _on_interval(self):
            steps.append(self.num_timesteps)

    class Random(OnlineAgent):
        def _collect(self):
            self.reset_env()
            for _ in range(5):
                self.step_env(np.array([0, 1, 0]))

        def _train(self):
            return {}

    steps = []
    agent = Random(DummyVecEnv([short_cart_pole] * 3), device="cpu")
    agent.learn(30, Noted(10))
    assert steps == [12, 21, 30]
    agent.learn(15, Noted(10), reset_num_timesteps=False)
    assert steps[3:] == [42]
    with pytest.raises(ValueError, match="interval is at least 1; got 0"):
        Noted(0)


def test_a_learner_without_a_loop_says_what_is_missing():
    class Idle(OnlineAgent):
        _collect = OnlineLearner._collect

    with pytest.raises(NotImplementedError, match="Idle has neither _collect nor _learn"):
        Idle(short_cart_pole(), device="cpu").learn(3)


def test_settings_of_optimisers_that_change_on_the_way(pendulum, tmp_path):
    agent = TwoStageAgent("AIME/pendulum-swingup-mdp", device="cpu").learn(pendulum, 6)
    agent.first_optimizer.param_groups[0] |= {"lr": 0.125, "betas": (0.5, 0.75)}
    agent.second_optimizer.param_groups[0]["lr"] = float("inf")
    agent.save(tmp_path / "agent")
    again = TwoStageAgent.load(tmp_path / "agent", device="cpu")
    first, second = (o.param_groups[0] for o in (again.first_optimizer, again.second_optimizer))
    assert (first["lr"], first["betas"]) == (0.125, (0.5, 0.75))
    assert second["lr"] == float("inf")
    assert first["params"][0] is again.inverse.net[0].weight


def test_counters_that_are_not_finite(pendulum, tmp_path):
    @dataclass
    class Best:
        loss: float = float("inf")
        history: tuple[float, ...] = (float("nan"), float("-inf"), 1.0)
        name: str = "x"

    class Keeper(TwoStageAgent):
        parts = (*TwoStageAgent.parts, "best")

        def __init__(self, env, config: TwoStageConfig | None = None, **common):
            super().__init__(env, config, **common)
            self.best = Best()

    agent = Keeper("AIME/pendulum-swingup-mdp", device="cpu")
    agent.save(tmp_path / "agent")
    with zipfile.ZipFile(tmp_path / "agent.zip") as file:
        counters = json.loads(file.read("counters.json"), parse_constant=pytest.fail)
    assert counters["best.loss"] == "inf"
    again = Keeper.load(tmp_path / "agent", device="cpu")
    assert again.best.loss == float("inf")
    assert str(list(again.best.history)) == "[nan, -inf, 1.0]"
