"""One body's physics, as dm_control's suite builds it, without any OpenGL.

Importing dm_control binds an OpenGL backend for good, and picks one which warns without a display.
So it is imported with rendering switched off unless the user chose a backend; `renderer.py` draws.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aime_gym.envs.dm_control.setups import get_body, get_task
from aime_gym.envs.dm_control.tasks import Sensor
from aime_gym.envs.dm_control.tasks.body import Fields

Array = NDArray[np.float64]


@contextmanager
def rendering_off() -> Iterator[None]:
    """Sets MUJOCO_GL=disabled while importing, where the user set nothing."""
    if "MUJOCO_GL" in os.environ:
        yield
        return
    os.environ["MUJOCO_GL"] = "disabled"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]


@contextmanager
def deprecations_silenced() -> Iterator[None]:
    """Keeps back what MuJoCo says of outdated settings in the suite's own files, at every load."""

    def concerns_users(record: logging.LogRecord) -> bool:
        return "is deprecated" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(concerns_users)
    try:
        yield
    finally:
        logger.removeFilter(concerns_users)


def load_suite(domain: str, task: str) -> Any:
    """A dm_control environment of the suite."""
    with rendering_off():
        from dm_control import suite
    with deprecations_silenced():
        return suite.load(domain, task)


@lru_cache(maxsize=8)
def _compiled(domain: str, task: str) -> Any:
    """A suite environment to copy: to compile its model takes much longer than to copy it."""
    return load_suite(domain, task)


