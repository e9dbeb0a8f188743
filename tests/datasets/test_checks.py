import dataclasses

import numpy as np
import pytest

from aime_gym.datasets import Dataset, check_dataset

NEEDS = {"body": "walker", "sensors": {"height": 1}, "actions": True, "min_rows": 4}


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"body": "cheetah"}, "is of body 'walker'; needed is 'cheetah'"),
        ({"sensors": {"height": 1, "touch": 2}}, "lacks touch; it has height, velocity"),
        ({"sensors": {"image": 12_288}}, r"lacks image.*images='render'"),
        ({"sensors": {"velocity": 9}}, "has 3 values; needed are 9"),
        ({"action_repeat": 4}, "made with an action repeat of 2; needed is 4"),
        ({"min_rows": 6}, "a window of 6 observations .*sequence_length.*: the longest has 5"),
    ],
)
def test_refuses(toys, needs, message):
    dataset = toys()
    dataset = dataset.map(lambda t: dataclasses.replace(t, physics_states=np.zeros((len(t), 2))))
    dataset = Dataset(dataset, dataclasses.replace(dataset.card, action_repeat=2))
    check_dataset(dataset, **NEEDS)
    check_dataset(dataset, **NEEDS, action_repeat=2)
    with pytest.raises(ValueError, match=message):
        check_dataset(dataset, **{**NEEDS, **needs})


def test_images_are_suggested_only_where_they_can_be_drawn(toys):
    dataset = toys(body="Hopper", env_id="Hopper-v5")
    dataset = dataset.map(lambda t: dataclasses.replace(t, physics_states=np.zeros((len(t), 2))))
    with pytest.raises(ValueError, match=r"lacks image; it has height, velocity\.$"):
        check_dataset(dataset, **{**NEEDS, "body": "Hopper", "sensors": {"image": 12_288}})


def test_a_dataset_that_does_not_know_its_action_repeat_fits_any(toys):
    assert toys().card.action_repeat is None
    check_dataset(toys(), **NEEDS, action_repeat=4)


def test_actions(toys):
    with pytest.raises(ValueError, match="observations alone"):
        check_dataset(toys().observations_only(), **NEEDS)


def test_short_trajectories_are_passed_over(toys):
    with pytest.warns(UserWarning, match=r"1 of the 2 trajectories .* window of 5 observations"):
        check_dataset(toys(), **NEEDS | {"min_rows": 5})
