"""Behavioural cloning: what it learns, when it stops, and what it sees."""

import dataclasses

import numpy as np
import pytest
import torch

from agents import BCAgent
from agents.bc import cloning_loss
from agents.nets import MLPConfig
from agents.supervised import Supervised
from aime_gym.datasets import Card, Dataset, Trajectory


def linear_data(count=6, rows=30, seed=0, noise=0.0):
    """a_t is a linear function of o_t: half of the orientation's second value."""
    rng = np.random.default_rng(seed)

    def trajectory():
        orientation = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
        velocity = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
        actions = 0.5 * orientation[:-1, 1:] + noise * rng.normal(size=(rows - 1, 1))
        return Trajectory(
            {"orientation": orientation, "velocity": velocity},
            actions=np.clip(actions, -1, 1).astype(np.float32),
        )

    return Dataset([trajectory() for _ in range(count)], Card("linear", "pendulum"))


@pytest.mark.parametrize("setup", ["mdp", "lpomdp"])
def test_it_learns_a_linear_policy(make_bc, setup):
    data = linear_data()
    agent = make_bc(setup, learning_rate=1e-2, batch_size=20, policy=MLPConfig(16)).learn(data, 400)
    orientation = linear_data(1, 50, seed=9)[0].sensors["orientation"]
    observations = np.concatenate([orientation, np.zeros((50, 1), np.float32)], axis=1)
    state, errors = None, []
    for row in observations[:, : agent.observation_space.shape[0]]:
        action, state = agent.predict(row, state, deterministic=True)
        errors.append(action[0] - 0.5 * row[1])
    assert np.mean(np.square(errors)) < (0.002 if setup == "mdp" else 0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 5},
        {"learning_rate": 1e-2},
        {"train_share": 0.5},
        {"num_demonstrations": 1},
        {"stack": 2},
        {"standardize": True},
        {"decay_timesteps": 6},
        {"epoch_updates": 1},
        {"policy": MLPConfig(8, activation="relu")},
    ],
    ids=str,
)
def test_every_option_changes_what_is_learnt(make_bc, pendulum, weights, same, options):
    plain, changed = (weights(make_bc(**o).learn(pendulum, 12)) for o in ({}, options))
    assert not same(plain, changed)


def test_the_best_weights_are_kept(make_bc):
    agent = make_bc(batch_size=20, learning_rate=1e-2)
    agent.learn(linear_data(2, 20, noise=0.5), 1)
    best, kept = np.inf, None
    while agent.supervised.epochs.count < 30:
        epochs = agent.supervised.epochs.count
        agent.learn(linear_data(2, 20, noise=0.5), 1, reset_num_timesteps=False)
        if (
            agent.supervised.epochs.count > epochs
            and agent.supervised.epochs.validation_loss < best
        ):
            best = agent.supervised.epochs.validation_loss
            kept = {n: w.clone() for n, w in agent.supervised.network.state_dict().items()}
    assert agent.supervised.epochs.validation_loss > best
    assert agent.supervised.epochs.best_loss == best
    for name, weight in agent.supervised.best.state_dict().items():
        assert torch.equal(weight, kept[name])
    windows = agent._replay.gather(agent.supervised.epochs.held_out, 2)
    with torch.no_grad():
        assert cloning_loss(agent.supervised.best, windows).item() == pytest.approx(best, rel=1e-5)
    observation = np.ones((1, 3), np.float32)
    action, _ = agent.predict(observation)
    with torch.no_grad():
        expected = agent.supervised.best(torch.ones(1, 1, 3))
    np.testing.assert_allclose(action, expected)


def stopped(make_bc, losses, monkeypatch, **options):
    """The epoch at which learning stops, with these validation losses."""
    agent = make_bc(batch_size=100, **options)
    values = iter(losses)
    monkeypatch.setattr(Supervised, "_validation_loss", lambda *_: next(values))
    agent.learn(linear_data(1, 10), len(losses))
    return agent.supervised.epochs.count


@pytest.mark.parametrize(
    ("options", "losses", "epoch"),
    [
        ({"min_epochs": 0, "patience": 3}, [1, 2, 2, 2, 0, 0], 4),
        ({"min_epochs": 0, "patience": 3}, [1, 2, 2, 0.5, 1, 1, 1, 0], 7),
        ({"min_epochs": 0, "patience": 3}, [1, 1, 1, 1, 0], 4),  # No better is not a new best.
        ({"min_epochs": 0, "patience": 2}, [1, 2, 2, 2, 0], 3),
        ({"min_epochs": 6, "patience": 2}, [1, 2, 2, 2, 2, 2, 2, 2], 6),
        ({"min_epochs": 4, "patience": 3}, [3, 2, 2, 1, 2, 2, 2, 0], 7),
        ({"min_epochs": 0, "patience": 3}, [5, 4, 3, 2, 1], 5),
    ],
)
def test_when_it_stops(make_bc, monkeypatch, options, losses, epoch):
    assert stopped(make_bc, losses, monkeypatch, **options) == epoch


def test_the_papers_rule_is_the_default(make_bc, monkeypatch):
    assert stopped(make_bc, [1.0] * 80, monkeypatch) == 50


def test_a_finished_agent_goes_on_only_if_reset(make_bc, monkeypatch):
    data = linear_data(1, 10)
    agent = make_bc(batch_size=100, min_epochs=2, patience=1)
    monkeypatch.setattr(Supervised, "_validation_loss", lambda *_: 1.0)
    agent.learn(data, 10)
    assert agent.num_timesteps == 2
    assert agent.learn(data, 10, reset_num_timesteps=False).num_timesteps == 2
    assert agent.learn(data, 10).num_timesteps == 2