class Simulation:
    """The physics, sensors and reward of one body and task.

    Attributes:
        sensors: All vector sensors in the suite's order.
        control_timestep: Duration of a control step, s.
    """

    def __init__(self, body: str, task: str, action_repeat: int) -> None:
        env = _compiled(body, get_task(get_body(body), task).suite_task)
        self.control_timestep: float = env.control_timestep()
        self.was_reset = False
        kind, data = type(env.physics), env.physics.data.ptr
        physics = _make_physics(kind, data, copy.copy(env.physics.model.ptr))
        self._set_up(body, task, action_repeat, physics, copy.deepcopy(env.task))

    def _set_up(
        self, body: str, task: str, action_repeat: int, physics: Any, suite_task: Any
    ) -> None:
        self.body = get_body(body)
        self.task = get_task(self.body, task)
        self._task_name = task
        self.sensors: tuple[Sensor, ...] = self.body.sensors + self.task.sensors
        self.action_repeat = action_repeat
        self.physics = physics
        self.suite_task = suite_task
        self.reader = self.task.reader or self.body.reader
        self.action_spec: Any = suite_task.action_spec(physics)
        self.substeps = round(self.control_timestep / self.physics.timestep())
        self._advance = _substepper(self.physics, self.substeps)
        self._views = {n: getattr(physics.data.ptr, n) for n in self.reader.fields}
        # After each control step of the repeat: name -> [repeat, *shape].
        self._fields = {n: np.zeros((action_repeat, *v.shape)) for n, v in self._views.items()}
        self._copies = [(self._fields[name], view) for name, view in self._views.items()]
        self._warnings = self.physics.data.ptr.warning.number  # Views of MuJoCo's own memory.
        self._control = self.physics.data.ptr.ctrl
        # A reset may ask for rendering contexts (quadruped's terrain); there are none to update.
        self.physics._make_rendering_contexts = lambda: None
        mujoco_model = self.physics.model.ptr
        self._late_sensors = _acceleration_sensors(mujoco_model)

    # Copies: `copy.deepcopy` and `pickle`.

    def __getstate__(self) -> dict[str, Any]:
        return {
            "names": (self.body.name, self._task_name),
            "action_repeat": self.action_repeat,
            "control_timestep": self.control_timestep,
            "was_reset": self.was_reset,
            "suite_task": self.suite_task,  # With its random stream.
            "physics_class": type(self.physics),
            "data": self.physics.data.ptr,  # With its model, and with what is between two steps.
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.control_timestep, self.was_reset = state["control_timestep"], state["was_reset"]
        body, task = state["names"]
        data = state["data"]
        physics = _make_physics(state["physics_class"], data, data.model)
        self._set_up(body, task, state["action_repeat"], physics, state["suite_task"])

    def seed(self, seed: int) -> None:
        """Restarts the suite's random stream, as ``suite.load(task_kwargs={"random": seed})``."""
        self.suite_task._random = np.random.RandomState(seed % 2**32)

    def reset(self) -> None:
        """Draws the initial state of an episode."""
        with self.physics.reset_context():
            self.suite_task.initialize_episode(self.physics)
        self.was_reset = True

    def step(self, action: Array) -> float:
        """Holds an action for `action_repeat` control steps; returns the reward.

        Raises:
            RuntimeError: dm_control's PhysicsError; the physics diverged.
        """
        self._control[:] = action
        before = self._warnings.tobytes()
        for repeat in range(self.action_repeat):
            self._advance()
            for rows, view in self._copies:
                rows[repeat] = view
        if self._warnings.tobytes() != before:
            raise self.physics_error(np.frombuffer(before, self._warnings.dtype), self._warnings)
        return float(self.reward(self._fields))

    def reward(self, fields: Fields) -> Array:
        """The reward of an agent step [...] from MuJoCo's arrays after each control step of it.

        Args:
            fields: Name -> values [action_repeat, ..., *shape].
        """
        summed = sum(self.task.suite_reward(fields), start=np.zeros(()))
        if self.task.reward is None:
            return summed
        last = {name: values[-1] for name, values in fields.items()}
        return self.task.reward(summed, self.reader.sensors(last))

    def physics_error(self, before: NDArray[np.int32], now: NDArray[np.int32]) -> RuntimeError:
        """What tells of new warnings of MuJoCo, given the counters [kinds] before and now."""
        import mujoco
        from dm_control.rl.control import PhysicsError

        new = np.flatnonzero(now != before)
        names = ", ".join(mujoco.mjtWarning(int(number)).name for number in new)
        error: RuntimeError = PhysicsError(
            f"The physics of {self.body.name} diverged ({names}): call reset()."
        )
        return error

    def read_sensors(self, dtype: Any = np.float32) -> dict[str, NDArray[Any]]:
        """Sensor name -> values [n]."""
        readings = self.reader.sensors(self._views)
        return {sensor.name: readings[sensor.name].astype(dtype) for sensor in self.sensors}

    def get_state(self) -> Array:
        """What restores every sensor and image [P].

        MuJoCo's physics state (qpos, qvel, act), then the task's own values of the episode, then
        those readings which MuJoCo takes during a step (touch, force, acceleration).
        """
        parts = [self.physics.get_state()]
        if self.task.episode_values is not None:
            parts.append(self.task.episode_values.get(self.physics))
        parts.append(self.physics.data.sensordata[self._late_sensors])
        return np.concatenate(parts)

    def set_state(self, state: Array) -> None:
        """Restores what `get_state` returned.

        Raises:
            ValueError: The state has another size, or is not finite.
            RuntimeError: There was no reset yet.
        """
        if not self.was_reset:
            raise RuntimeError("Call reset() once before set_physics_state(state).")
        state = np.asarray(state, dtype=np.float64)
        size = self.get_state().size
        if state.shape != (size,):
            raise ValueError(
                f"A physics state of {self.body.name} has shape ({size},), not {state.shape}."
            )
        if not np.isfinite(state).all():
            raise ValueError("The physics state has values that are not finite.")
        physics_size = self.physics.get_state().size
        late = size - self._late_sensors.size
        if self.task.episode_values is not None:
            self.task.episode_values.set(self.physics, state[physics_size:late])
        self.physics.set_state(state[:physics_size])
        self.physics.forward()
        self.physics.data.sensordata[self._late_sensors] = state[late:]


def _make_physics(physics_class: Any, data: Any, model: Any) -> Any:
    """The suite's physics on a model, in the state of MuJoCo's data, to the bit.

    dm_control's own constructor runs the forward dynamics without actuation, as after a reset.
    """
    import mujoco

    with rendering_off():
        from dm_control.mujoco import wrapper
    physics = physics_class(wrapper.MjData(mujoco.MjData(model)))
    mujoco.mj_copyData(physics.data.ptr, model, data)
    return physics


def _substepper(physics: Any, substeps: int) -> Callable[[], None]:
    """A control step in the order of dm_control's `Physics.step`, to the bit.

    mj_step = mj_step1 (position and velocity stages), then mj_step2 (forces, integration). The
    suite keeps the first half done for the present state, so that sensors are up to date:

        Euler, implicit:  mj_step2, mj_step x (substeps - 1), mj_step1
        Runge-Kutta:      mj_step x substeps, mj_step1
    """
    import mujoco

    model, data = physics.model.ptr, physics.data.ptr

    def runge_kutta() -> None:
        mujoco.mj_step(model, data, substeps)
        mujoco.mj_step1(model, data)

    def euler() -> None:
        mujoco.mj_step2(model, data)
        if substeps > 1:
            mujoco.mj_step(model, data, substeps - 1)
        mujoco.mj_step1(model, data)

    return runge_kutta if model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 else euler


def _acceleration_sensors(model: Any) -> NDArray[np.intp]:
    """Indices in sensordata of what mj_step reads before integrating, and mj_step1 leaves alone."""
    import mujoco

    late = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
    indices = [
        np.arange(start, start + size)
        for start, size in zip(model.sensor_adr[late], model.sensor_dim[late], strict=True)
    ]
    return np.concatenate(indices) if indices else np.zeros(0, dtype=np.intp)
