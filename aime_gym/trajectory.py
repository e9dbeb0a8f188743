"""One trajectory, and how its parts line up in time.

    time            0          1          2        ...      T
    sensors        o_0        o_1        o_2       ...     o_T       T + 1 rows
    actions             a_0        a_1        ...  a_{T-1}           T rows
    rewards             r_0        r_1        ...  r_{T-1}           T rows
    physics        p_0        p_1        p_2       ...     p_T       T + 1 rows

Action a_t is what the agent did on seeing o_t; it led to reward r_t and observation o_{t+1}.
AIME's files shift actions and rewards by one, so that row t holds what led to o_t and row 0 zeros:

    pre_action      0         a_0        a_1       ...   a_{T-1}     T + 1 rows
    reward          0         r_0        r_1       ...   r_{T-1}     T + 1 rows
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE = "image"  # Name of the sensor that holds pictures.
OBSERVATION = "observation"  # Name of the sensor of an environment without named sensors.
IMAGE_SHAPE = (64, 64, 3)  # What the visual setups show.
NUMBER_KINDS = "fiu"  # NumPy's kinds of real numbers.


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What happened in one episode, or in a part of it.

    Attributes:
        sensors: Sensor name -> values [T+1, n], float; ``"image"`` [T+1, H, W, 3], uint8.
        actions: What the agent did, None where unknown: [T, A], float, clipped to the limits; the
            numbers of discrete actions are int64 [T, 1].
        rewards: The reward of each action [T]; None where unknown.
        physics_states: What restores every sensor and image [T+1, P]; None where unknown.
        terminated: The task ended the episode at T.
        truncated: A time limit ended the episode at T.
        first_step: Agent steps that the agent had taken before time 0; None where unknown.
        extras: What a published file holds beyond all this, for writing it back as it was; see
            `aime_gym.datasets.aime_npz`. Cutting a trajectory drops it.

    Raises:
        ValueError: The parts do not line up, or have values that are not finite.
    """

    sensors: Mapping[str, NDArray[Any]]
    actions: NDArray[Any] | None = None
    rewards: NDArray[Any] | None = None
    physics_states: NDArray[Any] | None = None
    terminated: bool = False
    truncated: bool = True
    first_step: int | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sensors", MappingProxyType(dict(self.sensors)))
        object.__setattr__(self, "extras", MappingProxyType(dict(self.extras)))
        _check(self)

    # Copies, by `copy.deepcopy` and `pickle`: read-only views of dictionaries are made anew.

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "sensors": dict(self.sensors), "extras": dict(self.extras)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        views = {name: MappingProxyType(state[name]) for name in ("sensors", "extras")}
        vars(self).update(state | views)

    def __len__(self) -> int:
        """Number of observations, T + 1."""
        return len(next(iter(self.sensors.values())))

    def __repr__(self) -> str:
        """One line: how long it is, and what it holds."""
        parts = [f"{name} {_shape(values)}" for name, values in self.sensors.items()]
        others = ("actions", "rewards", "physics_states")
        held = {name: getattr(self, name) for name in others}
        parts += [f"{name} {_shape(rows)}" for name, rows in held.items() if rows is not None]
        end = "terminated" if self.terminated else "truncated" if self.truncated else "cut off"
        return f"Trajectory({self.num_steps} steps, {end}: {', '.join(parts)})"

    @property
    def num_steps(self) -> int:
        """Number of actions, T."""
        return len(self) - 1

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of the rewards.

        Raises:
            ValueError: There are no rewards.
        """
        if self.rewards is None:
            raise ValueError("This trajectory has no rewards, so no return.")
        return float(np.sum(self.rewards, dtype=np.float64))

    @property
    def prev_actions(self) -> NDArray[Any]:
        """The action that led to each observation [T+1, A]; row 0 is zero.

        Raises:
            ValueError: There are no actions.
        """
        if self.actions is None:
            raise ValueError("This trajectory has no actions: it holds observations alone.")
        return np.concatenate([np.zeros_like(self.actions[:1]), self.actions])

    def observations_only(self) -> Trajectory:
        """The same without actions and rewards."""
        return replace(self, actions=None, rewards=None, extras={})

    def with_images(self, images: NDArray[np.uint8]) -> Trajectory:
        """The same with images [T+1, H, W, 3]."""
        return replace(self, sensors={**self.sensors, IMAGE: images})

    def without_images(self) -> Trajectory:
        """The same with vector sensors alone."""
        vectors = {name: rows for name, rows in self.sensors.items() if name != IMAGE}
        return replace(self, sensors=vectors)

    def window(self, start: int, length: int) -> Trajectory:
        """Rows start .. start + length - 1.

        Raises:
            ValueError: The trajectory does not have these rows.
        """
        stop = start + length
        if start < 0 or length < 2 or stop > len(self):
            raise ValueError(
                f"A window of rows {start} to {stop - 1} does not fit a trajectory of "
                f"{len(self)} observations, or is shorter than 2."
            )
        ends = stop == len(self)
        return replace(
            self,
            sensors={name: rows[start:stop] for name, rows in self.sensors.items()},
            actions=None if self.actions is None else self.actions[start : stop - 1],
            rewards=None if self.rewards is None else self.rewards[start : stop - 1],
            physics_states=(
                None if self.physics_states is None else self.physics_states[start:stop]
            ),
            terminated=self.terminated and ends,
            truncated=self.truncated and ends,
            first_step=None if self.first_step is None else self.first_step + start,
            extras={},
        )


def _shape(values: NDArray[Any]) -> str:
    return str(list(values.shape))


def _check(trajectory: Trajectory) -> None:
    if not trajectory.sensors:
        raise ValueError("A trajectory has at least one sensor.")
    rows = {name: len(values) for name, values in trajectory.sensors.items()}
    length = len(trajectory)
    if length < 2 or set(rows.values()) != {length}:
        raise ValueError(f"All sensors have the same number of rows, at least 2; got {rows}.")
    for name, values in trajectory.sensors.items():
        if name == IMAGE:
            if values.ndim != 4 or values.shape[-1] != 3 or values.dtype != np.uint8:
                raise ValueError(
                    f"Images are uint8 [T+1, H, W, 3]; got {values.dtype} {list(values.shape)}."
                )
        else:
            _check_array(f"sensor {name!r}", values, 2, length)
    _check_array("actions", trajectory.actions, 2, length - 1)
    _check_array("rewards", trajectory.rewards, 1, length - 1)
    _check_array("physics_states", trajectory.physics_states, 2, length)


def _check_array(name: str, values: NDArray[Any] | None, ndim: int, rows: int) -> None:
    if values is None:
        return
    if values.dtype.kind not in NUMBER_KINDS:
        raise ValueError(f"{name} has real numbers, integers or floating; got {values.dtype}.")
    if values.ndim != ndim or len(values) != rows:
        raise ValueError(
            f"{name} should have {ndim} axes and {rows} rows; its shape is {list(values.shape)}."
        )
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(
            f"{name} has {int((~finite).sum())} values that are not finite, the first in row "
            f"{int(np.argwhere(~finite)[0][0])}."
        )
