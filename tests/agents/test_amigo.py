"""AMIGo as a whole: unrolls, learning that repeats and goes on exactly, acting, options."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents import AMIGoAgent, AMIGoConfig
from agents.amigo.acting import Unroll
from agents.amigo.agent import evaluate_student
from agents.amigo.environments import make_actors_env
from agents.parts import state_of, weights_of
from aime_gym.evaluation.evaluate import evaluate
from aime_gym.ids import check_env_id

SMALL = AMIGoConfig(num_envs=8, batch_size=4, unroll_length=10)
EMPTY, LIMIT, ROUND = "MiniGrid-Empty-Random-5x5-v0", 8, 80  # Steps, frames.


def make_agent(variant="default", env=None, seed=0, **settings) -> AMIGoAgent:
    """An agent in an empty room, whose episodes are short."""
    env = env or gym.make(check_env_id(EMPTY), max_steps=LIMIT)
    return AMIGoAgent(env, variant, replace(SMALL, **settings), seed=seed, device="cpu")


def everything_of(agent: AMIGoAgent) -> dict[str, torch.Tensor]:
    """All that a checkpoint has, as tensors."""
    plain, tensors = state_of(agent._parts)
    numbers = {name: torch.as_tensor(v) for name, v in plain.items() if isinstance(v, int | float)}
    return {**weights_of(agent._parts), **tensors, **numbers}


def assert_same(one: AMIGoAgent, other: AMIGoAgent) -> None:
    first, second = everything_of(one), everything_of(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


class SaveAtRound(BaseCallback):
    """Saves when a round begins."""

    def __init__(self, number: int, path) -> None:
        super().__init__()
        self.rounds, self.number, self.path = 0, number, path

    def _on_rollout_start(self) -> None:
        if self.rounds == self.number:
            self.model.save(self.path)
        self.rounds += 1

    def _on_step(self) -> bool:
        return True


# Unrolls


def collect(agent: AMIGoAgent, rounds: int) -> list[Unroll]:
    make = lambda: make_actors_env(agent.env_info, agent.config)  # noqa: E731
    agent.actors.prepare(make, agent.seed, reset=True)
    return [agent.actors.unroll(lambda: None)[0] for _ in range(rounds)]


def test_unrolls_lose_nothing_at_their_boundaries():
    """The actions of several unrolls, played in one go, give every frame, reward and end."""
    agent = make_agent("none")
    unrolls = collect(agent, 16)
    envs = make_actors_env(agent.env_info, agent.config)
    shown, _ = envs.reset(seed=agent.seed)
    ends = 0
    for unroll in unrolls:
        for step in range(SMALL.unroll_length):
            assert np.array_equal(unroll.frames[step, :, 0], shown[:, :-2])
            assert np.array_equal(unroll.carried[step], shown[:, -2:])
            shown, rewards, terminated, truncated, _ = envs.step(unroll.actions[step].numpy())
            assert unroll.paid[step].tolist() == (rewards > 0).tolist()
            assert unroll.over[step].tolist() == (terminated | truncated).tolist()
            ends += int((rewards > 0).sum())
        assert np.array_equal(unroll.frames[-1, :, 0], shown[:, :-2])
    assert ends > 3
    for before, after in itertools.pairwise(unrolls):
        assert torch.equal(before.frames[-1], after.frames[0])
        assert torch.equal(before.goals[-1], after.goals[0])


@pytest.mark.parametrize("aware", [True, False])
def test_goals_are_followed_over_the_boundaries(aware):
    """Steps, reference and reward of every goal, kept by hand."""
    agent = make_agent(boundary_awareness=aware)
    unrolls = collect(agent, 16)
    frames = torch.cat(
        [unroll.frames[:-1, :, 0] for unroll in unrolls] + [unrolls[-1].frames[-1:, :, 0]]
    )
    goals = torch.cat([unroll.goals[:-1] for unroll in unrolls] + [unrolls[-1].goals[-1:]])
    over, rewards = (torch.cat([u[i] for u in unrolls]) for i in (8, 5))
    reached_at_end = 0
    for env in range(SMALL.num_envs):
        reference, steps = frames[0, env].view(-1, 3), 0
        for time in range(len(over)):
            steps += 1
            worth = float(rewards[time, env])
            if not over[time, env]:
                cell = int(goals[time, env])
                changed = bool((frames[time + 1, env].view(-1, 3)[cell] != reference[cell]).any())
                assert (worth > 0) == changed
            else:
                reached_at_end += worth > 0
                changed = False
            if worth > 0:
                assert worth == pytest.approx(1 - 0.9 * steps / LIMIT)
            if changed or over[time, env]:
                reference, steps = frames[time + 1, env].view(-1, 3), 0
            else:
                assert goals[time + 1, env] == goals[time, env]
    assert (reached_at_end > 0) == aware


def test_memory_and_frames_of_the_learner_are_those_of_the_actors():
    """What the learner computes for an unroll is what was computed while acting."""
    agent = make_agent(lstm=True, num_frames=3)
    for unroll in collect(agent, 4):
        logits, values = evaluate_student(agent.student, unroll)
        chosen = logits.log_softmax(-1).gather(-1, unroll.actions[..., None]).squeeze(-1)
        torch.testing.assert_close(chosen, unroll.log_probs)
        assert values.shape == (SMALL.unroll_length + 1, SMALL.num_envs)
        part = evaluate_student(agent.student, unroll.of(slice(1, 3)))[0]
        torch.testing.assert_close(part, logits[:, 1:3])
        starts = torch.cat([torch.zeros_like(unroll.over[:1]), unroll.over])
        fresh = unroll.frames[starts]
        assert (fresh == fresh[:, :1]).all()  # The first frame of an episode stands for earlier.


# Learning that repeats, and that goes on


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("default", {}),
        ("window_adaptive", {"lstm": True, "restart_at_goal": True}),
        ("novelty_based", {"num_frames": 2}),
        ("none", {}),
    ],
)
def test_learning_repeats_and_goes_on_exactly(tmp_path, variant, settings):
    settings |= {"teacher_batch_size": 5} if variant in ("default", "window_adaptive") else {}
    whole = make_agent(variant, **settings).learn(6 * ROUND, SaveAtRound(3, tmp_path / "a"))
    again = make_agent(variant, **settings).learn(6 * ROUND)
    assert_same(whole, again)
    resumed = AMIGoAgent.load(tmp_path / "a", device="cpu")
    assert resumed.num_timesteps == 3 * ROUND
    resumed.learn(3 * ROUND, reset_num_timesteps=False)
    assert_same(whole, resumed)
    other = make_agent(variant, seed=1, **settings).learn(6 * ROUND)
    assert not torch.equal(other.student.policy.weight, whole.student.policy.weight)


def test_learning_goes_on_exactly_without_the_engine(tmp_path):
    """MiniGrid's own environments are played again up to where they were."""
    env = "MiniGrid-Dynamic-Obstacles-5x5-v0"
    whole = make_agent(env=env).learn(4 * ROUND, SaveAtRound(2, tmp_path / "a"))
    resumed = AMIGoAgent.load(tmp_path / "a", device="cpu")
    resumed.learn(2 * ROUND, reset_num_timesteps=False)
    assert_same(whole, resumed)