def test_shares_epochs_and_batches(make_bc):
    """Two trajectories of 12 rows: 11 windows of two rows each; 15 train and 7 validate."""
    agent, seen = make_bc(batch_size=4), []
    gather = None

    def watch(values, _):
        nonlocal gather
        if gather is None:
            gather = agent._replay.gather
            agent._replay.gather = lambda *which: seen.append(which[0].clone()) or gather(*which)
        return True

    data = linear_data(2, 12)
    agent.learn(data, 1, callback=watch)
    train, held_out = (
        set(agent.supervised.epochs.order.tolist()),
        set(agent.supervised.epochs.held_out.tolist()),
    )
    assert (len(train), len(held_out)) == (15, 7)
    assert train | held_out == set(range(22))
    first_batch = agent.supervised.epochs.order[:4]
    agent._prepare = lambda *_: None  # Keeps the watched windows.
    agent.learn(data, 7, reset_num_timesteps=False)
    sizes = [len(chosen) for chosen in seen]
    assert sizes == [4, 4, 3, 7, 4, 4, 4, 3, 7]
    assert set(torch.cat([first_batch, *seen[:3]]).tolist()) == train
    assert set(seen[3].tolist()) == set(seen[8].tolist()) == held_out
    second = torch.cat(seen[4:8])
    assert set(second.tolist()) == train
    assert second.tolist() != torch.cat([first_batch, *seen[:3]]).tolist()


def test_other_data_are_split_anew(make_bc):
    agent = make_bc().learn(linear_data(3, 20), 3)
    agent.learn(linear_data(1, 8), 3, reset_num_timesteps=False)
    assert len(agent.supervised.epochs.order) + len(agent.supervised.epochs.held_out) == 7


# Stacks of observations


def test_the_stack(make_bc):
    assert make_bc("mdp").stack == 1
    assert make_bc("lpomdp").stack == make_bc("visual").stack == 5
    assert make_bc("mdp", stack=3).stack == 3


def test_the_target_is_the_action_after_the_last_observation(make_bc):
    """Windows of k + 1 rows: the network sees k of them, and what it does leads to the last."""
    rows = 8
    orientation = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    actions = np.linspace(-0.7, 0.7, rows - 1, dtype=np.float32)[:, None]
    sensors = {"orientation": orientation, "velocity": np.zeros((rows, 1), np.float32)}
    agent = make_bc("lpomdp", batch_size=100, train_share=1.0)
    agent.learn(Dataset([Trajectory(sensors, actions=actions)], Card("toy", "pendulum")), 1)
    assert agent._replay.num_windows(6) == rows - 5  # Never padded.
    inputs = []
    agent.policy.net.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    batch = agent._replay.gather(torch.arange(3), 6)
    loss = cloning_loss(agent.policy, batch)
    for index in range(3):
        np.testing.assert_array_equal(inputs[0][index], orientation[index : index + 5].ravel())
    with torch.no_grad():
        predicted = torch.tanh(agent.policy.net(inputs[0]))
    expected = np.square(predicted.numpy() - actions[4:7]).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_acting_repeats_the_first_observation(make_bc):
    agent = make_bc("lpomdp")
    inputs = []
    agent.policy.net.register_forward_hook(lambda _, args, __: inputs.append(args[0][:, ::2]))
    state, starts = None, np.ones(2, bool)
    for step in range(7):
        starts = np.array([step == 0, step in (0, 4)])
        observation = np.array([[step, -1], [10 + step, -1]], np.float32)
        _, state = agent.predict(observation, state, starts)
    first = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 4]]
    first += [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]
    second = [[10] * 5, [10, 10, 10, 10, 11], [10, 10, 10, 11, 12], [10, 10, 11, 12, 13]]
    second += [[14] * 5, [14, 14, 14, 14, 15], [14, 14, 14, 15, 16]]
    for step in range(7):
        np.testing.assert_array_equal(inputs[step].numpy(), [first[step], second[step]])


@pytest.mark.parametrize("setup", ["mdp", "lpomdp", "visual"])
def test_hidden_sensors_are_not_seen(make_bc, pendulum, weights, same, setup):
    data = pendulum
    if setup == "visual":
        data = pendulum.map(lambda t: t.with_images(np.full((len(t), 64, 64, 3), 7, np.uint8)))
    blind = data.map(
        lambda t: dataclasses.replace(
            t, sensors={**t.sensors, "velocity": np.zeros_like(t.sensors["velocity"])}
        )
    )
    plain, blinded = (weights(make_bc(setup).learn(d, 3)) for d in (data, blind))
    assert same(plain, blinded) == (setup != "mdp")


def test_rewards_are_not_read(make_bc, pendulum, weights, same):
    silent = pendulum.map(lambda t: dataclasses.replace(t, rewards=None))
    assert same(weights(make_bc().learn(pendulum, 3)), weights(make_bc().learn(silent, 3)))


def test_it_resumes_in_the_middle_of_an_epoch(make_bc, pendulum, tmp_path, weights, same):
    whole = make_bc("lpomdp").learn(pendulum, 13)
    cut = make_bc("lpomdp").learn(pendulum, 6)
    assert 0 < cut.supervised.epochs.position < len(cut.supervised.epochs.order)
    cut.save(tmp_path / "bc")
    again = BCAgent.load(tmp_path / "bc", device="cpu")
    assert again.supervised.epochs.position == cut.supervised.epochs.position
    again.learn(pendulum, 7, reset_num_timesteps=False)
    assert same(weights(whole), weights(again))
    assert again.supervised.epochs.count == whole.supervised.epochs.count
    assert again.supervised.epochs.best_loss == whole.supervised.epochs.best_loss
