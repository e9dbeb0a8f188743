"""`aime-gym train`, on episodes of a few steps and budgets of a few updates."""

import importlib
import json

import pytest

from agents import AIMEAgent, BCAgent, Expert, WorldModel, WorldModelConfig
from agents.logs import STEP, read_curve
from aime_gym.cli import train
from aime_gym.datasets import load_dataset
from aime_gym.envs import dm_control
from aime_gym.files import sha256

ENV = "--env AIME/cartpole-balance-mdp"
CURVE = f"{STEP},train/elbo\n1,10.0\n2,20.0\n3,30.0\n"
TINY = "--sequence-length 4 --batch-size 3 --checkpoint-interval 2"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Episodes of 10 steps, and two to score."""
    monkeypatch.setattr(dm_control, "CONTROL_STEPS", 80)
    monkeypatch.setattr(importlib.import_module("aime_gym.evaluation.evaluate"), "EPISODES", 2)
    monkeypatch.setattr("agents.expert.EVALUATION_EPISODES", 1)


@pytest.fixture
def world_model(run, stored, places):
    """The folder of a world model after two updates."""
    line = f"train world-model {ENV} --dataset {stored} {TINY} --total-timesteps 2 --folder wm"
    code, out, err = run(f"{line} --deter-dim 8 --stoch-dim 4 --name models-name")
    assert (code, err) == (0, "")
    assert "The world model is in wm/models-name." in out
    return places / "wm" / "models-name"


def steps(folder):
    return [row[STEP] for row in read_curve(folder / "progress.csv")]


def test_world_model_has_a_card(world_model, stored):
    card = json.loads((world_model / "card.json").read_text())
    assert (card["name"], card["updates"], card["source"]) == ("models-name", 2, "aime-gym")
    assert card["dataset_checksum"] == load_dataset(stored).checksum
    assert card["sha256"] == {"model.zip": sha256(world_model / "model.zip")}
    assert card["command"] == (
        f"aime-gym train world-model {ENV} --dataset {stored} --cell auto --deter-dim 8 "
        "--stoch-dim 4 --sequence-length 4 --batch-size 3 --learning-rate 0.0003 --seed 0 "
        "--total-timesteps 2"
    )


def test_the_same_world_model_goes_on(run, world_model, stored):
    folder = world_model.parent
    (folder / "progress.csv").write_text(CURVE)
    line = f"train world-model {ENV} --dataset {stored} {TINY} --deter-dim 8 --stoch-dim 4"
    line += " --folder wm --name models-name"
    assert run(f"{line} --total-timesteps 3")[0] == 0
    assert WorldModel.load(folder / "final.zip").num_timesteps == 3
    assert steps(folder) == [1, 2]
    assert (folder / "figures" / "elbo.png").stat().st_size > 1_000
    code, _, err = run(f"{line} --seed 1")
    assert code == 2
    assert "another configuration" in err


def test_metrics_of_the_card_are_not_of_later_updates(collected, places):
    (places / "progress.csv").write_text(CURVE)
    model = WorldModel("AIME/cartpole-balance-mdp", WorldModelConfig().narrow())
    for updates, elbo in ((0, None), (2, 20.0), (3, 30.0), (4, 30.0)):
        model.num_timesteps = updates
        train._write_model(model, places, "m", collected, "command", 0)
        card = json.loads((places / "m" / "card.json").read_text())
        assert card["metrics"].get("train/elbo") == elbo


def test_aime_and_its_table(run, world_model, stored, places):
    line = f"train aime {ENV} --world-model {world_model} --demos {stored} {TINY} --folder a"
    code, out, err = run(f"{line} --total-timesteps 2 --evaluation-interval 2")
    assert (code, err) == (0, "")  # Progress bars are for terminals.
    assert "2 episodes from seed 2000000" in out
    assert "R2 of the inferred actions" in out
    assert len(json.loads((places / "a" / "evaluation.json").read_text())["returns"]) == 2
    assert (places / "a" / "figures" / "inferred_actions.png").exists()
    assert run(f"{line} --total-timesteps 3 --evaluation-interval 2")[0] == 0
    assert AIMEAgent.load(places / "a" / "final.zip").num_timesteps == 3
    assert steps(places / "a") == [2, 3]


def test_a_typo_claims_no_folder(run, stored, places):
    line = f"train aime {ENV} --demos {stored} --folder a --world-model wolker-mix-mdp"
    code, _, err = run(line)
    assert code == 2
    assert "no world model 'wolker-mix-mdp'" in err
    assert not (places / "a" / "config.json").exists()


def test_bc(run, stored, places):
    line = f"train bc {ENV} --demos {stored} --folder b --checkpoint-interval 2 --total-timesteps"
    code, out, err = run(f"{line} 2")
    assert (code, err) == (0, "")
    assert "The agent is b/final.zip." in out
    assert run(f"{line} 3")[0] == 0
    assert BCAgent.load(places / "b" / "final.zip").num_timesteps == 3


def test_expert(run, places):
    line = f"train expert {ENV} --folder e --record data/e --total-timesteps"
    code, out, _ = run(f"{line} 20")
    assert code == 0
    assert "The best model is in e/best." in out
    assert json.loads((places / "e" / "config.json").read_text())["algorithm"] == "sac"
    assert Expert.load(places / "e").action_space.shape == (1,)
    assert run(f"{line} 30")[0] == 0
    assert [trajectory.first_step for trajectory in load_dataset("e")] == [0, 10, 20]
