"""Copies of data and learners: `copy.deepcopy`, `pickle`, and the workers of a DataLoader."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from agents import BCAgent, BCConfig, SACAgent, SACConfig
from agents.captured import Captured
from agents.parts import weights_of


def pickled(something):
    return pickle.loads(pickle.dumps(something))


COPIES = pytest.mark.parametrize("copied", [copy.deepcopy, pickled])


@COPIES
def test_trajectories_and_datasets(pendulum, copied):
    other = copied(pendulum)
    assert len(other) == len(pendulum)
    assert other.checksum == pendulum.checksum
    assert other.card == pendulum.card
    trajectory = copied(pendulum[0])
    np.testing.assert_array_equal(trajectory.actions, pendulum[0].actions)
    assert trajectory.sensors["velocity"] is not pendulum[0].sensors["velocity"]
    with pytest.raises(TypeError):  # As read-only as the first.
        trajectory.sensors["velocity"] = pendulum[0].sensors["velocity"]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader_hand_over_trajectories(pendulum, start):
    loader = DataLoader(
        pendulum, batch_size=None, num_workers=1, multiprocessing_context=start, timeout=60
    )
    loaded = list(loader)
    assert [len(trajectory) for trajectory in loaded] == [len(each) for each in pendulum]
    np.testing.assert_array_equal(loaded[1].rewards, pendulum[1].rewards)


def same_weights(one, other):
    ours, theirs = weights_of(one._parts), weights_of(other._parts)
    return all(torch.equal(values, theirs[name]) for name, values in ours.items())


@COPIES
def test_a_copied_learner_goes_on_alike_and_by_itself(pendulum, copied):
    agent = BCAgent("AIME/pendulum-swingup-mdp", BCConfig(batch_size=4))
    agent.learn(pendulum, 3)
    other, untouched = copied(agent), copied(agent)
    agent.learn(pendulum, 3, reset_num_timesteps=False)
    assert not same_weights(agent, other)
    assert other.get_env().envs[0].unwrapped is not agent.get_env().envs[0].unwrapped
    other.learn(pendulum, 3, reset_num_timesteps=False)
    assert same_weights(agent, other)
    assert other.num_timesteps == 6
    assert untouched.num_timesteps == 3


@COPIES
@pytest.mark.parametrize("kind", ["world model", "aime"])
def test_a_copied_world_model_or_imitator_learns_alike(
    make_model, make_aime, pendulum, kind, copied
):
    model = make_model() if kind == "world model" else make_aime(refresh_interval=3)
    model.learn(pendulum, 2)
    other = copied(model)
    assert same_weights(model, other)
    for each in (model, other):
        each.learn(pendulum, 2, reset_num_timesteps=False)
    assert same_weights(model, other)


@COPIES
def test_a_copied_expert_acts_alike_and_learns_by_itself(copied):
    config = SACConfig(algorithm="sac", learning_starts=4, batch_size=4, hidden_dim=8)
    agent = SACAgent("AIME/pendulum-swingup-mdp", config).learn(8)
    other = copied(agent)
    observation = np.ones((2, 3), dtype=np.float32)
    before, _ = agent.predict(observation, deterministic=True)
    np.testing.assert_array_equal(other.predict(observation, deterministic=True)[0], before)
    other.learn(4, reset_num_timesteps=False)
    assert (agent.num_timesteps, other.num_timesteps) == (8, 12)
    np.testing.assert_array_equal(agent.predict(observation, deterministic=True)[0], before)
    assert not np.array_equal(other.predict(observation, deterministic=True)[0], before)


def test_a_copied_update_captures_a_graph_of_its_own():
    update = Captured(dict, [torch.optim.Adam([torch.zeros(1)])], [torch.Generator()])
    update._graph, update._calls = object(), 3
    other = copy.deepcopy(update)
    assert (other._graph, other._calls) == (None, 0)
