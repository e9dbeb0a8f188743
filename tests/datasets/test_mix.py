from dataclasses import replace

import numpy as np
import pytest

from aime_gym.datasets import Dataset, Selection, mix, save_dataset


def test_whole_datasets(toys, same):
    first, second = toys(4, 5, name="walker-a"), toys(6, name="walker-b")
    mixed = mix([first, second], "walker-mix", description="Both.", command="aime-gym mix")
    assert [len(trajectory) for trajectory in mixed] == [4, 5, 6]
    assert same(mixed[2], second[0])
    card = mixed.card
    assert (card.name, card.parts) == ("walker-mix", ("walker-a", "walker-b"))
    assert (card.body, card.description, card.command) == ("walker", "Both.", "aime-gym mix")


def test_selections(toys):
    dataset = toys(3, 4, 5, 6, 7, 8)
    limit = float(np.median(dataset.episode_returns))
    below = mix([dataset], "x", [Selection(max_return=limit)])
    assert len(below) == 3
    assert (below.episode_returns < limit).all()
    every = mix([dataset, dataset], "x", [Selection(stride=2), Selection(episodes=1)])
    assert [len(trajectory) for trajectory in every] == [3, 5, 7, 3]
    assert every.card.parts == ("walker-toy (one in 2)", "walker-toy (first 1)")


def test_refuses(toys):
    dataset = toys(3, 4)
    with pytest.raises(ValueError, match="Cannot mix bodies"):
        mix([dataset, toys(body="cheetah", name="cheetah-toy")], "x")
    twice, four = (
        Dataset(dataset, replace(dataset.card, name=f"held-{n}", action_repeat=n)) for n in (2, 4)
    )
    assert [mix(p, "x").card.action_repeat for p in ([twice, twice], [twice, dataset])] == [2, None]
    with pytest.raises(ValueError, match="'held-2' holds an action for 2 steps, 'held-4' holds"):
        mix([twice, dataset, four], "x")
    with pytest.raises(ValueError, match="same sensors"):
        mix([dataset, toys(images=True)], "x")
    with pytest.raises(ValueError, match="2 fit the selection"):
        mix([dataset], "x", [Selection(episodes=3)])
    with pytest.raises(ValueError, match="as many selections"):
        mix([dataset], "x", [Selection(), Selection()])
    with pytest.raises(ValueError, match="nothing to mix"):
        mix([], "x")
    with pytest.raises(ValueError, match="at least 1"):
        Selection(stride=0)


def test_mixed_images_stay_on_disk(toys, tmp_path):
    from aime_gym.datasets import read_dataset

    stored = read_dataset(save_dataset(toys(images=True), tmp_path / "new"))
    mixed = mix([stored, stored], "walker-mix")
    assert all(isinstance(trajectory.sensors["image"], np.memmap) for trajectory in mixed)
    again = read_dataset(save_dataset(mixed, tmp_path / "again"))
    np.testing.assert_array_equal(again[3].sensors["image"], stored[1].sensors["image"])
