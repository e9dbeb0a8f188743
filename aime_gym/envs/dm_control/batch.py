"""Many simulations of one body and task, stepped in MuJoCo's own threads and read as one.

MuJoCo's `Batch` holds the state of every simulation in rows of one array, and steps them all in one
call, without Python. Resets, pictures and single states are the business of each `Simulation`; so
what either has changed is brought over when the other is to work with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.simulation import Array, Simulation
from aime_gym.envs.resets import Mask
from aime_gym.opengl import never_destroy

_OPEN: WeakSet[SimulationBatch] = WeakSet()


def _abandon_all() -> None:
    """Gives up all threads in a process that was just forked: a fork does not copy them."""
    for batch in list(_OPEN):
        batch.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


class SimulationBatch:
    """N simulations.

    Args:
        simulations: Of one body, task and action repeat.
        num_threads: Threads that step them, the caller's included.
    """

    def __init__(self, simulations: Sequence[Simulation], num_threads: int) -> None:
        data, repeat = simulations[0].physics.data.ptr, simulations[0].action_repeat
        # After each control step of the repeat: name -> [repeat, N, *shape].
        fields = {
            name: np.zeros((repeat, len(simulations), *getattr(data, name).shape))
            for name in simulations[0].reader.fields
        }
        self._set_up(simulations, num_threads, fields)

    def _set_up(
        self, simulations: Sequence[Simulation], num_threads: int, fields: dict[str, Array]
    ) -> None:
        self._simulations, self._num_threads, self._fields = simulations, num_threads, fields
        self._batch: Any = None  # MuJoCo's, made when it is first needed.
        self._controls: Any = None  # Views of its memory.
        self._warnings: Any = None
        self._is_newer = np.ones(len(simulations), dtype=bool)  # Than its row of the batch.
        self._is_older = np.zeros(len(simulations), dtype=bool)
        self._models_changed = True
        _OPEN.add(self)

    # Copies are of the simulations; MuJoCo's batch is made anew.

    def __getstate__(self) -> tuple[Any, ...]:
        self.write_back()
        return self._simulations, self._num_threads, self._fields

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._set_up(*state)

    # Stepping and reading

    def step(self, stepped: Mask, actions: Array) -> None:
        """Holds actions [N, A] for the action repeat in the simulations of a mask [N].

        Raises:
            RuntimeError: dm_control's PhysicsError; a physics diverged.
        """
        batch, first = self._up_to_date(), self._simulations[0]
        ids = None if stepped.all() else np.flatnonzero(stepped)
        self._controls[...] = np.where(stepped[:, None], actions, self._controls)
        before = self._warnings.tobytes()
        for repeat in range(first.action_repeat):
            batch.step(ids, nstep=first.substeps, stage=self._stage)
            for rows, output in self._outputs:
                rows[repeat] = output
        self._is_older |= stepped
        if self._warnings.tobytes() != before:
            self._tell_divergence(np.frombuffer(before, np.int32).reshape(self._warnings.shape))

    def _tell_divergence(self, before: NDArray[np.int32]) -> None:
        index = int((self._warnings != before).any(axis=1).argmax())
        raise self._simulations[0].physics_error(before[index], self._warnings[index])

    def refresh(self, index: int) -> None:
        """Reads one simulation anew, after its reset."""
        self._is_newer[index], self._is_older[index] = True, False
        data = self._simulations[index].physics.data.ptr
        for name, rows in self._fields.items():
            rows[-1, index] = getattr(data, name)

    def rewards(self) -> Array:
        """The rewards of the last step [N]; arbitrary where there was none."""
        return self._simulations[0].reward(self._fields)

    def sensors(self) -> dict[str, NDArray[np.float32]]:
        """Sensor name -> values [N, n], as they were at the last `step` or `refresh` of each."""
        readings = self._simulations[0].reader.sensors(
            {name: values[-1] for name, values in self._fields.items()}
        )
        order = self._simulations[0].sensors
        return {sensor.name: readings[sensor.name].astype(np.float32) for sensor in order}

    # Between the simulations and MuJoCo's batch

    def write_back(self, wanted: Mask | None = None) -> None:
        """Brings the simulations of a mask [N], or all, to where the last step left them."""
        older = self._is_older if wanted is None else self._is_older & wanted
        for index in np.flatnonzero(older).tolist():
            self._batch.get_data(index, self._simulations[index].physics.data.ptr)
            self._is_older[index] = False

    def hand_over(self, models: bool) -> None:
        """Lets others change the simulations, and their models where these are included.

        What they changed until the next step counts from then on.
        """
        self.write_back()
        self._is_newer[:] = True
        self._models_changed |= models

    def _up_to_date(self) -> Any:
        """MuJoCo's batch, every row of which is as its simulation."""
        if self._batch is None:
            self._make_batch()
        if not self._is_newer.any():
            return self._batch
        import mujoco

        everything = int(mujoco.mjtState.mjSTATE_INTEGRATION)
        for index in np.flatnonzero(self._is_newer).tolist():
            physics, row = self._simulations[index].physics, self._batch.state[index]
            mujoco.mj_getState(physics.model.ptr, physics.data.ptr, row, everything)
        self._is_newer[:] = False
        if self._models_changed or self._simulations[0].task.episode_values is not None:
            self._batch.set_models(self._find_models())
            self._models_changed = False
        return self._batch

    def _make_batch(self) -> None:
        import mujoco
        from mujoco.batch import Batch

        # All that follows from positions and velocities, as the suite's own steps leave it.
        self._stage = int(mujoco.mjtStage.mjSTAGE_VEL)
        first = self._simulations[0].physics.model.ptr
        self._batch = Batch(first, len(self._simulations), self._num_threads, persistent=True)
        self._controls = self._batch.bind("ctrl")
        self._warnings = self._batch.warning[..., 1]  # Counters [N, kinds].
        self._outputs = [(rows, self._batch.bind(name)) for name, rows in self._fields.items()]

    def _find_models(self) -> Any:
        """One model where all are alike, which caches like better, or that of each simulation."""
        models = [simulation.physics.model.ptr for simulation in self._simulations]
        if self._simulations[0].task.episode_values is not None:
            return models
        first = _model_bytes(models[0])
        return models[0] if all(_model_bytes(model) == first for model in models[1:]) else models

    def close(self) -> None:
        """Ends the threads; the simulations go on where they are."""
        self.write_back()
        self._batch = self._controls = self._warnings = None
        self._outputs, self._is_newer[:] = [], True

    def abandon(self) -> None:
        """The same without the threads, which are another process's."""
        if self._batch is not None:
            never_destroy(self._batch)
            self.close()


def _model_bytes(model: Any) -> bytes:
    import mujoco

    buffer = np.empty(mujoco.mj_sizeModel(model), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()
