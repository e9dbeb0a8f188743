"""The dm_control bodies as one Gymnasium environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from aime_gym.envs.dm_control.setups import (
    CONTROL_STEPS,
    check_setup,
    get_body,
    get_task,
    visible_sensors,
)
from aime_gym.envs.dm_control.simulation import Simulation, rendering_off
from aime_gym.envs.dm_control.tasks import BODIES
from aime_gym.envs.renderer import DRAWINGS, Renderer
from aime_gym.envs.time_limit import SpecWithLimit
from aime_gym.ids import EnvId, what_exists
from aime_gym.trajectory import IMAGE_SHAPE

RENDER_SIZE = 480


class SensorInfo(NamedTuple):
    """Where a sensor is in the observation, and what it measures.

    Attributes:
        slice: Its indices in the observation vector; None where the setup hides it.
        size: Number of values.
        order: ``"first"``, or ``"second"`` for velocities.
    """

    slice: slice | None
    size: int
    order: str


class DMControlEnv(gym.Env[NDArray[Any], NDArray[np.float32]]):
    """A body and task of dm_control's suite, or of AIME's added tasks.

    Made by ``gym.make("AIME/<body>-<task>-<setup>")``.
    `aime_gym.list_environments()` lists the ids.

    | setup | observation | space |
    | --- | --- | --- |
    | mdp | all vector sensors, in the suite's order | Box(-inf, inf, (n,), float32) |
    | lpomdp | the same without velocities | Box(-inf, inf, (m,), float32) |
    | visual | a picture of the body | Box(0, 255, (64, 64, 3), uint8) |

    Actions are the suite's own box as float32, in the actuators' units; they are clipped to it.
    The reward of the suite's tasks is the suite's, summed over the action repeat. An episode is
    1,000 control steps and ends by truncation, never by termination; `spec.max_episode_steps` has
    its agent steps.

    `info["sensors"]` holds every vector sensor under its name, float32 [n], hidden ones included.

    Args:
        body: A suite domain, such as ``"walker"``.
        task: One of the body's tasks.
        setup: ``"mdp"``, ``"lpomdp"`` or ``"visual"``.
        action_repeat: Control steps per agent step; None for the body's own.
        render_mode: None, or ``"rgb_array"``; ``"human"`` is served by `gymnasium.make`.
        render_width: Width of the pictures from `render`, in pixels.
        render_height: Height of the pictures from `render`, in pixels.
        camera_id: Camera of the pictures from `render`; None for the one that takes the
            observations, -1 for a free one.
        drawing: ``"exact"`` draws as dm_control does, ``"fast"`` two to four times as fast on a
            processor, with coarser shadows and jagged edges.

    Raises:
        ValueError: Body, task, setup or a size does not exist; the message lists what does.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    spec = SpecWithLimit()

    def __init__(
        self,
        body: str,
        task: str,
        setup: str,
        action_repeat: int | None = None,
        render_mode: str | None = None,
        render_width: int = RENDER_SIZE,
        render_height: int = RENDER_SIZE,
        camera_id: int | None = None,
        drawing: str = "exact",
    ) -> None:
        check_setup(setup)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"render_mode must be None, 'rgb_array' or, through gymnasium.make, 'human'; "
                f"got {render_mode!r}."
            )
        self.env_id = EnvId(body, task, setup)
        repeat = _check_action_repeat(body, task, action_repeat)
        self.simulation = Simulation(body, task, repeat)
        self.action_repeat = repeat
        self.setup = setup
        self.max_steps = CONTROL_STEPS // repeat
        self.render_mode = render_mode
        self.metadata = {
            **self.metadata,
            "render_fps": round(1.0 / (self.simulation.control_timestep * repeat)),
        }
        self._camera = self.simulation.body.camera
        self._render_camera = self._camera if camera_id is None else self._check_camera(camera_id)
        self._render_size = _check_size(render_width), _check_size(render_height)
        self.drawing = _check_drawing(drawing)
        self._renderers: dict[tuple[int, int], Renderer] = {}
        self._visible = visible_sensors(self.simulation.sensors, setup)
        self.observation_space = self._make_observation_space()
        self.action_space = _make_action_space(self.simulation.action_spec)
        self._limits = self.simulation.action_spec.minimum, self.simulation.action_spec.maximum
        self._steps = 0

    def __getstate__(self) -> dict[str, Any]:
        """For `copy.deepcopy` and `pickle`: everything but graphics memory."""
        return {**vars(self), "_renderers": {}}

    # Spaces and sensors

    def _make_observation_space(self) -> spaces.Box:
        if self.setup == "visual":
            return spaces.Box(0, 255, IMAGE_SHAPE, np.uint8)
        size = sum(sensor.size for sensor in self._visible)
        return spaces.Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def sensors(self) -> dict[str, SensorInfo]:
        """Sensor name -> (indices in the observation, size, order), in the suite's order."""
        slices, start = {}, 0
        for sensor in self._visible:
            slices[sensor.name] = slice(start, start + sensor.size)
            start += sensor.size
        return {
            sensor.name: SensorInfo(slices.get(sensor.name), sensor.size, sensor.order)
            for sensor in self.simulation.sensors
        }

    @property
    def actuators(self) -> list[str]:
        """Names of what the actions move, in order."""
        model = self.simulation.physics.model
        return [model.id2name(number, "actuator") for number in range(model.nu)]

    @property
    def sensor_order(self) -> list[str]:
        """The sensors' names in the order in which world models see them, as in AIME."""
        sensors, preferred = self.simulation.sensors, self.simulation.body.model_sensors
        named = [name for name in preferred if name in {sensor.name for sensor in sensors}]
        others = [sensor for sensor in sensors if sensor.name not in named]
        return named + [s.name for s in sorted(others, key=lambda s: s.order == "second")]

    def read_sensors(self) -> dict[str, NDArray[np.float32]]:
        """Sensor name -> its present values [n]."""
        return self.simulation.read_sensors()

    # The interaction

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts an episode; a seed restarts the suite's random stream."""
        self.start_episode(seed)
        return self._observe()

    def start_episode(self, seed: int | None) -> None:
        """`reset` without looking: no sensor is read and no picture drawn."""
        super().reset(seed=seed)
        if seed is not None:
            self.simulation.seed(seed)
        elif not self.simulation.was_reset:
            self.simulation.seed(int(self.np_random.integers(2**32)))
        self.simulation.reset()
        self._update_terrain()
        self._steps = 0

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """One agent step: the action is clipped, and held for `action_repeat` control steps.

        Raises:
            RuntimeError: There was no reset yet, or the episode is over.
            ValueError: The action has another shape, or is not finite.
        """
        if not self.simulation.was_reset or self._steps >= self.max_steps:
            raise RuntimeError("Call reset() before step(): no episode is running.")
        reward = self.simulation.step(self.clip(action))
        self._steps += 1
        observation, info = self._observe()
        return observation, reward, False, self._steps >= self.max_steps, info

    def clip(self, action: NDArray[np.float32], batch: tuple[int, ...] = ()) -> NDArray[np.float64]:
        """The actions [*batch, A], clipped to the suite's limits.

        Raises:
            ValueError: They have another shape, or are not finite.
        """
        action = np.asarray(action, dtype=np.float64)
        low, high = self._limits
        shape = (*batch, *low.shape)
        if action.shape != shape:
            raise ValueError(f"An action has shape {shape}, not {action.shape}.")
        flat = action.ravel()
        if not math.isfinite(flat.dot(flat)):  # Or very large: one quick look at them all.
            _check_finite(action)
        clipped: NDArray[np.float64] = action.clip(low, high)
        return clipped

    def _observe(self) -> tuple[NDArray[Any], dict[str, Any]]:
        sensors = self.simulation.read_sensors()
        if self.setup == "visual":
            return self.render_image(), {"sensors": sensors}
        return self.select(sensors), {"sensors": sensors}

    def select(self, sensors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The observation vector [..., n] of the mdp and lpomdp setups, from sensors [..., n]."""
        return np.concatenate([sensors[sensor.name] for sensor in self._visible], axis=-1)

    # Physics states

    def get_physics_state(self) -> NDArray[np.float64]:
        """MuJoCo's physics state (qpos, qvel, act) followed by the task's values of the episode.

        Where a body has touch, force or acceleration sensors, their readings follow. With it,
        `set_physics_state` restores every image and every sensor.
        """
        return self.simulation.get_state()

    def set_physics_state(self, state: NDArray[np.float64]) -> None:
        """Restores what `get_physics_state` returned; the episode's step count stays.

        Raises:
            RuntimeError: There was no reset yet.
            ValueError: The state has another size, or is not finite.
        """
        self.simulation.set_state(state)
        self._update_terrain()

    @property
    def has_pose(self) -> bool:
        """Whether sensors determine how the body stands."""
        return self.simulation.body.pose is not None

    def pose_states(
        self, sensors: Mapping[str, NDArray[Any]], states: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Physics states whose body stands as sensors say.

        What they do not determine, such as how far a walker has come, stays as it is.

        Args:
            sensors: First-order sensors of the body [T, n].
            states: What `get_physics_state` returned, over time [T, P].

        Raises:
            ValueError: The sensors do not determine how this body stands, or one is missing.
        """
        body = self.simulation.body
        needed = [sensor.name for sensor in body.sensors if sensor.order == "first"]
        if body.pose is None:
            known = ", ".join(name for name, other in BODIES.items() if other.pose is not None)
            raise ValueError(
                f"The sensors of {body.name} do not determine how it stands; those of {known} do."
            )
        missing = [name for name in needed if name not in sensors]
        if missing:
            raise ValueError(
                f"How {body.name} stands is read from {', '.join(needed)}; "
                f"{', '.join(missing)} is missing."
            )
        posed = np.array(states, dtype=np.float64)
        posed[:, list(body.pose.places)] = body.pose.read(sensors)
        return posed

    # Pictures

    def render_image(self) -> NDArray[np.uint8]:
        """The 64x64 picture that the visual setup observes, in any setup."""
        return self._draw(IMAGE_SHAPE[1], IMAGE_SHAPE[0], self._camera)

    def render(self) -> NDArray[np.uint8] | None:
        """A picture [render_height, render_width, 3] in mode ``"rgb_array"``, else None."""
        if self.render_mode is None:
            return None
        return self._draw(*self._render_size, self._render_camera)

    @property
    def renderer(self) -> Renderer:
        """What draws the observations; OpenGL starts here."""
        return self._get_renderer(IMAGE_SHAPE[1], IMAGE_SHAPE[0])

    def _draw(self, width: int, height: int, camera: int) -> NDArray[np.uint8]:
        return self._get_renderer(width, height).render(camera)

    def _get_renderer(self, width: int, height: int) -> Renderer:
        size = width, height
        if size not in self._renderers:
            self._renderers[size] = Renderer(self.simulation.physics, *size, self.drawing)
        return self._renderers[size]

    def _update_terrain(self) -> None:
        for renderer in self._renderers.values():
            renderer.terrain_changed = True

    def _check_camera(self, camera_id: int) -> int:
        cameras = self.simulation.physics.model.ncam
        if not -1 <= camera_id < cameras:
            raise ValueError(
                f"{self.simulation.body.name} has cameras 0 to {cameras - 1}, and -1 for a free "
                f"one; got {camera_id}."
            )
        return camera_id

    def close(self) -> None:
        """Frees the graphics memory; safe to call twice."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers = {}


def _check_finite(action: NDArray[Any]) -> None:
    """A ValueError says which of the actions [..., A] are not finite, and in which environment."""
    bad = np.argwhere(~np.isfinite(action))
    if not len(bad):
        return
    *environment, value = bad[0].tolist()
    where = f" of environment {environment[0]}" if environment else ""
    raise ValueError(
        f"Actions should be finite; value {value}{where} is {action[tuple(bad[0])]}"
        + (f", and {len(bad) - 1} more are not finite." if len(bad) > 1 else ".")
    )


def _make_action_space(spec: Any) -> spaces.Space[Any]:
    with rendering_off():
        from shimmy.utils.dm_env import dm_spec2gym_space
    box = dm_spec2gym_space(spec)
    return spaces.Box(box.low.astype(np.float32), box.high.astype(np.float32), dtype=np.float32)


def _check_action_repeat(body: str, task: str, action_repeat: int | None) -> int:
    known = get_body(body)
    get_task(known, task)
    if action_repeat is None:
        return known.action_repeat
    if action_repeat < 1 or CONTROL_STEPS % action_repeat:
        raise ValueError(
            f"action_repeat must divide the episode's {CONTROL_STEPS} control steps; "
            f"got {action_repeat}."
        )
    return int(action_repeat)


def _check_drawing(drawing: str) -> str:
    if drawing not in DRAWINGS:
        raise ValueError(f"There is no drawing {drawing!r}: {what_exists(drawing, DRAWINGS)}.")
    return drawing


def _check_size(pixels: int) -> int:
    if pixels < 1:
        raise ValueError(f"A picture's width and height are at least 1 pixel; got {pixels}.")
    return int(pixels)
