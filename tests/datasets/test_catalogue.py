import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from aime_gym.datasets import (
    check_dataset,
    dataset_path,
    list_datasets,
    load_dataset,
    save_dataset,
    write_published,
)


def test_by_name_and_by_path(toys, same, places, monkeypatch):
    dataset = toys()
    save_dataset(dataset, places / "walker-toy")
    for name in ("walker-toy", str(places / "walker-toy"), places / "walker-toy"):
        assert same(load_dataset(name)[0], dataset[0])
    assert dataset_path("walker-toy") == places / "walker-toy"
    monkeypatch.chdir(places)
    assert same(load_dataset("./walker-toy")[0], dataset[0])


def test_published_names(toys, places):
    write_published(toys(), places / "aime" / "walker-run-expert")
    card = load_dataset("aime/walker-run-expert").card
    assert (card.name, card.source, card.licence) == (
        "aime/walker-run-expert",
        "aime",
        "CC-BY-4.0",
    )
    assert list(card.sha256) == ["0.npz", "1.npz"]


def test_list(toys, places):
    save_dataset(toys(), places / "walker-toy")
    write_published(toys(), places / "aime" / "walker-run-expert")
    write_published(toys(), places / "strange")
    (places / "no-dataset").mkdir()
    cards = list_datasets()
    assert {"walker-toy", "aime/walker-run-expert", "strange"} <= set(cards)
    assert "no-dataset" not in cards
    assert cards["walker-toy"].body == "walker"
    assert "does not start with a body" in cards["strange"].description


def test_unknown_names(toys, places):
    save_dataset(toys(), places / "walker-toy")
    with pytest.raises(FileNotFoundError, match="did you mean 'walker-toy'"):
        load_dataset("walker-tyo")
    with pytest.raises(FileNotFoundError, match=r"argmax-ai/aime.*CC BY.*walker-run-expert\.tgz"):
        load_dataset("aime/walker-run-expert")
    with pytest.raises(FileNotFoundError, match="is no dataset"):
        load_dataset(places)
    with pytest.raises(ValueError, match="'stored', 'render' or 'none'"):
        load_dataset("walker-toy", images="all")


def test_found_twice(toys, places, tmp_path, monkeypatch):
    other = tmp_path / "other"
    save_dataset(toys(), places / "walker-toy")
    save_dataset(toys(), other / "walker-toy")
    monkeypatch.setenv("AIME_GYM_DATA", f"{places}:{other}")
    with pytest.raises(ValueError, match=f"{places}/walker-toy and {other}/walker-toy"):
        load_dataset("walker-toy")
    monkeypatch.setenv("AIME_GYM_DATA", f"{places}:{places}")
    load_dataset("walker-toy")


def test_images_left_out(toys, places):
    save_dataset(toys(images=True), places / "walker-toy")
    assert load_dataset("walker-toy").has_images
    assert not load_dataset("walker-toy", images="none").has_images


NEEDS = {"body": "walker", "sensors": {"height": 1}, "actions": True, "min_rows": 4}


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"body": "cheetah"}, "is of body 'walker'; needed is 'cheetah'"),
        ({"sensors": {"height": 1, "touch": 2}}, "lacks touch; it has height, velocity"),
        ({"sensors": {"image": 12_288}}, r"lacks image.*images='render'"),
        ({"sensors": {"velocity": 9}}, "has 3 values; needed are 9"),
        ({"min_rows": 5}, "1 of the 2 trajectories .* shorter, the shortest with 4"),
    ],
)
def test_check_refuses(toy, toys, needs, message):
    dataset = toys()
    dataset = dataset.map(lambda t: dataclasses.replace(t, physics_states=np.zeros((len(t), 2))))
    check_dataset(dataset, **NEEDS)
    with pytest.raises(ValueError, match=message):
        check_dataset(dataset, **{**NEEDS, **needs})


def test_check_actions(toys):
    with pytest.raises(ValueError, match="observations alone"):
        check_dataset(toys().observations_only(), **NEEDS)


def test_importing_is_light():
    code = (
        "import sys, aime_gym.datasets; "
        "print({'pooch', 'torch', 'dm_control', 'mujoco', 'agents'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
