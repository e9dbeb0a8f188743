"""Images of stored physics states, drawn when they are needed and kept in a cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aime_gym.card import Card
from aime_gym.catalogue import state_env_ids
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.image_files import attach_images, image_folder, len_rows, write_images
from aime_gym.files import atomic_write, locked, write_json
from aime_gym.foreign import read_json
from aime_gym.ids import NAMESPACE, find_env_id, plain_id
from aime_gym.physics import get_physics_state
from aime_gym.trajectory import IMAGE, Trajectory

Images = NDArray[np.uint8]


def render_images(dataset: Dataset, *, progress_bar: bool = False) -> Dataset:
    """Draws every observation from its physics state, in memory.

    Args:
        dataset: Has physics states.
        progress_bar: Show the progress over the images.

    Returns:
        The same with images [T+1, 64, 64, 3], uint8; the card says what drew them.

    Raises:
        ValueError: There are no physics states, or no environment that takes them.
    """
    with _Painter(dataset) as painter:
        drawn = painter.draw_all(dataset, 0, progress_bar)
        trajectories = [
            trajectory.with_images(images)
            for trajectory, images in zip(dataset, drawn, strict=True)
        ]
        return Dataset(trajectories, replace(dataset.card, gl_vendor=painter.vendor, sha256={}))


def cached_images(dataset: Dataset, *, progress_bar: bool = True) -> Dataset:
    """The dataset with images: those it has, or else drawn once and kept in the cache.

    The images are one memory-mapped file, found again by the physics states and MuJoCo's version.
    If drawing is interrupted, the next call goes on after the last whole trajectory; processes
    that want the same images wait for the first.

    Args:
        dataset: Has images or physics states.
        progress_bar: Show the progress over the images, if any must be drawn.

    Raises:
        ValueError: There are no physics states, or no environment that takes them.
    """
    if dataset.has_images:
        return dataset
    target = image_folder() / f"{_physics_key(dataset)}.npy"
    if not target.exists():
        with locked(target.with_suffix(".lock")):
            if not target.exists():
                _draw_into(target, dataset, progress_bar)
    about = read_json(_about(target))
    card = replace(dataset.card, gl_vendor=about["gl_vendor"], sha256={})
    return Dataset(attach_images(list(dataset), target), card)


def verify_images(dataset: Dataset, sample: int = 10, seed: int = 0) -> int:
    """Draws some stored states again, and compares with the stored images.

    Images drift between versions of MuJoCo and between graphics drivers; the card says which
    ones drew.

    Args:
        dataset: Has images and physics states.
        sample: How many observations are compared.
        seed: The seed for the choice of observations.

    Returns:
        The largest difference of a pixel's channel, 0 to 255.

    Raises:
        ValueError: Images or physics states are missing, or no environment takes the states.
    """
    if not dataset.has_images:
        raise ValueError(f"Dataset {dataset.card.name!r} has no images to verify.")
    rng = np.random.default_rng(seed)
    chosen = [dataset[int(index)] for index in rng.integers(len(dataset), size=sample)]
    rows = [int(rng.integers(len(trajectory))) for trajectory in chosen]
    stored = (t.sensors[IMAGE][row] for t, row in zip(chosen, rows, strict=True))
    drawn = redraw(dataset, [_states(t)[row] for t, row in zip(chosen, rows, strict=True)])
    return max(int(np.abs(d - s.astype(int)).max()) for d, s in zip(drawn, stored, strict=True))


def redraw(dataset: Dataset, states: Iterable[NDArray[Any]]) -> Iterator[Images]:
    """Draws some physics states [P] of a dataset, each as an image [H, W, 3].

    Raises:
        ValueError: Physics states are missing, or no environment takes them.
    """
    with _Painter(dataset) as painter:
        for state in states:
            yield painter.draw(state)


def can_draw(card: Card) -> bool:
    """Whether images can be drawn: the environment, or else the body, is of this package."""
    if card.env_id is None:
        return bool(state_env_ids(card.body))
    return card.env_id.startswith(f"{NAMESPACE}/")


def check_drawable(card: Card) -> None:
    """Checks that images can be drawn of a dataset.

    Raises:
        ValueError: Its environment, or its body, is not of this package.
    """
    if not can_draw(card):
        origin = card.env_id or f"body {card.body!r}"
        raise ValueError(
            f"Images of {card.name!r} cannot be drawn: it is of {origin}, and images are drawn "
            "only in environments of this package, which aime_gym.list_environments() lists."
        )


class _Painter:
    """Draws physics states with an environment of the dataset's body."""

    def __init__(self, dataset: Dataset) -> None:
        if any(trajectory.physics_states is None for trajectory in dataset):
            raise ValueError(
                f"Images of dataset {dataset.card.name!r} cannot be drawn: not all of its "
                "trajectories have physics states."
            )
        check_drawable(dataset.card)
        self._env = find_env(dataset)
        self._unwrapped: Any = self._env.unwrapped

    def __enter__(self) -> _Painter:
        return self

    def __exit__(self, *error: object) -> None:
        self._env.close()

    @property
    def vendor(self) -> str:
        """What draws."""
        return str(self._unwrapped.renderer.vendor)

    def draw(self, state: NDArray[Any]) -> Images:
        """A state [P] -> its image [H, W, 3]."""
        self._unwrapped.set_physics_state(state)
        image: Images = self._unwrapped.render_image()
        return image

    def draw_all(self, dataset: Dataset, start: int, progress_bar: bool) -> Iterator[Images]:
        """The images of one trajectory after another [T+1, H, W, 3], from number `start` on."""
        rows = len_rows(dataset)
        done = sum(len(dataset[index]) for index in range(start))
        label = f"drawing {dataset.card.name}"
        bar = tqdm(total=rows, initial=done, desc=label, unit="image", disable=not progress_bar)
        with bar:
            for index in range(start, len(dataset)):
                images = []
                for state in _states(dataset[index]):
                    images.append(self.draw(state))
                    bar.update()
                yield np.stack(images)


