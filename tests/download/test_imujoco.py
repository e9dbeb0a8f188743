"""iMuJoCo's published archives, from a server of this machine."""

import io
import json
import zipfile

import numpy as np
import pytest

from aime_gym.download.imujoco import ADDRESS_VARIABLE, download_imujoco
from aime_gym.files import sha256
from aime_gym.imujoco import build, catalogue, read_imujoco_npz, to_xml

NAME = "walker2d-massinc_100_leggeom"


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def place(web, tmp_path, monkeypatch):
    """The folder that the archives go to."""
    monkeypatch.setenv(ADDRESS_VARIABLE, web.url)
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "imujoco"


def test_bodies(web, place):
    web.files["/xml.zip"] = zipped({f"xml/{NAME}.xml": to_xml(build(NAME))})
    folder = download_imujoco("xml", progress_bar=False)
    assert folder == place / "xml"
    assert catalogue(folder)[NAME].xml_file == folder / f"{NAME}.xml"
    download_imujoco("xml", progress_bar=False)
    assert len(web.requests) == 1


def test_data_goes_on_after_a_broken_connection(web, place):
    buffer = io.BytesIO()
    data = np.random.default_rng(0).uniform(0, 0.4, size=(1000, 25)).astype(np.float32)
    np.savez(buffer, data=data)
    web.files["/dataset.zip"] = zipped({f"dataset/sac-{NAME}.npz": buffer.getvalue()})
    web.cuts = [5_000]
    folder = download_imujoco("dataset", progress_bar=False)
    assert web.requests[0][1] is None
    assert web.requests[-1][1] is not None
    assert read_imujoco_npz(folder / f"sac-{NAME}.npz").num_steps > 0
    assert list(json.loads((place / "checksums.json").read_text())) == ["dataset"]


def test_another_checksum(web, place):
    web.files["/policies.zip"] = zipped({"policies/sac-hopper.zip": b"x"})
    with pytest.raises(ValueError, match="SHA-256"):
        download_imujoco("policies", sha256="0" * 64, progress_bar=False)
    assert not (place / "policies").exists()


def test_a_recorded_checksum(web, place):
    web.files["/policies.zip"] = zipped({"policies/sac-hopper.zip": b"x"})
    folder = download_imujoco("policies", progress_bar=False)
    assert len(sha256(folder / "sac-hopper.zip")) == 64
    (folder / "sac-hopper.zip").unlink()
    folder.rmdir()
    web.files["/policies.zip"] = zipped({"policies/sac-hopper.zip": b"y"})
    with pytest.raises(ValueError, match="When it was downloaded first"):
        download_imujoco("policies", progress_bar=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"xml/../../evil.xml": "x"}), "outside of its folder"),
        (zipped({"xml/readme.txt": "x"}), "does not have what it is for"),
        (zipped({"xml/a.xml": "x" * 1000})[:-30], "damaged or truncated"),
    ],
)
def test_wrong_archives(web, place, content, message):
    web.files["/xml.zip"] = content
    with pytest.raises(ValueError, match=message):
        download_imujoco("xml", progress_bar=False)
    assert not (place / "xml").exists()
    assert not (place.parent.parent / "evil.xml").exists()


def test_unknown_names(web, place):
    with pytest.raises(ValueError, match="did you mean 'policies'"):
        download_imujoco("policy", progress_bar=False)
    with pytest.raises(FileNotFoundError):
        download_imujoco("xml", progress_bar=False)
