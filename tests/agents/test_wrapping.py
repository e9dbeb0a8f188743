from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecNormalize,
)

from agents import AIMEAgent, BCAgent, BCConfig, GymnasiumVecEnv, SACAgent, WorldModel
from agents.spaces import EnvInfo, to_vec_env
from aime_gym import Dataset, evaluate

ENV_ID = "AIME/pendulum-swingup-mdp"
NORMALISED = wrappers.NormalizeObservation


def normalised():
    return NORMALISED(gym.make(ENV_ID))


@pytest.mark.parametrize(
    ("env", "name"),
    [
        (normalised, "NormalizeObservation"),
        (lambda: DummyVecEnv([normalised]), "NormalizeObservation"),
        (lambda: VecNormalize(DummyVecEnv([lambda: gym.make(ENV_ID)])), "VecNormalize"),
        (lambda: VecFrameStack(DummyVecEnv([lambda: gym.make(ENV_ID)]), 2), "VecFrameStack"),
        (
            lambda: GymnasiumVecEnv(
                gym.wrappers.vector.NormalizeObservation(gym.make_vec(ENV_ID, num_envs=2))
            ),
            "NormalizeObservation",
        ),
    ],
)
@pytest.mark.parametrize("learner", [WorldModel, BCAgent])
def test_learners_from_data_refuse_changed_values(env, name, learner):
    with pytest.raises(ValueError, match=f"{name} changes the values of observations .* Leave it"):
        learner(env(), device="cpu")


@pytest.mark.parametrize("kind", ["subproc", "async"])
def test_wrappers_in_other_processes(kind):
    make = {
        "subproc": lambda: SubprocVecEnv([lambda: NORMALISED(gym.make("Pendulum-v1"))]),
        "async": lambda: GymnasiumVecEnv(
            gym.make_vec(
                "Pendulum-v1", num_envs=1, vectorization_mode="async", wrappers=[NORMALISED]
            )
        ),
    }[kind]
    env = make()
    try:
        assert EnvInfo.of(env).wrappers == ("NormalizeObservation",)
        assert EnvInfo.of(env).env_id == "Pendulum-v1"
        assert env.reset().shape == (1, 3)
    finally:
        env.close()


def test_learners_by_acting_remember_them(tmp_path):
    agent = SACAgent(normalised(), device="cpu")
    assert agent.env_info.wrappers == ("NormalizeObservation",)
    agent.save(tmp_path / "agent")
    loaded = SACAgent.load(tmp_path / "agent.zip", device="cpu")
    assert loaded.env_info == agent.env_info
    with pytest.raises(ValueError, match="was wrapped in NormalizeObservation: hand it over"):
        loaded.get_env()
    with pytest.raises(ValueError, match="NormalizeObservation for the former, none around"):
        loaded.set_env(ENV_ID)
    with pytest.raises(ValueError, match="NormalizeObservation for the former, none around"):
        evaluate(loaded, ENV_ID, 1)
    loaded.set_env(normalised())


def test_another_action_repeat_is_refused(make_aime, tmp_path):
    agent = make_aime()
    again = "an action is held for 8 steps: it is made for an action repeat of 2"
    with pytest.raises(ValueError, match=f"This AIMEAgent does not fit .*{again}"):
        agent.set_env(gym.make(ENV_ID, action_repeat=8))
    with pytest.raises(ValueError, match=again):
        evaluate(agent, gym.make_vec(ENV_ID, num_envs=1, action_repeat=8), 1)
    with pytest.raises(ValueError, match=f"The world model does not fit .*{again}"):
        AIMEAgent(gym.make(ENV_ID, action_repeat=8), agent.world_model, device="cpu")
    own = BCAgent(gym.make(ENV_ID, action_repeat=8), device="cpu")
    own.save(tmp_path / "own")
    assert BCAgent.load(tmp_path / "own.zip", device="cpu").env_info.action_repeat == 8


def test_data_of_another_action_repeat_are_refused(pendulum):
    data = Dataset(pendulum, replace(pendulum.card, action_repeat=4))
    env = gym.make(ENV_ID, action_repeat=4)
    refused = "'pendulum-toy' was made with an action repeat of 4; needed is 2"
    for learner in (WorldModel, BCAgent):
        with pytest.raises(ValueError, match=refused):
            learner(ENV_ID, device="cpu").learn(data, 1)
    BCAgent(env, BCConfig(batch_size=4), device="cpu").learn(data, 1)
    BCAgent(env, BCConfig(batch_size=4), device="cpu").learn(pendulum, 1)  # It knows none.


