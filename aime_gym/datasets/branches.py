"""Branches: short trajectories from stored physics states, under recorded actions plus noise.

A body's own experience becomes wider around what it did already, at the price of physics alone:

    a'_t = clip(a_t + scale x n_t),    n_t = r n_{t-1} + sqrt(1 - r^2) e_t,    e_t ~ N(0, 1)

with the scale uniform in 0 .. 1 of half the action range and the correlation r uniform in 0 .. 1,
both drawn once per branch. In a share of the branches the recorded actions are left out.

A pushed branch starts with other velocities, so that a body learns of speeds that nobody has shown
it yet:

    v' = u v + 0.5 sigma e,    u uniform in 0 .. 3,    e ~ N(0, 1)

with sigma the standard deviation of each velocity over all stored states.

N environments, L steps of a branch, A action, P physics state, V velocity.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aime_gym.datasets.dataset import Dataset
from aime_gym.rollout import AnyVectorEnv, make_envs
from aime_gym.trajectory import Trajectory

NUM_ENVS = 64
NOISE_ALONE = 0.3  # Share of the branches without recorded actions.
FASTEST = 3.0  # Times the stored velocity that a push reaches.
PUSH = 0.5  # Noise of a push, in standard deviations of the stored velocities.

Array = NDArray[np.float64]


def branch(
    dataset: Dataset,
    env_id: str,
    count: int,
    *,
    seed: int,
    length: int = 49,
    pushed: bool = False,
    progress_bar: bool = False,
) -> Iterator[Trajectory]:
    """Branches off the trajectories of a dataset.

    Args:
        dataset: Has actions and physics states.
        env_id: An id of this package whose environments take the states.
        count: Number of branches.
        seed: Seed of starting points and noise; same seed, same branches.
        length: Steps per branch, L.
        pushed: Whether branches start with other velocities than the stored ones.
        progress_bar: Show the progress over the branches.

    Yields:
        Trajectories of L + 1 observations, without physics states.

    Raises:
        ValueError: A trajectory has no actions or no physics states, or none of its states fits.
    """
    if any(t.actions is None or t.physics_states is None for t in dataset):
        raise ValueError(
            f"Branches start from stored physics states and actions; not all trajectories of "
            f"{dataset.card.name!r} have both."
        )
    generator = np.random.default_rng(seed)
    env = make_envs(env_id, NUM_ENVS)
    label = f"{'pushing' if pushed else 'branching'} {dataset.card.name}"
    velocity_scale = _velocity_scale(dataset) if pushed else None
    try:
        with tqdm(total=count, desc=label, unit="branch", disable=not progress_bar) as bar:
            for first in range(0, count, NUM_ENVS):
                wanted = min(NUM_ENVS, count - first)
                states, recorded = _starting_points(dataset, length, generator, env.num_envs)
                if velocity_scale is not None:
                    states = push(states, velocity_scale, generator)
                yield from _branch_once(env, states, recorded, generator)[:wanted]
                bar.update(wanted)
    finally:
        env.close()


def _branch_once(
    env: AnyVectorEnv, states: Array, recorded: Array, generator: np.random.Generator
) -> list[Trajectory]:
    """One branch in every environment, from states [N, P] along recorded actions [L, N, A]."""
    space = env.single_action_space
    noise = correlated_noise(recorded.shape, generator) * (space.high - space.low) / 2  # type: ignore[attr-defined]
    kept = generator.random((1, env.num_envs, 1)) >= NOISE_ALONE
    wanted = np.clip(kept * recorded + noise, space.low, space.high)  # type: ignore[attr-defined]
    actions = wanted.astype(np.float32)
    _, info = env.reset(options={"physics_states": states})
    readings, rewards = [_copy(info)], []
    for action in actions:
        _, reward, _, _, info = env.step(action)
        readings.append(_copy(info))
        rewards.append(reward)
    return [
        Trajectory(
            sensors={name: np.stack([row[name][i] for row in readings]) for name in readings[0]},
            actions=actions[:, i],
            rewards=np.array([reward[i] for reward in rewards]),
            truncated=True,
        )
        for i in range(env.num_envs)
    ]


def _starting_points(
    dataset: Dataset, length: int, generator: np.random.Generator, count: int
) -> tuple[Array, Array]:
    """Physics states [N, P], and the actions recorded from there on [L, N, A], zero past the end.

    Every stored state is as likely as any other.
    """
    sizes = np.array([trajectory.num_steps for trajectory in dataset])
    chosen = generator.integers(sizes.sum(), size=count)
    ends = np.cumsum(sizes)
    indices = np.searchsorted(ends, chosen, side="right")
    rows = chosen - (ends - sizes)[indices]
    states, recorded = [], []
    for index, row in zip(indices.tolist(), rows.tolist(), strict=True):
        trajectory = dataset[index]
        assert trajectory.actions is not None
        assert trajectory.physics_states is not None
        following = trajectory.actions[row : row + length]
        missing = length - len(following)
        states.append(np.asarray(trajectory.physics_states[row], dtype=np.float64))
        recorded.append(np.pad(following, ((0, missing), (0, 0))))
    return np.stack(states), np.stack(recorded, axis=1).astype(np.float64)


def _velocity_scale(dataset: Dataset) -> Array:
    """Standard deviations of all stored velocities [V]: the later half of a physics state."""
    stored = [t.physics_states for t in dataset if t.physics_states is not None]
    states = np.concatenate(stored)
    deviations: Array = states[:, states.shape[1] // 2 :].std(axis=0, dtype=np.float64)
    return deviations


def push(states: Array, velocity_scale: Array, generator: np.random.Generator) -> Array:
    """Physics states [N, P] with other velocities, see above.

    Args:
        states: Positions and as many velocities.
        velocity_scale: Standard deviations of the velocities [V].
        generator: What draws the push.
    """
    positions, velocities = np.split(states, 2, axis=1)
    factor = FASTEST * generator.random((len(states), 1))
    noise = PUSH * velocity_scale * generator.standard_normal(velocities.shape)
    return np.hstack([positions, factor * velocities + noise])


def correlated_noise(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Noise [L, N, A] with a scale and a correlation over time of its own for each of N."""
    length, count, _ = shape
    scale, correlation = generator.random((2, count, 1))
    fresh = generator.standard_normal(shape)
    noise = np.empty(shape)
    noise[0] = fresh[0]
    for step in range(1, length):
        kept = correlation * noise[step - 1]
        noise[step] = kept + np.sqrt(1 - np.square(correlation)) * fresh[step]
    scaled: Array = scale * noise
    return scaled


def _copy(info: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The named sensors of all environments [N, n]."""
    sensors: dict[str, NDArray[np.float32]] = info["sensors"]  # type: ignore[assignment]
    return {name: values.copy() for name, values in sensors.items() if name[0] != "_"}
