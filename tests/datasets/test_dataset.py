"""A dataset is indexed as lists and arrays are, is filtered, and has a short form."""

import numpy as np
import pytest

from aime_gym.datasets import Card, Dataset, Trajectory

LENGTHS = (3, 4, 5, 6)


def trajectory(length: int) -> Trajectory:
    return Trajectory(
        sensors={"height": np.zeros((length, 1))},
        actions=np.zeros((length - 1, 2)),
        rewards=np.full(length - 1, float(length)),
        terminated=True,
        truncated=False,
    )


@pytest.fixture
def dataset() -> Dataset:
    card = Card(name="made-up", body="walker", sha256={"000000.npz": "0" * 64})
    return Dataset(map(trajectory, LENGTHS), card)


@pytest.mark.parametrize(
    ("index", "lengths"),
    [
        ([0, 3], (3, 6)),
        ([-1, 0, 0], (6, 3, 3)),
        (np.array([2, 1]), (5, 4)),
        ([True, False, False, True], (3, 6)),
        (np.array([False, True, True, False]), (4, 5)),
        (slice(1, 3), (4, 5)),
        ((1,), (4,)),
    ],
)
def test_lists_and_masks_choose_trajectories(dataset, index, lengths):
    chosen = dataset[index]
    assert isinstance(chosen, Dataset)
    assert tuple(map(len, chosen)) == lengths
    assert (chosen.card.name, chosen.card.sha256) == ("made-up", {})


def test_a_number_gives_one_trajectory(dataset):
    assert dataset[np.int64(2)] is dataset[2] is dataset[-2]


def test_a_mask_of_returns(dataset):
    assert len(dataset[dataset.episode_returns > 12]) == 2  # Returns are 6, 12, 20 and 30.


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (4, IndexError, "0 to 3; there is no 4"),
        ([0, -5], IndexError, "there is no -5"),
        ([True], IndexError, "each of the 4 trajectories; this one has 1"),
        ([0.5], TypeError, "a list of numbers or a mask"),
        ("made-up", TypeError, "a list of numbers or a mask"),
        ([[0]], TypeError, "a list of numbers or a mask"),
        ([], ValueError, "has no trajectory"),
        ([False] * 4, ValueError, "has no trajectory"),
    ],
)
def test_other_indices_are_errors(dataset, index, error, message):
    with pytest.raises(error, match=message):
        dataset[index]


def test_filter_keeps_what_a_predicate_holds_for(dataset):
    kept = dataset.filter(lambda trajectory: trajectory.episode_return > 12)
    assert [len(trajectory) for trajectory in kept] == [5, 6]
    assert kept.card.sha256 == {}
    with pytest.raises(ValueError, match="None of the 4 trajectories of 'made-up' remains"):
        dataset.filter(lambda trajectory: False)


def test_short_forms(dataset):
    assert repr(dataset[0]) == (
        "Trajectory(2 steps, terminated: height [3, 1], actions [2, 2], rewards [2])"
    )
    assert "truncated" in repr(Trajectory({"height": np.zeros((3, 1))}))
    assert "cut off" in repr(Trajectory({"height": np.zeros((3, 1))}, truncated=False))
    assert repr(dataset) == "Dataset('made-up', 4 trajectories, 14 steps: height [1])"


@pytest.mark.parametrize("dtype", [complex, bool, "U1", object])
@pytest.mark.parametrize("name", ["height", "actions", "rewards", "physics_states"])
def test_what_is_no_real_number_is_refused(name, dtype):
    given = {
        "height": np.zeros((3, 1)),
        "actions": np.zeros((2, 2)),
        "rewards": np.zeros(2),
        "physics_states": np.zeros((3, 4)),
    }
    given[name] = given[name].astype(dtype)
    height = given.pop("height")
    with pytest.raises(ValueError, match=rf"{name}'? has real numbers, .*; got"):
        Trajectory(sensors={"height": height}, **given)
