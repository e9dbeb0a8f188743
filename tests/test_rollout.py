"""The interaction loop: what it returns can be replayed, and does not depend on the vector."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.rollout import (
    RandomPolicy,
    RecordEpisodes,
    check_action_space,
    check_actions,
    check_observation_space,
    make_envs,
    read_sensors,
    rollout,
)

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


# Environments of Gymnasium


def random_episodes(env_id, num_envs, episodes, seed=0, **kwargs):
    env = make_envs(env_id, num_envs)
    policy = RandomPolicy(env.single_action_space, seed=seed)
    return list(rollout(policy, env, episodes, seed, **kwargs))


def assert_replayed(env_id, trajectory, seed):
    """The stored actions lead to the stored rows and to the stored end."""
    env = gym.make(env_id)
    observation, _ = env.reset(seed=seed)
    for step, action in enumerate(trajectory.actions):
        expected = observation.astype(np.float32)
        np.testing.assert_array_equal(trajectory.sensors["observation"][step], expected)
        given = action if isinstance(env.action_space, spaces.Box) else action.item()
        observation, reward, terminated, truncated, _ = env.step(given)
        assert trajectory.rewards[step] == pytest.approx(reward)
    np.testing.assert_array_equal(
        trajectory.sensors["observation"][-1], observation.astype(np.float32)
    )
    assert trajectory.terminated == terminated
    assert trajectory.truncated == (truncated and not terminated)
    assert terminated or truncated


@pytest.mark.parametrize(
    ("env_id", "dtype", "physics"),
    [("Pendulum-v1", np.float32, 2), ("Hopper-v5", np.float32, 12), ("CartPole-v1", np.int64, 4)],
)
def test_episodes_of_gymnasium_can_be_replayed(env_id, dtype, physics):
    trajectories = random_episodes(env_id, 2, 3, record=True)
    assert len({trajectory.num_steps for trajectory in trajectories}) > 1 or env_id == "Pendulum-v1"
    for index, trajectory in enumerate(trajectories):
        assert set(trajectory.sensors) == {"observation"}
        assert trajectory.actions.dtype == dtype
        assert trajectory.actions.ndim == 2
        assert trajectory.physics_states.shape == (len(trajectory), physics)
        assert trajectory.terminated == (env_id != "Pendulum-v1")
        assert_replayed(env_id, trajectory, index)


def test_a_terminated_episode_at_the_time_limit_is_not_truncated():
    (whole,) = random_episodes("Hopper-v5", 1, 1)
    env = SyncVectorEnv([lambda: gym.make("Hopper-v5", max_episode_steps=whole.num_steps)])
    (limited,) = rollout(RandomPolicy(env.single_action_space), env, 1, 0)
    assert (limited.num_steps, limited.terminated, limited.truncated) == (
        whole.num_steps,
        True,
        False,
    )


def test_discrete_actions_are_kept_as_numbers():
    (trajectory,) = random_episodes("CartPole-v1", 1, 1)
    assert trajectory.actions.shape == (trajectory.num_steps, 1)
    assert set(np.unique(trajectory.actions)) == {0, 1}
    assert trajectory.physics_states is None


def test_gymnasiums_own_batch_has_no_physics_states():
    env = gym.make_vec("CartPole-v1", num_envs=2)
    trajectories = list(rollout(RandomPolicy(env.single_action_space), env, 3, 0, record=True))
    assert len(trajectories) == 3
    assert all(t.terminated and t.physics_states is None for t in trajectories)


def test_each_environment_has_its_own_seed():
    three = random_episodes("CartPole-v1", 3, 3, seed=5)
    (last,) = random_episodes("CartPole-v1", 1, 1, seed=7)
    np.testing.assert_array_equal(
        three[2].sensors["observation"][0], last.sensors["observation"][0]
    )
    assert type(make_envs("AIME/walker-run-mdp", 1).unwrapped).__name__ == "DMControlVectorEnv"
    with pytest.raises(ValueError, match="did you mean 'CartPole-v1'"):
        make_envs("CartPol-v1", 1)


class Corridor(gym.Env):
    """Three steps in front of a picture."""

    observation_space = spaces.Box(0, 255, (4, 5, 3), np.uint8)
    action_space = spaces.Discrete(2, start=-1)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros((4, 5, 3), np.uint8), {}

    def step(self, action):
        assert action in (-1, 0)
        self.steps += 1
        return np.full((4, 5, 3), self.steps, np.uint8), 1.0, False, self.steps == 3, {}


@pytest.mark.parametrize("record", [True, False])
def test_images_that_stand_alone_are_always_kept(record):
    env = SyncVectorEnv([Corridor, Corridor])
    for trajectory in rollout(RandomPolicy(env.single_action_space), env, 2, 0, record=record):
        assert set(trajectory.sensors) == {"image"}
        assert trajectory.sensors["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
        assert trajectory.physics_states is None
        assert trajectory.truncated


# Recording in a single environment


def test_the_wrapper_records_what_the_vector_does():
    (expected,) = random_episodes("Hopper-v5", 1, 1, record=True)
    recorded = []
    env = RecordEpisodes(gym.make("Hopper-v5"), recorded.append, first_step=100)
    env.reset(seed=1)
    env.step(env.action_space.sample())
    env.reset(seed=0)  # Drops the episode that has one step.
    for action in expected.actions:
        env.step(action)
    (trajectory,) = recorded
    assert_same_trajectories([trajectory], [expected])
    np.testing.assert_array_equal(trajectory.physics_states, expected.physics_states)
    assert (trajectory.terminated, trajectory.truncated) == (True, False)
    assert trajectory.first_step == 101


def test_the_wrapper_clips_boxes_and_keeps_integers():
    recorded = []
    pendulum = RecordEpisodes(gym.make("Pendulum-v1", max_episode_steps=1), recorded.append)
    pendulum.reset(seed=0)
    pendulum.step(np.array([9.0], np.float32))
    cartpole = RecordEpisodes(gym.make("CartPole-v1", max_episode_steps=1), recorded.append)
    cartpole.reset(seed=0)
    cartpole.step(1)
    assert [t.actions.tolist() for t in recorded] == [[[2.0]], [[1]]]
    assert [t.actions.dtype for t in recorded] == [np.float32, np.int64]
    assert all(t.truncated and len(t.physics_states) == 2 for t in recorded)


def test_the_wrapper_leaves_out_pictures_beside_sensors():
    picture, sensors = np.zeros((4, 5, 3), np.uint8), {"height": np.zeros(1)}
    assert set(read_sensors(picture, {"sensors": sensors}, images=False)) == {"height"}
    assert set(read_sensors(picture, {"sensors": sensors}, images=True)) == {"height", "image"}
    assert set(read_sensors(picture, {}, images=False)) == {"image"}


# Spaces


@pytest.mark.parametrize(
    "space",
    [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Box(-1, 1, (2, 2))],
)
def test_other_action_spaces_are_refused(space):
    for function in (check_action_space, RandomPolicy):
        with pytest.raises(ValueError, match=r"a Box of vectors \[A\], or Discrete; got"):
            function(space)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Dict({"a": spaces.Box(0, 1, (2,))}),
        spaces.Box(0, 255, (4, 84, 84), np.uint8),
        spaces.Box(0, 1, (8, 8, 3)),
    ],
)
def test_other_observation_spaces_are_refused(space):
    with pytest.raises(ValueError, match=r"a Box of vectors \[n\], or of uint8 images"):
        check_observation_space(space)


def test_environments_of_other_spaces_are_refused():
    env = make_envs("FrozenLake-v1", 1)
    with pytest.raises(ValueError, match=r"images \[H, W, 3\]; got Discrete"):
        list(rollout(RandomPolicy(env.single_action_space), env, 1, 0))
    with pytest.raises(ValueError, match=r"images \[H, W, 3\]; got Discrete"):
        RecordEpisodes(gym.make("FrozenLake-v1"), print)


def test_random_actions_without_limits_are_refused():
    with pytest.raises(ValueError, match="finite limits"):
        RandomPolicy(spaces.Box(-np.inf, np.inf, (2,)))


def test_random_discrete_actions_are_all_drawn():
    policy = RandomPolicy(spaces.Discrete(3, start=2), seed=0)
    actions, _ = policy.predict(np.zeros((100, 4)))
    assert actions.dtype == np.int64
    assert set(actions) == {2, 3, 4}
    again = RandomPolicy(spaces.Discrete(3, start=2), seed=0)
    np.testing.assert_array_equal(again.predict(np.zeros((100, 4)))[0], actions)


@pytest.mark.parametrize(
    ("actions", "match"),
    [
        (np.array([0, 2]), "integers from 0 to 1"),
        (np.array([-1, 0]), "integers from 0 to 1"),
        (np.array([0.0, 1.0]), "integers from 0 to 1"),
        (np.array([[0], [1]]), r"take \(2,\)"),
    ],
)
def test_wrong_discrete_actions_are_refused(actions, match):
    with pytest.raises(ValueError, match=match):
        check_actions(actions, make_envs("CartPole-v1", 2))
