import re
import shutil
from pathlib import Path

import pytest

from agents import WorldModel
from aime_gym.catalogue import list_datasets, list_models
from aime_gym.datasets import load_dataset, write_aime_npz
from aime_gym.download import download_dataset, download_model

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASES = "https://github.com/argmax-ai/aime/releases"


@pytest.fixture
def releases(web, monkeypatch):
    """A server in the place of the published releases."""
    monkeypatch.setenv("AIME_GYM_RELEASES", f"{web.url}/releases")
    return web


@pytest.fixture
def published(releases, toys, tmp_path, packed_folder):
    """The server, with a dataset in the published layout."""
    write_aime_npz(toys, tmp_path / "made")
    packed = packed_folder(tmp_path / "made", "walker-run-expert/")
    releases.files["/releases/walker-run-expert.tgz"] = packed
    return releases


@pytest.fixture
def published_models(releases, tgz):
    """The server, with the archive of two models."""
    files = {
        f"pretrained-models/walker-{setup}/{name}": (GOLDEN / f"rssm-{setup}" / name).read_bytes()
        for setup in ("mdp", "lpomdp")
        for name in ("config.yaml", "model.pt")
    }
    releases.files["/releases/pretrained-models.tgz"] = tgz(files)
    return releases


def equal(first, second):
    return len(first) == len(second) and all(
        (a.sensors["height"] == b.sensors["height"]).all() and (a.actions == b.actions).all()
        for a, b in zip(first, second, strict=True)
    )


def test_a_published_dataset(published, toys, places, capsys):
    folder = download_dataset("aime/walker-run-expert", progress_bar=False)
    assert folder == places / "cache" / "datasets" / "aime" / "walker-run-expert"
    dataset = load_dataset("aime/walker-run-expert", progress_bar=False)
    assert equal(dataset, toys)
    assert (dataset.card.source, dataset.card.license) == ("aime", "CC-BY-4.0")
    assert "aime/walker-run-expert" in list_datasets()
    out, err = capsys.readouterr()
    url = f"{published.url}/releases/walker-run-expert.tgz"
    assert out == f"Downloading aime/walker-run-expert from {url}; license: CC-BY-4.0.\n"
    assert not err
    assert download_dataset("aime/walker-run-expert") == folder
    assert capsys.readouterr() == ("", "")
    assert len(published.requests) == 1


def test_progress_bars(published, capsys):
    download_dataset("aime/walker-run-expert", progress_bar=True)
    shown = capsys.readouterr().err
    assert "walker-run-expert.archive: 100%" in shown
    assert "unpacking: 2file" in shown


def test_what_is_in_a_folder_of_the_user_is_not_downloaded(published, toys, places):
    folder = write_aime_npz(toys, places / "data" / "aime" / "walker-run-expert")
    assert download_dataset("aime/walker-run-expert") == folder
    assert download_dataset("walker-run-expert").name == "walker-run-expert"  # Bundled.
    assert not published.requests


def test_load_dataset_downloads_only_if_asked(published, toys):
    command = "`aime-gym datasets download aime/walker-run-expert`"
    with pytest.raises(FileNotFoundError, match=command):
        load_dataset("aime/walker-run-expert")
    assert not published.requests
    for _ in range(2):
        dataset = load_dataset("aime/walker-run-expert", download=True, progress_bar=False)
        assert equal(dataset, toys)
    assert len(published.requests) == 1


def test_a_checksum_that_is_known(published):
    with pytest.raises(ValueError, match=r"not 1234.* as it should"):
        download_dataset("aime/walker-run-expert", sha256=16 * "1234")


def test_a_mirror_must_have_the_bytes_of_the_first_download(published, tgz, monkeypatch):
    folder = download_dataset("aime/walker-run-expert", progress_bar=False)
    shutil.rmtree(folder)
    published.files["/mirror/walker-run-expert.tgz"] = tgz({"0.npz": b"other"})
    monkeypatch.setenv("AIME_GYM_RELEASES", f"{published.url}/mirror/")
    with pytest.raises(ValueError, match="When it was downloaded first"):
        download_dataset("aime/walker-run-expert")
    assert not folder.exists()


def test_no_such_dataset(releases):
    with pytest.raises(FileNotFoundError, match=f"HTTP status 404.*{RELEASES} lists what there is"):
        download_dataset("aime/walker-fly-expert")
    with pytest.raises(FileNotFoundError, match="no dataset 'walker-fly-expert' here"):
        download_dataset("walker-fly-expert")
    for wrong in ("..", "", "a/b"):
        with pytest.raises(ValueError, match=f"is named aime/<name>: '{re.escape(wrong)}'"):
            download_dataset(f"aime/{wrong}")
    assert [path for path, _ in releases.requests] == ["/releases/walker-fly-expert.tgz"]


def test_the_address_without_a_mirror(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "aime_gym.download.archives.download_file", lambda url, *_, **__: asked.append(url) or 1 / 0
    )
    for download, name in (download_dataset, "aime/walker-toy"), (download_model, "aime/walker"):
        with pytest.raises(ZeroDivisionError):
            download(name)
    latest = f"{RELEASES}/latest/download"
    assert asked == [f"{latest}/walker-toy.tgz", f"{latest}/pretrained-models.tgz"]


def test_one_download_brings_all_published_models(published_models, places):
    folder = download_model("aime/walker-mdp", progress_bar=False)
    assert folder == places / "cache" / "models" / "aime" / "walker-mdp"
    assert download_model("aime/walker-lpomdp").name == "walker-lpomdp"
    assert len(published_models.requests) == 1
    assert {"aime/walker-mdp", "aime/walker-lpomdp"} <= set(list_models())
    assert WorldModel.load("aime/walker-lpomdp").env_info.body == "walker"


def test_a_model_that_was_not_published(published_models, capsys):
    for downloads in (1, 0):
        with pytest.raises(
            FileNotFoundError, match="have no 'walker-mpd', but walker-lpomdp, walker-mdp"
        ):
            download_model("aime/walker-mpd", progress_bar=False)
        assert capsys.readouterr().out.count("Downloading") == downloads
    assert len(published_models.requests) == 1


def test_an_archive_of_one_model(releases, tgz):
    files = {f"only/{name}": b"" for name in ("config.yaml", "model.pt")}
    releases.files["/releases/pretrained-models.tgz"] = tgz(files)
    assert download_model("aime/only").name == "only"


def test_datasets_in_the_place_of_models(releases, tgz):
    releases.files["/releases/pretrained-models.tgz"] = tgz({"a/0.npz": b"", "b/0.npz": b""})
    with pytest.raises(ValueError, match="does not have what it is for, but a, b"):
        download_model("aime/walker-mdp")
