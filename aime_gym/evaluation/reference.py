"""The published results of AIME and BCO(0).

Source: Zhang et al., "Action Inference by Maximising Evidence", NeurIPS 2023, from the authors'
repository, argmax-ai/aime; see ``assets/reference/README.md``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

CELL = ("body", "embodiment", "task", "method", "setup")
SPELLINGS = {"runb": "runbackward", "flipb": "flipbackward"}


def published_expert_return(body: str, task: str) -> float | None:
    """Mean return of the experts behind the published scores; None for another body or task.

    Args:
        body: Such as ``"walker"``.
        task: Such as ``"run"``; ``"runb"`` and ``"flipb"`` are understood.
    """
    return _expert_returns().get(f"{body}-{_spelled(task)}")


def published_scores(
    body: str, embodiment: str, task: str, method: str, setup: str
) -> NDArray[np.float64]:
    """Scores of 100 trajectories [100], percent of the expert.

    Args:
        body: ``"walker"`` or ``"cheetah"``.
        embodiment: What the world model learned from: ``"random"``, ``"p2e"``, a task's training
            buffer, or ``"mix"`` (walker alone).
        task: What was imitated.
        method: ``"AIME"`` or ``"BCO(0)"``.
        setup: ``"mdp"``, ``"lpomdp"`` or ``"visual"``.

    Raises:
        ValueError: There is no such cell; the message lists what exists.
    """
    cell = (body, _spelled(embodiment), _spelled(task), method, setup)
    table = _scores()
    if cell not in table:
        raise ValueError(_missing(cell, list(table)))
    return table[cell].astype(np.float64)


def _missing(cell: tuple[str, ...], existing: list[tuple[str, ...]]) -> str:
    """Names the first part that does not exist, and what exists instead."""
    for index, part in enumerate(cell):
        found = [other for other in existing if other[index] == part]
        if not found:
            choices = dict.fromkeys(other[index] for other in existing)
            given = " ".join(cell[:index])
            return (
                f"Nothing was published for {CELL[index]} {part!r}{given and ' of ' + given}: "
                f"there are {', '.join(choices)}."
            )
        existing = found
    raise AssertionError(cell)


def _spelled(task: str) -> str:
    return SPELLINGS.get(task, task)


@cache
def _expert_returns() -> dict[str, float]:
    text = (files("aime_gym") / "assets/reference/expert_returns.json").read_text(encoding="utf-8")
    returns: dict[str, float] = json.loads(text)
    return returns


@cache
def _scores() -> dict[tuple[str, ...], NDArray[np.float32]]:
    with (files("aime_gym") / "assets/reference/scores.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        cells, scores = arrays["cells"], arrays["scores"]
    return {tuple(str(cell).split("/")): row for cell, row in zip(cells, scores, strict=True)}
