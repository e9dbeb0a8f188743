import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest

import aime_gym
from aime_gym import files
from aime_gym.card import CARD, Card, Origin, write_card
from aime_gym.catalogue import (
    cache_folder,
    dataset_card,
    dataset_folders,
    dataset_origin,
    find_dataset,
    find_model,
    guess_env,
    list_datasets,
    list_models,
    model_folders,
    model_origin,
    state_env_ids,
)
from aime_gym.files import sha256

ASSETS = Path(aime_gym.__file__).parent / "assets"


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """An empty folder of datasets; neither the user's cache nor the user's folders."""
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AIME_GYM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AIME_GYM_MODELS", str(tmp_path / "models"))
    return tmp_path / "data"


@pytest.fixture
def models(tmp_path):
    """An empty folder of models."""
    return tmp_path / "models"


def touch(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def make_dataset(folder, **fields):
    write_card(folder, Card(folder.name, "walker", **fields))
    return folder


def make_model(folder, **fields):
    archive = touch(folder / "model.zip", folder.name)
    checksums = {"model.zip": sha256(archive)}
    write_card(folder, Card(folder.name, "walker", kind="model", sha256=checksums, **fields))
    return archive


def make_published_model(folder):
    touch(folder / "config.yaml")
    touch(folder / "model.pt", "weights")
    return folder


# Folders


@pytest.mark.parametrize(
    ("folders", "variable", "kind"),
    [
        (dataset_folders, "AIME_GYM_DATA", "datasets"),
        (model_folders, "AIME_GYM_MODELS", "models"),
    ],
)
def test_folders(folders, variable, kind, tmp_path, monkeypatch):
    own = [tmp_path / "cache" / kind, ASSETS / kind]
    monkeypatch.delenv(variable)
    assert folders() == own
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, os.pathsep.join(["~/a", f"{tmp_path}/a/", "", str(own[1])]))
    assert folders() == [tmp_path / "a", own[1], own[0]]


def test_cache(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("AIME_GYM_CACHE")
    assert cache_folder().name == "aime-gym"


# Datasets


def test_a_dataset_by_name_and_by_path(data, monkeypatch):
    folder = make_dataset(data / "walker-toy")
    published = touch(data / "aime" / "walker-run-expert" / "0.npz").parent
    assert find_dataset("walker-toy") == folder
    assert find_dataset("aime/walker-run-expert") == published
    assert find_dataset("walker-mix-small") == ASSETS / "datasets" / "walker-mix-small"
    for path in (folder, str(folder)):
        assert find_dataset(path) == folder
    monkeypatch.chdir(data)
    assert find_dataset("./walker-toy") == find_dataset(Path("walker-toy")) == Path("walker-toy")


def test_a_name_stands_before_the_working_folder(data, tmp_path, monkeypatch):
    folder = make_dataset(data / "walker-toy")
    make_dataset(tmp_path / "here" / "walker-toy")
    make_dataset(tmp_path / "here" / "walker-other")
    monkeypatch.chdir(tmp_path / "here")
    assert find_dataset("walker-toy") == folder
    assert find_dataset("walker-other") == Path("walker-other")


def test_an_unknown_dataset(data):
    make_dataset(data / "walker-toy")
    with pytest.raises(FileNotFoundError) as caught:
        find_dataset("walker-tyo")
    message = str(caught.value)
    assert "no dataset 'walker-tyo' here: did you mean 'walker-toy'? there are " in message
    assert "walker-mix-small, " in message
    assert f"Searched: {data}, " in message
    assert "AIME_GYM_DATA adds folders" in message


def test_what_is_not_here_and_can_be_downloaded():
    with pytest.raises(
        FileNotFoundError,
        match=r"argmax-ai/aime.*CC BY.*`aime-gym datasets download aime/walker-run-expert`",
    ):
        find_dataset("aime/walker-run-expert")
    with pytest.raises(FileNotFoundError, match="`aime-gym models download hub/user/repo` asks"):
        find_model("hub/user/repo")


def test_a_path_to_no_dataset(data, models):
    data.mkdir()
    with pytest.raises(FileNotFoundError, match=r"is no dataset: it has neither card\.json nor"):
        find_dataset(data)
    model = make_model(models / "walker-model").parent
    with pytest.raises(FileNotFoundError, match="is no dataset"):
        find_dataset(model)


def test_a_dataset_in_two_folders(data, tmp_path, monkeypatch):
    other = tmp_path / "other"
    for folder in (data, other):
        make_dataset(folder / "walker-toy")
    monkeypatch.setenv("AIME_GYM_DATA", f"{data}{os.pathsep}{other}")
    with pytest.raises(ValueError, match=f"{data}/walker-toy and {other}/walker-toy"):
        find_dataset("walker-toy")
    monkeypatch.setenv("AIME_GYM_DATA", f"{data}{os.pathsep}{data}/")
    assert find_dataset("walker-toy") == data / "walker-toy"
    other_name = tmp_path / "linked"
    other_name.symlink_to(data)
    monkeypatch.setenv("AIME_GYM_DATA", f"{data}{os.pathsep}{other_name}")
    assert find_dataset("walker-toy") == data / "walker-toy"


def test_list_of_datasets(data):
    make_dataset(data / "walker-toy", description="A toy.")
    touch(data / "aime" / "walker-run-expert" / "0.npz")
    touch(data / "hub" / "they" / "walker-run-other" / "0.npz")
    touch(data / "strange" / "0.npz")
    touch(data / "broken" / CARD, "{")
    (data / "no-dataset").mkdir()
    make_model(data / "walker-model")
    cards = list_datasets()
    assert {"walker-toy", "aime/walker-run-expert", "strange", "walker-mix-small"} <= set(cards)
    assert not {"no-dataset", "walker-model"} & set(cards)
    assert cards["walker-toy"].description == "A toy."
    assert cards["aime/walker-run-expert"].license == "CC-BY-4.0"
    other = cards["hub/they/walker-run-other"]
    assert (other.source, other.license) == ("user", "NOASSERTION")  # The layout says neither.
    assert "does not start with a body" in cards["strange"].description
    assert (cards["broken"].body, cards["broken"].kind) == ("unknown", "dataset")
    assert "is no card" in cards["broken"].description


def test_origins_of_datasets(data):
    make_dataset(data / "walker-toy", sha256={"000000.npz": "ab"})
    touch(data / "aime" / "walker-run-expert" / "0.npz")
    origin = dataset_origin("walker-toy")
    assert (origin.name, origin.source) == ("walker-toy", "user")
    assert origin == dataset_card(data / "walker-toy").origin
    assert dataset_origin("aime/walker-run-expert") == Origin("aime/walker-run-expert", "aime")
    assert dataset_origin("walker-mix-small").source == "aime-gym"
    with pytest.raises(FileNotFoundError, match="no dataset 'gone'"):
        dataset_origin("gone")


def test_the_card_of_a_model_is_no_card_of_a_dataset(data):
    write_card(data / "walker-model", Card("walker-model", "walker", kind="model"))
    with pytest.raises(ValueError, match="the card of a model, 'walker-model', not of a dataset"):
        dataset_card(data / "walker-model")


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("walker-run-expert", ("walker", "AIME/walker-run-mdp")),
        ("walker-mix", ("walker", None)),
        ("ball_in_cup-catch", ("ball_in_cup", "AIME/ball_in_cup-catch-mdp")),
        ("walkers-run", None),
        ("Hopper-v5", None),
    ],
)
def test_guesses(name, guess):
    assert guess_env(name) == guess


