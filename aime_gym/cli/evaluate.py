"""``aime-gym evaluate``: the score of a policy, beside the expert's and the published ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aime_gym.cli.policies import Algorithm, Sampled, load_policy, policy_name, run_config
from aime_gym.cli.words import is_watched, print_wide
from aime_gym.evaluation.evaluate import EPISODES, EVAL_SEED

if TYPE_CHECKING:
    from aime_gym.evaluation.evaluate import Evaluation
    from aime_gym.evaluation.table import Origin

METHODS = ("AIME", "BCO(0)")
PAPER = "the paper's"


def evaluate(
    *,
    env: str,
    policy: str,
    episodes: int = EPISODES,
    seed: int = EVAL_SEED,
    sampled: Sampled = False,
    num_envs: int | None = None,
    json: Path | None = None,
    sb3: Algorithm | None = None,
    device: str = "auto",
) -> None:
    """Run whole episodes of a policy and score them against the expert.

    Args:
        env: The environment, such as AIME/walker-run-mdp.
        policy: random, a run folder of `aime-gym train`, or an agent's archive (.zip).
        episodes: How many.
        seed: Episode i starts from seed + i.
        sampled: Sample the policy's actions, instead of its best.
        num_envs: Environments at once; by default as many as episodes, at most 50.
        json: Write returns and statistics to this file.
        sb3: The algorithm, where the policy is a model of Stable-Baselines3.
        device: auto, cpu, cuda, ...
    """
    from rich.console import Console

    from aime_gym.envs.setups import parse_env_id
    from aime_gym.evaluation.evaluate import evaluate as evaluate_policy
    from aime_gym.evaluation.table import compare

    parse_env_id(env)
    result = evaluate_policy(
        load_policy(policy, env, sb3, seed, device),
        env,
        episodes,
        seed=seed,
        num_envs=num_envs,
        deterministic=not sampled,
        progress_bar=is_watched(),
    )
    if json is not None:
        _write(json, result)
    print(result)
    known, origins = known_evaluations(env)
    if known:
        label = policy_name(policy)
        origins[label] = policy_origins(policy)
        table = compare({label: result, **known}, origins)
        print_wide(Console(), table.to_rich())


def _write(path: Path, result: Evaluation) -> None:
    from aime_gym.files import atomic_write

    with atomic_write(path, "w") as file:
        json.dump(result.to_json(), file, indent=1)


def policy_origins(spec: str) -> list[Origin]:
    """The world model and the demonstrations that the run of a policy names, as they are now."""
    config = run_config(spec)
    finders = {"world_model": _model_origin, "demos": _dataset_origin}
    return [_origin(config[key], find) for key, find in finders.items() if key in config]


def _origin(name: str, find: Callable[[str], Origin]) -> Origin:
    """What is found under a name; the name alone, where that is gone."""
    from aime_gym.evaluation.table import Origin

    try:
        return find(name)
    except (OSError, ValueError):
        return Origin(name)


def _model_origin(name: str) -> Origin:
    from agents.world_models.catalogue import model_origin
    from aime_gym.evaluation.table import Origin

    return Origin(*model_origin(name))


def _dataset_origin(name: str) -> Origin:
    from aime_gym.datasets.catalogue import dataset_path
    from aime_gym.datasets.published import published_card
    from aime_gym.datasets.storage import CARD, read_card
    from aime_gym.evaluation.table import Origin

    folder = dataset_path(name)
    card = read_card(folder) if (folder / CARD).is_file() else published_card(folder)
    return Origin(card.name, card.source, card.checksum)


def known_evaluations(env_id: str) -> tuple[dict[str, Evaluation], dict[str, list[Origin]]]:
    """The expert's recorded episodes and the published scores, as far as there are any.

    Returns:
        Label -> evaluation, and label -> what it depends on.
    """
    from aime_gym.datasets.places import BUNDLED
    from aime_gym.datasets.storage import CARD, read_card
    from aime_gym.envs.setups import parse_env_id
    from aime_gym.evaluation.evaluate import expert_evaluation
    from aime_gym.evaluation.table import Origin

    body, task, _ = parse_env_id(env_id)
    folder = BUNDLED / f"{body}-{task}-expert"
    evaluations, origins = {}, {}
    if (folder / CARD).is_file() and (card := read_card(folder)).evaluation_returns:
        evaluations["expert"] = expert_evaluation(card)
        origins["expert"] = [Origin(card.name, card.source, card.checksum)]
    for method in METHODS:
        published = _published(env_id, method)
        if published is not None:
            label = f"{method}, {PAPER}"
            evaluations[label] = published
            origins[label] = [Origin(f"{body}-mix", "aime")]
    return evaluations, origins


def _published(env_id: str, method: str) -> Evaluation | None:
    """The paper's score of the task from a mix of data, if there is one."""
    from aime_gym.envs.setups import parse_env_id
    from aime_gym.evaluation.evaluate import PUBLISHED, Evaluation
    from aime_gym.evaluation.reference import published_expert_return, published_scores

    body, task, setup = parse_env_id(env_id)
    expert = published_expert_return(body, task)
    try:
        scores = published_scores(body, "mix", task, method, setup)
    except ValueError:
        return None
    assert expert is not None
    returns = scores * expert / 100.0
    return Evaluation(env_id, returns, expert_return=expert, normalisation=PUBLISHED)
