"""A GPU that is asked for and is not there: an error in every command, before anything is read."""

import pytest
import torch

from agents import AIMEAgent, WorldModel
from agents.imujoco import PolicyQueue
from agents.imujoco.published import load_published_sac
from agents.runs.benchmark import Grid, Method, run_grid
from agents.runs.export import load_world_model
from agents.runs.recipe import train
from agents.runs.recipes import RECIPES, ExpertRecipe
from agents.sac import SACConfig

ENV = "AIME/pendulum-swingup-mdp"
WORLD, GRID_WORLD = f"--env {ENV}", "--env MiniGrid-Empty-5x5-v0"
READS = {
    "world-model": "--dataset nowhere",
    "aime": "--demos nowhere --world-model nowhere",
    "bc": "--demos nowhere",
    "reptile": "--demos nowhere",
    "bco": "--demos nowhere --dataset nowhere",
    "iidm": "--demos nowhere --dataset nowhere",
    "inverse-model": "--dataset nowhere",
    "forward-model": "--dataset nowhere",
}
COMMANDS = [
    *(
        f"train {recipe.kind} {GRID_WORLD if recipe.kind == 'amigo' else WORLD} "
        f"{READS.get(recipe.kind, '')} --folder out"
        for recipe in RECIPES
    ),
    f"evaluate {WORLD} --policy nowhere",
    f"evaluate {WORLD} --policy nowhere --sb3 ppo --trust-pickle",
    f"evaluate {WORLD} --policy random",
    f"collect {WORLD} --policy nowhere --name new --out out --episodes 1",
    f"video {WORLD} --policy nowhere --demos walker-run-expert --out out.mp4",
    f"video {GRID_WORLD} --policy nowhere --out out.mp4",
    f"diagnose {WORLD} --demos nowhere --policy nowhere",
    f"diagnose {WORLD} --demos nowhere --world-model nowhere",
    "predict --world-model nowhere --dataset nowhere --out out.png",
    "imujoco train --variants hopper --folder out --algorithm sac",
]
GPU = Grid(methods=Method("BC", "bc"), tasks="walker-run", gpus=1)
CALLS = {
    "constructor": lambda: WorldModel(ENV, device="cuda:0"),
    "load": lambda: AIMEAgent.load("nowhere", device="cuda"),
    "load_world_model": lambda: load_world_model("nowhere", device="cuda"),
    "load_published_sac": lambda: load_published_sac("sac-hopper.zip", device="cuda"),
    "train": lambda: train(ExpertRecipe(env=ENV, device="cuda")),
    "queue": lambda: PolicyQueue(device="cuda", config=SACConfig()).run([]),
    "grid": lambda: run_grid(GPU, "out"),
}
NO_GPU = "PyTorch finds no GPU here: take 'auto' or 'cpu'"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command(run, places, line):
    code, out, err = run(f"{line} --device cuda")
    assert (code, out) == (2, "")
    assert NO_GPU in err
    assert len(err.splitlines()) == 1
    assert not [path for path in places.iterdir() if path.name[0] != "."]


@pytest.mark.parametrize("name", CALLS)
def test_a_call(places, name):
    with pytest.raises(ValueError, match=NO_GPU):
        CALLS[name]()
    assert not [*places.iterdir()]


def test_every_command_with_a_device_is_tried():
    """Those whose modules have an option of that name, and all recipes."""
    assert {line.split()[1] for line in COMMANDS if line.startswith("train ")} == {
        recipe.kind for recipe in RECIPES
    }


def test_a_device_that_does_not_exist(run):
    code, _, err = run(f"evaluate {WORLD} --policy random --device gpu")
    assert (code, err) == (
        2,
        "aime-gym: error: A device is 'auto', 'cpu', 'cuda', ..., not 'gpu'.\n",
    )
