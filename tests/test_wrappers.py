import gymnasium as gym
import pytest
from gymnasium import wrappers
from gymnasium.wrappers import vector

import aime_gym  # noqa: F401
from aime_gym.rollout import RecordEpisodes
from aime_gym.wrappers import action_repeat, changing_wrappers

ENV_ID = "AIME/pendulum-swingup-mdp"


@pytest.mark.parametrize(
    ("wrap", "found"),
    [
        (lambda env: env, ()),
        (wrappers.NormalizeObservation, ("NormalizeObservation",)),
        (lambda env: wrappers.RescaleObservation(env, 0, 1), ("RescaleObservation",)),
        (
            lambda env: wrappers.TransformObservation(env, lambda o: 2 * o, None),
            ("TransformObservation",),
        ),
        (lambda env: wrappers.DelayObservation(env, 1), ("DelayObservation",)),
        (lambda env: wrappers.RescaleAction(env, -3, 3), ("RescaleAction",)),
        (
            lambda env: wrappers.NormalizeObservation(wrappers.RescaleAction(env, -3, 3)),
            ("NormalizeObservation", "RescaleAction"),
        ),
        (wrappers.RecordEpisodeStatistics, ()),
        (wrappers.FlattenObservation, ()),
        (lambda env: wrappers.ReshapeObservation(env, (3,)), ()),
        (lambda env: wrappers.TimeLimit(env, 5), ()),
        (lambda env: wrappers.TransformReward(env, lambda r: 2 * r), ()),
    ],
)
def test_wrappers_that_change_values(wrap, found):
    env = wrap(gym.make("Pendulum-v1"))
    assert changing_wrappers(env) == found
    assert changing_wrappers(gym.vector.SyncVectorEnv([lambda: env])) == found


def test_wrappers_around_vectors():
    envs = gym.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync")
    assert changing_wrappers(vector.NormalizeObservation(envs)) == ("NormalizeObservation",)
    assert changing_wrappers(vector.RecordEpisodeStatistics(envs)) == ()


def test_a_wrapper_that_belongs_to_the_id_is_none():
    def create():
        return wrappers.NormalizeObservation(gym.make("Pendulum-v1").unwrapped)

    gym.register("Inner-v0", create)
    try:
        env = gym.make("Inner-v0")
        assert changing_wrappers(env) == ()
        assert changing_wrappers(wrappers.NormalizeObservation(env)) == ("NormalizeObservation",)
    finally:
        del gym.registry["Inner-v0"]


def test_how_long_an_action_is_held():
    assert action_repeat(gym.make("Pendulum-v1")) == 1
    assert action_repeat(gym.make(ENV_ID)) == 2
    assert action_repeat(gym.make(ENV_ID, action_repeat=5)) == 5
    assert action_repeat(wrappers.RepeatAction(gym.make(ENV_ID), 3)) == 6
    assert action_repeat(gym.make_vec(ENV_ID, num_envs=2, action_repeat=4)) == 4


def test_changed_values_are_not_recorded():
    with pytest.raises(ValueError, match="NormalizeObservation changes the values of observ"):
        RecordEpisodes(wrappers.NormalizeObservation(gym.make("Pendulum-v1")), print)