def test_old_archives_have_the_usual_action_repeat():
    values = EnvInfo.of(to_vec_env(ENV_ID)).to_json()
    del values["action_repeat"], values["wrappers"]
    assert EnvInfo.from_json(values) == EnvInfo.of(to_vec_env(ENV_ID))
    assert EnvInfo.from_json({**values, "kwargs": {"action_repeat": 4}}).action_repeat == 4


def test_another_drawing_is_refused(make_model, tmp_path):
    """Of images alone: other observations do not depend on it."""
    visual = "AIME/pendulum-swingup-visual"
    own = BCAgent(gym.make(visual, drawing="fast"), device="cpu")
    own.save(tmp_path / "own")
    agent = BCAgent.load(tmp_path / "own.zip", device="cpu")
    assert agent.env_info.drawing == agent.get_env().get_attr("drawing")[0] == "fast"
    exact = "does not fit .* with drawing='exact': it is made for images of drawing='fast'"
    with pytest.raises(ValueError, match=f"This BCAgent {exact}"):
        agent.set_env(visual)
    with pytest.raises(ValueError, match=exact):
        evaluate(agent, visual, 1)
    with pytest.raises(ValueError, match=r"The world model .* with drawing='fast'.*'exact'"):
        AIMEAgent(gym.make(visual, drawing="fast"), make_model("visual"), device="cpu")
    agent.set_env(gym.make(visual, drawing="fast"))
    vector = BCAgent(gym.make(ENV_ID, drawing="fast"), device="cpu")
    assert vector.env_info.drawing is None
    vector.set_env(ENV_ID)


def test_images_that_are_drawn_otherwise_are_refused(pendulum):
    """Those of a dataset are drawn exactly; where they come from elsewhere, nothing is known."""
    env = gym.make("AIME/pendulum-swingup-visual", drawing="fast")
    agent = BCAgent(env, BCConfig(batch_size=4, image_width=4), device="cpu")
    refused = "images of 'pendulum-toy' are drawn exactly, .* make the environment with drawing='ex"
    images = np.zeros((len(pendulum[0]), 64, 64, 3), dtype=np.uint8)
    seen = pendulum.map(lambda trajectory: trajectory.with_images(images))
    for data in (pendulum, Dataset(seen, replace(seen.card, gl_vendor="Mesa"))):
        with pytest.raises(ValueError, match=refused):
            agent.learn(data, 1)
    agent.learn(seen, 1)


def test_archives_that_do_not_tell_have_the_drawing_of_their_arguments():
    info = EnvInfo.of(to_vec_env("AIME/pendulum-swingup-visual"))
    values = info.to_json()
    del values["drawing"]
    assert EnvInfo.from_json(values) == info
    assert info.drawing == "exact"
    assert EnvInfo.from_json({**values, "kwargs": {"drawing": "fast"}}).drawing == "fast"
    assert EnvInfo.from_json({**values, "env_id": "CarRacing-v3"}).drawing is None


# Models of Stable-Baselines3 under VecNormalize


@pytest.fixture(scope="module")
def trained():
    env = VecNormalize(
        DummyVecEnv([lambda: gym.make(ENV_ID, max_episode_steps=20)]), norm_reward=False
    )
    return PPO("MlpPolicy", env, n_steps=64, batch_size=32, device="cpu").learn(64), env


def test_the_normaliser_of_a_model(trained):
    model, normalizer = trained
    envs = gym.make_vec(ENV_ID, num_envs=2, max_episode_steps=20)
    seen = []

    class Watched:
        def predict(self, observation, *args, **kwargs):
            seen.append(observation)
            return model.predict(observation, *args, **kwargs)

    result = evaluate(Watched(), envs, 2, seed=3, normalizer=normalizer)
    first, _ = envs.reset(seed=3)
    np.testing.assert_allclose(seen[0], normalizer.normalize_obs(first), rtol=1e-5)
    assert np.abs(seen[0] - first).max() > 0.01
    assert (result.returns == evaluate(model, envs, 2, seed=3, normalizer=normalizer).returns).all()


def test_what_is_no_normaliser(trained, make_bc):
    model, normalizer = trained
    with pytest.raises(TypeError, match=r"normalizer is a VecNormalize .*; got dict"):
        evaluate(model, ENV_ID, 1, normalizer={})
    with pytest.raises(ValueError, match="none for the former, VecNormalize around"):
        evaluate(make_bc(), ENV_ID, 1, normalizer=normalizer)
    other = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    with pytest.raises(ValueError, match=r"of observations of shape \(4,\); the policy sees \(3,"):
        evaluate(model, ENV_ID, 1, normalizer=other)
