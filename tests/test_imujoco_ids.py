"""Names of variants, and the catalogue of them."""

import subprocess
import sys
from collections import Counter

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aime_gym
from aime_gym import imujoco_ids
from aime_gym.ids import body_of, check_env_id, task_name
from aime_gym.imujoco_ids import ROBOTS, Variant, catalogue, find_body

CATEGORIES = ["mass", "joint", "length", "friction"]


@given(st.data())
def test_names_are_parsed_as_they_are_written(data):
    robot = data.draw(st.sampled_from(sorted(ROBOTS)))
    category = data.draw(st.sampled_from(CATEGORIES))
    part = data.draw(st.sampled_from(sorted(ROBOTS[robot].parts(category))))
    direction = data.draw(st.sampled_from(["inc", "dec"]))
    percent = data.draw(st.integers(1, 99 if direction == "dec" else 900))
    variant = Variant(robot, category, direction, percent, part)
    assert Variant.parse(str(variant)) == variant
    sign = 1 if direction == "inc" else -1
    assert variant.factor == pytest.approx(1 + sign * percent / 100)


def test_the_published_numbers():
    variants = {n: e for n, e in catalogue().items() if e.status != "base"}
    assert Counter(entry.robot for entry in variants.values()) == {
        "hopper": 37,
        "halfcheetah": 53,
        "walker2d": 64,
    }
    assert Counter(entry.status for entry in variants.values()) == {"known": 6, "derived": 148}
    assert variants["halfcheetah-jointdec_25_bfoot"].status == "known"
    for name in variants:
        assert str(Variant.parse(name)) == name


def test_every_body_is_registered():
    for entry in catalogue().values():
        assert gym.spec(entry.env_id).id == entry.env_id
        assert gym.spec(entry.env_id).max_episode_steps == 1_000


def test_ids_outside_of_the_catalogue_are_found():
    assert "hopper-massdec_41_leggeom" not in catalogue()
    assert check_env_id("iMuJoCo/hopper-massdec_41_leggeom") in gym.registry
    assert find_body("hopper-massdec_41_leggeom").status == "made"


def test_variants_share_a_body_and_not_a_name():
    assert body_of("iMuJoCo/hopper-massdec_25_leggeom") == body_of("iMuJoCo/hopper")
    assert body_of("iMuJoCo/hopper") != body_of("AIME/hopper-hop-mdp")
    assert task_name("iMuJoCo/hopper") != task_name("iMuJoCo/hopper-massdec_25_leggeom")
    assert not [env_id for env_id in aime_gym.list_environments() if "iMuJoCo" in env_id]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("hopper-massdec_25_legeom", "did you mean 'leggeom'"),
        ("hopper-massdec_25_leg_geom", "leggeom"),
        ("hoper-massdec_25_leggeom", "did you mean 'hopper'"),
        ("hopper-massdec_25leggeom", "did you mean 'hopper-massdec_25_leggeom'"),
        ("hopper-masdec_25_leggeom", "did you mean 'hopper-massdec_25_leggeom'"),
        ("hopper-massdec_100_leggeom", "below 100 for dec"),
        ("hopper-massinc_0_leggeom", "at least 1"),
        ("walker2d-jointdec_25_footgeom", "footjoint"),
        ("halfcheetah-massdec_25_leg", "torso, bthigh, bshin, bfoot, fthigh, fshin, ffoot"),
    ],
)
def test_wrong_names(name, right):
    with pytest.raises(ValueError, match=right):
        check_env_id(f"iMuJoCo/{name}")


def test_a_folder_of_published_files_is_the_catalogue(tmp_path):
    (tmp_path / "xml").mkdir()
    for name in ("hopper-massdec_25_leggeom.xml", "walker2d-odd.xml", "readme.xml", "hopper.xml"):
        (tmp_path / "xml" / name).write_text("<mujoco/>")
    found = catalogue(tmp_path)
    assert list(found) == [*ROBOTS, "hopper-massdec_25_leggeom", "walker2d-odd"]
    assert found["walker2d-odd"].status == "published"
    assert found["walker2d-odd"].xml_file == tmp_path / "xml" / "walker2d-odd.xml"


def test_a_variable_names_the_folder(tmp_path):
    (tmp_path / "hopper-massdec_26_leggeom.xml").write_text("<mujoco/>")
    code = (
        "import aime_gym, gymnasium as gym\n"
        "print([i for i in gym.registry if i.startswith('iMuJoCo')])\n"
        "print(gym.spec('iMuJoCo/hopper-massdec_26_leggeom').kwargs)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={imujoco_ids.FOLDER_VARIABLE: str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.count("iMuJoCo/") == 4
    assert str(tmp_path) in run.stdout


def test_a_folder_without_files_is_told(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"xml\.zip"):
        catalogue(tmp_path)
    monkeypatch.setenv(imujoco_ids.FOLDER_VARIABLE, str(tmp_path))
    with pytest.warns(UserWarning, match="No environment of iMuJoCo is known"):
        imujoco_ids.register_catalogue()
