"""Learning to act by watching: environments, datasets and scores.

Importing this package registers the environments' ids with Gymnasium, and loads NumPy and
Gymnasium alone; everything else is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aime_gym.envs.registration import register_environments
from aime_gym.ids import list_environments

if TYPE_CHECKING:
    from aime_gym.card import Card as Card
    from aime_gym.catalogue import list_datasets as list_datasets
    from aime_gym.datasets import Dataset as Dataset
    from aime_gym.datasets import collect as collect
    from aime_gym.datasets import load_dataset as load_dataset
    from aime_gym.datasets import mix as mix
    from aime_gym.datasets import save_dataset as save_dataset
    from aime_gym.download import download_dataset as download_dataset
    from aime_gym.download import push_dataset as push_dataset
    from aime_gym.evaluation.evaluate import Evaluation as Evaluation
    from aime_gym.evaluation.evaluate import evaluate as evaluate
    from aime_gym.evaluation.evaluate import expert_evaluation as expert_evaluation
    from aime_gym.evaluation.table import ScoreTable as ScoreTable
    from aime_gym.evaluation.table import compare as compare
    from aime_gym.trajectory import Trajectory as Trajectory

_MODULES = {
    "Card": "aime_gym.card",
    "Dataset": "aime_gym.datasets",
    "collect": "aime_gym.datasets",
    "list_datasets": "aime_gym.catalogue",
    "load_dataset": "aime_gym.datasets",
    "mix": "aime_gym.datasets",
    "save_dataset": "aime_gym.datasets",
    "download_dataset": "aime_gym.download",
    "push_dataset": "aime_gym.download",
    "Evaluation": "aime_gym.evaluation.evaluate",
    "evaluate": "aime_gym.evaluation.evaluate",
    "expert_evaluation": "aime_gym.evaluation.evaluate",
    "ScoreTable": "aime_gym.evaluation.table",
    "compare": "aime_gym.evaluation.table",
    "Trajectory": "aime_gym.trajectory",
}

__all__ = ["list_environments", *_MODULES]

register_environments()


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"aime_gym has no {name!r}: it has {', '.join(sorted(__all__))}.")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
