"""Results that are known beforehand, and what a result depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aime_gym.card import Origin
from aime_gym.catalogue import dataset_origin, model_origin
from aime_gym.evaluation.evaluate import PUBLISHED, Evaluation, expert_card, expert_evaluation
from aime_gym.evaluation.reference import published_expert_return, published_scores
from aime_gym.ids import EnvId, find_env_id

EXPERT = "expert"
METHODS = ("AIME", "BCO(0)")
PAPER = "the paper's"
EMBODIMENT = "mix"  # The data behind the published scores that are shown.

ORIGINS: Mapping[str, Callable[[str], Origin]] = {  # Key of a run's configuration -> look-up.
    "world_model": model_origin,
    "demos": dataset_origin,
    "dataset": dataset_origin,
}


def known_results(env_id: str) -> tuple[dict[str, Evaluation], dict[str, list[Origin]]]:
    """The expert's recorded episodes and the published scores, as far as there are any.

    Returns:
        Label -> evaluation, and label -> what it depends on.

    Raises:
        ValueError: The id is not registered.
    """
    evaluations, origins = {}, {}
    card = expert_card(env_id)
    if card is not None and card.env_id is not None:
        evaluations[EXPERT] = expert_evaluation(card)
        origins[EXPERT] = [card.origin]
    parts = find_env_id(env_id)
    if parts is None:
        return evaluations, origins
    for method in METHODS:
        published = _published(parts, method)
        if published is not None:
            label = f"{method}, {PAPER}"
            evaluations[label] = published
            origins[label] = [Origin(f"{parts.body}-{EMBODIMENT}", "aime")]
    return evaluations, origins


def _published(env_id: EnvId, method: str) -> Evaluation | None:
    """The paper's score of the task from a mix of data, if there is one."""
    body, task, setup = env_id
    expert = published_expert_return(body, task)
    if expert is None:
        return None
    try:
        scores = published_scores(body, EMBODIMENT, task, method, setup)
    except ValueError:
        return None
    returns = scores * expert / 100.0
    return Evaluation(str(env_id), returns, expert_return=expert, normalisation=PUBLISHED)


def origins_of(config: Mapping[str, Any]) -> list[Origin]:
    """The world model and the datasets that a run's configuration names, as they are now.

    Args:
        config: A run's configuration; its keys ``"world_model"``, ``"demos"`` and ``"dataset"``
            hold names or paths.

    Returns:
        What is found under each name; the name alone where that is gone.
    """
    return [_origin(config[key], find) for key, find in ORIGINS.items() if config.get(key)]


def _origin(name: str, find: Callable[[str], Origin]) -> Origin:
    try:
        return find(name)
    except (OSError, ValueError):
        return Origin(str(name))
