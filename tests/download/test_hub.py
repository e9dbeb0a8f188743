import dataclasses
import json
import shutil
import sys

import huggingface_hub
import pytest
import yaml
from huggingface_hub import HfApi

from agents import WorldModel, WorldModelConfig
from aime_gym.card import CARD, card_of_env, read_card, write_card
from aime_gym.catalogue import list_datasets
from aime_gym.datasets import load_dataset, save_dataset, write_aime_npz
from aime_gym.download import download_dataset, download_model, push_dataset, push_model
from aime_gym.download.hub import HubName, readme
from aime_gym.files import sha256

DATASET, MODEL = ("dataset", "me/walker-toy"), ("model", "me/swing")
README = "README.md"


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def visible(folder):
    """The entries of a folder, hidden locks aside."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def saved(toys, tmp_path):
    return save_dataset(toys, tmp_path / "data" / "walker-toy")


@pytest.fixture
def with_dataset(hub, saved):
    """The hub, with a dataset."""
    hub.repos[DATASET] = {".gitattributes": b"", README: b"Hello.", **contents(saved)}
    return hub


@pytest.fixture
def model(tmp_path):
    """A folder with a model and its card."""
    folder = tmp_path / "models" / "swing"
    env_id = "AIME/pendulum-swingup-mdp"
    path = WorldModel(env_id, WorldModelConfig().narrow()).save(folder / "model.zip")
    card = card_of_env(
        env_id, "swing", kind="model", sha256={"model.zip": sha256(path or folder / "model.zip")}
    )
    write_card(folder, card)
    return folder


# Names


def test_names():
    assert HubName.parse("hub/me/toy") == HubName("me/toy")
    assert HubName.parse("hub/me/toy.v1/a/b-c") == HubName("me/toy.v1", "a/b-c")
    for name in ("hub/me/toy", "hub/me/toy/a/b"):
        assert str(HubName.parse(name)) == name


@pytest.mark.parametrize(
    "name", ["hub/me", "hub/me/", "hub/../toy", "hub/me/toy/../../x", "hub//t/a"]
)
def test_names_of_another_form(hub, name):
    with pytest.raises(ValueError, match="A name on the hub is hub/<user>/<repo>"):
        download_dataset(name)
    assert not hub.requests


def test_names_that_the_hub_refuses(hub, saved):
    with pytest.raises(ValueError, match=r"The hub refuses the name: .* '?me/a\.\.b"):
        download_dataset("hub/me/a..b")
    with pytest.raises(ValueError, match=r"The hub refuses the name: .* '?me/a--b"):
        push_dataset(saved, "me/a--b")
    assert not hub.requests


# Downloads


def test_a_dataset(with_dataset, toys, saved, places, capsys):
    folder = download_dataset("hub/me/walker-toy", progress_bar=False)
    assert folder == places / "cache" / "datasets" / "hub" / "me" / "walker-toy"
    assert contents(folder) == {README: b"Hello.", **contents(saved)}
    assert visible(folder.parent) == ["walker-toy"]
    assert not visible(places / "cache" / "downloads")
    assert load_dataset("hub/me/walker-toy").checksum == load_dataset("walker-toy").checksum
    assert list_datasets()["hub/me/walker-toy"] == read_card(saved)
    out, err = capsys.readouterr()
    address = f"{with_dataset.url}/datasets/me/walker-toy"
    assert out == f"Downloading hub/me/walker-toy from {address}; license: cc-by-4.0.\n"
    assert not err
    asked = len(with_dataset.requests)
    assert download_dataset("hub/me/walker-toy") == folder
    assert len(with_dataset.requests) == asked


def test_load_dataset_downloads_if_asked(with_dataset, toys):
    with pytest.raises(FileNotFoundError, match="`aime-gym datasets download hub/me/walker-toy`"):
        load_dataset("hub/me/walker-toy")
    assert not with_dataset.requests
    assert len(load_dataset("hub/me/walker-toy", download=True, progress_bar=False)) == len(toys)


def test_the_bar(with_dataset, capsys):
    download_dataset("hub/me/walker-toy", progress_bar=True)
    assert "Fetching" in capsys.readouterr().err


@pytest.mark.parametrize("license", [None, ["mit", "cc0-1.0"]])
def test_other_licenses(with_dataset, license, capsys):
    with_dataset.license = license
    download_dataset("hub/me/walker-toy", progress_bar=False)
    stated = ", ".join(license) if license else "not stated"
    assert f"license: {stated}." in capsys.readouterr().out


def test_a_folder_of_a_repository_in_the_published_layout(hub, toys, tmp_path):
    folder = write_aime_npz(toys, tmp_path / "walker-run-expert")
    files = {f"data/walker-run-expert/{name}": each for name, each in contents(folder).items()}
    hub.repos["dataset", "they/many"] = {**files, "data/cheetah-run-expert/0.npz": b""}
    name = "hub/they/many/data/walker-run-expert"
    assert contents(download_dataset(name, progress_bar=False)) == contents(folder)
    assert len(load_dataset(name)) == len(toys)


@pytest.mark.parametrize("end", [".tgz", ".tar.gz", ".zip"])
def test_an_archive_in_a_repository(hub, toys, tmp_path, packed_folder, zipped, end):
    folder = write_aime_npz(toys, tmp_path / "walker-run-expert")
    packed = zipped(contents(folder)) if end == ".zip" else packed_folder(folder, "top/")
    hub.repos["dataset", "they/many"] = {f"walker-run-expert{end}": packed, "other.tgz": b""}
    found = download_dataset("hub/they/many/walker-run-expert", progress_bar=False)
    assert contents(found) == contents(folder)
    assert not any(f"other{end}" in request for request in hub.requests)


def test_a_repository_of_several_lists_them(hub):
    hub.repos["dataset", "they/many"] = {"b/0.npz": b"", "a/card.json": b"", "c.tgz": b"", "d": b""}
    with pytest.raises(ValueError, match="hub/they/many is no dataset; there are") as caught:
        download_dataset("hub/they/many")
    assert "there are hub/they/many/a, hub/they/many/b, hub/they/many/c." in str(caught.value)
    hub.repos["dataset", "they/many"] = {f"{each}/0.npz": b"" for each in range(20)}
    with pytest.raises(ValueError, match=r"hub/they/many/15, \.\.\."):
        download_dataset("hub/they/many/x")
    assert not any("resolve" in request for request in hub.requests)


def test_a_folder_that_is_in_the_way_stays(hub):
    hub.repos["dataset", "they/many"] = {"0.npz": b"", "a/0.npz": b""}
    download_dataset("hub/they/many/a", progress_bar=False)
    with pytest.raises(FileExistsError, match="many has something else than hub/they/many; move"):
        download_dataset("hub/they/many", progress_bar=False)


def test_a_folder_that_is_not_there_leaves_nothing_in_the_way(with_dataset, places):
    with pytest.raises(ValueError, match=r"there are hub/me/walker-toy\.$"):
        download_dataset("hub/me/walker-toy/wrong")
    assert not (places / "cache" / "datasets").exists()
    assert len(load_dataset("hub/me/walker-toy", download=True, progress_bar=False)) == 2


def test_two_folders_of_a_repository_at_the_same_time(hub, monkeypatch):
    hub.repos["dataset", "they/many"] = {"a/0.npz": b"a", "b/0.npz": b"b"}
    snapshot_download, meanwhile = HfApi.snapshot_download, []

    def interrupted(api, *args, **options):
        folder = snapshot_download(api, *args, **options)
        if not meanwhile:
            meanwhile.append("b")
            download_dataset("hub/they/many/b", progress_bar=False)
        return folder

    monkeypatch.setattr(HfApi, "snapshot_download", interrupted)
    assert contents(download_dataset("hub/they/many/a", progress_bar=False)) == {"0.npz": b"a"}
    assert contents(download_dataset("hub/they/many/b")) == {"0.npz": b"b"}


def test_a_repository_with_nothing(hub):
    hub.repos["dataset", "they/none"] = {README: b""}
    with pytest.raises(ValueError, match=r"^hub/they/none is no dataset\.$"):
        download_dataset("hub/they/none")


def test_no_such_repository(hub):
    with pytest.raises(OSError, match="Repository Not Found"):
        download_dataset("hub/they/nothing")


def test_no_hub(hub, monkeypatch):
    nowhere = hub.url.rpartition(":")[0] + ":1"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nowhere)
    with pytest.raises(ConnectionError, match=f"{nowhere} cannot be reached"):
        download_dataset("hub/me/walker-toy")


def test_files_that_are_not_the_cards(with_dataset, places):
    files = with_dataset.repos[DATASET]
    files["000000.npz"] = files["000000.npz"][:-1] + b"?"
    with pytest.raises(ValueError, match=r"000000\.npz is damaged: its checksum is not the card's"):
        download_dataset("hub/me/walker-toy", progress_bar=False)
    assert not (places / "cache" / "datasets").exists()
    assert not visible(places / "cache" / "downloads")


def test_the_file_of_a_card_that_is_missing(with_dataset, places):
    del with_dataset.repos[DATASET]["000000.npz"]
    with pytest.raises(FileNotFoundError, match=r"'walker-toy' is not whole: .*000000\.npz"):
        download_dataset("hub/me/walker-toy", progress_bar=False)
    assert not (places / "cache" / "datasets").exists()


def test_files_that_do_not_come(hub, places):
    hub.repos["dataset", "they/toy"] = {"0.npz": b"", "1.npz": b"", "2.npz": b""}
    hub.unlisted = {"1.npz"}
    with pytest.raises(FileNotFoundError, match=r"did not send 1\.npz of hub/they/toy"):
        download_dataset("hub/they/toy", progress_bar=False)
    assert not (places / "cache" / "datasets").exists()


def test_a_path_outside(hub, places):
    hub.repos["dataset", "they/evil"] = {"card.json": b"{}", "../../outside": b"evil"}
    with pytest.raises(ValueError, match=r"hub/they/evil has a file outside of its folder"):
        download_dataset("hub/they/evil")


def test_a_broken_connection(with_dataset, saved):
    with_dataset.cuts = [3]
    folder = download_dataset("hub/me/walker-toy", progress_bar=False)
    assert contents(folder) == {README: b"Hello.", **contents(saved)}


def test_checksums_of_repositories_are_their_own(hub):
    with pytest.raises(ValueError, match="leave out sha256"):
        download_dataset("hub/me/walker-toy", sha256="1234")
    assert not hub.requests


def test_without_the_hubs_package(monkeypatch, saved):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: download_dataset("hub/me/walker-toy"),
        lambda: push_dataset("walker-toy", "me/walker-toy"),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'aime-gym\[hub\]'"):
            call()


def test_a_model(hub, model, places):
    hub.repos[MODEL] = contents(model)
    assert download_model("hub/me/swing", progress_bar=False).name == "model.zip"
    assert WorldModel.load("hub/me/swing").env_info.body == "pendulum"


# Pushing


def test_a_dataset_goes_to_the_hub_and_comes_back(hub, saved, toys, places):
    address = push_dataset("walker-toy", "me/walker-toy")
    assert address == f"{hub.url}/datasets/me/walker-toy"
    files = dict(hub.repos[DATASET])
    page = files.pop(README).decode()
    del files[".gitattributes"]
    assert files == contents(saved)
    _, head, text = page.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "cc0-1.0"
    assert "# walker-toy" in text
    assert "| made by | `make` |" in text
    assert "aime-gym datasets download hub/me/walker-toy" in text
    shutil.rmtree(saved)
    back = load_dataset("hub/me/walker-toy", download=True, progress_bar=False)
    assert (back[0].sensors["height"] == toys[0].sensors["height"]).all()


def test_other_files_of_the_folder_stay_here(hub, saved):
    (saved / "notes.txt").write_text("mine")
    push_dataset(saved, "me/walker-toy")
    assert "notes.txt" not in hub.repos[DATASET]


def test_what_is_on_the_hub_is_not_overwritten(hub, saved):
    hub.repos[DATASET] = {"theirs.npz": b"", README: b"Hello."}
    before = dict(hub.repos[DATASET])
    with pytest.raises(FileExistsError, match=r"walker-toy has theirs\.npz; replace=True"):
        push_dataset(saved, "me/walker-toy")
    assert hub.repos[DATASET] == before
    push_dataset(saved, "me/walker-toy", replace=True)
    assert set(hub.repos[DATASET]) == {README, *contents(saved)}


@pytest.mark.parametrize("private", [True, False])
def test_private_repositories(hub, saved, private):
    push_dataset(saved, "me/walker-toy", private=private)
    assert [each.get("visibility", each.get("private")) for each in hub.created] == [
        "private" if private else "public"
    ]


def test_who_is_not_logged_in_cannot_push(hub, saved, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(OSError, match="401"):
        push_dataset(saved, "me/walker-toy")
    assert not hub.repos


def test_what_is_not_pushed(hub, saved, toys, tmp_path, model):
    with pytest.raises(ValueError, match=r"is <user>/<name>, not 'walker-toy'"):
        push_dataset(saved, "walker-toy")
    bare = write_aime_npz(toys, tmp_path / "walker-bare")
    with pytest.raises(FileNotFoundError, match=r"it has no card\.json"):
        push_dataset(bare, "me/walker-toy")
    shutil.copy(model / "model.zip", bare / "alone.zip")
    with pytest.raises(FileNotFoundError, match=r"it has no card\.json"):
        push_model(bare / "alone.zip", "me/swing")
    (saved / "000000.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="its checksum is not the card's"):
        push_dataset(saved, "me/walker-toy")
    values = json.loads((saved / CARD).read_text())
    del values["sha256"]
    (saved / CARD).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="the dataset is not finished"):
        push_dataset(saved, "me/walker-toy")
    assert not hub.requests


@pytest.mark.parametrize(("license", "stated"), [("NOASSERTION", "unknown"), ("MIT", "mit")])
def test_licenses_as_the_hub_names_them(toys, license, stated):
    page = readme(dataclasses.replace(toys.card, license=license), "me/walker-toy")
    assert yaml.safe_load(page.split("---\n")[1])["license"] == stated


def test_a_model_goes_to_the_hub(hub, model):
    assert push_model("swing", "me/swing") == f"{hub.url}/me/swing"
    files = hub.repos[MODEL]
    assert files["model.zip"] == (model / "model.zip").read_bytes()
    assert "aime-gym models download hub/me/swing" in files[README].decode()
