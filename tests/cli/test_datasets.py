import sys

import numpy as np
import pytest

from aime_gym.cli.datasets import parse_source
from aime_gym.datasets import Selection, load_dataset, save_dataset
from aime_gym.datasets.embodiment import RECIPES


def test_list(run, stored):
    code, out, _ = run("datasets list")
    assert code == 0
    assert any(
        line.split()[:4] == [stored, "cartpole", "AIME/cartpole-balance-mdp", "aime-gym"]
        for line in out.splitlines()
    )


def test_list_of_nothing_says_where_it_looked(run, monkeypatch):
    monkeypatch.setattr("aime_gym.cli.datasets.list_datasets", dict)
    assert "AIME_GYM_DATA adds folders" in run("datasets list")[1]


def test_show(run, stored, collected, places):
    code, out, _ = run("datasets show", stored)
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if line.strip())
    assert facts["trajectories"].strip() == "2 of 125 steps"
    assert facts["sensors"].strip() == "position [3], velocity [2]"
    assert f"mean {collected.episode_returns.mean():.1f}" in facts["returns"]
    assert facts["folder"].strip() == str(places / "data" / stored)
    assert facts["sha256"].strip() == load_dataset(stored).checksum


def test_show_without_rewards(run, collected, places):
    save_dataset(collected.observations_only(), places / "bare")
    code, out, _ = run("datasets show", places / "bare")
    assert code == 0
    assert "returns" not in out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("walker-mix", ("walker-mix", Selection())),
        ("a/b:c", ("a/b:c", Selection())),
        ("a:c:stride=2", ("a:c", Selection(stride=2))),
        ("a:max_return=300,stride=2,episodes=50", ("a", Selection(300.0, 2, 50))),
    ],
)
def test_sources(text, expected):
    assert parse_source(text) == expected


def test_mix_cuts_and_joins(run, stored, collected, places):
    code, _, _ = run(
        f"datasets mix {stored}:episodes=1 {stored}:stride=2,max_return=1000 {stored}",
        "--name",
        "mix",
        "--out",
        "data/mix",
        "--description",
        "Thrice.",
    )
    assert code == 0
    mixed = load_dataset("mix")
    expected = collected.episode_returns[[0, 0, 0, 1]]
    np.testing.assert_allclose(mixed.episode_returns, expected, rtol=1e-6)
    assert mixed.card.description == "Thrice."
    assert mixed.card.command == (
        "aime-gym datasets mix --name mix --out data/mix --description Thrice. "
        f"{stored}:episodes=1 {stored}:stride=2,max_return=1000 {stored}"
    )


def test_compact_is_half_as_precise(run, stored, places, collected):
    assert run(f"datasets mix {stored} --name mix --out data/mix --compact")[0] == 0
    with np.load(places / "data" / "mix" / "000000.npz") as file:
        assert file["sensors/position"].dtype == np.float16
        assert file["physics_states"].dtype == np.float32
    position = load_dataset("mix")[0].sensors["position"]
    np.testing.assert_allclose(position, collected[0].sensors["position"], atol=1e-3)


def test_convert_there_and_back(run, stored, places):
    assert run(f"datasets convert {stored} --format aime --out cartpole-there")[0] == 0
    assert (places / "cartpole-there" / "1.npz").is_file()
    there = places / "cartpole-there"
    assert run("datasets convert", there, *["--format", "native", "--out", "back"])[0] == 0
    before, after = load_dataset(stored), load_dataset(places / "back")
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first.actions, second.actions)
        np.testing.assert_array_equal(first.physics_states, second.physics_states)
        np.testing.assert_array_equal(first.sensors["velocity"], second.sensors["velocity"])


def test_convert_to_minari_and_back(run, stored, places):
    code, out, _ = run(f"datasets convert {stored} --format minari")
    assert code == 0
    assert str(places / "minari" / f"{stored}-v0") in out
    there = f"minari/{stored}-v0"
    assert any(line.split()[0] == there for line in run("datasets list")[1].splitlines())
    assert run(f"datasets convert {there} --format native --out back")[0] == 0
    for first, second in zip(load_dataset(stored), load_dataset(places / "back"), strict=True):
        np.testing.assert_array_equal(first.actions, second.actions)
        np.testing.assert_array_equal(first.physics_states, second.physics_states)
        np.testing.assert_array_equal(first.sensors["velocity"], second.sensors["velocity"])


