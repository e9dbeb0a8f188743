"""Archives and results that others changed: refused, and the error says where."""

import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from agents import BCAgent
from agents.runs.benchmark import read_result
from agents.runs.cell import CHECKSUM, RESULT, checksum_of
from agents.runs.grid import Grid, Method, encode_recipe
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.files import write_json


@pytest.fixture
def path(make_bc, pendulum, tmp_path):
    make_bc(batch_size=20).learn(pendulum, 2).save(tmp_path / "agent.zip")
    return tmp_path / "agent.zip"


def rewrite(path, change):
    """Changes the members of an archive, a dictionary."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


def change_weight(function):
    def change(members):
        weights = load(members["weights.safetensors"])
        name = min(weights)
        weights[name] = function(weights[name]).contiguous()
        members["weights.safetensors"] = save(weights)

    return change


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda w: w * float("nan"), r"weights\.safetensors has values that are not finite, in "),
        (lambda w: w.to(torch.int32), r"of another shape or kind \S+ torch.int32 instead of"),
        (lambda w: w.double(), r"of another shape or kind \S+ torch.float64 instead of"),
        (lambda w: w[None], r"of another shape or kind \S+ \[1\] instead of"),
    ],
)
def test_weights_that_do_not_fit(path, function, message):
    rewrite(path, change_weight(function))
    with pytest.raises(ValueError, match=rf"agent\.zip.*{message}"):
        BCAgent.load(path, device="cpu")


def put(name, content):
    return lambda members: members.update({name: content})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("evil.pkl", b""), "more than an archive has: .*evil.pkl"),
        (lambda members: members.pop("training.safetensors"), "training.safetensors is missing"),
        (put("config.json", b'{"kind": NaN}'), "NaN is no number"),
        (put("counters.json", b"[]"), "counters.json holds list"),
        (put("counters.json", b'{"soul": 1}'), "no part that the saved state 'soul' is of"),
        (put("counters.json", b'{"supervised.epochs.count": "x"}'), "'x', which is of another kin"),
    ],
)
def test_members_that_do_not_belong(path, change, message):
    rewrite(path, change)
    with pytest.raises(ValueError, match=rf"agent\.zip is .*{message}"):
        BCAgent.load(path, device="cpu")


def test_a_configuration_of_far_more_than_the_weights(path):
    def enlarge(members):
        text = members["config.json"].decode().replace('"hidden_dim": ', '"hidden_dim": 99999')
        members["config.json"] = text.encode()

    rewrite(path, enlarge)
    with pytest.raises(ValueError, match=r"agent\.zip is .*far more than its weights are"):
        BCAgent.load(path, device="cpu")


def test_a_changed_result_of_a_cell(tmp_path):
    grid = Grid(methods=(Method("BC", kind="bc"),), tasks=("walker-run",), setups=("mdp",))
    (cell, *_) = grid.cells
    result = {
        "recipe": encode_recipe(grid, cell),
        "evaluation": Evaluation("AIME/walker-run-mdp", np.arange(3.0)).to_json(),
        "origins": [],
        "seconds": 1.0,
    }
    path = tmp_path / grid.cell_folder(cell) / RESULT
    write_json(path, result)  # Of an earlier version.
    assert read_result(grid, cell, tmp_path) == result
    write_json(path, {**result, CHECKSUM: checksum_of(result)})
    assert read_result(grid, cell, tmp_path)["seconds"] == 1.0
    path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    with pytest.raises(ValueError, match=r"cell\.json is damaged.*checksum is of another"):
        read_result(grid, cell, tmp_path)
    write_json(path, {key: json.loads(json.dumps(value)) for key, value in result.items()})
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"cell\.json is damaged"):
        read_result(grid, cell, tmp_path)
