"""What an agent knows of its environment: spaces, sensors, and where these stand.

Every Gymnasium environment with a Box observation (a vector, or a uint8 image) and Box or Discrete
actions will do. Environments of this package name their sensors; any other has one, called
``"observation"`` or ``"image"``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

from agents.codec import decode_space, encode_space
from agents.wrapping import action_repeat_of, attribute, drawing_of, wrappers_of
from aime_gym.ids import body_of, check_env_id, find_env_id
from aime_gym.trajectory import IMAGE, IMAGE_SHAPE, OBSERVATION

Environment = str | gym.Env[Any, Any] | VecEnv
ActionSpace = spaces.Box | spaces.Discrete
NOT_KEPT = ("render_mode",)  # Of the arguments of `gymnasium.make`: they leave learning as it is.
PLAIN = (bool, int, float, str)
REWARD = "reward"  # The key under which a reward is decoded, like a sensor of one value.
TAKEN = (
    "Agents take a Box observation, a vector or a uint8 image [H, W, 3], and Box actions with "
    "finite limits or Discrete actions"
)


@dataclass(frozen=True)
class EnvInfo:
    """An environment, as far as an agent needs to know it.

    Attributes:
        env_id: The id for `gymnasium.make`; None where the environment has none.
        body: The body's name; datasets and world models fit if theirs is the same.
        setup: ``"mdp"``, ``"lpomdp"`` or ``"visual"``; other environments have ``"visual"`` for
            images and ``"mdp"`` for vectors.
        observation_space: The environment's own.
        action_space: The environment's own.
        slices: Visible vector sensors, in the order in which networks see them -> [start, stop) in
            the observation; empty where it is an image.
        hidden: Vector sensors that the observation lacks -> sizes.
        kwargs: Keyword arguments with which `gymnasium.make` was called, where these are plain
            values.
        wrappers: Names of the wrappers that change the values of observations or actions, outermost
            first.
        action_repeat: Steps of the environment's own clock for which an action is held; None where
            unknown.
        drawing: How images are drawn, such as ``"exact"``; None where unknown, or where none are.
    """

    env_id: str | None
    body: str
    setup: str
    observation_space: spaces.Box
    action_space: ActionSpace
    slices: Mapping[str, tuple[int, int]]
    hidden: Mapping[str, int] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    action_repeat: int | None = None
    drawing: str | None = None

    def make(self) -> gym.Env[Any, Any]:
        """Makes the environment anew.

        Raises:
            ValueError: It has no id under which it could be made, or was wrapped.
        """
        if self.wrappers:
            raise ValueError(
                f"{self} was wrapped in {', '.join(self.wrappers)}: hand it over wrapped in the "
                "same way, with set_env(env)."
            )
        if self.env_id is None:
            raise ValueError("The environment has no id: hand one over with set_env(env).")
        return gym.make(check_env_id(self.env_id), **self.kwargs)

    @property
    def image(self) -> bool:
        """Whether the observation is an image."""
        return self.setup == "visual"

    @property
    def visible(self) -> dict[str, int]:
        """Visible vector sensors, in the order in which networks see them -> sizes."""
        return {name: stop - start for name, (start, stop) in self.slices.items()}

    @property
    def names(self) -> list[str]:
        """The sensors that an agent sees, images included, in order."""
        return [IMAGE] if self.image else list(self.slices)

    @property
    def action_dim(self) -> int:
        """Number of values of an action; number of choices where actions are discrete."""
        if isinstance(self.action_space, spaces.Discrete):
            return int(self.action_space.n)
        return int(np.prod(self.action_space.shape))

    def __str__(self) -> str:
        return self.env_id or f"an environment of {self.body}"

    def describe(self) -> str:
        """The part that must agree for weights to fit, in words."""
        seen = f"images {self.observation_space.shape}" if self.image else f"{self.visible}"
        hidden = f" (hidden: {dict(self.hidden)})" if self.hidden else ""
        return f"{self.body}, {self.setup}: sees {seen}{hidden}, actions {self.action_space}"

    def adapted_to(self, other: EnvInfo, whose: str) -> EnvInfo:
        """Another environment, with the sensors in the order in which these networks see them.

        Args:
            other: The environment that is to be used.
            whose: What was made for this environment, such as ``"The world model"``.

        Raises:
            ValueError: Sensors, setup, body, action limits, action repeat, drawing or wrappers
                differ; the message has both. Hidden sensors are no matter where the networks read
                none.
        """
        seen = other if self.hidden else replace(other, hidden={})
        if self._what_must_agree != seen._what_must_agree:
            raise ValueError(
                f"{whose} does not fit {other}. It is of {self.describe()}; {other} is of "
                f"{other.describe()}."
            )
        self.check_meaning(other, whose)
        slices = {name: other.slices[name] for name in self.slices}
        return replace(other, slices=slices, hidden=self.hidden)

    def check_meaning(self, other: EnvInfo, whose: str) -> None:
        """Checks that observations and actions of the same form mean the same.

        Raises:
            ValueError: They come through other wrappers, an action is held for another time, or
                images are drawn in another way.
        """
        if self.wrappers != other.wrappers:
            here, there = (", ".join(info.wrappers) or "none" for info in (self, other))
            raise ValueError(
                f"{whose} does not fit {other}: wrappers that change the values of observations or "
                f"actions are {here} for the former, {there} around the latter."
            )
        if None not in (self.action_repeat, other.action_repeat) and (
            self.action_repeat != other.action_repeat
        ):
            raise ValueError(
                f"{whose} does not fit {other}, where an action is held for {other.action_repeat} "
                f"steps: it is made for an action repeat of {self.action_repeat}."
            )
        if None not in (self.drawing, other.drawing) and self.drawing != other.drawing:
            raise ValueError(
                f"{whose} does not fit {other} with drawing={other.drawing!r}: it is made for "
                f"images of drawing={self.drawing!r}."
            )

    @property
    def _what_must_agree(self) -> tuple[Any, ...]:
        """What weights and actions depend on."""
        image = self.observation_space.shape if self.image else None
        return self.body, self.setup, image, self.visible, dict(self.hidden), self.action_space

    # Observations and actions

    def split(self, observation: NDArray[Any], device: torch.device) -> dict[str, Tensor]:
        """Observations [B, n], or images [B, H, W, 3], -> sensor -> [B, ..]."""
        values = torch.as_tensor(observation, device=device)
        if self.image:
            return {IMAGE: values}
        values = values.float()
        return {name: values[:, start:stop] for name, (start, stop) in self.slices.items()}

    def to_unit(self, actions: Tensor) -> Tensor:
        """Actions within the limits [.., A] -> -1 .. 1."""
        if self._is_unit:
            return actions
        low, high = self._limits(actions)
        return (actions - low) / (high - low) * 2 - 1

    def from_unit(self, actions: Tensor) -> Tensor:
        """-1 .. 1 [.., A] -> actions within the limits."""
        if self._is_unit:
            return actions
        low, high = self._limits(actions)
        return low + (actions + 1) / 2 * (high - low)

    def _limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        space = self.box_actions
        return like.new_tensor(space.low), like.new_tensor(space.high)

    @functools.cached_property
    def _is_unit(self) -> bool:
        return bool((self.box_actions.low == -1).all() and (self.box_actions.high == 1).all())

    @property
    def box_actions(self) -> spaces.Box:
        """The action space of an agent that takes continuous actions alone.

        Raises:
            TypeError: The actions are discrete.
        """
        if not isinstance(self.action_space, spaces.Box):
            raise TypeError(f"This agent takes Box actions; those of {self} are discrete.")
        return self.action_space

    # Archives

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "env_id": self.env_id,
            "body": self.body,
            "setup": self.setup,
            "observation_space": encode_space(self.observation_space),
            "action_space": encode_space(self.action_space),
            "slices": {name: list(place) for name, place in self.slices.items()},
            "hidden": dict(self.hidden),
            "kwargs": dict(self.kwargs),
            "wrappers": list(self.wrappers),
            "action_repeat": self.action_repeat,
            "drawing": self.drawing,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EnvInfo:
        """The inverse of `to_json`; it reads what version 0.1 wrote, too."""
        if "places" in values:
            return _from_first_format(values)
        spaces_ = {key: decode_space(values[key]) for key in ("observation_space", "action_space")}
        slices = {name: (start, stop) for name, (start, stop) in values["slices"].items()}
        usual = {  # Of archives that do not tell.
            "action_repeat": _usual_action_repeat(values),
            "drawing": _usual_drawing(values),
        }
        wrappers = tuple(values.get("wrappers", ()))
        return cls(**{**usual, **values, **spaces_, "slices": slices, "wrappers": wrappers})

    @classmethod
    def of(cls, env: VecEnv) -> EnvInfo:
        """Reads it off an environment.

        Raises:
            TypeError: Its observations or actions are of a kind that no agent takes.
        """
        observation, action = env.observation_space, env.action_space
        if not _is_taken(observation, action):
            raise TypeError(f"{TAKEN}; this environment has {observation} and {action}.")
        assert isinstance(observation, spaces.Box)
        assert isinstance(action, ActionSpace)
        env_id = _id_of(env)
        image = len(observation.shape) == 3
        plain = cls(
            env_id=env_id,
            body="unknown" if env_id is None else body_of(env_id),
            setup="visual" if image else "mdp",
            observation_space=_channels_last(observation) if image else observation,
            action_space=action,
            slices={} if image else {OBSERVATION: (0, observation.shape[0])},
            kwargs=_kwargs_of(env),
            wrappers=wrappers_of(env),
            action_repeat=action_repeat_of(env),
            drawing=drawing_of(env) if image else None,
        )
        sensors = attribute(env, "sensors")
        if sensors is None:
            return plain
        return plain._with_sensors(sensors, attribute(env, "sensor_order"))

    def _with_sensors(self, sensors: Mapping[str, Any], ordered: Sequence[str]) -> EnvInfo:
        """The same with named sensors, those of the environment's `sensors` attribute."""
        second = any(sensors[name].slice is None for name in ordered)
        return replace(
            self,
            setup="visual" if self.image else "lpomdp" if second else "mdp",
            slices={
                name: (place.start, place.stop)
                for name in ordered
                if (place := sensors[name].slice) is not None
            },
            hidden={n: sensors[n].size for n in ordered if sensors[n].slice is None},
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
        env_id = check_env_id(env)
        return DummyVecEnv([lambda: Monitor(gym.make(env_id))])
    if isinstance(env, gym.Env):
        single = env
        return DummyVecEnv([lambda: single if is_wrapped(single, Monitor) else Monitor(single)])
    raise TypeError(
        f"An environment is an id, a gymnasium.Env or a VecEnv, not {type(env).__name__}."
    )


def _is_taken(observation: spaces.Space[Any], action: spaces.Space[Any]) -> bool:
    if not isinstance(observation, spaces.Box):
        return False
    vector = len(observation.shape) == 1
    shape = observation.shape
    image = len(shape) == 3 and 3 in (shape[0], shape[-1]) and observation.dtype == np.uint8
    bounded = isinstance(action, spaces.Box) and len(action.shape) == 1 and action.is_bounded()
    return (vector or image) and (bounded or isinstance(action, spaces.Discrete))


def _channels_last(space: spaces.Box) -> spaces.Box:
    """An image space [H, W, 3], where wrappers may have moved the channels to the front."""
    if space.shape[-1] == 3 or space.shape[0] != 3:
        return space
    return spaces.Box(0, 255, (*space.shape[1:], 3), np.uint8)


def _id_of(env: VecEnv) -> str | None:
    """The id under which the environment can be made again."""
    named = attribute(env, "env_id")
    if named is not None:
        return str(named)
    spec = attribute(env, "spec")
    return None if spec is None else str(spec.id)


def _kwargs_of(env: VecEnv) -> dict[str, Any]:
    """The plain values with which `gymnasium.make` was called, besides the id."""
    spec = attribute(env, "spec")
    if spec is None or spec.id not in gym.registry:
        return {}
    registered = gym.registry[spec.id]
    limit = registered.max_episode_steps or attribute(env, "max_steps")
    before = {"max_episode_steps": limit, **registered.kwargs}
    now = {"max_episode_steps": spec.max_episode_steps, **spec.kwargs}
    changed = {n: v for n, v in now.items() if n not in before or before[n] != v}
    return {n: v for n, v in changed.items() if n not in NOT_KEPT and isinstance(v, PLAIN)}


def _usual_action_repeat(values: Mapping[str, Any]) -> int | None:
    """The action repeat of an environment that is made with an archive's id and arguments."""
    from aime_gym.envs.dm_control.setups import get_body

    parts = None if values["env_id"] is None else find_env_id(values["env_id"])
    usual = None if parts is None else get_body(parts.body).action_repeat
    given: int | None = values.get("kwargs", {}).get("action_repeat", usual)
    return given


def _usual_drawing(values: Mapping[str, Any]) -> str | None:
    """How the environment of an archive's id and arguments draws its images."""
    if values["setup"] != "visual" or values["env_id"] is None or not find_env_id(values["env_id"]):
        return None
    return str(values.get("kwargs", {}).get("drawing", "exact"))


def _from_first_format(values: Mapping[str, Any]) -> EnvInfo:
    """What version 0.1 wrote: body, task, setup, sensors, places and action limits."""
    places, sensors = values["places"], values["sensors"]
    setup = values["setup"]
    low, high = (np.array(values[key], dtype=np.float32) for key in ("action_low", "action_high"))
    size = max((stop for _, stop in places.values()), default=0)
    observation: spaces.Box = (
        spaces.Box(0, 255, IMAGE_SHAPE, np.uint8)
        if setup == "visual"
        else spaces.Box(-np.inf, np.inf, (size,), np.float32)
    )
    env_id = f"AIME/{values['body']}-{values['task']}-{setup}"
    return EnvInfo(
        env_id=env_id,
        body=values["body"],
        setup=setup,
        observation_space=observation,
        action_space=spaces.Box(low, high, dtype=np.float32),
        slices={name: (places[name][0], places[name][1]) for name in sensors if name in places},
        hidden={name: size for name, size in sensors.items() if name not in places},
        action_repeat=_usual_action_repeat({"env_id": env_id}),
        drawing=_usual_drawing({"env_id": env_id, "setup": setup}),
    )
