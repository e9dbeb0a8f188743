import json
from pathlib import Path

import pytest

from aime_gym.catalogue import list_datasets
from aime_gym.minari_folders import (
    find_minari,
    is_minari,
    minari_card,
    minari_datasets,
    minari_id,
    minari_root,
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture
def make(root):
    """A function that writes the metadata of a dataset."""

    def write(name, **metadata):
        folder = root / name
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "metadata.json").write_text(json.dumps({"dataset_id": name, **metadata}))
        return folder

    return write


def test_the_default_is_minaris_own(monkeypatch):
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    assert minari_root() == Path.home() / ".minari" / "datasets"


def test_names_follow_the_folders(make, root):
    assert list(minari_datasets()) == []
    first, other = make("robots/arm/expert-v0"), make("walk-v2")
    (root / "empty-v0").mkdir()
    assert list(minari_datasets()) == [
        ("minari/robots/arm/expert-v0", first),
        ("minari/walk-v2", other),
    ]
    assert find_minari("minari/walk-v2") == other
    assert is_minari(first)
    assert not is_minari(root / "empty-v0")
    with pytest.raises(FileNotFoundError, match="did you mean 'minari/walk-v2'"):
        find_minari("minari/walk-v1")


def test_ids_are_paths_from_minaris_folder_on(root, tmp_path):
    assert minari_id(root / "robots" / "arm" / "expert-v0") == "robots/arm/expert-v0"
    assert minari_id(tmp_path / "else" / "expert-v0") == "expert-v0"
    for wrong in ("expert", "expert-v", "ex pert-v0", "a.b-v0"):
        with pytest.raises(ValueError, match="a version at the end"):
            minari_id(root / wrong)


@pytest.mark.parametrize(
    ("spec", "body", "env_id"),
    [
        ('{"id": "AIME/walker-run-mdp"}', "walker", "AIME/walker-run-mdp"),
        ('{"id": "Pendulum-v1"}', "Pendulum", "Pendulum-v1"),
        ('{"id": "other/Unknown-v3"}', "Unknown", None),
        (None, "expert", None),
    ],
)
def test_cards_say_what_is_known(make, spec, body, env_id):
    about = {"description": "An arm."} | ({} if spec is None else {"env_spec": spec})
    card = minari_card(make("robots/arm/expert-v0", **about))
    assert (card.body, card.env_id) == (body, env_id)
    assert (card.name, card.source) == ("minari/robots/arm/expert-v0", "user")
    assert (card.description, card.license) == ("An arm.", "NOASSERTION")


@pytest.mark.parametrize("spec", ["{", "3", '{"name": "Pendulum-v1"}'])
def test_a_damaged_environment_is_the_datasets_own_fault(make, spec):
    folder = make("odd-v0", env_spec=spec)
    make("walk-v2")
    with pytest.raises(ValueError, match="metadata of odd-v0 name no environment"):
        minari_card(folder)
    listed = list_datasets()
    assert listed["minari/odd-v0"].body == "unknown"
    assert listed["minari/walk-v2"].body == "walk"
