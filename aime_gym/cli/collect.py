"""``aime-gym collect``: episodes of any policy, as a dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from aime_gym.cli.policies import RANDOM, Algorithm, Sampled, load_policy
from aime_gym.cli.words import is_watched, shell_command
from aime_gym.files import check_new_folder


def collect(
    *,
    env: str,
    policy: str,
    name: str,
    out: Path,
    episodes: int = 20,
    seed: int = 0,
    sampled: Sampled = False,
    evaluate: int = 0,
    images: bool = False,
    sb3: Algorithm | None = None,
    description: str = "",
    physics_dtype: Literal["float64", "float32"] = "float64",
    device: str = "auto",
) -> None:
    """Record episodes of a policy as a dataset.

    Args:
        env: The environment, such as AIME/walker-run-mdp.
        policy: random, a run folder of `aime-gym train`, or an agent's archive (.zip).
        name: Of the dataset.
        out: A new folder for it.
        episodes: How many.
        seed: Episode i starts from seed + i.
        sampled: Sample the policy's actions, instead of its best.
        evaluate: Run this many further episodes, from other seeds, and note their returns in the
            card: 100 percent of the score, where nothing was published.
        images: Keep pictures, too.
        sb3: The algorithm, where the policy is a model of Stable-Baselines3.
        description: A sentence for the card.
        physics_dtype: Of the stored physics states; float64 is exact.
        device: auto, cpu, cuda, ...
    """
    options = {key: value for key, value in locals().items() if key != "device"}
    command = shell_command("collect", options)
    from aime_gym.datasets import Dataset, save_dataset
    from aime_gym.datasets import collect as collect_dataset
    from aime_gym.envs.setups import parse_env_id

    parse_env_id(env)
    check_new_folder(out)
    _check_counts(episodes, evaluate)
    dataset = collect_dataset(
        load_policy(policy, env, sb3, seed, device),
        env,
        episodes,
        seed=seed,
        name=name,
        deterministic=not sampled,
        images=images,
        progress_bar=is_watched(),
        description=description or _describe(policy, sampled),
        command=command,
    )
    if evaluate:
        returns = _evaluate(policy, env, evaluate, sampled, sb3, device)
        dataset = Dataset(dataset, replace(dataset.card, evaluation_returns=returns))
    save_dataset(dataset, out, physics_dtype=physics_dtype)
    print(f"{dataset}\nMean return {dataset.episode_returns.mean():.1f}. It is in {out}.")


def _check_counts(episodes: int, evaluate: int) -> None:
    if episodes < 1 or evaluate < 0:
        raise ValueError(
            f"--episodes is at least 1 and --evaluate at least 0; got {episodes} and {evaluate}."
        )


def _describe(policy: str, sampled: bool) -> str:
    if policy == RANDOM:
        return "Whole episodes of random actions."
    return f"Whole episodes of a policy's {'sampled' if sampled else 'best'} actions."


def _evaluate(
    policy: str, env: str, episodes: int, sampled: bool, sb3: Algorithm | None, device: str
) -> tuple[float, ...]:
    """The returns that `aime-gym evaluate` finds, from its own seeds."""
    from aime_gym.evaluation.evaluate import EVAL_SEED, evaluate

    acting = load_policy(policy, env, sb3, EVAL_SEED, device)
    result = evaluate(acting, env, episodes, deterministic=not sampled, progress_bar=is_watched())
    print(result)
    return tuple(float(value) for value in result.returns)
