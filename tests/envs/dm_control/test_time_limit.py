"""An environment's specification says after how many agent steps its episodes end."""

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

from agents.spaces import EnvInfo, to_vec_env
from aime_gym.ids import list_environments

ENV_ID = "AIME/cartpole-balance-mdp"


def steps_of_an_episode(env):
    env.reset(seed=0)
    for step in range(1, 2_000):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        assert not terminated.any() if hasattr(terminated, "any") else not terminated
        if truncated if isinstance(truncated, bool) else truncated.all():
            return step
    raise AssertionError("no end")


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 125),
        ({"action_repeat": 20}, 50),
        ({"action_repeat": 5}, 200),
        ({"max_episode_steps": 30}, 30),
    ],
)
def test_the_limit_is_where_episodes_end(options, steps):
    env = gym.make(ENV_ID, **options)
    assert env.spec.max_episode_steps == steps == steps_of_an_episode(env)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.spec.max_episode_steps == steps == steps_of_an_episode(again)
    envs = gym.make_vec(ENV_ID, num_envs=2, **options)
    assert envs.spec.max_episode_steps == steps == steps_of_an_episode(envs)
    copies = gym.make_vec(envs.spec)
    assert copies.spec.max_episode_steps == steps == steps_of_an_episode(copies)
    assert EnvInfo.of(to_vec_env(env)).kwargs == options


def test_an_environment_without_gymnasium_has_no_specification():
    env = gym.make(ENV_ID).unwrapped
    assert type(env)("cartpole", "balance", "mdp").spec is None


def test_a_vector_is_not_cut_off_later_than_its_episodes_end():
    assert gym.make_vec(ENV_ID, max_episode_steps=10_000).unwrapped.max_steps == 125
    with pytest.raises(ValueError, match="max_episode_steps is at least 1; got 0"):
        gym.make_vec(ENV_ID, max_episode_steps=0)


@pytest.mark.parametrize("body", ["walker", "reacher", "quadruped"])
def test_every_body_has_its_own_limit(body):
    env = gym.make(list_environments(body)[0])
    assert env.spec.max_episode_steps == 1_000 // env.unwrapped.action_repeat
