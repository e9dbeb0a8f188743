"""The visual setup from data to video: states drawn once, both phases, evaluation, film."""

import gymnasium as gym
import numpy as np
import pytest

import aime_gym
from agents import AIMEAgent, AIMEConfig, TrainingConfig, WorldModel, WorldModelConfig
from agents.nets import MLPConfig
from aime_gym.datasets import collect
from aime_gym.envs.dm_control import environment
from aime_gym.rendering import imitation_video

ENV_ID = "AIME/pendulum-swingup-visual"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Episodes of eight agent steps."""
    monkeypatch.setattr(environment, "CONTROL_STEPS", 16)


def test_from_data_to_video(places, tmp_path, weights, same, capfd):
    data = collect("random", "AIME/pendulum-swingup-mdp", 2, seed=3, name="pendulum-random")
    assert not data.has_images
    capfd.readouterr()
    model = WorldModel(ENV_ID, WorldModelConfig().narrow(8), TrainingConfig(4, 3), device="cpu")
    model.learn(data, 3)
    assert "drawing" not in capfd.readouterr().err
    (images,) = (places / "cache" / "images").glob("*.npy")
    drawn_at = images.stat().st_mtime_ns

    config = AIMEConfig(sequence_length=4, batch_size=3, policy=MLPConfig(8))
    agents = [AIMEAgent(ENV_ID, model, config, device="cpu") for _ in range(2)]
    agents[0].learn(data, 3)
    agents[1].learn(data.observations_only(), 3)
    assert same(*map(weights, agents))
    assert images.stat().st_mtime_ns == drawn_at
    assert agents[0].infer_actions(data)[0].shape == (8, 1)
    assert len([*images.parent.glob("*.npy")]) == 1

    agents[0].save(tmp_path / "agent")
    agent = AIMEAgent.load(tmp_path / "agent", device="cpu")
    result = aime_gym.evaluate(agent, ENV_ID, episodes=2, record=True)
    assert result.returns.shape == (2,)
    assert result.trajectories[0].sensors["image"].shape == (9, 64, 64, 3)
    vec_env = agent.get_env()
    action, _ = agent.predict(vec_env.reset())
    assert action.shape == (1, 1)
    video = tmp_path / "videos" / "imitation.mp4"
    env = gym.make(ENV_ID)
    imitation_video(video, env, data[0], {"AIME": result.trajectories[0]}, size=64)
    env.close()
    assert video.stat().st_size > 500


def test_stored_and_drawn_images_train_alike(tmp_path, weights, same):
    data = collect("random", "AIME/pendulum-swingup-mdp", 1, seed=3, name="pendulum-random")
    stored = collect(
        "random", "AIME/pendulum-swingup-mdp", 1, seed=3, name="pendulum-random", images=True
    )
    models = [
        WorldModel(ENV_ID, WorldModelConfig().narrow(8), TrainingConfig(4, 3), device="cpu")
        for _ in range(2)
    ]
    for model, dataset in zip(models, (data, stored), strict=True):
        model.learn(dataset, 2)
    assert same(*map(weights, models))
    images = stored[0].sensors["image"]
    assert images.dtype == np.uint8
    assert images.std() > 1
