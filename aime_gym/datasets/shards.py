"""One file of a dataset: compressed arrays of whole trajectories, their rows one after another.

A shard's arrays: ``num_steps`` [n], ``sensors/<name>`` [sum (T+1), ..], ``actions`` and
``rewards`` [sum T, ..], ``physics_states`` [sum (T+1), P], ``terminated``, ``truncated`` and
``first_step`` [n]; ``extras/<index>/<key>`` is an entry of a trajectory's extras.

Some physics states are long and hardly move, such as a terrain's. Where columns stay the same to
the bit within each trajectory of a shard, ``physics_varies`` [P] is False and they are stored once
per trajectory, in ``physics_constants`` [n, P - V]; ``physics_states`` is then [sum (T+1), V].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from aime_gym.datasets.npz import open_npz
from aime_gym.files import atomic_write
from aime_gym.trajectory import IMAGE, Trajectory

UNKNOWN_STEP = -1


def write_shard(
    path: Path,
    trajectories: Sequence[Trajectory],
    sensor_dtype: DTypeLike | None = np.float32,
    physics_dtype: DTypeLike = np.float64,
) -> None:
    """Writes trajectories, without images, into one compressed file.

    The types that arrays are stored in are those of `save_dataset`.

    Raises:
        ValueError: Some have actions, rewards or physics states, and some have not; or dtypes
            differ.
    """
    if len({contents(trajectory) for trajectory in trajectories}) > 1:
        raise ValueError("The trajectories of a shard hold the same parts, of the same dtypes.")
    first = trajectories[0]
    arrays = _per_trajectory(trajectories)
    for name in first.sensors:
        if name != IMAGE:
            arrays[f"sensors/{name}"] = _join([t.sensors[name] for t in trajectories], sensor_dtype)
    if first.actions is not None:
        whole = np.issubdtype(first.actions.dtype, np.integer)
        arrays["actions"] = _join(
            [t.actions for t in trajectories], None if whole else sensor_dtype
        )
    if first.rewards is not None:
        reward_dtype = None if sensor_dtype is None else np.float32
        arrays["rewards"] = _join([t.rewards for t in trajectories], reward_dtype)
    if first.physics_states is not None:
        arrays |= _pack_physics(trajectories, physics_dtype)
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _per_trajectory(trajectories: Sequence[Trajectory]) -> dict[str, NDArray[Any]]:
    """The arrays that have an entry, not rows, for each trajectory."""
    extras = {
        f"extras/{index}/{key}": values
        for index, trajectory in enumerate(trajectories)
        for key, values in trajectory.extras.items()
    }
    steps = [UNKNOWN_STEP if t.first_step is None else t.first_step for t in trajectories]
    return {
        "num_steps": np.array([t.num_steps for t in trajectories]),
        "terminated": np.array([t.terminated for t in trajectories]),
        "truncated": np.array([t.truncated for t in trajectories]),
        "first_step": np.array(steps),
        **extras,
    }


def _join(parts: Sequence[Any], dtype: DTypeLike | None) -> NDArray[Any]:
    """Arrays one after another, in a dtype or in their own."""
    joined: NDArray[Any] = np.concatenate(parts, dtype=parts[0].dtype if dtype is None else dtype)
    return joined


def _pack_physics(trajectories: Sequence[Trajectory], dtype: DTypeLike) -> dict[str, NDArray[Any]]:
    """Physics states, with the columns that stay the same in each trajectory stored once."""
    states = [np.asarray(t.physics_states, dtype=dtype) for t in trajectories]
    varies = np.any([_changes(rows) for rows in states], axis=0)
    if varies.all():
        return {"physics_states": np.concatenate(states)}
    return {
        "physics_states": np.concatenate([rows[:, varies] for rows in states]),
        "physics_varies": varies,
        "physics_constants": np.stack([rows[0, ~varies] for rows in states]),
    }


def _changes(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which columns of [T+1, P] do not stay the same to the bit [P]."""
    bits = rows.view(f"u{rows.dtype.itemsize}")
    changes: NDArray[np.bool_] = np.any(bits[1:] != bits[0], axis=0)
    return changes


