"""Windows of sequences, and the scale of actions."""

import dataclasses

import numpy as np
import pytest
import torch

from agents.replay import Replay
from aime_gym.datasets import Card, Dataset, Trajectory


@pytest.fixture
def info(make_info):
    return make_info({"velocity": 1}, actions=1)


def test_windows_are_consecutive_rows_of_one_trajectory(info, pendulum_data):
    data = pendulum_data(2, 4) + pendulum_data(1, 6, seed=1)
    replay = Replay(info, ["velocity"]).add(data)
    assert replay.num_windows(4) == 1 + 1 + 3
    batch = replay.gather(torch.arange(5), 4)
    whole = [data[0], data[1], *(data[2].window(start, 4) for start in range(3))]
    for index, trajectory in enumerate(whole):
        actual = batch.observations["velocity"][:, index].numpy()
        np.testing.assert_array_equal(actual, trajectory.sensors["velocity"])
        assert batch.prev_actions.shape == (4, 5, 1)
        _, *later = batch.prev_actions[:, index]
        np.testing.assert_array_equal(np.stack(later), trajectory.actions)
    assert not batch.prev_actions[0, [0, 1, 2]].any()
    np.testing.assert_array_equal(batch.prev_actions[0, 3], data[2].actions[0])


def test_windows_are_drawn_uniformly(info, pendulum_data):
    data = pendulum_data(1, 4) + pendulum_data(1, 6, seed=1)
    replay = Replay(info, ["velocity"], actions=False).add(data)
    batch = replay.sample(6_000, 3, torch.Generator().manual_seed(0))
    assert batch.prev_actions is None
    starts = batch.observations["velocity"][1, :, 0]
    _, counts = starts.unique(return_counts=True)
    assert len(counts) == 2 + 4
    assert (counts - 1_000).abs().max() < 150


def test_trajectories_shorter_than_a_window_have_none(info, pendulum_data):
    replay = Replay(info, ["velocity"]).add(pendulum_data(1, 4)).add(pendulum_data(1, 7))
    assert replay.num_windows(5) == 3
    assert replay.num_windows(8) == 0


def test_adding_nothing(info):
    assert len(Replay(info, ["velocity"]).add([])) == 0


def test_images_stay_bytes(info):
    images = np.zeros((4, 64, 64, 3), np.uint8)
    data = Dataset([Trajectory({"image": images})], Card("toy", "walker"))
    replay = Replay(info, ["image"], actions=False).add(data)
    assert replay.columns["image"].dtype == torch.uint8


def test_growing_is_filling_at_once(info, pendulum_data):
    first, second, third = (pendulum_data(2, 4 + n, seed=n) for n in range(3))
    grown = Replay(info, ["velocity"], rewards=True).add(first).add(second).add(third)
    at_once = Replay(info, ["velocity"], rewards=True).add([*first, *second, *third])
    assert len(grown) == len(at_once) == 2 * (4 + 5 + 6)
    chosen = torch.arange(grown.num_windows(3))
    for one, other in zip(
        grown.gather(chosen, 3)[0].values(), at_once.gather(chosen, 3)[0].values(), strict=True
    ):
        assert torch.equal(one, other)
    assert torch.equal(grown.prev_actions, at_once.prev_actions)


def test_rewards_stand_at_what_they_led_to(info, pendulum_data):
    data = pendulum_data(1, 4)
    batch = Replay(info, ["velocity"], rewards=True).add(data).gather(torch.zeros(1).long(), 4)
    rewards = batch.observations["reward"][:, 0, 0].numpy()
    np.testing.assert_allclose(rewards, [0.0, *data[0].rewards])
    silent = data.map(lambda t: dataclasses.replace(t, rewards=None))
    with pytest.raises(ValueError, match="no rewards"):
        Replay(info, ["velocity"], rewards=True).add(silent)


def test_embeddings_come_with_the_windows_until_rows_are_added(info, pendulum_data):
    replay = Replay(info, ["velocity"]).add(pendulum_data(2, 6))
    replay.embed(lambda columns: 2 * columns["velocity"], chunk=5)
    batch = replay.gather(torch.arange(3), 4)
    assert torch.equal(batch.embeds, 2 * batch.observations["velocity"])
    assert replay.add(pendulum_data(1, 4)).gather(torch.arange(3), 4).embeds is None


def test_its_state_makes_the_same_replay(info, pendulum_data):
    replay = Replay(info, ["velocity"], rewards=True).add(pendulum_data(2, 6))
    again = Replay(info, ["velocity"], rewards=True)
    again.load_state_dict(replay.state_dict())
    for one in (replay, again):
        one.add(pendulum_data(3, 5, seed=4))
    draws = [one.sample(4, 3, torch.Generator().manual_seed(0)) for one in (replay, again)]
    assert torch.equal(draws[0].prev_actions, draws[1].prev_actions)
    assert torch.equal(draws[0].observations["reward"], draws[1].observations["reward"])


def test_actions_are_scaled_to_the_limits(make_info):
    info = make_info({"a": 1}, low=[-1.0, 0.0], high=[1.0, 4.0])
    actions = torch.tensor([[-1.0, 0.0], [0.5, 3.0], [1.0, 4.0]])
    unit = torch.tensor([[-1.0, -1.0], [0.5, 0.5], [1.0, 1.0]])
    torch.testing.assert_close(info.to_unit(actions), unit)
    torch.testing.assert_close(info.from_unit(unit), actions)


def test_no_action_leads_to_a_first_row(make_info):
    """Zero stays zero where the limits differ, as the quadruped's do."""
    low, high = (-1.0, -1.0, -0.8), (1.0, 1.1, 0.8)
    info = make_info({"height": 1}, actions=3, low=low, high=high)
    swings = [
        Trajectory({"height": np.zeros((rows, 1))}, np.tile(np.float32(high), (rows - 1, 1)))
        for rows in (3, 2)
    ]
    replay = Replay(info, ["height"]).add(swings)
    expected = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])[:, None].expand(5, 3)
    torch.testing.assert_close(replay.prev_actions, expected)
