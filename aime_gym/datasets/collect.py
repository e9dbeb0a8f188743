"""Datasets from any policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from tqdm import tqdm

from aime_gym.card import card_of_env
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.images import check_drawable, render_images
from aime_gym.ids import check_env_id
from aime_gym.rollout import Policy, RandomPolicy, make_envs, rollout
from aime_gym.trajectory import IMAGE, Trajectory
from aime_gym.wrappers import action_repeat

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
    """Runs a policy for whole episodes and keeps everything that happens.

    That includes physics states, where the environment has them.

    Args:
        policy: Anything with Stable-Baselines3's `predict`, which sees what the environment shows;
            ``"random"`` or None for uniform actions.
        env_id: Any environment that is registered with Gymnasium, and has vectors or images as
            observations and vectors or integers as actions.
        episodes: How many.
        seed: Episode i is reset with ``seed + i``; random actions are drawn from it too, and depend
            on `num_envs` as well.
        name: The dataset's name.
        num_envs: Environments side by side; None for the largest divisor of
            `episodes` up to 10, so that none idles.
        deterministic: Passed to `predict`. Where a policy samples from a global generator, as those
            of Stable-Baselines3 do, seeding it is up to the caller.
        images: Keep images beside vectors, as a visual environment of this package gives both, and
            draw them where there are none. Images that are all there is are always kept.
        progress_bar: Show the progress over the episodes.
        **card: Further fields of the dataset's card, such as ``description`` and ``command``.

    Raises:
        ValueError: There is no such environment, its observations or actions are of another kind,
            no episode is asked for, or images cannot be drawn.
    """
    env_id = check_env_id(env_id)
    about = card_of_env(env_id, name, **{"seed": seed, **card})
    count = num_envs if num_envs is not None else _default_envs(episodes)
    if episodes < 1 or count < 1:
        raise ValueError(f"episodes and num_envs are at least 1; got {episodes} and {count}.")
    env = make_envs(env_id, count)
    try:
        if images and len(env.single_observation_space.shape or ()) == 1:
            check_drawable(about)
        if policy is None or policy == "random":
            policy = RandomPolicy(env.single_action_space, seed)
        recorded = rollout(policy, env, episodes, seed, deterministic, record=True)
        about = replace(about, action_repeat=action_repeat(env))
        dataset = Dataset(_watch(recorded, name, episodes, progress_bar), about)
    finally:
        env.close()
    if images:
        return dataset if dataset.has_images else render_images(dataset, progress_bar=progress_bar)
    only_images = set(dataset.sensor_shapes) == {IMAGE}
    return dataset if only_images else dataset.map(Trajectory.without_images)


def _default_envs(episodes: int) -> int:
    return max(n for n in range(1, MAX_DEFAULT_ENVS + 1) if episodes % n == 0)


def _watch(
    recorded: Iterator[Trajectory], name: str, episodes: int, progress_bar: bool
) -> Iterator[Trajectory]:
    """Passes trajectories through a progress bar."""
    label = f"collecting {name}"
    yield from tqdm(recorded, label, total=episodes, unit="episode", disable=not progress_bar)
