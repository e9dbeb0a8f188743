"""Whether a stored dataset is what it says: its files, its episodes, its numbers, its physics.

`aime_gym.datasets.states` has the checks that ask the simulator about stored physics states.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from aime_gym.card import CARD
from aime_gym.catalogue import dataset_card, find_dataset
from aime_gym.datasets.aime_npz import ACTION, REWARD
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.load import load_dataset
from aime_gym.datasets.states import (
    Finding,
    NotPossible,
    Part,
    Sampled,
    largest,
    pictures_of_states,
    precision,
    rewards_of_states,
    sensors_of_states,
    steps_of_states,
)
from aime_gym.datasets.storage import checksums, read_dataset
from aime_gym.files import sha256
from aime_gym.trajectory import IMAGE, OBSERVATION, Trajectory

SENSOR_LIMIT = 1e4  # No sensor of this package's bodies comes near, unless its physics diverged.


@dataclass(frozen=True)
class Check:
    """What one check of a dataset found.

    Attributes:
        name: What was checked.
        passed: Whether all is well; None where the check was not possible.
        detail: What was found and where, or why it was not possible.
    """

    name: str
    passed: bool | None
    detail: str


def verify_dataset(
    name: str | os.PathLike[str], *, sample: int = 50, seed: int = 0, progress_bar: bool = False
) -> list[Check]:
    """Checks a dataset on disk: its files by the card's checksums, then `verify_trajectories`.

    Args:
        name: What `load_dataset` takes.
        sample: How many rows the simulator is asked about.
        seed: The seed for the choice of these rows.
        progress_bar: Show the progress where images must be unpacked.

    Returns:
        The checks, in order; only the first two where the arrays cannot be read.

    Raises:
        FileNotFoundError: There is no such dataset; the message lists what there is.
        ValueError: The card is damaged, or `sample` is less than 1.
    """
    _check_sample(sample)
    folder = find_dataset(name)
    files = _check("files", lambda: _check_files(folder))
    try:
        if (folder / CARD).is_file():
            dataset = read_dataset(folder, verify=False)
        else:
            dataset = load_dataset(folder, progress_bar=progress_bar)
    except (ValueError, FileNotFoundError) as error:
        return [files, Check("arrays", False, str(error))]
    found = f"{dataset.num_steps} steps of {len(dataset)} trajectories line up, and are finite"
    verified = verify_trajectories(dataset, sample=sample, seed=seed)
    return [files, Check("arrays", True, found), *verified]


def verify_trajectories(dataset: Dataset, *, sample: int = 50, seed: int = 0) -> list[Check]:
    """Checks episodes and ranges, and asks the simulator about physics states where there are any.

    Args:
        dataset: What to check.
        sample: How many rows the simulator is asked about.
        seed: The seed for the choice of these rows.

    Returns:
        The checks, in order.

    Raises:
        ValueError: `sample` is less than 1.
    """
    _check_sample(sample)
    checks: dict[str, Callable[[Sampled], Finding]] = {
        "episodes": _check_episodes,
        "actions": _check_actions,
        "sensors": _check_sensors,
        "rewards": _check_rewards,
        "sensors of states": sensors_of_states,
        "pictures of states": pictures_of_states,
        "steps of states": steps_of_states,
        "rewards of states": rewards_of_states,
    }
    sampled = Sampled(dataset, sample, seed)
    try:
        return [_check(name, check, sampled) for name, check in checks.items()]
    finally:
        sampled.close()


def _check_sample(sample: int) -> None:
    if sample < 1:
        raise ValueError(f"A sample has at least 1 row; got {sample}.")


def _check(name: str, check: Callable[..., Finding], *arguments: Any) -> Check:
    try:
        return Check(name, *check(*arguments))
    except NotPossible as reason:
        return Check(name, None, str(reason))
    except (ValueError, RuntimeError, AssertionError) as error:  # The environment refuses them.
        return Check(name, False, str(error))


def _check_files(folder: Path) -> Finding:
    """Compares the files with the checksums that were written with them."""
    recorded = dataset_card(folder).sha256
    if not recorded:
        raise NotPossible("there are no checksums, as of a recording, or of another's files")
    faults = [f"{name} is missing" for name in recorded if not (folder / name).is_file()]
    present = [name for name in recorded if (folder / name).is_file()]
    faults += [f"{name} differs" for name in present if sha256(folder / name) != recorded[name]]
    faults += [f"{name} is not in the card" for name in checksums(folder) if name not in recorded]
    found = f"{len(recorded)} with the checksums of the card"
    return not faults, "; ".join(faults) or found


def _check_episodes(sampled: Sampled) -> Finding:
    """Looks at lengths, at what one episode says of the next, and at row 0 of published files."""
    dataset = sampled.dataset
    lengths = [trajectory.num_steps for trajectory in dataset]
    limit = _max_steps(sampled)
    faults = [
        f"trajectory {index} has {steps} steps, and episodes end after {limit}"
        for index, steps in enumerate(lengths)
        if limit is not None and steps > limit
    ]
    faults += [
        f"trajectory {index + 1} starts before trajectory {index} ends"
        for index, (one, other) in enumerate(itertools.pairwise(dataset))
        if _overlap(one, other)
    ]
    faults += [
        f"row 0 of {name} in trajectory {index} is not zero: is it shifted?"
        for index, trajectory in enumerate(dataset)
        for name in (ACTION, REWARD)
        if np.any(trajectory.extras.get(name, 0))
    ]
    found = f"{len(dataset)} of {min(lengths)} to {max(lengths)} steps"
    if faults:
        return False, f"{faults[0]}" + (f"; {len(faults)} such" if len(faults) > 1 else "")
    return True, found if limit is None else f"{found}; at most {limit} are possible"


def _max_steps(sampled: Sampled) -> int | None:
    """After how many steps episodes end; None where it is not known."""
    try:
        env = sampled.env
    except NotPossible:
        return None
    own: int | None = getattr(env.unwrapped, "max_steps", None)
    return own if own is not None or env.spec is None else env.spec.max_episode_steps


def _overlap(one: Trajectory, other: Trajectory) -> bool:
    """Whether an agent's later episode began before an earlier one was over."""
    if one.first_step is None or other.first_step is None:
        return False
    return one.first_step < other.first_step < one.first_step + one.num_steps