def find_env(dataset: Dataset) -> gym.Env[Any, Any]:
    """A reset environment that takes a dataset's physics states: its own, or one of its body.

    One of this package is of the setup mdp, which needs no OpenGL before a picture is asked for.

    Raises:
        ValueError: There is none; the message says why.
    """
    card = dataset.card
    states = next((t.physics_states for t in dataset if t.physics_states is not None), None)
    sizes = {}
    for env_id in [_state_env_id(card.env_id)] if card.env_id else state_env_ids(card.body):
        env = gym.make(env_id)
        env.reset(seed=0)
        own = get_physics_state(env)
        if states is None or (own is not None and own.size == states.shape[1]):
            return env
        sizes[env_id] = "none" if own is None else str(own.size)
        env.close()
    if states is None or not sizes:
        raise ValueError(f"No environment is known of {card.name!r}, of body {card.body!r}.")
    known = ", ".join(f"{env_id} has {number}" for env_id, number in sizes.items())
    raise ValueError(
        f"No environment takes the physics states of {card.name!r}, which have {states.shape[1]} "
        f"values: {known}."
    )


def _state_env_id(env_id: str) -> str:
    """The environment of the same task whose observations are vectors, where it is ours."""
    parts = find_env_id(env_id)
    return plain_id(env_id) if parts is None else str(parts._replace(setup="mdp"))


def _states(trajectory: Trajectory) -> NDArray[Any]:
    assert trajectory.physics_states is not None
    return trajectory.physics_states


def _physics_key(dataset: Dataset) -> str:
    """What tells the images of two datasets apart."""
    about = [dataset.card.env_id or dataset.card.body, importlib.metadata.version("mujoco")]
    digest = hashlib.sha256(" ".join(about).encode())
    for trajectory in dataset:
        if trajectory.physics_states is None:
            raise ValueError(
                f"Dataset {dataset.card.name!r} has neither images nor physics states in all of "
                "its trajectories, so there is nothing to draw."
            )
        digest.update(str(trajectory.physics_states.shape).encode())
        digest.update(np.ascontiguousarray(trajectory.physics_states).data)
    return digest.hexdigest()


def _about(target: Path) -> Path:
    return target.with_suffix(".json")


def _draw_into(target: Path, dataset: Dataset, progress_bar: bool) -> None:
    """Draws all images into `target`, which appears once it is whole; see `cached_images`."""
    parts = target.with_suffix(".parts")
    paths = [parts / f"{index:06d}.npy" for index in range(len(dataset))]
    start = sum(path.exists() for path in paths)
    with _Painter(dataset) as painter:
        for path, images in zip(
            paths[start:], painter.draw_all(dataset, start, progress_bar), strict=True
        ):
            with atomic_write(path) as file:
                np.save(file, images)
        write_json(_about(target), {"gl_vendor": painter.vendor, "dataset": dataset.card.name})
    with atomic_write(target) as file:
        write_images(file, len_rows(dataset), (np.load(path) for path in paths))
    shutil.rmtree(parts)
