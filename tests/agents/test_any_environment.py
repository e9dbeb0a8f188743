"""Environments of Gymnasium's own, from collecting with the command line to a score."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy

from agents import (
    AIMEAgent,
    AIMEConfig,
    BCAgent,
    BCConfig,
    TrainingConfig,
    WorldModel,
    WorldModelConfig,
)
from agents.nets import MLPConfig
from agents.spaces import EnvInfo, to_vec_env
from aime_gym import evaluate, load_dataset
from aime_gym.cli import main

SMALL = {"sequence_length": 5, "batch_size": 4, "policy": MLPConfig(8)}


@pytest.fixture(scope="module", params=["Pendulum-v1", "Hopper-v5"])
def env_id(request):
    return request.param


@pytest.fixture(scope="module")
def data(env_id, tmp_path_factory):
    """What `aime-gym collect` writes."""
    folder = tmp_path_factory.mktemp("data") / "random"
    words = f"collect --env {env_id} --policy random --episodes 4 --name toy --out {folder}"
    assert main(words.split()) == 0
    return load_dataset(folder)


def test_the_data(env_id, data):
    assert data.card.body == env_id.split("-")[0]
    assert set(data.sensor_shapes) == {"observation"}
    assert {t.terminated for t in data} == {env_id == "Hopper-v5"}
    lengths = [len(t) for t in data]
    assert (max(lengths) == min(lengths) == 201) == (env_id == "Pendulum-v1")


def test_imitation(env_id, data, tmp_path):
    model = WorldModel(
        env_id, WorldModelConfig.rssmo().narrow(8), TrainingConfig(5, 4), device="cpu"
    )
    model.learn(data, 3)
    agent = AIMEAgent(env_id, model, AIMEConfig(**SMALL), device="cpu")
    agent.learn(data.observations_only(), 3)
    actions = agent.infer_actions(data)
    space = agent.action_space
    assert [len(a) for a in actions] == [t.num_steps for t in data]
    assert all((space.low <= a).all() and (a <= space.high).all() for a in actions)

    agent.save(tmp_path / "agent")
    again = AIMEAgent.load(tmp_path / "agent", device="cpu")
    mean, _ = evaluate_policy(again, again.get_env(), n_eval_episodes=2)
    assert np.isfinite(mean)
    result = evaluate(again, env_id, episodes=2)
    assert result.score is None
    assert np.isfinite(result.returns).all()


def test_cloning(env_id, data):
    agent = BCAgent(gym.make(env_id), BCConfig(batch_size=20, policy=MLPConfig(8)), device="cpu")
    agent.learn(data, 5)
    observation, _ = gym.make(env_id).reset(seed=0)
    action, state = agent.predict(observation, deterministic=True)
    assert agent.action_space.contains(action)
    assert state is None


def test_data_of_another_body(data):
    with pytest.raises(ValueError, match=r"of body .*; needed is 'walker'"):
        BCAgent("AIME/walker-run-mdp", device="cpu").learn(data, 1)


def test_an_environment_with_other_limits(env_id, data, tmp_path):
    agent = BCAgent(env_id, BCConfig(policy=MLPConfig(8)), device="cpu")
    agent.save(tmp_path / "agent")
    other = gym.wrappers.RescaleAction(gym.make(env_id), np.float32(-0.25), np.float32(0.25))
    with pytest.raises(ValueError, match=r"does not fit .* is of .*actions Box\(-0\.25"):
        BCAgent.load(tmp_path / "agent", env=other, device="cpu")


def test_what_is_known_of_it(env_id):
    info = EnvInfo.of(to_vec_env(env_id))
    assert info.env_id == env_id
    assert info.setup == "mdp"
    assert info.visible == {"observation": info.observation_space.shape[0]}
    again = EnvInfo.from_json(info.to_json())
    assert again == info


def test_images_of_others():
    class Seen(gym.Env):
        observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        action_space = gym.spaces.Box(-1, 1, (2,))

    agent = BCAgent(Seen(), BCConfig(image_width=4), device="cpu")
    assert agent.stack == 5
    action, _ = agent.predict(np.zeros((3, 3, 64, 64), np.uint8))
    assert action.shape == (3, 2)

    class Wide(Seen):
        observation_space = gym.spaces.Box(0, 255, (96, 64, 3), np.uint8)

    for kind in (WorldModel, BCAgent):
        with pytest.raises(ValueError, match=r"images of shape \(64, 64, 3\).*\(96, 64, 3\)"):
            kind(Wide())
    with pytest.raises(ValueError, match=r"sees images \(64, 64, 3\).*sees images \(96, 64, 3\)"):
        agent.set_env(Wide())


def test_an_environment_is_made_again_as_it_was(tmp_path):
    env = gym.make("Pendulum-v1", g=5.0, max_episode_steps=30, render_mode="rgb_array")
    agent = BCAgent(env, BCConfig(policy=MLPConfig(8)), device="cpu")
    assert agent.env_info.kwargs == {"g": 5.0, "max_episode_steps": 30}
    agent.save(tmp_path / "agent")
    again = BCAgent.load(tmp_path / "agent", device="cpu").get_env()
    assert again.get_attr("spec")[0].max_episode_steps == 30
    assert again.envs[0].unwrapped.g == 5.0
    plain = EnvInfo.of(to_vec_env(gym.make("AIME/pendulum-swingup-mdp")))
    assert plain.kwargs == {}


def test_an_environment_that_is_no_longer_what_it_was(tmp_path):
    """What is made by the id may have changed between two versions."""
    agent = BCAgent("Pendulum-v1", BCConfig(policy=MLPConfig(8)), device="cpu")
    agent.save(tmp_path / "agent")
    again = BCAgent.load(tmp_path / "agent", device="cpu")
    wider = gym.spaces.Box(-3.0, 3.0, (1,))
    again.env_info = dataclasses.replace(again.env_info, action_space=wider)
    with pytest.raises(ValueError, match=r"BCAgent does not fit Pendulum-v1.*3\.0.*2\.0"):
        again.get_env()
