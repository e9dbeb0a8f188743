"""Every number in every configuration is checked where it is declared."""

import dataclasses
import importlib
import inspect
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import tyro

import agents
from agents.checks import _numbers, check_numbers
from agents.runs.grid import Method

ANY_SIGN = {
    "reached_reward", "missed_reward", "paid_reward", "threshold", "solved_return"
}  # fmt: skip
MAY_BE_ZERO = ANY_SIGN | {
    "seed", "seeds", "layout_seed", "hidden_layers", "min_std", "num_ensembles", "kl_scale",
    "free_nats", "kl_balance", "prediction_scale", "held_out_share", "burn_ins", "start_updates",
    "action_prior", "min_epochs", "min_updates", "train_share", "learning_starts", "meta_rate",
    "pretrain_updates", "exploration_std", "discount", "trace", "entropy_scale", "entropy_cost",
    "value_cost", "teacher_entropy_cost", "intrinsic_coef", "window", "minutes", "gpus",
    "warm_learning_starts", "reinforce_share",
}  # fmt: skip
METHOD = Method("AIME", kind="aime")
REQUIRED = {
    "env": "AIME/pendulum-swingup-mdp", "demos": "d", "dataset": "d", "world_model": "m",
    "name": "AIME", "kind": "aime", "methods": (METHOD,), "tasks": ("walker-run",),
    "setups": ("mdp",), "embodiments": ("mix",), "folder": Path("f"), "held_out": ("halfcheetah",),
    "train_demos": "d", "training": None,
}  # fmt: skip


def declared():
    """The dataclasses of settings in all modules."""
    found = {}
    for module in pkgutil.walk_packages(agents.__path__, "agents."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            named = kind.__name__.endswith(("Config", "Recipe", "FewShot", "Queue", "Grid"))
            settings = named or kind is Method
            if settings and dataclasses.is_dataclass(kind) and not inspect.isabstract(kind):
                found[kind.__name__] = kind
    return found


def required(kind):
    fields = [f for f in dataclasses.fields(kind) if f.init]
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    return {f.name: REQUIRED[f.name] for f in fields if (f.default, f.default_factory) == missing}


NUMBERS = [
    pytest.param(kind, name, whole, id=f"{kind.__name__}-{name}")
    for kind in declared().values()
    for name, whole in _numbers(kind).items()
]


def test_they_are_found():
    assert {"AIMEConfig", "SACConfig", "MLPConfig", "AMIGoConfig", "Grid", "AIMERecipe"} <= {
        *declared()
    }
    assert len(NUMBERS) > 150


@pytest.mark.parametrize(("kind", "name", "whole"), NUMBERS)
def test_a_wrong_number_is_told_by_its_name(kind, name, whole):
    given = required(kind)
    default = getattr(kind(**given), name)
    wrong = [float("nan"), float("inf"), True, "3", *([1.5] if whole else [])]
    wrong += [] if name in ANY_SIGN else [-1]
    wrong += [] if name in MAY_BE_ZERO else [0]
    for value in wrong:
        with pytest.raises(ValueError, match=rf"{name}\b"):
            kind(**{**given, name: (value,) if isinstance(default, tuple) else value})


def test_what_stands_for_a_number_passes():
    @dataclasses.dataclass
    class Settings:
        count: int | None = None
        rates: tuple[float, ...] = (0.5,)
        name: str = "text"
        flag: bool = True

        def __post_init__(self):
            check_numbers(self)

    assert _numbers(Settings) == {"count": True, "rates": False}
    for count in (None, 3, np.int64(3), tyro.MISSING):
        Settings(count=count)
    Settings(rates=(1, np.float32(0.5)))
    with pytest.raises(ValueError, match=r"rates is a finite number; got nan"):
        Settings(rates=(1.0, float("nan")))
    with pytest.raises(ValueError, match=r"count is a whole number; got 1\.0"):
        Settings(count=1.0)
