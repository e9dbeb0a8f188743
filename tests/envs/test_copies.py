"""Copies of environments: `copy.deepcopy` and `pickle` take along all that is in them."""

import copy
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import aime_gym  # noqa: F401 - registers the ids

TASKS = [
    "walker-run-mdp",  # Euler; a reward of its own.
    "cheetah-flip-mdp",  # Read as a batch.
    "quadruped-run-lpomdp",  # Read after each step: forces and accelerations.
    "reacher-hard-mdp",  # A target that is drawn anew in every episode.
    "cartpole-swingup-mdp",  # Runge-Kutta.
    "quadruped-escape-mdp",  # A terrain that is drawn anew in every episode.
]
OTHERS = ["iMuJoCo/hopper", "FullGrid/MiniGrid-DoorKey-5x5-v0"]
IDS = [f"AIME/{task}" for task in TASKS] + OTHERS


def pickled(env):
    return pickle.loads(pickle.dumps(env))


def play(env, steps=4):
    """What an environment shows in some steps, after a reset, and in some more."""
    env.action_space.seed(0)
    shown = []
    for part in range(2):
        if part:
            shown.append((env.reset()[0], 0.0))
        for _ in range(steps):
            shown.append(env.step(env.action_space.sample())[:2])
    return shown


def assert_same(shown, others):
    for (observation, reward), (other, its_reward) in zip(shown, others, strict=True):
        np.testing.assert_array_equal(observation, other)
        np.testing.assert_array_equal(reward, its_reward)


def begun(env):
    """The environment in the middle of an episode."""
    env.reset(seed=3)
    env.action_space.seed(1)
    for _ in range(3):
        env.step(env.action_space.sample())
    return env


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("env_id", IDS)
def test_a_copy_goes_on_alike_and_by_itself(env_id, copied):
    env = begun(gym.make(env_id))
    first, second = copied(env), copied(env)
    expected = play(env)
    assert_same(play(first), expected)
    play(first)  # Further on, and the second copy is where it was.
    assert_same(play(second), expected)
    assert first.spec == env.spec
    assert first.unwrapped.np_random is not env.unwrapped.np_random


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("env_id", [*IDS[:4], IDS[-1]])
def test_a_copy_of_a_vector_goes_on_alike(env_id, copied):
    options = {"num_threads": 2} if env_id.startswith("AIME") else {}
    env = begun(gym.make_vec(env_id, num_envs=3, **options))
    first, second = copied(env), copied(env)
    expected = play(env)
    assert_same(play(first), expected)
    assert_same(play(second), expected)
    for each in (env, first, second):
        each.close()


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_a_copy_draws_the_same(make):
    env = begun(make("AIME/quadruped-escape-visual"))
    picture = first_of(env).render_image()
    for copied in (copy.deepcopy, pickled):
        other = copied(env)
        np.testing.assert_array_equal(first_of(other).render_image(), picture)
        other.close()
    env.close()


def first_of(env):
    return env.unwrapped.envs[0] if isinstance(env, gym.vector.VectorEnv) else env.unwrapped


def test_a_copy_knows_what_was_changed_in_the_model():
    env = begun(gym.make("AIME/walker-run-mdp"))
    plain = copy.deepcopy(env)
    env.unwrapped.simulation.physics.model.opt.gravity[2] = -1.6
    on_the_moon, expected = play(copy.deepcopy(env)), play(env)
    assert_same(on_the_moon, expected)
    assert not np.array_equal(play(plain)[-1][0], expected[-1][0])


def test_a_pickled_environment_goes_on_in_another_process():
    env = begun(gym.make("AIME/walker-run-mdp"))
    script = """
import pickle, sys
env = pickle.load(sys.stdin.buffer)
env.action_space.seed(0)
sys.stdout.buffer.write(env.step(env.action_space.sample())[0].tobytes())
"""
    answer = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(env), capture_output=True, check=True
    ).stdout
    env.action_space.seed(0)
    assert answer == env.step(env.action_space.sample())[0].tobytes()
