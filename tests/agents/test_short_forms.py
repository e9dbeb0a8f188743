"""What `print` shows of agents fits on a line, and one trajectory is enough to infer actions of."""

import numpy as np
import pytest

from agents import AIMEAgent, BCOAgent, InverseModel, WorldModel, WorldModelConfig
from aime_gym import Evaluation, collect, compare

ENV_ID = "AIME/pendulum-swingup-mdp"


@pytest.fixture(scope="module")
def data():
    whole = collect("random", ENV_ID, episodes=2, seed=0, name="pendulum-random")
    return whole.map(lambda trajectory: trajectory.window(0, 12))


@pytest.fixture(scope="module")
def agents():
    model = WorldModel(ENV_ID, WorldModelConfig().narrow(), device="cpu")
    return model, AIMEAgent(ENV_ID, model, device="cpu")


def test_agents_and_models_have_one_line(agents):
    model, agent = agents
    agent.num_timesteps = 1_500
    assert repr(model) == f"WorldModel({ENV_ID}, 0 timesteps, seed 0, on cpu)"
    assert repr(agent) == f"AIMEAgent({ENV_ID}, 1,500 timesteps, seed 0, on cpu)"


def test_one_trajectory_has_one_array_of_actions(agents, data):
    model = InverseModel(ENV_ID, device="cpu")
    for agent in (agents[1], BCOAgent(ENV_ID, model, device="cpu")):
        alone = agent.infer_actions(data[1].observations_only())
        assert alone.shape == (11, 1)
        np.testing.assert_allclose(alone, agent.infer_actions(data)[1], atol=1e-5)


def test_score_tables_have_a_short_form_and_a_long_one():
    found = Evaluation("CartPole-v1", np.array([8.0, 12.0]), expert_return=20.0)
    table = compare({f"method {number}": found for number in range(6)})
    assert repr(table).startswith("ScoreTable(method 0 50.0% (")
    assert repr(table).endswith("; and 2 more)")
    assert str(table) == table.to_markdown()
    assert repr(found) == "Evaluation(CartPole-v1, 2 episodes, return 10.0, score 50.0%)"
    unscored = Evaluation("CartPole-v1", np.array([8.0, 12.0]))
    assert "no score" in repr(unscored)
    assert "10.0 (" in repr(compare({"random": unscored}))
