"""``aime-gym collect``: episodes of any policy, as a dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from aime_gym.cli.console import is_watched, shell_command
from aime_gym.cli.outputs import writes
from aime_gym.cli.policies import RANDOM, Acting
from aime_gym.datasets import Dataset, save_dataset
from aime_gym.datasets import collect as collect_dataset
from aime_gym.evaluation.evaluate import EVAL_SEED
from aime_gym.evaluation.evaluate import evaluate as evaluate_policy
from aime_gym.ids import check_env_id


@writes(out="new_folder")
def collect(
    acting: Annotated[Acting, tyro.conf.arg(name="")],
    *,
    name: str,
    out: Path,
    episodes: int = 20,
    seed: int = 0,
    evaluate: int = 0,
    images: bool = False,
    description: str = "",
    physics_dtype: Literal["float64", "float32"] = "float64",
) -> None:
    """Record episodes of a policy as a dataset.

    Args:
        acting: What acts, and where.
        name: The dataset's name.
        out: A new folder for it.
        episodes: The number of episodes.
        seed: Episode i starts from seed + i.
        evaluate: Run this many further episodes, from other seeds, and keep their returns, which
            are 100 percent of the score where nothing was published.
        images: Keep pictures, too.
        description: A sentence for the card.
        physics_dtype: The type of the stored physics states; float64 is exact.
    """
    options = {key: value for key, value in locals().items() if key != "acting"}
    policy = {key: value for key, value in vars(acting).items() if key != "device"}
    command = shell_command("collect", {**policy, **options})
    check_env_id(acting.env)
    if episodes < 1 or evaluate < 0:
        raise ValueError(
            f"--episodes is at least 1 and --evaluate at least 0; got {episodes} and {evaluate}."
        )
    dataset = collect_dataset(
        acting.load(seed),
        acting.env,
        episodes,
        seed=seed,
        name=name,
        deterministic=not acting.sampled,
        images=images,
        progress_bar=is_watched(),
        description=description or _describe(acting),
        command=command,
    )
    if evaluate:
        returns = _evaluate(acting, evaluate)
        dataset = Dataset(dataset, replace(dataset.card, evaluation_returns=returns))
    save_dataset(dataset, out, physics_dtype=physics_dtype)
    print(f"{dataset}\nMean return {dataset.episode_returns.mean():.1f}. It is in {out}.")


def _describe(acting: Acting) -> str:
    if acting.policy == RANDOM:
        return "Whole episodes of random actions."
    return f"Whole episodes of a policy's {'sampled' if acting.sampled else 'best'} actions."


def _evaluate(acting: Acting, episodes: int) -> tuple[float, ...]:
    """The returns that `aime-gym evaluate` finds, from its own seeds."""
    result = evaluate_policy(
        acting.load(EVAL_SEED),
        acting.env,
        episodes,
        deterministic=not acting.sampled,
        progress_bar=is_watched(),
    )
    print(result)
    return tuple(float(value) for value in result.returns)
