"""``aime-gym imujoco`` from the words to what is printed."""

import imageio.v3 as imageio
import numpy as np
import pytest

from aime_gym.download import transfer
from aime_gym.download.imujoco import ADDRESS_VARIABLE

HERE = "127.0.0.1"  # Where nothing answers.
VARIANT = "walker2d-lengthinc_50_leggeom"


def test_list(run):
    code, out, _ = run("imujoco list")
    assert code == 0
    assert "157 bodies" in out
    assert out.count(" known") == 6
    assert "iMuJoCo/hopper-massdec_25_leggeom" in out
    _, out, _ = run("imujoco list --robot walker2d --category friction")
    assert "4 bodies" in out
    assert "0.5" in out


def test_build(run, places):
    code, out, _ = run("imujoco build hopper-massdec_30_leggeom --out new/hopper.xml")
    assert code == 0
    assert "new/hopper.xml" in out
    before = (places / "new" / "hopper.xml").read_bytes()
    code, _, err = run("imujoco build hopper --out new/hopper.xml")
    assert code == 2
    assert "already" in err
    assert (places / "new" / "hopper.xml").read_bytes() == before


@pytest.mark.usefixtures("opengl")
def test_show(run, places):
    code, out, _ = run(f"imujoco show {VARIANT} --size 120")
    assert code == 0
    assert "length of leggeom x 1.5, derived" in out
    picture = imageio.imread(places / f"{VARIANT}.png")
    base, variant = picture[20:, :120], picture[20:, -120:]
    assert np.abs(base.astype(int) - variant).mean() > 1
    code, _, err = run(f"imujoco show {VARIANT}")
    assert code == 2
    assert "already" in err


@pytest.mark.parametrize("options", ["--out body", "--out body.gif", "--size 0"])
def test_a_picture_that_cannot_be_made(run, options):
    code, _, err = run(f"imujoco show {VARIANT} {options}")
    assert code == 2
    assert "A body's picture is a .png or .jpg file, of 1 pixel at least" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("list --robot hoper", "did you mean 'hopper'"),
        ("list --category weight", "mass, joint, length and friction"),
        ("build hopper-massdec_100_leggeom", "below 100 for dec"),
        ("build walker2d-massdec_50_tail", "there are torsogeom"),
        ("show hopper-massdec_25_legeom", "did you mean 'leggeom'"),
        ("convert sac-walker2d.npz --out data", "sac-walker2d.npz"),
    ],
)
def test_wrong_words(run, line, message):
    code, _, err = run(f"imujoco {line}")
    assert code == 2
    assert message in err


def test_convert(run, places):
    data = np.zeros((1000, 16), np.float32)
    data[:, 3] = np.arange(1000)
    np.savez(places / "sac-hopper.npz", data=data)
    assert run("imujoco convert sac-hopper.npz --out stored")[0] == 0
    code, out, _ = run("imujoco convert ./stored --out again.npz")
    assert code == 0
    assert "1 trajectories" in out
    assert run("imujoco convert sac-hopper.npz --out stored")[0] == 2


def test_download_of_what_is_not_there(run, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.setenv(ADDRESS_VARIABLE, f"http://{HERE}:1")
    code, _, err = run("imujoco download xml")
    assert code == 2
    assert f"{HERE}:1/xml.zip" in err
