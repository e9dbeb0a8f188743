"""The interaction loop: what it returns can be replayed, and does not depend on the vector."""

import gymnasium as gym
import numpy as np
import pytest

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.rollout import RandomPolicy, check_actions, rollout

STEPS = 6


class Feedback:
    """Acts by what it sees and by how long it has run; both show a wrong alignment."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        count = np.zeros(len(observation)) if state is None else state[0]
        count = np.where(episode_start, 0, count)
        flat = np.asarray(observation, dtype=np.float64).reshape(len(observation), -1)
        action = np.sin(flat[:, :6] * 5 + count[:, None]) * 1.5
        return action.astype(np.float32), (count + 1,)


@pytest.fixture(autouse=True)
def _short(short_episodes):
    """Episodes of 6 agent steps."""


def make(num_envs=2, name="walker-run-mdp", **kwargs):
    return gym.make_vec(f"AIME/{name}", num_envs=num_envs, **kwargs)


def assert_same_trajectories(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert set(one.sensors) == set(other.sensors)
        for name in one.sensors:
            np.testing.assert_array_equal(one.sensors[name], other.sensors[name])
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.rewards, other.rewards)


def test_replayed_actions_give_the_recorded_rows():
    trajectories = list(rollout(Feedback(), make(), episodes=3, seed=10, record=True))
    assert len(trajectories) == 3
    env = gym.make("AIME/walker-run-mdp").unwrapped
    for index, trajectory in enumerate(trajectories):
        assert trajectory.num_steps == STEPS
        assert trajectory.truncated
        assert not trajectory.terminated
        observation, info = env.reset(seed=10 + index)
        assert np.abs(trajectory.actions).max() <= 1
        for step in range(STEPS):
            for name, values in info["sensors"].items():
                np.testing.assert_array_equal(trajectory.sensors[name][step], values)
            np.testing.assert_array_equal(trajectory.physics_states[step], env.get_physics_state())
            wanted = np.clip(np.sin(observation[:6].astype(np.float64) * 5 + step) * 1.5, -1, 1)
            np.testing.assert_allclose(trajectory.actions[step], wanted, atol=1e-6)
            observation, reward, _, _, info = env.step(trajectory.actions[step])
            assert trajectory.rewards[step] == reward
        for name, values in info["sensors"].items():
            np.testing.assert_array_equal(trajectory.sensors[name][STEPS], values)


@pytest.mark.parametrize("num_envs", [1, 3, 5])
def test_episodes_do_not_depend_on_the_number_of_environments(num_envs):
    expected = list(rollout(Feedback(), make(2), episodes=4, seed=3))
    ours = list(rollout(Feedback(), make(num_envs), episodes=4, seed=3))
    assert_same_trajectories(ours, expected)


def test_gymnasiums_own_vectors_give_the_same():
    sync = make(2, vectorization_mode="sync")
    expected = list(rollout(Feedback(), make(2), episodes=3, seed=1))
    assert_same_trajectories(list(rollout(Feedback(), sync, episodes=3, seed=1)), expected)


@pytest.mark.usefixtures("opengl")
def test_images_are_recorded_on_demand():
    env = make(2, "pendulum-swingup-visual", action_repeat=4)
    policy = RandomPolicy(env.single_action_space, seed=0)
    (trajectory,) = rollout(policy, env, episodes=1, seed=0, record=True)
    single = gym.make("AIME/pendulum-swingup-visual", action_repeat=4).unwrapped
    single.reset(seed=0)
    assert len(trajectory.sensors["image"]) == len(trajectory) == 4
    for image, state in zip(trajectory.sensors["image"], trajectory.physics_states, strict=True):
        single.set_physics_state(state)
        np.testing.assert_array_equal(single.render_image(), image)
    (plain,) = rollout(policy, env, episodes=1, seed=0)
    assert "image" not in plain.sensors
    assert plain.physics_states is None
    env.close()
    single.close()


def test_on_step_is_told_who_still_runs():
    told = []
    list(rollout(Feedback(), make(2), episodes=3, seed=0, on_step=told.append))
    assert told == [2] * (STEPS - 1) + [0] + [1] * (STEPS - 1) + [0]


def test_random_actions_fill_the_limits():
    env = make(2, "quadruped-walk-mdp")
    policy = RandomPolicy(env.single_action_space, seed=0)
    actions = policy.predict(np.zeros((400, 3)))[0]
    space = env.single_action_space
    assert actions.dtype == np.float32
    assert all(space.contains(action) for action in actions)
    np.testing.assert_allclose(actions.min(0), space.low, atol=0.05)
    np.testing.assert_allclose(actions.max(0), space.high, atol=0.05)


def test_wrong_actions_are_refused():
    env = make(2)
    with pytest.raises(ValueError, match="another body"):
        check_actions(np.zeros((2, 5)), env)
    with pytest.raises(ValueError, match=r"\(2, 6\)"):
        check_actions(np.zeros(6), env)
    with pytest.raises(ValueError, match="not finite"):
        check_actions(np.full((2, 6), np.inf), env)
    policy = RandomPolicy(make(2, "cheetah-run-mdp").single_action_space)
    policy.action_space = gym.spaces.Box(-1, 1, (3,))
    with pytest.raises(ValueError, match="another body"):
        list(rollout(policy, env, episodes=1, seed=0))


def test_other_autoreset_modes_are_refused():
    env = make(2, autoreset_mode="SameStep")
    with pytest.raises(ValueError, match="next step"):
        list(rollout(Feedback(), env, episodes=1, seed=0))
