"""Minari's format: reading any dataset with boxes, and writing ours so that nothing is lost.

    minari.EpisodeData          of ours
    observations  [T+1, ..]     what ``gymnasium.make(env_id)`` shows, where the sensors make it up;
                                else a dictionary, sensor name -> values [T+1, n]
    actions       [T, A], or [T] of discrete ones; NaN where unknown
    rewards       [T]           NaN where unknown
    terminations, truncations   False but for the last
    infos         sensors/<name> [T+1, n]   those that the environment does not show
                  physics_state [T+1, P]    see `aime_gym.physics`
                  agent_step [T+1]          first_step + t
                  extras                    a trajectory's extras, as the bytes of an .npz file

Every array keeps its type, and pictures are stored as they are, not as JPEG. The metadata have the
card, the shapes of all sensors, and the names of those that an observation is made of. For an
expert's dataset they have the reference scores 0 and the expert's mean return, so that Minari's
normalised scores are hundredths of this package's.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from tqdm import tqdm

from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.image_files import open_images, unpack_images
from aime_gym.datasets.minari_spaces import MinariSpaces, Space, named_boxes, spaces_of
from aime_gym.download.transfer import FULL
from aime_gym.files import new_folder, sha256, write_json
from aime_gym.minari_folders import (
    ARRAYS,
    DATA,
    METADATA,
    OURS,
    minari_card,
    minari_id,
    read_metadata,
)
from aime_gym.trajectory import IMAGE, Trajectory

SENSORS, PHYSICS, STEP, EXTRAS = "sensors", "physics_state", "agent_step", "extras"  # Of infos.

Arrays = Mapping[str, NDArray[Any]]
Layout = Mapping[str, Any]
"""Of ours: ``card``, ``sensors`` name -> shape, and ``observation``, names or None for a dict."""


# Writing


def write_minari(dataset: Dataset, folder: str | os.PathLike[str]) -> Path:
    """Writes a dataset for ``minari.load_dataset``; the folder appears once it is whole.

    Args:
        dataset: What to write.
        folder: A new folder whose name ends with a version, such as ``walker-run-expert-v0``. In
            Minari's own folder the path from there is the dataset's id; elsewhere its name is.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder is there already and is not empty.
        ValueError: The folder's name has no version, or a sensor's name has a slash; or discrete
            actions are missing, for which Minari has no value.
        ModuleNotFoundError: Minari is not installed.
    """
    target, identity = Path(folder), minari_id(Path(folder))
    minari = import_minari()
    found = spaces_of(dataset)
    _check_writable(dataset, found.action)
    with new_folder(target) as part:
        storage = minari.dataset.minari_storage.MinariStorage.new(
            part.absolute() / DATA,  # A relative path is appended to itself.
            observation_space=found.observation,
            action_space=found.action,
            env_spec=gym.registry.get(dataset.card.env_id or ""),
            jpeg_encoding=False,
        )
        storage.update_metadata(_metadata(dataset, identity, minari.__version__))
        buffer = minari.data_collector.EpisodeBuffer
        storage.update_episodes(buffer(**_to_episode(trajectory, found)) for trajectory in dataset)
        _add_layout(part, dataset, found.observed)
    return target


def import_minari() -> Any:
    """Minari, if what it writes its files with is here as well.

    Raises:
        ModuleNotFoundError: One of them is not installed.
    """
    try:
        import h5py  # noqa: F401
        import minari
    except ImportError as error:
        raise ModuleNotFoundError(
            f"Datasets of Minari's need Minari and h5py: pip install 'aime-gym[minari]' ({error})."
        ) from error
    return minari


def _check_writable(dataset: Dataset, action_space: Space) -> None:
    slashed = [name for name in dataset.sensor_shapes if "/" in name]
    if slashed:
        raise ValueError(f"No sensor's name has a slash in Minari's format: {', '.join(slashed)}.")
    without = sum(trajectory.actions is None for trajectory in dataset)
    if without and isinstance(action_space, spaces.Discrete):
        raise ValueError(
            f"{without} of the {len(dataset)} trajectories of {dataset.card.name!r} have no "
            "actions, and Minari's format has no value for unknown actions that are discrete."
        )


def _metadata(dataset: Dataset, identity: str, version: str) -> dict[str, Any]:
    """What Minari itself reads, the spaces aside."""
    card = dataset.card
    metadata = {"dataset_id": identity, "minari_version": version, "description": card.description}
    scores: dict[str, Any] = {}
    if card.evaluation_returns:
        scores = {
            "ref_min_score": 0.0,
            "ref_max_score": float(np.mean(card.evaluation_returns)),
            "num_episodes_average_score": len(card.evaluation_returns),
        }
    return {**metadata, **scores}


def _add_layout(folder: Path, dataset: Dataset, observed: list[str] | None) -> None:
    """Writes into the metadata what makes a dataset of this package of it again."""
    card = replace(dataset.card, sha256={ARRAYS: sha256(folder / ARRAYS)})
    sensors = {name: list(shape) for name, shape in dataset.sensor_shapes.items()}
    layout = {"card": card.to_json(), "sensors": sensors, "observation": observed}
    metadata = read_metadata(folder)
    write_json(folder / METADATA, {**metadata, OURS: layout})


def _to_episode(trajectory: Trajectory, found: MinariSpaces) -> dict[str, Any]:
    """The fields of an `EpisodeBuffer`."""
    steps, sensors, observed = trajectory.num_steps, trajectory.sensors, found.observed
    hidden = {} if observed is None else {n: r for n, r in sensors.items() if n not in observed}
    infos: dict[str, Any] = {SENSORS: hidden} if hidden else {}
    if trajectory.physics_states is not None:
        infos[PHYSICS] = trajectory.physics_states
    if trajectory.first_step is not None:
        infos[STEP] = trajectory.first_step + np.arange(steps + 1)
    if trajectory.extras:
        infos[EXTRAS] = _pack(trajectory.extras)
    actions = trajectory.actions
    if actions is None:
        actions = np.full((steps, *(found.action.shape or ())), np.nan, dtype=np.float32)
    unknown = np.full(steps, np.nan, dtype=np.float32)
    last = np.arange(steps) == steps - 1
    return {
        "observations": dict(sensors) if observed is None else _join(sensors, observed),
        "actions": actions[:, 0] if isinstance(found.action, spaces.Discrete) else actions,
        "rewards": unknown if trajectory.rewards is None else trajectory.rewards,
        "terminations": last & trajectory.terminated,
        "truncations": last & trajectory.truncated,
        "infos": infos,
    }


def _join(sensors: Arrays, names: list[str]) -> NDArray[Any]:
    """The observations: one sensor as it is, several one after another."""
    parts = [sensors[name] for name in names]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _pack(extras: Arrays) -> NDArray[np.uint8]:
    """Arrays of any type but objects -> the bytes of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **extras)  # type: ignore[arg-type]
    return np.frombuffer(file.getvalue(), dtype=np.uint8)