def test_state_env_ids():
    assert "AIME/walker-run-mdp" in state_env_ids("walker")
    assert all(env_id.endswith("-mdp") for env_id in state_env_ids("walker"))
    assert state_env_ids("Hopper") == []


# Models


def test_a_model_by_name(models):
    archive = make_model(models / "swing")
    published = make_published_model(models / "aime" / "walker-tiny")
    bare = touch(models / "bare" / "model.zip")
    assert find_model("swing") == archive
    assert find_model("bare") == bare
    assert find_model("aime/walker-tiny") == published
    bundled = ASSETS / "models" / "walker-mix-mdp" / "model.zip"
    assert find_model("walker-mix-mdp") == bundled


def test_a_model_by_path(models, tmp_path, monkeypatch):
    archive = make_model(models / "swing")
    published = make_published_model(tmp_path / "published")
    saved = touch(tmp_path / "saved.zip")
    paths = {
        archive: archive,
        archive.parent: archive,
        archive.with_suffix(""): archive,
        published: published,
        saved: saved,
        tmp_path / "saved": saved,
    }
    for path, found in paths.items():
        assert find_model(path) == find_model(str(path)) == found
    monkeypatch.chdir(tmp_path)
    for name in ("saved", "saved.zip", "./saved"):
        assert find_model(name) == Path("saved.zip")


def test_a_model_by_run_folder(tmp_path, monkeypatch):
    run = tmp_path / "aime-walker-run-mdp-seed0"
    touch(run / "config.json", "{}")
    monkeypatch.chdir(tmp_path)
    for name in (run, run.name):
        with pytest.raises(FileNotFoundError, match=r"has no result yet: .*final\.zip nor check"):
            find_model(name)
    checkpoint = touch(run / "checkpoint.zip")
    assert find_model(run) == checkpoint
    final = touch(run / "final.zip")
    assert find_model(run) == final
    assert find_model(run.name) == Path(run.name) / "final.zip"
    shutil.copytree(run, tmp_path / "models" / "x")
    with pytest.raises(FileNotFoundError, match="no model 'x'"):
        find_model("x")


def test_an_unknown_model(models):
    make_model(models / "swing")
    with pytest.raises(
        FileNotFoundError,
        match=r"no model 'swin' here: did you mean 'swing'\? there are .*, swing, "
        r".*walker-mix-mdp\..*AIME_GYM_MODELS adds folders",
    ):
        find_model("swin")
    with pytest.raises(FileNotFoundError, match="`aime-gym models download aime/tiny`"):
        find_model("aime/tiny")


def test_a_path_to_no_model(models):
    models.mkdir()
    with pytest.raises(FileNotFoundError, match=r"is no model: it has neither model\.zip, nor con"):
        find_model(models)


