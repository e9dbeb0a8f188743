"""AMIGo acts through `predict`, is saved and loaded, and says what is wrong with its input."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from minigrid.envs.empty import EmptyEnv
from minigrid.wrappers import FullyObsWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

from agents import AMIGoAgent, AMIGoConfig, GymnasiumVecEnv
from agents.amigo.config import VARIANTS
from aime_gym.evaluation.evaluate import evaluate
from aime_gym.ids import check_env_id

DOORKEY = "MiniGrid-DoorKey-5x5-v0"
SMALL = AMIGoConfig(num_envs=4, batch_size=2, unroll_length=20)
FULL = AMIGoConfig(num_envs=4, batch_size=2, unroll_length=20, lstm=True, num_frames=3)


def make_agent(variant="default", config=SMALL, env=DOORKEY) -> AMIGoAgent:
    return AMIGoAgent(env, variant, config, device="cpu")


def play(agent, env, steps=30, deterministic=True):
    """Actions and states of some steps, with restarts."""
    observation, state, starts = env.reset(seed=0)[0], None, np.ones(env.num_envs, dtype=bool)
    rows = []
    for _ in range(steps):
        actions, state = agent.predict(observation, state, starts, deterministic)
        observation, _, terminated, truncated, _ = env.step(actions)
        starts = terminated | truncated
        rows.append((observation, actions, state, starts))
    return rows


def make_vec(env=DOORKEY, num_envs=3, **options):
    return gym.make_vec(check_env_id(env), num_envs=num_envs, **options).unwrapped


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("config", [SMALL, FULL])
def test_saved_and_loaded_it_acts_the_same(tmp_path, variant, config):
    agent = make_agent(variant, config).learn(160)
    agent.save(tmp_path / "agent")
    loaded = AMIGoAgent.load(tmp_path / "agent", device="cpu")
    assert loaded.variant == variant
    assert loaded.config == config
    assert loaded.grid_shape == (5, 5)
    for deterministic in (True, False):
        agent.acting_generator.manual_seed(5)
        loaded.acting_generator.manual_seed(5)
        pair = (play(one, make_vec(), deterministic=deterministic) for one in (agent, loaded))
        for mine, other in zip(*pair, strict=True):
            np.testing.assert_array_equal(mine[1], other[1])
    agent.save(tmp_path / "compact", compact=True)
    compact = AMIGoAgent.load(tmp_path / "compact", device="cpu")
    assert len(play(compact, make_vec(), steps=3)) == 3


def test_predict_keeps_its_goal_until_it_is_reached():
    """The goal changes when its cell does, and when an episode starts."""
    agent = make_agent()
    before = None
    changes = {True: 0, False: 0}
    for observation, _, (goal, reference), starts in play(agent, make_vec(max_steps=12), 60, False):
        if before is not None:
            seen, kept, noted, started = before
            for row in range(3):
                cell = slice(3 * kept[row], 3 * kept[row] + 3)
                reached = (seen[row, cell] != noted[row, cell]).any()
                if started[row] or reached:
                    np.testing.assert_array_equal(reference[row], seen[row, :-2])
                    changes[bool(started[row])] += 1
                else:
                    assert goal[row] == kept[row]
                    np.testing.assert_array_equal(reference[row], noted[row])
        before = observation, goal, reference, starts
    assert min(changes.values()) > 2


def test_predict_takes_one_or_many():
    agent = make_agent()
    observation, _ = make_vec(num_envs=4).reset(seed=0)
    actions, (goal, reference) = agent.predict(observation, deterministic=True)
    assert actions.shape == goal.shape == (4,)
    assert reference.dtype == np.uint8
    one, _ = agent.predict(observation[2], deterministic=True)
    assert one == actions[2]
    np.testing.assert_array_equal(agent.propose(observation, deterministic=True), goal)
    assert agent.propose(observation[1], deterministic=True) == goal[1]


@pytest.mark.parametrize("variant", ["default", "none"])
def test_stable_baselines3_evaluates_it(variant):
    agent = make_agent(variant, FULL)
    env = GymnasiumVecEnv(make_vec(num_envs=4, max_steps=10))
    returns, lengths = evaluate_policy(agent, env, 6, return_episode_rewards=True)
    assert len(returns) == len(lengths) == 6
    assert max(lengths) <= 10
    assert evaluate(agent, DOORKEY, 3).returns.shape == (3,)


def test_ppo_learns_on_the_same_environments():
    env = GymnasiumVecEnv(make_vec("MiniGrid-Empty-5x5-v0", 8))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=64, device="cpu").learn(256)
    assert evaluate(model, "MiniGrid-Empty-5x5-v0", 2).returns.shape == (2,)


def test_environments_of_every_kind():
    """An id with and without the prefix, MiniGrid's own environment, and vectors of them."""
    plain = gym.make(DOORKEY, max_steps=50)
    single = gym.make(check_env_id(DOORKEY), max_steps=50)
    vector = GymnasiumVecEnv(make_vec(engine=True, max_steps=50))
    for env in (DOORKEY, check_env_id(DOORKEY), plain, single, vector):
        agent = make_agent(env=env)
        assert agent.env_info.env_id == "FullGrid/MiniGrid-DoorKey-5x5-v0"
        assert agent.grid_shape == (5, 5)
        if not isinstance(env, str):
            agent.learn(80)
            assert agent.actors.env.max_steps == 50
            assert agent.get_env().get_attr("max_steps")[0] == 50


def test_what_is_no_minigrid():
    for env in ("CartPole-v1", gym.make("CartPole-v1"), "AIME/walker-run-mdp"):
        with pytest.raises(TypeError, match="AMIGo learns in MiniGrid environments"):
            make_agent(env=env)
    with pytest.raises(ValueError, match="did you mean 'MiniGrid-DoorKey-5x5-v0'"):
        make_agent(env="MiniGrid-DoorKey5x5-v0")
    with pytest.raises(TypeError, match="was made by its class, and has no id"):
        make_agent(env=FullyObsWrapper(EmptyEnv(size=5)))


def test_grid_that_is_too_large():
    large = gym.make(check_env_id("MiniGrid-Empty-8x8-v0"), size=33)
    with pytest.raises(ValueError, match="up to 32 x 32 cells; this one has 33 x 33"):
        make_agent(env=large)


@pytest.mark.parametrize("variant", ["none", "novelty_based"])
def test_goals_are_asked_for_where_there_are_none(variant):
    agent = make_agent(variant)
    with pytest.raises(ValueError, match=f"{variant} has no teacher, and so no goals"):
        agent.propose(make_vec().reset(seed=0)[0])


def test_agent_of_another_grid(tmp_path):
    make_agent().save(tmp_path / "agent")
    with pytest.raises(ValueError, match="AMIGoAgent does not fit FullGrid/MiniGrid-DoorKey-6x6"):
        AMIGoAgent.load(tmp_path / "agent", env="MiniGrid-DoorKey-6x6-v0", device="cpu")
    with pytest.raises(ValueError, match="does not fit"):
        make_agent().set_env(gym.make(check_env_id("MiniGrid-DoorKey-6x6-v0")))
    with pytest.raises(ValueError, match="Was it made for"):
        evaluate(make_agent(), "MiniGrid-DoorKey-6x6-v0", 1)
