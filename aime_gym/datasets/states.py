"""What the simulator says of stored physics states, for a sample of a dataset's rows.

    sensors of states     sensors read off p_t              beside the stored o_t
    pictures of states    the picture drawn of p_t          beside the stored one
    steps of states       p_t, then a_t, a_{t+1}, a_{t+2}   beside the stored p_{t+1} .. p_{t+3}
    rewards of states     the reward of that first step     beside the stored r_t

Differences are measured with what the numbers are stored in. The steps are also taken with actions
shifted by one either way: it is with a_t that they must lead to the stored states.

P physics state, A action.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.images import check_drawable, find_env, redraw
from aime_gym.opengl import RenderingUnavailable
from aime_gym.physics import get_physics_state, set_physics_state
from aime_gym.trajectory import IMAGE

Array = NDArray[np.float64]
Finding = tuple[bool, str]
"""Whether all is well, and what was found and where."""

Part = tuple[int, int, NDArray[Any]]
"""Number of a trajectory, number of a row in it, and values from there on [rows, ..]."""

STEPS = 3  # Taken from a stored state.
SHIFTS = {-1: "one row early", 1: "one row late"}  # Where what fits a row stands instead.
CLEARLY = 10.0  # So many times as large is an error that does not come from rounding.
SINGLE, HALF = 1e-5, 1e-3  # Relative errors of what is stored as float32, as float16.
SIMULATED = 100.0  # So many times as large may they be after some steps.
PIXEL = 1.0  # Mean difference of two pictures of the same state, of 255.


class NotPossible(Exception):  # noqa: N818
    """A dataset has not what a check needs; the message says what."""


class Extreme(NamedTuple):
    """A largest value, and where it is."""

    value: float
    trajectory: int
    row: int

    @classmethod
    def of(cls, values: Array, places: list[tuple[int, int]]) -> Extreme:
        """The largest of values [S] that belong to as many places."""
        best = int(values.argmax())
        return cls(float(values[best]), *places[best])

    def __str__(self) -> str:
        return f"{self.value:.2g} in trajectory {self.trajectory}, row {self.row}"


def largest(parts: Iterable[Part]) -> Extreme:
    """The largest of all values."""
    found = Extreme(-np.inf, 0, 0)
    for trajectory, start, values in parts:
        rows = values.reshape(len(values), -1).max(axis=1)
        row = int(rows.argmax())
        if rows[row] > found.value:
            found = Extreme(float(rows[row]), trajectory, start + row)
    return found


def precision(*stored: NDArray[Any]) -> float:
    """The relative error of numbers that have been float16, whatever they are now, or not."""
    with np.errstate(over="ignore"):
        exact = [(values == values.astype(np.float16)).all() for values in stored]
    whole = [np.issubdtype(values.dtype, np.integer) for values in stored]
    return HALF if all(exact) and not all(whole) else SINGLE


@dataclass(frozen=True)
class Sampled:
    """A dataset, the environment that takes its states, and what to choose rows by.

    Attributes:
        dataset: What is checked.
        size: How many rows are chosen.
        seed: The seed for the choice of rows.
    """

    dataset: Dataset
    size: int
    seed: int

    @cached_property
    def env(self) -> gym.Env[Any, Any]:
        """The environment of the dataset, or one of its body.

        Raises:
            NotPossible: There is none.
        """
        try:
            return find_env(self.dataset)
        except (ValueError, gym.error.Error) as error:
            raise NotPossible(str(error)) from error

    def close(self) -> None:
        """Closes the environment, if there is one."""
        if "env" in vars(self):
            self.env.close()

    @property
    def ours(self) -> Any:
        """The environment, if it is of this package.

        Raises:
            NotPossible: It is not, or there is none.
        """
        base = self.env.unwrapped
        if not hasattr(base, "read_sensors"):
            raise NotPossible(f"{self.dataset.card.env_id} is not of this package")
        return base

    @cached_property
    def simulated(self) -> Simulated:
        """Simulated steps beside the stored ones.

        Raises:
            NotPossible: There are no physics states or no actions, or no environment takes them.
        """
        return simulate(self)

    @property
    def allowed(self) -> float:
        """What storage explains of a difference after some steps, relative."""
        actions = self.dataset[0].actions
        return SIMULATED * (SINGLE if actions is None else precision(actions))

    def rows(self, margin: int = 0) -> list[tuple[int, int]]:
        """Trajectory and row of some physics states, `margin` rows away from both ends.

        Raises:
            NotPossible: There are no physics states, or no trajectory is as long.
        """
        stored = [i for i, t in enumerate(self.dataset) if t.physics_states is not None]
        if not stored:
            raise NotPossible("there are no physics states")
        long = [i for i in stored if len(self.dataset[i]) > 2 * margin]
        if not long:
            raise NotPossible(f"no trajectory with physics states has {2 * margin + 1} rows")
        rng = np.random.default_rng(self.seed)
        chosen = [long[int(index)] for index in rng.integers(len(long), size=self.size)]
        ends = [len(self.dataset[i]) - margin for i in chosen]
        return [(i, int(rng.integers(margin, end))) for i, end in zip(chosen, ends, strict=True)]

    def state(self, trajectory: int, row: int) -> Array:
        """A stored state [P]."""
        states = self.dataset[trajectory].physics_states
        assert states is not None
        return np.asarray(states[row], dtype=np.float64)


def sensors_of_states(sampled: Sampled) -> Finding:
    """Compares the sensors that the simulator reads off stored states with the stored ones."""
    rows, base, first = sampled.rows(), sampled.ours, sampled.dataset[0].sensors
    names = [name for name in base.read_sensors() if name in first]
    if not names:
        raise NotPossible(f"none of its sensors is one of {sampled.dataset.card.body}'s")
    differences: dict[str, list[Part]] = {name: [] for name in names}
    for index, row in rows:
        set_physics_state(sampled.env, sampled.state(index, row))
        read, stored = base.read_sensors(), sampled.dataset[index].sensors
        for name, found in differences.items():
            size = 1 + np.abs(stored[name][row])
            found.append((index, row, np.abs(read[name] - stored[name][row])[None] / size))
    worst, name = max((largest(parts), name) for name, parts in differences.items())
    allowed = precision(*(first[name] for name in names))
    detail = f"{len(rows)} states; relative difference at most {worst}, of {name}"
    return worst.value <= allowed, f"{detail}; storage explains {allowed:g}"


def pictures_of_states(sampled: Sampled) -> Finding:
    """Compares pictures drawn of stored states with the stored ones."""
    dataset = sampled.dataset
    if not dataset.has_images:
        raise NotPossible("there are no pictures")
    rows = sampled.rows(margin=1)
    try:
        check_drawable(dataset.card)
        drawn = list(redraw(dataset, (sampled.state(*place) for place in rows)))
    except (ValueError, RenderingUnavailable) as error:
        raise NotPossible(str(error)) from error
    differences = {
        shift: np.array(
            [
                np.abs(picture - dataset[index].sensors[IMAGE][row + shift].astype(int)).mean()
                for (index, row), picture in zip(rows, drawn, strict=True)
            ]
        )
        for shift in (0, *SHIFTS)
    }
    worst = Extreme.of(differences[0], rows)
    found = f"{len(rows)} pictures; mean difference of channels, 0 to 255, at most {worst}"
    if (elsewhere := _fits_elsewhere(differences)) is not None:
        return False, f"{found}; they stand {elsewhere}"
    return worst.value <= PIXEL, found


def _fits_elsewhere(differences: dict[int, Array]) -> str | None:
    """Where the rows stand that fit, if they are not those that should; shift -> differences."""
    typical = {shift: float(np.median(found)) for shift, found in differences.items()}
    best = min(SHIFTS, key=lambda shift: typical[shift])
    return SHIFTS[best] if CLEARLY * typical[best] < typical[0] else None


class Simulated(NamedTuple):
    """What simulated steps from sampled states differ in from the stored ones, for S states.

    Attributes:
        places: Trajectory and row of each state.
        states: Shift -> the largest difference of all steps and values, in the value's standard
            deviations, with the actions that stand so many rows later [S].
        rewards: Difference of the first step's reward [S]; None where not all are stored.
    """

    places: list[tuple[int, int]]
    states: dict[int, Array]
    rewards: Array | None


def simulate(sampled: Sampled) -> Simulated:
    """Takes some steps from stored states, with the stored actions and with their neighbours.

    Raises:
        NotPossible: There are no physics states or no actions, or no environment takes them.
    """
    dataset, places = sampled.dataset, sampled.rows(margin=STEPS + 1)
    if any(dataset[index].actions is None for index, _ in places):
        raise NotPossible("there are no actions")
    scale = _scale(dataset)
    differences: dict[int, list[float]] = {shift: [] for shift in (0, *SHIFTS)}
    rewards: list[float] = []
    for index, row in places:
        stored = dataset[index]
        for shift, found in differences.items():
            states, reward = _steps(sampled, index, row, shift)
            following = np.stack([sampled.state(index, row + 1 + step) for step in range(STEPS)])
            found.append(float((np.abs(states - following) / scale).max()))
            if shift == 0 and stored.rewards is not None:
                rewards.append(abs(reward - float(stored.rewards[row])))
    by_shift = {shift: np.array(found) for shift, found in differences.items()}
    return Simulated(places, by_shift, np.array(rewards) if len(rewards) == len(places) else None)


def _scale(dataset: Dataset) -> Array:
    """By how much each value of the physics states varies [P]; at least what rounding does."""
    stored = np.concatenate([t.physics_states for t in dataset if t.physics_states is not None])
    mean, deviation = stored.mean(axis=0, dtype=np.float64), stored.std(axis=0, dtype=np.float64)
    scale: Array = deviation + 1e-3 * (1 + np.abs(mean))
    return scale


def _steps(sampled: Sampled, index: int, row: int, shift: int) -> tuple[Array, float]:
    """The states after some steps from a stored one [STEPS, P], and the first step's reward."""
    env, actions = sampled.env, sampled.dataset[index].actions
    assert actions is not None
    env.reset(seed=0)
    set_physics_state(env, sampled.state(index, row))
    states, rewards = [], []
    for action in actions[row + shift : row + shift + STEPS]:
        discrete = isinstance(env.action_space, spaces.Discrete)
        _, reward, *_ = env.step(action[0] if discrete else action)
        state = get_physics_state(env)
        assert state is not None
        states.append(state)
        rewards.append(float(reward))
    return np.stack(states), rewards[0]


