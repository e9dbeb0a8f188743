import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.envs.dm_control.simulation import load_suite


def episode(env, seed, steps=3):
    rows = [env.reset(seed=seed)[0]]
    generator = np.random.default_rng(0)
    for _ in range(steps):
        action = generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        rows.append(env.step(action)[0])
    return np.stack(rows)


@pytest.mark.parametrize("name", ["walker-run", "reacher-easy", "finger-turn_hard", "hopper-hop"])
def test_a_seed_fixes_the_episode_whatever_came_before(name):
    env = gym.make(f"AIME/{name}-mdp")
    first = episode(env, 5)
    env.reset()
    other = episode(env, 6)
    np.testing.assert_array_equal(episode(env, 5), first)
    np.testing.assert_array_equal(episode(gym.make(f"AIME/{name}-mdp"), 5), first)
    assert not np.array_equal(other[0], first[0])


def test_a_seed_is_the_suites_own():
    from dm_control import suite

    expected = suite.load("reacher", "hard", task_kwargs={"random": 42}).reset().observation
    _, info = gym.make("AIME/reacher-hard-mdp").reset(seed=42)
    for name, values in expected.items():
        np.testing.assert_array_equal(info["sensors"][name], values.astype(np.float32))


def test_unseeded_episodes_differ():
    env = gym.make("AIME/walker-run-mdp")
    starts = [env.reset()[0] for _ in range(2)]
    starts.append(gym.make("AIME/walker-run-mdp").reset()[0])
    assert not np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


ENV = gym.make("AIME/pendulum-swingup-mdp")
SUITE = load_suite("pendulum", "swingup")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_seed_starts_the_suites_stream(seed):
    SUITE.task._random = np.random.RandomState(seed)
    expected = SUITE.reset().observation["orientation"].astype(np.float32)
    np.testing.assert_array_equal(ENV.reset(seed=seed)[1]["sensors"]["orientation"], expected)


def test_large_seeds_are_taken():
    assert ENV.reset(seed=2**40)[0].shape == ENV.observation_space.shape