def _check_actions(sampled: Sampled) -> Finding:
    """Compares the actions with the environment's limits."""
    known = [(i, 0, t.actions) for i, t in enumerate(sampled.dataset) if t.actions is not None]
    if not known:
        raise NotPossible("there are no actions")
    space = sampled.env.action_space
    if isinstance(space, spaces.Discrete):
        return _within(known, space.start, space.start + space.n - 1)
    assert isinstance(space, spaces.Box)
    if known[0][2].shape[1:] != space.shape:
        return False, f"they have shape {known[0][2].shape[1:]}; the environment's, {space.shape}"
    return _within(known, space.low, space.high)


def _check_sensors(sampled: Sampled) -> Finding:
    """Compares the sensors with what is plausible, or an observation with its limits."""
    env, dataset = sampled.env, sampled.dataset
    if hasattr(env.unwrapped, "read_sensors"):
        names = [name for name in dataset.sensor_shapes if name != IMAGE]
        if not names:
            raise NotPossible("there are pictures alone")
        return _within(_readings(dataset, names), -SENSOR_LIMIT, SENSOR_LIMIT)
    space = env.observation_space
    if not isinstance(space, spaces.Box) or not np.isfinite([space.low, space.high]).any():
        raise NotPossible("the environment's observations have no limits")
    if dataset.sensor_shapes.get(OBSERVATION) != space.shape:
        raise NotPossible("the sensors are not what the environment shows")
    return _within(_readings(dataset, [OBSERVATION]), space.low, space.high)


def _readings(dataset: Dataset, names: Sequence[str]) -> list[Part]:
    return [(i, 0, t.sensors[name]) for i, t in enumerate(dataset) for name in names]


def _check_rewards(sampled: Sampled) -> Finding:
    """Compares the rewards with those of the tasks: 0 to 1 in each control step."""
    known = [(i, 0, t.rewards) for i, t in enumerate(sampled.dataset) if t.rewards is not None]
    if not known:
        raise NotPossible("there are no rewards")
    return _within(known, 0.0, float(sampled.ours.action_repeat))


def _within(parts: Sequence[Part], low: Any, high: Any) -> Finding:
    """Whether values are within limits, but for what rounding to their precision explains."""
    excess = largest((i, row, np.maximum(low - rows, rows - high)) for i, row, rows in parts)
    limits = np.abs([low, high])
    allowed = precision(parts[0][2]) * (1 + limits[np.isfinite(limits)].max(initial=0.0))
    if excess.value > allowed:
        return False, f"beyond the limits by {excess}"
    return True, f"the largest in magnitude is {largest((i, r, np.abs(v)) for i, r, v in parts)}"
