"""A stored physics state brings back every sensor and every pixel."""

import gymnasium as gym
import numpy as np
import pytest

import aime_gym  # noqa: F401 - registers the ids

NAMES = [
    "walker-run",
    "hopper-hop",
    "reacher-easy",
    "finger-turn_easy",
    "quadruped-walk",
    "quadruped-escape",
    "quadruped-fetch",
]


@pytest.fixture(params=NAMES)
def env(request):
    env = gym.make(f"AIME/{request.param}-mdp").unwrapped
    env.action_space.seed(0)
    yield env
    env.close()


def play(env, steps):
    for _ in range(steps):
        env.step(env.action_space.sample())


@pytest.mark.usefixtures("opengl")
def test_a_state_restores_sensors_and_images(env):
    env.reset(seed=1)
    play(env, 5)
    state, sensors, image = env.get_physics_state(), env.read_sensors(), env.render_image()
    env.reset(seed=2)
    play(env, 5)
    assert not np.array_equal(env.render_image(), image)
    env.set_physics_state(state)
    np.testing.assert_array_equal(env.get_physics_state(), state)
    for name, values in env.read_sensors().items():
        np.testing.assert_array_equal(values, sensors[name], err_msg=name)
    np.testing.assert_array_equal(env.render_image(), image)


def test_the_first_state_of_an_episode_counts_too(env):
    env.reset(seed=3)
    state, sensors = env.get_physics_state(), env.read_sensors()
    play(env, 2)
    env.set_physics_state(state)
    for name, values in env.read_sensors().items():
        np.testing.assert_array_equal(values, sensors[name], err_msg=name)


def test_bad_states_are_refused():
    env = gym.make("AIME/walker-run-mdp").unwrapped
    with pytest.raises(RuntimeError, match="reset"):
        env.set_physics_state(np.zeros(18))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(18,\)"):
        env.set_physics_state(np.zeros(17))
    with pytest.raises(ValueError, match="not finite"):
        env.set_physics_state(np.full(18, np.nan))