def _unpack_physics(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """The inverse of `_pack_physics`: all rows and columns [sum (T+1), P]."""
    states = arrays.get("physics_states")
    if states is None or "physics_varies" not in arrays:
        return states
    varies, constants = arrays["physics_varies"], arrays["physics_constants"]
    whole = np.empty((len(states), len(varies)), dtype=states.dtype)
    whole[:, varies] = states
    whole[:, ~varies] = np.repeat(constants, arrays["num_steps"] + 1, axis=0)
    return whole


def read_shard(path: Path, images: NDArray[np.uint8] | None = None) -> list[Trajectory]:
    """Reads the trajectories of one file; half precision comes back as float32.

    Args:
        path: The file.
        images: The images of its observations [sum (T+1), H, W, 3]; None where there are none.

    Raises:
        ValueError: The file is damaged, or no shard.
    """
    with open_npz(path) as file:
        arrays = {name: _at_least_single(name, file[name]) for name in file.files}
        return _cut(arrays, {} if images is None else {IMAGE: images})


def num_rows(path: Path) -> int:
    """The number of observations in one file.

    Raises:
        ValueError: The file is damaged, or no shard.
    """
    with open_npz(path) as file:
        return int((file["num_steps"] + 1).sum())


def _cut(
    arrays: Mapping[str, NDArray[Any]], images: Mapping[str, NDArray[np.uint8]]
) -> list[Trajectory]:
    """A shard's arrays, and its images where it has some -> its trajectories."""
    num_steps = arrays["num_steps"]
    _check_lengths(num_steps, arrays)
    row_ends, step_ends = np.cumsum(num_steps + 1), np.cumsum(num_steps)
    physics = _unpack_physics(arrays)
    sensors = {**_with_prefix("sensors/", arrays), **images}
    trajectories = []
    for index, steps in enumerate(num_steps):
        row_slice = slice(row_ends[index] - steps - 1, row_ends[index])
        step_slice = slice(step_ends[index] - steps, step_ends[index])
        first_step = int(arrays["first_step"][index])
        trajectories.append(
            Trajectory(
                sensors={name: values[row_slice] for name, values in sensors.items()},
                actions=arrays["actions"][step_slice] if "actions" in arrays else None,
                rewards=arrays["rewards"][step_slice] if "rewards" in arrays else None,
                physics_states=None if physics is None else physics[row_slice],
                terminated=bool(arrays["terminated"][index]),
                truncated=bool(arrays["truncated"][index]),
                first_step=None if first_step == UNKNOWN_STEP else first_step,
                extras=_with_prefix(f"extras/{index}/", arrays),
            )
        )
    return trajectories


def _check_lengths(num_steps: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Whether all rows and steps belong to a trajectory."""
    if num_steps.dtype.kind not in "iu" or num_steps.ndim != 1 or num_steps.min(initial=1) < 1:
        raise ValueError("num_steps are whole numbers of steps, at least 1 each")
    steps = int(num_steps.sum())
    rows = steps + len(num_steps)
    expected = {"actions": steps, "rewards": steps, "physics_states": rows}
    for name, values in arrays.items():
        count = rows if name.startswith("sensors/") else expected.get(name)
        if count is not None and len(values) != count:
            raise ValueError(f"{name} has {len(values)} rows; by num_steps they are {count}")


def _with_prefix(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }


def contents(trajectory: Trajectory) -> frozenset[tuple[str, np.dtype[Any]]]:
    """The names and dtypes of the parts that a trajectory has, images aside."""
    parts = {
        **{f"sensors/{name}": rows for name, rows in trajectory.sensors.items() if name != IMAGE},
        "actions": trajectory.actions,
        "rewards": trajectory.rewards,
        "physics_states": trajectory.physics_states,
    }
    return frozenset((name, rows.dtype) for name, rows in parts.items() if rows is not None)


def _at_least_single(name: str, array: NDArray[Any]) -> NDArray[Any]:
    half = array.dtype == np.float16 and not name.startswith("extras/")
    return array.astype(np.float32) if half else array
