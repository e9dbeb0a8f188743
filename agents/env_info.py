"""What an agent keeps of its environment: sensors, their places, and the action limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, is_vecenv_wrapped
from torch import Tensor

from agents.layout import SensorLayout
from aime_gym.envs.setups import IMAGE_SHAPE, EnvId, parse_env_id
from aime_gym.envs.tasks import BODIES
from aime_gym.trajectory import IMAGE

Environment = str | gym.Env[Any, Any] | VecEnv
NOT_AIME = (
    "Agents act in AIME environments, whose sensors have names; "
    "aime_gym.list_environments() lists them."
)


@dataclass(frozen=True)
class EnvInfo:
    """An environment, as far as an agent needs to know it.

    Attributes:
        body: The body's name.
        task: The task's name.
        setup: ``"mdp"``, ``"lpomdp"`` or ``"visual"``.
        sensors: All vector sensors in the world model's order -> sizes.
        places: Visible vector sensors -> [start, stop) in the observation.
        action_low: Lower limits [A].
        action_high: Upper limits [A].
    """

    body: str
    task: str
    setup: str
    sensors: Mapping[str, int]
    places: Mapping[str, tuple[int, int]]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]

    @property
    def env_id(self) -> str:
        """The id for `gymnasium.make`."""
        return str(EnvId(self.body, self.task, self.setup))

    @property
    def observation_space(self) -> spaces.Box:
        """The environment's own."""
        if self.setup == "visual":
            return spaces.Box(0, 255, IMAGE_SHAPE, np.uint8)
        size = max(stop for _, stop in self.places.values())
        return spaces.Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def action_space(self) -> spaces.Box:
        """The environment's own."""
        low, high = np.array((self.action_low, self.action_high), dtype=np.float32)
        return spaces.Box(low, high, dtype=np.float32)

    @property
    def layout(self) -> SensorLayout:
        """What a world model of this environment sees."""
        visible = {name: size for name, size in self.sensors.items() if name in self.places}
        hidden = {name: size for name, size in self.sensors.items() if name not in self.places}
        return SensorLayout(self.body, self.setup, visible, hidden, len(self.action_low))

    @property
    def visible(self) -> list[str]:
        """The sensors an agent sees, in the world model's order."""
        return [IMAGE] if self.setup == "visual" else list(self.layout.visible)

    def split(self, observation: NDArray[Any], device: torch.device) -> dict[str, Tensor]:
        """Observations [B, n], or images [B, 64, 64, 3], -> sensor -> [B, ..]."""
        values = torch.as_tensor(observation, device=device)
        if self.setup == "visual":
            return {IMAGE: values}
        values = values.float()
        return {name: values[:, slice(*self.places[name])] for name in self.layout.visible}

    def to_unit(self, actions: Tensor) -> Tensor:
        """Actions within the limits [.., A] -> -1 .. 1."""
        low, high = actions.new_tensor(self.action_low), actions.new_tensor(self.action_high)
        return (actions - low) / (high - low) * 2 - 1 if self._scaled else actions

    def from_unit(self, actions: Tensor) -> Tensor:
        """-1 .. 1 [.., A] -> actions within the limits."""
        low, high = actions.new_tensor(self.action_low), actions.new_tensor(self.action_high)
        return low + (actions + 1) / 2 * (high - low) if self._scaled else actions

    @property
    def _scaled(self) -> bool:
        return {*self.action_low} != {-1.0} or {*self.action_high} != {1.0}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EnvInfo:
        """The inverse of `to_json`."""
        places = {name: (place[0], place[1]) for name, place in values["places"].items()}
        limits = {key: tuple(values[key]) for key in ("action_low", "action_high")}
        return cls(**{**values, "places": places, **limits})

    @classmethod
    def of(cls, env: VecEnv) -> EnvInfo:
        """Reads it off an environment.

        Raises:
            TypeError: It is no AIME environment.
        """
        try:
            env_id, sensors = env.get_attr("env_id", [0])[0], env.get_attr("sensors", [0])[0]
        except AttributeError as error:
            raise TypeError(NOT_AIME) from error
        space = env.action_space
        assert isinstance(space, spaces.Box)
        preferred = BODIES[env_id.body].model_sensors
        ordered = sorted(
            sensors,
            key=lambda name: (
                preferred.index(name)
                if name in preferred
                else len(preferred) + (sensors[name].order == "second")
            ),
        )
        return cls(
            body=env_id.body,
            task=env_id.task,
            setup=env_id.setup,
            sensors={name: sensors[name].size for name in ordered},
            places={
                name: (sensor.slice.start, sensor.slice.stop)
                for name, sensor in sensors.items()
                if sensor.slice is not None
            },
            action_low=tuple(float(x) for x in space.low),
            action_high=tuple(float(x) for x in space.high),
        )


def to_vec_env(env: Environment) -> VecEnv:
    """An id, an environment or a VecEnv -> a Monitor-wrapped VecEnv.

    Raises:
        TypeError: It is none of these.
        ValueError: There is no such id; the message lists what there is.
    """
    if isinstance(env, VecEnv):
        watched = is_vecenv_wrapped(env, VecMonitor) or all(env.env_is_wrapped(Monitor))
        return env if watched else VecMonitor(env)
    if isinstance(env, str):
        env_id = env
        if env_id.removeprefix("aime_gym:") not in gym.registry:
            parse_env_id(env_id)
        return DummyVecEnv([lambda: Monitor(gym.make(env_id))])
    if isinstance(env, gym.Env):
        single = env
        return DummyVecEnv([lambda: single if is_wrapped(single, Monitor) else Monitor(single)])
    raise TypeError(
        f"An environment is an id, a gymnasium.Env or a VecEnv, not {type(env).__name__}."
    )