def test_learning_rates_fall_to_nothing():
    agent = make_agent(learning_rate=2e-3, teacher_learning_rate=1e-3)
    agent.learn(4 * ROUND)
    assert agent.optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 * 0.25)
    assert agent.teacher_optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.25)


def test_student_learns_an_empty_room():
    agent = make_agent("none", EMPTY, learning_rate=3e-3, num_envs=8, batch_size=4)
    before = evaluate(agent, EMPTY, 50, deterministic=False).mean
    agent.learn(20_000)
    after = evaluate(agent, EMPTY, 50, deterministic=False).mean
    assert before < 0.5 < 0.65 < after
    assert agent.recent.returns.mean() > 0.65


def test_loss_that_is_not_finite_stops_learning():
    agent = make_agent()

    class Poison(BaseCallback):
        def _on_rollout_end(self) -> None:
            if self.model.num_timesteps == 2 * ROUND:
                torch.nn.init.constant_(self.model.student.value.weight, float("nan"))

        def _on_step(self) -> bool:
            return True

    with pytest.raises(ValueError, match="loss of the Student is nan after 160 frames"):
        agent.learn(10 * ROUND, Poison())
    assert agent.rounds.count == 1


# Options: each changes what is learnt

OPTIONS = [
    ("default", {"unroll_length": 5}),
    ("default", {"batch_size": 8}),
    ("default", {"num_envs": 4}),
    ("default", {"discount": 0.5}),
    ("default", {"learning_rate": 1e-2}),
    ("default", {"entropy_cost": 0.1}),
    ("default", {"value_cost": 5.0}),
    ("default", {"max_grad_norm": 0.1}),
    ("default", {"lstm": True}),
    ("default", {"num_frames": 2}),
    ("default", {"use_extrinsic_reward": False}),
    ("default", {"intrinsic_coef": 0.1}),
    ("default", {"layout_seed": 3}),
    ("default", {"modify": False}),
    ("default", {"boundary_awareness": False}),
    ("default", {"restart_at_goal": True}),
    ("default", {"inner_goals": True}),
    ("default", {"teacher_learning_rate": 1e-2}),
    ("default", {"teacher_batch_size": 12}),
    ("default", {"teacher_entropy_cost": 1.0}),
    ("default", {"reached_reward": 2.0}),
    ("default", {"missed_reward": -2.0}),
    ("default", {"paid_reward": 5.0}),
    ("default", {"threshold": 0.9}),
    ("default", {"counts": 1}),
    ("default", {"first_target": 5}),
    ("default", {"max_target": 3}),
    ("window_adaptive", {"window": 0}),
    ("window_adaptive", {"solved_return": 0.1}),
    ("novelty_based", {"novelty_learning_rate": 1e-2}),
    ("novelty_based", {"intrinsic_coef": 1.0}),
]
BASE = {
    "default": {"teacher_batch_size": 6, "counts": 2, "threshold": -0.4, "first_target": 2},
    "window_adaptive": {"teacher_batch_size": 6, "counts": 1, "threshold": 0.9},
    "novelty_based": {},
}


@pytest.fixture(scope="module")
def learnt():
    """Agents of the settings that the options are changes of."""
    found = {}

    def get(variant: str) -> AMIGoAgent:
        if variant not in found:
            found[variant] = learn_shortly(variant, {})
        return found[variant]

    return get


def learn_shortly(variant: str, change: dict) -> AMIGoAgent:
    return make_agent(variant, **{**BASE[variant], **change}).learn(10 * ROUND)


@pytest.mark.parametrize(("variant", "change"), OPTIONS, ids=lambda o: str(o))
def test_every_option_changes_what_is_learnt(variant, change, learnt):
    base, changed = learnt(variant), learn_shortly(variant, change)
    first, second = (
        {**weights_of(agent._parts), "target": torch.tensor(agent.difficulty.target)}
        for agent in (base, changed)
    )
    same = [n for n in first if n in second and torch.equal(first[n], second[n])]
    assert len(same) < len(first) or first.keys() != second.keys()


def test_every_option_is_tried():
    tried = {name for _, change in OPTIONS for name in change}
    assert tried == {field.name for field in fields(AMIGoConfig)}