def test_a_model_in_two_folders(tmp_path, monkeypatch):
    for folder in ("one", "two"):
        make_model(tmp_path / folder / "swing")
    folders = f"{tmp_path}/one{os.pathsep}{tmp_path}/two"
    monkeypatch.setenv("AIME_GYM_MODELS", folders)
    with pytest.raises(ValueError, match=r"several models 'swing': .*one.*two.*Remove one"):
        find_model("swing")


def test_a_damaged_archive(models):
    archive = make_model(models / "swing")
    archive.write_text("damaged")
    for name in ("swing", archive, archive.parent):
        for find in (find_model, model_origin):
            with pytest.raises(ValueError, match=r"model\.zip is damaged: its checksum is not"):
                find(name)
    assert "swing" in list_models()


def test_an_archive_is_hashed_once_as_long_as_it_stays(models, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "aime_gym.catalogue.sha256", lambda path: hashed.append(path) or sha256(path)
    )
    archive = make_model(models / "swing")
    for _ in range(2):
        find_model("swing")
        model_origin(archive)
    assert len(hashed) == 1
    archive.write_text("damaged")
    with pytest.raises(ValueError, match="is damaged"):
        find_model("swing")


def test_a_card_of_other_files_is_not_compared(models):
    archive = make_model(models / "swing")
    other = touch(archive.with_name("other.zip"))
    assert find_model(other) == other
    assert model_origin(other) == Origin(str(other), "user", sha256(other))


def test_list_of_models(models):
    make_model(models / "swing", description="A swing.")
    make_published_model(models / "aime" / "walker-tiny")
    make_published_model(models / "walker-mine")
    touch(models / "bare" / "model.zip")
    touch(models / "cheetah-run-bare" / "model.zip")
    touch(models / "broken" / "model.zip")
    touch(models / "broken" / CARD, "{")
    touch(models / "mistaken" / "model.zip")
    write_card(models / "mistaken", Card("mistaken", "walker"))
    make_dataset(models / "walker-toy")
    cards = list_models()
    assert "walker-mix-mdp" in cards
    assert "walker-toy" not in cards
    assert cards["swing"].description == "A swing."
    published = cards["aime/walker-tiny"]
    assert (published.name, published.body) == ("aime/walker-tiny", "walker")
    assert (published.source, published.license) == ("aime", "CC-BY-4.0")
    for name in ("walker-mine", "cheetah-run-bare"):
        assert (cards[name].source, cards[name].license) == ("user", "NOASSERTION")
    assert cards["walker-mine"].description == ""
    assert cards["bare"].body == "unknown"
    assert cards["cheetah-run-bare"].env_id == "AIME/cheetah-run-mdp"
    assert "is no card" in cards["broken"].description
    assert "the card of a dataset" in cards["mistaken"].description
    assert {card.kind for card in cards.values()} == {"model"}


def test_origins_of_models(models):
    archive = make_model(models / "swing")
    published = make_published_model(models / "aime" / "walker-tiny")
    bare = touch(models / "bare" / "model.zip")
    assert model_origin("swing") == Origin("swing", "user", sha256(archive))
    assert model_origin(archive) == model_origin("swing")
    checksum = sha256(published / "model.pt")
    assert model_origin("aime/walker-tiny") == Origin("aime/walker-tiny", "aime", checksum)
    mine = make_published_model(models / "walker-mine")
    assert model_origin(mine) == Origin(str(mine), "user", sha256(mine / "model.pt"))
    assert model_origin("bare") == Origin("bare", "user", sha256(bare))
    bundled = model_origin("walker-mix-mdp")
    assert (bundled.name, bundled.source) == ("walker-mix-mdp", "aime-gym")
    assert bundled.sha256 == sha256(ASSETS / "models" / "walker-mix-mdp" / "model.zip")


def test_an_old_card_of_a_model_warns(models):
    archive = make_model(models / "swing")
    old = {
        "name": "swing",
        "env_id": "AIME/pendulum-swingup-mdp",
        "dataset": "pendulum-mix",
        "dataset_checksum": "01",
        "licence": "MIT",
        "sha256": {"model.zip": sha256(archive)},
    }
    (archive.parent / CARD).write_text(json.dumps(old))
    with pytest.warns(UserWarning, match=f"aime-gym renew {archive.parent}"):
        assert find_model("swing") == archive
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list_models()["swing"].body == "pendulum"


def test_without_a_home_folder_the_cache_is_a_temporary_one(monkeypatch, tmp_path):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("AIME_GYM_CACHE", "XDG_CACHE_HOME", "MINARI_DATASETS_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr("pooch.os_cache", lambda project: no_home())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files._temporary_home.cache_clear()
    with pytest.warns(UserWarning, match=r"no home folder.* AIME_GYM_CACHE"):
        folder = cache_folder()
    assert folder.parent.parent == tmp_path
    with warnings.catch_warnings(action="error"):  # It is said once.
        assert cache_folder() == folder
        assert "walker-run-expert" in list_datasets()
    files._temporary_home.cache_clear()
