"""What the spaces of Minari's datasets and the sensors of ours have to do with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from aime_gym.catalogue import state_env_ids
from aime_gym.datasets.dataset import Dataset
from aime_gym.rollout import is_image
from aime_gym.trajectory import IMAGE, OBSERVATION

Space = spaces.Space[Any]
Path = tuple[str, ...]
"""The keys that lead to a box in dictionaries within one another."""


class MinariSpaces(NamedTuple):
    """How a dataset is laid out in Minari's format.

    Attributes:
        observation: A box where an observation is what the environment shows, else a dictionary.
        action: A box of vectors, or discrete actions.
        observed: The sensors that make an observation, one after another; None for a dictionary.
    """

    observation: Space
    action: Space
    observed: list[str] | None


def spaces_of(dataset: Dataset) -> MinariSpaces:
    """How a dataset is laid out: as in its environment, or one of its body, where that fits."""
    env = _make_env(dataset)
    try:
        observed = None if env is None else _find_observed(dataset, env)
        observation = _observation_space(dataset, env, observed)
        return MinariSpaces(observation, _action_space(dataset, env), observed)
    finally:
        if env is not None:
            env.close()


def _make_env(dataset: Dataset) -> gym.Env[Any, Any] | None:
    """The dataset's environment, or one of its body; None where neither can be made here."""
    card = dataset.card
    candidates = [card.env_id] if card.env_id else state_env_ids(card.body)[:1]
    for env_id in candidates:
        if env_id in gym.registry:
            try:
                return gym.make(env_id)
            except gym.error.DependencyNotInstalled:
                return None
    return None


def _find_observed(dataset: Dataset, env: gym.Env[Any, Any]) -> list[str] | None:
    """The sensors whose values one after another are what the environment shows, or None."""
    space, shapes = env.observation_space, dataset.sensor_shapes
    named = getattr(env.unwrapped, "sensors", {})
    if isinstance(space, spaces.Box) and is_image(space):
        return [IMAGE] if shapes.get(IMAGE) == space.shape else None
    visible = [name for name, sensor in named.items() if sensor.slice is not None]
    names = visible or [OBSERVATION]
    if not set(names) <= set(shapes) or (sum(shapes[name][0] for name in names),) != space.shape:
        return None
    alike = all(len({t.sensors[name].dtype for name in names}) == 1 for t in dataset)
    return names if alike else None


def _observation_space(
    dataset: Dataset, env: gym.Env[Any, Any] | None, observed: list[str] | None
) -> Space:
    """The environment's box, in the type of the stored values; or a dictionary of boxes."""
    first = dataset[0].sensors
    if env is not None and observed is not None:
        space = env.observation_space
        assert isinstance(space, spaces.Box)
        return _box(first[observed[0]].dtype, space.shape, space.low, space.high)
    return spaces.Dict({name: _box(rows.dtype, rows.shape[1:]) for name, rows in first.items()})


def _action_space(dataset: Dataset, env: gym.Env[Any, Any] | None) -> Space:
    """The environment's actions; without one a box without limits, or as many as were done."""
    known = [t.actions for t in dataset if t.actions is not None]
    if env is not None and isinstance(env.action_space, spaces.Discrete):
        return env.action_space
    if env is not None and isinstance(env.action_space, spaces.Box):
        space = env.action_space
        dtype = known[0].dtype if known else space.dtype
        return _box(dtype, space.shape, space.low, space.high)
    if known and known[0].dtype.kind in "iu":
        return spaces.Discrete(1 + max(int(actions.max()) for actions in known))
    return _box(known[0].dtype, known[0].shape[1:]) if known else _box(np.float32, (1,))


def _box(dtype: Any, shape: tuple[int, ...], low: Any = -np.inf, high: Any = np.inf) -> spaces.Box:
    if dtype == np.uint8:
        return spaces.Box(0, 255, shape, np.uint8)
    native = np.dtype(dtype).newbyteorder("=")
    lowest, highest = (np.broadcast_to(limit, shape).astype(native) for limit in (low, high))
    return spaces.Box(lowest, highest, shape, native.type)


def named_boxes(space: Space) -> Iterator[tuple[str, Path]]:
    """The sensor's name of each box, and the keys that lead to it.

    Raises:
        ValueError: There is something else than boxes, or there are pictures of several cameras.
    """
    boxes = list(_boxes(space))
    pictures = [path for path, box in boxes if is_image(box)]
    if len(pictures) > 1:
        listed = " and ".join(".".join(path) for path in pictures)
        raise ValueError(f"a dataset has one picture at a time, and this one has {listed}")
    for path, box in boxes:
        yield IMAGE if is_image(box) else ".".join(path) or OBSERVATION, path


def _boxes(
    space: Space, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], spaces.Box]]:
    """The boxes of a space, dictionaries within one another, each with the keys that lead to it."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _boxes(inner, (*path, key))
    elif isinstance(space, spaces.Box):
        yield path, space
    else:
        raise ValueError(f"its observations are boxes or dictionaries of them, not {space}")