def steps_of_states(sampled: Sampled) -> Finding:
    """Looks whether the stored actions, and not their neighbours, lead to the stored states."""
    places, differences, _ = sampled.simulated
    typical, worst = float(np.median(differences[0])), Extreme.of(differences[0], places)
    found = f"{len(places)} times {STEPS} steps; difference in deviations: median {typical:.2g}"
    if (elsewhere := _fits_elsewhere(differences)) is not None:
        return False, f"{found}; the actions stand {elsewhere}"
    if typical > sampled.allowed:
        return False, f"{found}, at most {worst}; storage explains {sampled.allowed:g}"
    if min(differences[shift].mean() for shift in SHIFTS) <= CLEARLY * differences[0].mean():
        raise NotPossible("the actions before and after lead to the same states")
    return True, f"{found}, at most {worst}; with the actions before or after much more"


def rewards_of_states(sampled: Sampled) -> Finding:
    """Compares the rewards of simulated steps with the stored ones."""
    if sampled.dataset.card.env_id is None:
        raise NotPossible("it is of several tasks, or of none")
    repeat = sampled.ours.action_repeat
    places, _, rewards = sampled.simulated
    if rewards is None:
        raise NotPossible("there are no rewards")
    worst = Extreme.of(rewards, places)
    found = f"{len(places)} rewards; mean difference {rewards.mean():.2g}, at most {worst}"
    allowed = repeat * sampled.allowed
    return bool(rewards.mean() <= allowed), f"{found}; storage explains {allowed:g}"
