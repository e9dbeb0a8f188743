"""A wrong number on the command line: a message and exit code 2, before anything is looked up."""

import dataclasses
import typing

import pytest

from agents.checks import _numbers
from agents.runs.recipes import RECIPES

NEEDED = {
    "env": "AIME/pendulum-swingup-mdp", "demos": "nowhere", "dataset": "nowhere",
    "world_model": "nowhere",
}  # fmt: skip


def options():
    """The command and option of every number of every recipe and of its settings."""
    for recipe in RECIPES:
        given = [f"--{name.replace('_', '-')}={NEEDED[name]}" for name in needed(recipe)]
        command = " ".join(["train", recipe.kind, *given])
        kinds = [recipe, *settings(recipe)]
        for kind in kinds:
            for name in _numbers(kind):
                yield pytest.param(command, name, id=f"{recipe.kind}-{name}")


def needed(recipe):
    nothing = (dataclasses.MISSING, dataclasses.MISSING)
    fields = [f for f in dataclasses.fields(recipe) if f.init]
    return [
        f.name for f in fields if (f.default, f.default_factory) == nothing and f.name in NEEDED
    ]


def settings(recipe):
    hints = typing.get_type_hints(recipe)
    return [
        hints[name] for name in ("config", "training") if dataclasses.is_dataclass(hints.get(name))
    ]


@pytest.mark.parametrize(("command", "name"), [*options()])
def test_a_wrong_number(run, places, command, name):
    code, out, err = run(f"{command} --{name.replace('_', '-')} nan --folder r")
    assert (code, out) == (2, "")
    assert "nan" in err
    assert "Traceback" not in err
    assert not (places / "r").exists()
