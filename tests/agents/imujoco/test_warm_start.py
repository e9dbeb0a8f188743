"""Experts that start from the networks of another body's expert."""

import numpy as np
import pytest
import torch

from agents.runs.recipe import train
from agents.runs.recipes import ExpertRecipe
from agents.sac import SACAgent, SACConfig

BASE, VARIANT = "iMuJoCo/hopper", "iMuJoCo/hopper-massinc_100_torsogeom"
TINY = {"batch_size": 4, "learning_starts": 10, "hidden_dim": 8}
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 11))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Archives of an expert that has learned a little: the whole one, and a compact one."""
    folder = tmp_path_factory.mktemp("base")
    agent = SACAgent(BASE, SACConfig(**TINY), seed=0, device="cpu").learn(60)
    agent.save(folder / "final.zip")
    agent.save(folder / "best.zip", compact=True)
    return folder


def act(agent):
    return agent.predict(OBSERVATIONS, deterministic=True)[0]


def test_it_starts_as_the_other_and_learns_on(base):
    config = SACConfig(**{**TINY, "learning_starts": 0})
    other = SACAgent.load(base / "final.zip", device="cpu")
    agent = SACAgent(VARIANT, config, seed=1, device="cpu")
    assert act(agent) != pytest.approx(act(other))
    agent.start_from(other)
    assert np.array_equal(act(agent), act(other))
    agent.learn(1)
    model = agent.training.algorithm.model
    state = other.training.state_dict()
    assert model.replay_buffer.size() == 1
    critic = dict(model.critic.state_dict())
    for name, value in critic.items():
        assert torch.allclose(value, state[f"networks.policy.critic.{name}"], atol=1e-3)
    agent.learn(20, reset_num_timesteps=False)
    assert not np.array_equal(act(agent), act(other))


def test_a_recipe_says_from_which(base, tmp_path):
    recipe = ExpertRecipe(
        env=VARIANT,
        total_timesteps=12,
        folder=tmp_path / "run",
        device="cpu",
        episodes=1,
        pretrained=str(base / "final.zip"),
        config=SACConfig(**TINY),
    )
    other = SACAgent.load(base / "final.zip", device="cpu")
    assert np.array_equal(act(recipe.make()), act(other))
    train(recipe)
    again = train(recipe)  # Goes on from the run's own checkpoint.
    assert again.num_timesteps == 12
    assert recipe.identity["pretrained"].endswith("final.zip")


def test_what_it_cannot_start_from(base):
    agent = SACAgent(VARIANT, SACConfig(**TINY), device="cpu")
    with pytest.raises(ValueError, match="no critics to start from"):
        agent.start_from(SACAgent.load(base / "best.zip", device="cpu"))
    wide = SACAgent(VARIANT, SACConfig(**{**TINY, "hidden_dim": 16}), device="cpu")
    with pytest.raises(ValueError, match="16 wide, cannot start from one of sac, 8 wide"):
        wide.start_from(SACAgent.load(base / "final.zip", device="cpu"))
