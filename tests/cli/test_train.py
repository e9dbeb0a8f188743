"""`aime-gym train`, on episodes of a few steps and budgets of a few updates."""

import dataclasses
import json
import re
from typing import get_args, get_type_hints

import pytest
import torch

from agents import AIMEAgent, BCAgent, SACAgent, WorldModel, WorldModelConfig
from agents.running import STEP
from agents.runs import recipes
from agents.runs.logs import read_curve
from agents.runs.recipe import FLAT, Run
from aime_gym.cli.train import app
from aime_gym.datasets import load_dataset
from aime_gym.envs.dm_control import environment
from aime_gym.files import sha256

ENV = "--env AIME/cartpole-balance-mdp"
CURVE = f"{STEP},train/elbo\n1,10.0\n2,20.0\n3,30.0\n"
TINY = "--sequence-length 4 --batch-size 3 --checkpoint-interval 2"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Episodes of 10 steps, and two to score."""
    monkeypatch.setattr(environment, "CONTROL_STEPS", 80)
    monkeypatch.setattr("agents.runs.recipes.agent.EPISODES", 2)
    monkeypatch.setattr("agents.runs.recipes.online.EXPERT_EPISODES", 1)


def options_of(config, prefix=""):
    """The option of every field of a configuration, and of those inside it."""
    hints = get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        hint, name = hints[field.name], prefix + field.name.replace("_", "-")
        nested = [choice for choice in choices(hint) if dataclasses.is_dataclass(choice)]
        for inner in nested:
            yield from options_of(inner, prefix if FLAT in get_args(hint) else f"{name}.")
        if not nested:
            yield f"--{name}"


def choices(hint):
    """The classes in an annotation."""
    arguments = [choice for inner in get_args(hint) for choice in choices(inner)]
    return [hint, *arguments] if isinstance(hint, type) else arguments


@pytest.mark.parametrize("recipe", recipes.RECIPES, ids=lambda recipe: recipe.kind)
def test_every_field_is_an_option_with_help(run, recipe):
    code, out, _ = run(f"train {recipe.kind} --help")
    assert code == 0
    text = " ".join(re.sub("[│╭╰─╮╯]", " ", out).split())
    text = re.sub(r" \[(\w+) \[\1 \.\.\.\]\]", r" \1", text)  # Several values.
    options = list(options_of(recipe))
    assert "--env" in options
    assert len(options) >= 9
    for option in options:
        found = re.search(
            rf" {option}(, \S+)?( \S+)? ([A-Z][^-].{{6,}}?)\((default|required)", text
        )
        assert found is not None, option


def test_the_walk_sees_nested_configurations():
    options = set(options_of(recipes.WorldModelRecipe))
    assert {"--deter-dim", "--encoder.hidden-layers", "--batch-size", "--pretrained"} <= options


def parsed(line, monkeypatch):
    """The recipe that a command line makes, and the command for its card."""
    found = []
    monkeypatch.setattr(
        "aime_gym.cli.train.train",
        lambda recipe, progress_bar, command: found.append((recipe, command)),
    )
    app.cli(prog="aime-gym train", args=line.split())
    return found[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--env AIME/walker-run-mdp", WorldModelConfig.residual()),
        ("--cell=residual --env=AIME/cheetah-run-mdp", WorldModelConfig.residual()),
        ("--env AIME/walker-run-mdp --cell rssmo", WorldModelConfig.of_cell("rssmo")),
        ("--env AIME/cheetah-run-mdp --cell rssm", WorldModelConfig.of_cell("rssm")),
        ("--env Pendulum-v1", WorldModelConfig.residual()),
        (
            "--stoch-dim 7 --encoder.hidden-dim 9 --cell rssmo --env AIME/walker-run-mdp",
            dataclasses.replace(
                WorldModelConfig.of_cell("rssmo"),
                stoch_dim=7,
                encoder=dataclasses.replace(WorldModelConfig.rssmo().encoder, hidden_dim=9),
            ),
        ),
    ],
)
def test_the_cell_chooses_the_other_values(monkeypatch, line, expected):
    recipe, command = parsed(f"world-model --dataset d {line}", monkeypatch)
    assert recipe.config == expected
    again, _ = parsed(command.removeprefix("aime-gym train "), monkeypatch)
    assert again == recipe


def test_help_says_what_the_cell_chooses(run):
    assert "suit the --cell" in " ".join(run("train world-model --help")[1].split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--env AIME/walkr-run-mdp --dataset d", "did you mean 'walker'"),
        ("--dataset d --env", "--env"),
        ("--env AIME/walker-run-mdp --dataset d --cell gru", "gru"),
        ("--env AIME/walker-run-mdp --dataset d --deter-dims 3", "--deter-dim"),
    ],
)
def test_wrong_options(run, line, message):
    code, _, err = run(f"train world-model {line}")
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    "line",
    [
        "world-model --env AIME/walker-run-mdp --dataset d --kl-balance 0.5 --reward",
        "world-model --env AIME/ball_in_cup-catch-mdp --dataset d --kl-balance None",
        "world-model --env Hopper-v5 --dataset d --probe.no-layer-norm --name n",
        "aime --env AIME/walker-run-mdp --world-model w --demos d --policy.hidden-layers 3",
        "bc --env AIME/walker-run-mdp --demos d --stack 2 --total-timesteps 3 --seed 4",
        "expert --env AIME/walker-run-mdp --algorithm simba --record r",
    ],
)
def test_commands_of_cards_make_the_same_recipe(monkeypatch, line):
    recipe, command = parsed(line, monkeypatch)
    assert parsed(command.removeprefix("aime-gym train "), monkeypatch) == (recipe, command)
    assert f"--seed {recipe.seed}" in command


def test_the_place_of_a_run_is_not_in_its_card(monkeypatch):
    line = "bc --env AIME/walker-run-mdp --demos d"
    _, command = parsed(line, monkeypatch)
    more = "--folder f --device cpu --checkpoint-interval 3"
    assert parsed(f"{line} {more}", monkeypatch)[1] == command


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
    assert (card["name"], card["updates"], card["source"]) == ("models-name", 2, "user")
    assert [origin["sha256"] for origin in card["learned_from"]] == [load_dataset(stored).checksum]
    assert card["sha256"] == {"model.zip": sha256(world_model / "model.zip")}
    assert card["command"] == (
        f"aime-gym train world-model {ENV} --total-timesteps 2 --seed 0 --dataset {stored} "
        "--name models-name --cell residual --deter-dim 8 --stoch-dim 4 --sequence-length 4 "
        "--batch-size 3"
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


def test_metrics_of_the_card_are_not_of_later_updates(collected, stored, places):
    (places / "progress.csv").write_text(CURVE)
    model = WorldModel("AIME/cartpole-balance-mdp", WorldModelConfig().narrow())
    recipe = recipes.WorldModelRecipe(
        env="AIME/cartpole-balance-mdp", dataset=stored, folder=places, name="m"
    )
    for updates, elbo in ((0, None), (2, 20.0), (3, 30.0), (4, 30.0)):
        model.num_timesteps = updates
        recipe.finish(model, collected, Run(places))
        card = json.loads((places / "m" / "card.json").read_text())
        assert card.get("metrics", {}).get("train/elbo") == elbo


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
    assert steps(places / "a") == [0, 2, 3]


def test_scores_from_before_the_evidence(run, world_model, stored, places):
    line = f"train aime {ENV} --world-model {world_model} --demos {stored} {TINY}"
    line += " --start-updates 2 --total-timesteps"
    assert run(f"{line} 1 --folder a --score-before")[0] == 0
    before = places / "a" / "before.json"
    assert set(json.loads(before.read_text())) == {"random"}
    code, out, _ = run(f"{line} 4 --folder a --score-before")
    assert code == 0
    assert "start: AIME/cartpole-balance-mdp, 2 episodes" in out
    assert "random:" not in out  # That was scored before the run was cut.
    scores = json.loads(before.read_text())
    assert set(scores) == {"random", "start"}
    assert scores["random"]["returns"] != scores["start"]["returns"]
    assert run(f"{line} 4 --folder plain")[0] == 0
    assert not (places / "plain" / "before.json").exists()
    with_it, without = (AIMEAgent.load(places / f / "final.zip") for f in ("a", "plain"))
    for first, second in zip(with_it.policy.parameters(), without.policy.parameters(), strict=True):
        assert torch.equal(first, second)
    start = run(f"{line} 2 --folder start")  # The start is the agent after its updates.
    assert start[0] == 0
    final = json.loads((places / "start" / "evaluation.json").read_text())
    assert final["returns"] == scores["start"]["returns"]


def test_a_typo_claims_no_folder(run, stored, places):
    line = f"train aime {ENV} --demos {stored} --folder a --world-model wolker-mix-mdp"
    code, _, err = run(line)
    assert code == 2
    assert "no model 'wolker-mix-mdp'" in err
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
    code, out, err = run(f"{line} 20")
    assert (code, err) == (0, "")
    assert "The best agent by evaluation is e/best.zip." in out
    assert json.loads((places / "e" / "config.json").read_text())["config"]["algorithm"] == "sac"
    assert SACAgent.load(places / "e" / "best.zip").action_space.shape == (1,)
    assert run(f"{line} 30")[0] == 0
    assert [trajectory.first_step for trajectory in load_dataset("e")] == [0, 10, 20]


def test_discrete_actions_are_refused_in_one_line(run, stored):
    code, _, err = run(f"train bc --env CartPole-v1 --demos {stored}")
    assert code == 2
    assert "takes Box actions" in err
    assert len(err.splitlines()) == 1
