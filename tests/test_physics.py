"""Physics states of any kind of environment bring back what it shows."""

import gymnasium as gym
import numpy as np
import pytest

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.physics import get_physics_state, get_physics_states, set_physics_state

SIZES = {"AIME/walker-run-mdp": 18, "Hopper-v5": 12, "Pendulum-v1": 2, "CartPole-v1": 4}


def play(env, steps):
    for _ in range(steps):
        observation = env.step(env.action_space.sample())[0]
    return observation


@pytest.mark.parametrize("env_id", SIZES)
def test_a_state_brings_back_the_future(env_id):
    env = gym.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    play(env, 2)
    state = get_physics_state(env)
    assert state.shape == (SIZES[env_id],)
    assert state.dtype == np.float64
    kept = state.copy()
    env.action_space.seed(1)
    expected = play(env, 2)
    env.reset(seed=5)
    set_physics_state(env, state)
    np.testing.assert_array_equal(get_physics_state(env), kept)
    env.action_space.seed(1)
    np.testing.assert_allclose(play(env, 2), expected, atol=1e-6)
    np.testing.assert_array_equal(state, kept)


@pytest.mark.parametrize("env_id", SIZES)
def test_states_of_a_vector(env_id):
    env = gym.make_vec(env_id, num_envs=2, vectorization_mode="sync")
    env.reset(seed=3)
    states = get_physics_states(env)
    assert states.shape == (2, SIZES[env_id])
    single = gym.make(env_id)
    single.reset(seed=4)
    np.testing.assert_array_equal(states[1], get_physics_state(single))


def test_states_of_a_vector_in_processes():
    for env_id, known in (("AIME/walker-run-mdp", True), ("Pendulum-v1", False)):
        env = gym.make_vec(env_id, num_envs=2, vectorization_mode="async")
        env.reset(seed=3)
        states = get_physics_states(env)
        env.close()
        assert (states is not None) == known


def test_environments_without_physics_states():
    env = gym.make("FrozenLake-v1")
    env.reset(seed=0)
    assert get_physics_state(env) is None
    assert get_physics_states(gym.make_vec("FrozenLake-v1", num_envs=2)) is None
    with pytest.raises(ValueError, match="FrozenLake-v1 has no physics states"):
        set_physics_state(env, np.zeros(1))


@pytest.mark.parametrize("env_id", SIZES)
def test_bad_states_are_refused(env_id):
    env = gym.make(env_id)
    env.reset(seed=0)
    size = SIZES[env_id]
    with pytest.raises(ValueError, match=rf"has shape \({size},\), not \({size + 1},\)"):
        set_physics_state(env, np.zeros(size + 1))
    with pytest.raises(ValueError, match="not finite"):
        set_physics_state(env, np.full(size, np.nan))


def test_a_state_needs_a_reset():
    env = gym.make("Pendulum-v1")
    assert get_physics_state(env) is None
    for name in ("Pendulum-v1", "AIME/walker-run-mdp"):
        with pytest.raises(RuntimeError, match="reset"):
            set_physics_state(gym.make(name), np.zeros(2))