def _unpack(packed: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The inverse of `_pack`."""
    with np.load(io.BytesIO(packed.tobytes()), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


# Reading


def read_minari(
    folder: str | os.PathLike[str], *, images: bool = True, progress_bar: bool = False
) -> Dataset:
    """Reads a dataset that Minari wrote, or that `write_minari` did, which comes back as it was.

    Of others, the observation is the sensor ``"observation"``, or ``"image"`` for pictures; a
    dictionary becomes as many sensors, one within another is named ``outer.inner``. Boxes with
    several axes become vectors, whole numbers float32, and actions that are numbered int64 [T, 1].
    Images are unpacked once, into one memory-mapped file in the cache.

    Args:
        folder: Has ``data/metadata.json``.
        images: Read the images, where there are any.
        progress_bar: Show the progress over the episodes.

    Raises:
        FileNotFoundError: The folder has no such dataset.
        OSError: There is no room in the cache for the images.
        ValueError: A file is damaged, an episode is no trajectory, or the spaces are of another
            kind.
        ModuleNotFoundError: Minari is not installed.
    """
    folder = Path(folder)
    if not (folder / METADATA).is_file():
        raise FileNotFoundError(f"{folder} is no dataset of Minari's: it has no {METADATA}.")
    card, layout = minari_card(folder), read_metadata(folder).get(OURS)
    minari = import_minari()
    expected = card.sha256.get(ARRAYS)  # Of ours.
    if expected is not None and sha256(folder / ARRAYS) != expected:
        raise ValueError(f"{folder / ARRAYS} is damaged: its checksum is not the card's.")
    with _readable(folder):
        data = minari.MinariDataset(folder / DATA)
        space, checksums = data.observation_space, minari_checksums(folder)
        pictures, row = None, 0
        if images and _has_images(space, layout):
            rows = data.total_steps + len(data)
            drawn = (_read_sensors(episode, space, layout)[IMAGE] for episode in data)
            pictures = open_images(unpack_images(checksums, rows, drawn), rows)
        trajectories: list[Trajectory] = []
        for episode in tqdm(data, f"reading {card.name}", unit="episode", disable=not progress_bar):
            sensors = _read_sensors(episode, space, layout)
            own = sensors.pop(IMAGE, None)
            if own is not None and pictures is not None:
                sensors[IMAGE] = pictures[row : row + len(own)]
                row += len(own)
            try:
                trajectories.append(_to_trajectory(episode, sensors, data.action_space, layout))
            except ValueError as error:
                raise ValueError(f"episode {episode.id}: {error}") from error
    return Dataset(trajectories, replace(card, sha256=checksums))


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """What goes wrong inside the block is the fault of the folder's files, but for a full disk."""
    try:
        yield
    except (OSError, ValueError, LookupError, AssertionError, TypeError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise  # Images are unpacked into the cache.
        raise ValueError(f"{folder} cannot be read: {error}.") from error


def _has_images(space: Space, layout: Layout | None) -> bool:
    if layout is not None:
        return IMAGE in layout["sensors"]
    return any(name == IMAGE for name, _ in named_boxes(space))


def _read_sensors(episode: Any, space: Space, layout: Layout | None) -> dict[str, NDArray[Any]]:
    """Sensor name -> values of one episode [T+1, n]; of ours, in the order that they had."""
    if layout is None:
        return _foreign_sensors(episode.observations, space)
    shapes, observed = layout["sensors"], layout["observation"]
    if observed is None:
        found = episode.observations
    elif observed == [IMAGE]:
        found = {IMAGE: episode.observations}
    else:
        ends = np.cumsum([shapes[name][0] for name in observed])[:-1]
        found = dict(zip(observed, np.split(episode.observations, ends, axis=1), strict=True))
    hidden = (episode.infos or {}).get(SENSORS, {})
    return {name: {**found, **hidden}[name] for name in shapes}


def _foreign_sensors(observations: Any, space: Space) -> dict[str, NDArray[Any]]:
    """The observations of one episode, as `read_minari` names and shapes them."""
    sensors = {}
    for name, path in named_boxes(space):
        rows = observations
        for key in path:
            rows = rows[key]
        sensors[name] = np.asarray(rows) if name == IMAGE else _vectors(rows)
    return sensors


def _vectors(rows: Any) -> NDArray[Any]:
    """Readings [T, ..] of any number of axes -> [T, n], float."""
    flat = np.asarray(rows).reshape(len(rows), -1)
    return flat if np.issubdtype(flat.dtype, np.floating) else flat.astype(np.float32)


def _to_trajectory(
    episode: Any, sensors: Arrays, action_space: Space, layout: Layout | None
) -> Trajectory:
    """An episode of Minari's, whose sensors are read already."""
    infos = episode.infos or {} if layout is not None else {}
    if isinstance(action_space, spaces.Discrete):
        actions = np.asarray(episode.actions, dtype=np.int64)[:, None]
    elif isinstance(action_space, spaces.Box):
        actions = _vectors(episode.actions)
    else:
        raise ValueError(f"its actions are a box, or discrete, not {action_space}")
    return Trajectory(
        sensors=sensors,
        actions=_known(actions),
        rewards=_known(episode.rewards),
        physics_states=infos.get(PHYSICS),
        terminated=bool(episode.terminations[-1]),
        truncated=bool(episode.truncations[-1]),
        first_step=int(infos[STEP][0]) if STEP in infos else None,
        extras=_unpack(infos[EXTRAS]) if EXTRAS in infos else {},
    )


def _known(values: NDArray[Any]) -> NDArray[Any] | None:
    """The values; None where all are NaN, which stands for unknown ones."""
    return None if np.isnan(values).all() else values


def minari_checksums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256, for the arrays of a dataset of Minari's."""
    files = (path for path in sorted((folder / DATA).rglob("*")) if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in files)
    return {name: sha256(folder / name) for name in names if name != METADATA}
