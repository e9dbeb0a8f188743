"""Datasets from any policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import gymnasium as gym
from tqdm import tqdm

from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.images import render_images
from aime_gym.datasets.recorder import card_of_env
from aime_gym.datasets.registry import body_of, plain_id
from aime_gym.rollout import Policy, RandomPolicy, rollout
from aime_gym.trajectory import Trajectory

MAX_DEFAULT_ENVS = 10


def collect(
    policy: Policy | Literal["random"] | None,
    env_id: str,
    episodes: int,
    *,
    seed: int,
    name: str,
    num_envs: int | None = None,
    deterministic: bool = True,
    images: bool = False,
    progress_bar: bool = False,
    **card: Any,
) -> Dataset:
    """Runs a policy for whole episodes and keeps everything, physics states included.

    Args:
        policy: Anything with Stable-Baselines3's `predict`, which sees what the environment shows;
            ``"random"`` or None for uniform actions.
        env_id: The environment.
        episodes: How many.
        seed: Episode i is reset with ``seed + i``; random actions are drawn from it too, and depend
            on `num_envs` as well.
        name: Of the dataset.
        num_envs: Environments side by side; None for the largest divisor of
            `episodes` up to 10, so that none idles.
        deterministic: Passed to `predict`. Where a policy samples from a global generator, as those
            of Stable-Baselines3 do, seeding it is up to the caller.
        images: Keep the pictures of a visual environment, or draw them for another.
        progress_bar: Show the progress over the episodes.
        **card: Further fields of the dataset's card, such as ``description`` and ``command``.

    Raises:
        ValueError: There is no such environment, or no episode is asked for.
    """
    env_id = plain_id(env_id)
    body_of(env_id)
    count = num_envs if num_envs is not None else _default_envs(episodes)
    if episodes < 1 or count < 1:
        raise ValueError(f"episodes and num_envs are at least 1; got {episodes} and {count}.")
    env = gym.make_vec(env_id, num_envs=count)
    try:
        if policy is None or policy == "random":
            assert isinstance(env.single_action_space, gym.spaces.Box)
            policy = RandomPolicy(env.single_action_space, seed)
        recorded = rollout(policy, env, episodes, seed, deterministic, record=True)
        dataset = Dataset(
            _watch(recorded, name, episodes, progress_bar),
            card_of_env(env_id, name, **{"seed": seed, **card}),
        )
    finally:
        env.close()
    if images:
        return dataset if dataset.has_images else render_images(dataset, progress_bar=progress_bar)
    return dataset.map(Trajectory.without_images)


def _default_envs(episodes: int) -> int:
    return max(n for n in range(1, MAX_DEFAULT_ENVS + 1) if episodes % n == 0)


def _watch(
    recorded: Iterator[Trajectory], name: str, episodes: int, progress_bar: bool
) -> Iterator[Trajectory]:
    """Passes trajectories through a progress bar."""
    label = f"collecting {name}"
    yield from tqdm(recorded, label, total=episodes, unit="episode", disable=not progress_bar)
