"""`aime-gym diagnose`, on untrained networks."""

import json

import pytest

from agents import AIMEAgent, AIMEConfig, BCAgent, WorldModel, WorldModelConfig
from agents.diagnosis import Diagnosis
from aime_gym.datasets import collect, save_dataset

ENV_ID = "AIME/cartpole-balance-mdp"
QUICK = f"diagnose --env {ENV_ID} --episodes 2 --updates 3 --device cpu"


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """An agent, its world model, and a cloner, all untrained."""
    root = tmp_path_factory.mktemp("subjects")
    model = WorldModel(ENV_ID, WorldModelConfig().narrow(8), device="cpu")
    model.save(root / "model.zip")
    config = AIMEConfig(start_updates=0)
    AIMEAgent(ENV_ID, model, config, device="cpu").save(root / "aime-run" / "final.zip")
    BCAgent(ENV_ID, device="cpu").save(root / "bc.zip")
    (root / "torn.zip").write_bytes(b"PK")
    return root


def test_an_agent(run, subjects, stored, places):
    line = f"{QUICK} --demos {stored} --dataset {stored} --out d --policy {subjects / 'aime-run'}"
    code, out, err = run(line)
    assert (code, err) == (0, "")
    found = Diagnosis.from_json(json.loads((places / "d" / "diagnosis.json").read_text()))
    assert out.splitlines()[-1] == found.verdict
    text = " ".join(out.split())
    assert all(" ".join(" ".join(row).split()) in text for row in found.rows())
    assert (places / "d" / "diagnosis.png").read_bytes()[:4] == b"\x89PNG"
    assert set(found.r2) == {"inverse dynamics", "policy"}
    assert found.score is not None
    assert found.ceiling is not None
    assert found.left_out == ()


def test_a_world_model_alone(run, subjects, stored, places):
    code, out, err = run(f"{QUICK} --demos {stored} --world-model {subjects / 'model.zip'}")
    assert (code, err) == (0, "")
    assert "Left out: There is a world model alone" in out
    assert "Left out: There are no embodiment data" in out
    assert "ceiling" in out
    assert not list(places.glob("*.json"))


def test_demonstrations_without_actions(run, subjects, collected, places):
    save_dataset(collected.observations_only(), places / "data" / "blind")
    code, out, _ = run(f"{QUICK} --demos blind --policy {subjects / 'aime-run'}")
    assert code == 0
    assert "has demonstrations without actions: no one-step error on them" in out


def test_options_change_the_numbers(run, subjects, stored, places):
    line = f"{QUICK} --demos {stored} --world-model {subjects / 'model.zip'} --out"
    found = {}
    for name, more in {"plain": "", "seed": "--seed 1", "updates": "--updates 300"}.items():
        assert run(f"{line} {name} {more}")[0] == 0
        found[name] = json.loads((places / name / "diagnosis.json").read_text())
    assert found["seed"]["losses"] != found["plain"]["losses"]
    assert found["updates"]["losses"] == found["plain"]["losses"]
    assert found["updates"]["ceiling"] != found["plain"]["ceiling"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "Give one of --policy and --world-model, not neither"),
        ("--policy {0}/aime-run --world-model {0}/model.zip", "--world-model, not both"),
        ("--policy {0}/bc.zip", "BCAgent, not AIMEAgent. --policy takes an AIME agent"),
        ("--policy {0}/model.zip", "another agent: WorldModel, not AIMEAgent. --policy takes"),
        ("--policy {0}/torn.zip", "truncated, or no archive"),
        ("--policy random", "There is no model 'random'"),
        ("--world-model {0}/bc.zip", "another agent: BCAgent, not WorldModel"),
        ("--world-model {0}/model.zip --episodes 0", "At least one episode"),
        ("--world-model {0}/model.zip --demos nothing", "no dataset 'nothing'"),
        ("--world-model {0}/model.zip --dataset swings", "is of body 'pendulum'"),
        ("--world-model {0}/model.zip --env AIME/walker-run-mdp", "is of cartpole"),
        ("--world-model {0}/model.zip --env walker-run", "no environment 'walker-run'"),
    ],
)
def test_wrong_input(run, subjects, stored, places, words, message):
    if "swings" in words:
        swings = collect("random", "AIME/pendulum-swingup-mdp", 1, seed=0, name="swings")
        save_dataset(swings, places / "data" / "swings")
    code, _, err = run(f"{QUICK} --demos {stored} --out d {words.format(subjects)}")
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (places / "d").exists()
