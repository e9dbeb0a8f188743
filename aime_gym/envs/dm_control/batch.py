"""Many simulations of one body and task, read as one.

`step` and `refresh` touch one simulation alone, so threads may call them for different ones at
once; `rewards` and `sensors` read them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.simulation import Array, Simulation


class SimulationBatch(Protocol):
    """N simulations."""

    def step(self, index: int, action: Array) -> None:
        """Holds an action [A] in one simulation for its action repeat."""
        ...

    def refresh(self, index: int) -> None:
        """Reads one simulation anew, after its reset."""
        ...

    def rewards(self) -> Array:
        """The rewards of the last step [N]; arbitrary where there was none."""
        ...

    def sensors(self) -> dict[str, NDArray[np.float32]]:
        """Sensor name -> values [N, n], as they were at the last `step` or `refresh` of each."""
        ...


def make_batch(simulations: Sequence[Simulation]) -> SimulationBatch:
    """The quickest batch which gives the suite's values to the bit."""
    body, task = simulations[0].body, simulations[0].task
    if body.batch_reader is None or task.batch_reward is None:
        return SuiteBatch(simulations)
    return FieldBatch(simulations, body.batch_reader.fields)


class SuiteBatch:
    """A batch in which the suite reads each simulation."""

    def __init__(self, simulations: Sequence[Simulation]) -> None:
        self._simulations = simulations
        self._rewards = np.zeros(len(simulations))
        self._sensors = {
            sensor.name: np.zeros((len(simulations), sensor.size), dtype=np.float32)
            for sensor in simulations[0].sensors
        }

    def step(self, index: int, action: Array) -> None:
        """Holds an action [A] in one simulation for its action repeat."""
        self._rewards[index] = self._simulations[index].step(action)
        self.refresh(index)

    def refresh(self, index: int) -> None:
        """Reads one simulation anew, after its reset."""
        for name, values in self._simulations[index].read_sensors().items():
            self._sensors[name][index] = values

    def rewards(self) -> Array:
        """The rewards of the last step [N]."""
        return self._rewards.copy()

    def sensors(self) -> dict[str, NDArray[np.float32]]:
        """Sensor name -> values [N, n]."""
        return {name: values.copy() for name, values in self._sensors.items()}


class FieldBatch:
    """A batch whose rewards and sensors come from copies of MuJoCo's arrays, all in one go."""

    def __init__(self, simulations: Sequence[Simulation], names: Sequence[str]) -> None:
        data, repeat = simulations[0].physics.data.ptr, simulations[0].action_repeat
        # After each control step of the repeat: name -> [repeat, N, *shape].
        fields = {
            name: np.zeros((repeat, len(simulations), *getattr(data, name).shape)) for name in names
        }
        self._set_up(simulations, fields)

    def _set_up(self, simulations: Sequence[Simulation], fields: dict[str, Array]) -> None:
        self._simulations, self._fields = simulations, fields
        self._task, self._repeat = simulations[0].task, simulations[0].action_repeat
        reader = simulations[0].body.batch_reader
        assert reader is not None
        self._reader = reader
        self._copies = [
            [
                (rows[:, index], getattr(simulation.physics.data.ptr, name))
                for name, rows in fields.items()
            ]
            for index, simulation in enumerate(simulations)
        ]

    # Copies are of the arrays; their views of MuJoCo's memory are made anew.

    def __getstate__(self) -> tuple[Sequence[Simulation], dict[str, Array]]:
        return self._simulations, self._fields

    def __setstate__(self, state: tuple[Sequence[Simulation], dict[str, Array]]) -> None:
        self._set_up(*state)

    def step(self, index: int, action: Array) -> None:
        """Holds an action [A] in one simulation for its action repeat."""
        simulation, copies = self._simulations[index], self._copies[index]
        for repeat in range(self._repeat):
            simulation.advance(action)
            for rows, view in copies:
                rows[repeat] = view

    def refresh(self, index: int) -> None:
        """Reads one simulation anew, after its reset."""
        for rows, view in self._copies[index]:
            rows[-1] = view

    def rewards(self) -> Array:
        """The rewards of the last step [N]."""
        assert self._task.batch_reward is not None
        summed = np.zeros(len(self._simulations))
        for reward in self._task.batch_reward(self._fields):
            summed += reward
        if self._task.reward is None:
            return summed
        return self._task.reward(summed, self._reader.sensors(self._last()))

    def sensors(self) -> dict[str, NDArray[np.float32]]:
        """Sensor name -> values [N, n]."""
        readings = self._reader.sensors(self._last())
        return {name: values.astype(np.float32) for name, values in readings.items()}

    def _last(self) -> dict[str, Array]:
        return {name: values[-1] for name, values in self._fields.items()}