def test_verify(run, stored, places):
    code, out, _ = run("datasets verify", stored)
    assert code == 0
    rows = {line[:18].strip(): line.split() for line in out.splitlines()}
    assert "passed" in rows["files"]
    assert {"not", "possible"} <= set(rows["pictures of states"])
    assert rows["rewards of states"][4] == "50"
    (places / "data" / stored / "000000.npz").write_bytes(b"")
    code, out, _ = run("datasets verify", stored)
    assert code == 1
    assert "000000.npz differs" in out
    assert "is damaged, or no dataset file" in out


def test_verify_chooses_its_sample(run, stored):
    first, other = (
        run(f"datasets verify {stored} --sample 3 --seed {seed}")[1].splitlines() for seed in (0, 1)
    )
    assert " 3 rewards" in first[-1]
    assert first[-2] != other[-2]


def test_picture(run, stored, places, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    code, out, _ = run(f"datasets picture {stored} --out pictures/x.png")
    assert code == 0
    assert "pictures/x.png" in out
    assert (places / "pictures" / "x.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.usefixtures("opengl")
def test_render_into_cache_and_dataset(run, collected, places):
    short = collected.map(lambda trajectory: trajectory.window(0, 4))
    save_dataset(short, places / "data" / "short")
    code, out, _ = run("datasets render short --out data/drawn")
    assert code == 0
    assert "Drawn by" in out
    assert len(list((places / "cache" / "images").glob("*.npy"))) == 1
    assert load_dataset("drawn")[1].sensors["image"].shape == (4, 64, 64, 3)
    assert not load_dataset("short").has_images


def test_every_recipe_of_embodiment_data_can_be_made(run):
    _, out, _ = run("datasets make --help")
    assert f"{{{','.join(RECIPES)}}}" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("show cartpole-balance-randm", "did you mean 'cartpole-balance-random'"),
        ("mix --name n --out o", "nothing to mix"),
        ("mix x:episode=1 --name n --out o", "'episode=1' of 'x:episode=1' selects nothing"),
        ("mix x:stride=two --name n --out o", "selects nothing"),
        ("mix x:stride=0 --name n --out o", "at least 1"),
        ("mix cartpole-balance-random:max_return=0 --name n --out o", "0 fit"),
        ("mix cartpole-balance-random --name n --out data", "not empty"),
        ("convert cartpole-balance-random --format aime --out data", "not empty"),
        ("convert cartpole-balance-random --format aime", "--out names a new folder"),
        ("convert cartpole-balance-random --format minari --out o", "a version at the end"),
        ("convert minari/none-v0 --format native --out o", "no dataset 'minari/none-v0'"),
        ("render cartpole-balance-random --out data", "not empty"),
        ("render nothing", "no dataset 'nothing'"),
        ("verify nothing", "no dataset 'nothing'"),
        ("picture nothing --out o.png", "no dataset 'nothing'"),
        ("picture nothing --out o.doc", "has the ending of no picture"),
        ("verify cartpole-balance-random --sample 0", "at least 1 row"),
    ],
)
def test_wrong_input(run, stored, places, line, message):
    code, _, err = run(f"datasets {line}")
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (places / "o").exists()


def test_lengths_that_are_all_the_same_are_one_number(run, stored):
    assert "2 of 125 steps" in run(f"datasets show {stored}")[1]


def test_convert_finds_out_that_minari_is_missing_before_it_loads(run, stored, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    monkeypatch.setattr("aime_gym.cli.datasets.load_dataset", None)
    code, _, err = run(f"datasets convert {stored} --format minari")
    assert code == 2
    assert "pip install 'aime-gym[minari]'" in err


def test_convert_does_not_make_a_second_version_of_one_of_minaris(run, stored):
    assert run(f"datasets convert {stored} --format minari")[0] == 0
    code, _, err = run(f"datasets convert minari/{stored}-v0 --format minari")
    assert code == 2
    assert "is one of Minari's already; --out names a folder" in err
