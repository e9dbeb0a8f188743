import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import aime_gym  # noqa: F401
from agents.vec_env import GymnasiumVecEnv

MODES = list(AutoresetMode)
STEPS = 10  # An episode, at 100 control steps per agent step.


class Unequal(gym.Env):
    """Counts steps; environment i terminates after i + 2 of them, seeds shift the count."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start, self.steps = seed or 0, 0
        return self._observation(), {"note": self.length, "options": str(options)}

    def step(self, action):
        self.steps += 1
        end = self.steps == self.length
        return (
            self._observation(),
            float(action[0]),
            end,
            end and self.length == 3,
            {"at": self.steps},
        )

    def _observation(self):
        return np.array([self.start + self.steps], dtype=np.float32)


def makers():
    return [lambda length=length: Unequal(length) for length in (2, 3, 4)]


def adapted(mode):
    return GymnasiumVecEnv(gym.vector.SyncVectorEnv(makers(), autoreset_mode=mode))


def reference():
    return DummyVecEnv([lambda make=make: Monitor(make()) for make in makers()])


def without_time(info):
    return {
        key: {**value, "t": 0} if key == "episode" else np.asarray(value).tolist()
        for key, value in info.items()
    }


@pytest.mark.parametrize("mode", MODES)
def test_it_behaves_as_dummy_vec_env_with_monitor(mode):
    ours, theirs = adapted(mode), reference()
    assert list(ours.seed(5)) == list(theirs.seed(5))
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    generator = np.random.default_rng(0)
    for _ in range(13):
        actions = generator.uniform(-1, 1, (3, 1)).astype(np.float32)
        for mine, other in zip(ours.step(actions)[:3], theirs.step(actions)[:3], strict=True):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == other.dtype
    assert ours.reset_infos[0]["note"] == 2


@pytest.mark.parametrize("mode", MODES)
def test_infos_are_those_of_dummy_vec_env(mode):
    ours, theirs = adapted(mode), reference()
    for env in (ours, theirs):
        env.seed(5)
        env.reset()
    ended = 0
    for step in range(9):
        actions = np.full((3, 1), 0.1 * step, dtype=np.float32)
        ours.step_async(actions)
        theirs.step_async(actions)
        for mine, other in zip(ours.step_wait()[3], theirs.step_wait()[3], strict=True):
            assert without_time(mine) == without_time(other)
            ended += "episode" in mine
    assert ended == 4 + 3 + 2


def test_options_and_seeds_are_used_once():
    env = adapted(AutoresetMode.SAME_STEP)
    env.set_options({"size": 3})
    env.seed(7)
    assert env.reset().ravel().tolist() == [7, 8, 9]
    assert "size" in env.reset_infos[0]["options"]
    assert env.reset().ravel().tolist() == [0, 0, 0]
    assert env.reset_infos[0]["options"] == "None"
    env.set_options([{"size": 1}, {}, {}])
    with pytest.raises(ValueError, match="same options"):
        env.reset()


def test_attributes_and_methods_of_single_environments():
    env = adapted(AutoresetMode.SAME_STEP)
    assert env.get_attr("length") == [2, 3, 4]
    assert env.get_attr("length", indices=[2, 0]) == [4, 2]
    env.set_attr("length", 9, indices=1)
    assert env.get_attr("length") == [2, 9, 4]
    env.set_attr("length", 5)
    assert env.get_attr("length") == [5, 5, 5]
    assert not env.has_attr("nothing")
    assert len(env.env_method("reset", seed=3)) == 3
    with pytest.raises(NotImplementedError, match="all environments"):
        env.env_method("reset", indices=[0])
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, indices=0) == [False]


def test_a_vector_environment_without_a_mode_is_refused():
    env = gym.vector.SyncVectorEnv(makers())
    env.metadata = {}
    with pytest.raises(ValueError, match="autoreset_mode"):
        GymnasiumVecEnv(env)


def in_turn(mode):
    return {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}


@pytest.mark.parametrize(
    "kwargs",
    [
        in_turn(AutoresetMode.SAME_STEP),
        {"autoreset_mode": AutoresetMode.SAME_STEP},
        {"autoreset_mode": AutoresetMode.NEXT_STEP},
    ],
)
def test_sac_learns_in_it_and_is_evaluated_in_it(kwargs):
    env = GymnasiumVecEnv(
        gym.make_vec("AIME/walker-run-mdp", num_envs=2, action_repeat=1000 // STEPS, **kwargs)
    )
    model = SAC("MlpPolicy", env, learning_starts=10, batch_size=8, policy_kwargs={"net_arch": [8]})
    model.learn(3 * STEPS)
    assert [episode["l"] for episode in model.ep_info_buffer] == [STEPS, STEPS]
    dummy = DummyVecEnv(
        [lambda: Monitor(gym.make("AIME/walker-run-mdp", action_repeat=100)) for _ in range(2)]
    )
    for vec_env in (env, dummy):
        vec_env.seed(11)
    ours, _ = evaluate_policy(model, env, 2, return_episode_rewards=True)
    theirs, _ = evaluate_policy(model, dummy, 2, return_episode_rewards=True)
    assert ours == theirs
    env.close()


def test_it_shows_the_pictures_of_all_environments():
    class Grey(Unequal):
        render_mode = "rgb_array"

        def render(self):
            return np.full((4, 6, 3), self.length, dtype=np.uint8)

    env = GymnasiumVecEnv(gym.vector.SyncVectorEnv([lambda: Grey(2), lambda: Grey(3)]))
    assert [image.mean() for image in env.get_images()] == [2, 3]
    assert env.render().mean() == 2.5
