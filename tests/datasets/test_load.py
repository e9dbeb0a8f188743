import subprocess
import sys

import pytest

from aime_gym.card import Card, write_card
from aime_gym.datasets import load_dataset, read_dataset, save_dataset, write_aime_npz


def test_by_name_and_by_path(toys, same, data_folder):
    dataset = toys()
    save_dataset(dataset, data_folder / "walker-toy")
    for name in ("walker-toy", str(data_folder / "walker-toy"), data_folder / "walker-toy"):
        assert same(load_dataset(name)[0], dataset[0])


def test_published_names(toys, data_folder):
    write_aime_npz(toys(), data_folder / "aime" / "walker-run-expert")
    card = load_dataset("aime/walker-run-expert").card
    assert (card.name, card.source, card.license) == (
        "aime/walker-run-expert",
        "aime",
        "CC-BY-4.0",
    )
    assert list(card.sha256) == ["0.npz", "1.npz"]


def test_unknown_names(toys, data_folder):
    save_dataset(toys(), data_folder / "walker-toy")
    with pytest.raises(FileNotFoundError, match="did you mean 'walker-toy'"):
        load_dataset("walker-tyo")
    with pytest.raises(ValueError, match="'stored', 'render' or 'none'"):
        load_dataset("walker-toy", images="all")


def test_images_left_out(toys, data_folder):
    save_dataset(toys(images=True), data_folder / "walker-toy")
    assert load_dataset("walker-toy").has_images
    assert not load_dataset("walker-toy", images="none").has_images


def test_the_card_of_a_model_is_refused(data_folder):
    folder = data_folder / "walker-model"
    write_card(folder, Card("walker-model", "walker", kind="model"))
    for load in (load_dataset, read_dataset):
        with pytest.raises(ValueError, match="card of a model, 'walker-model', not of a dataset"):
            load(folder)


def test_a_card_of_the_old_form_is_read_with_a_warning(toys, data_folder, old_card):
    folder = save_dataset(toys(), data_folder / "walker-toy")
    old_card(folder, licence="CC0-1.0")
    with pytest.warns(UserWarning, match=f"aime-gym renew {folder}"):
        dataset = load_dataset("walker-toy")
    assert dataset.card.license == "CC0-1.0"
    assert len(dataset) == 2


def test_importing_is_light():
    code = (
        "import sys, aime_gym.datasets; "
        "print({'pooch', 'torch', 'dm_control', 'mujoco', 'agents'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
