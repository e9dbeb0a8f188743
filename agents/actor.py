"""Acting: `predict`, as Stable-Baselines3's policies have it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from agents.base import Learner
from agents.spaces import ActionSpace, EnvInfo
from agents.vec_env import GymnasiumVecEnv
from aime_gym.rollout import State
from aime_gym.trajectory import OBSERVATION


class Actor(Learner):
    """A learner that acts."""

    @property
    def observation_space(self) -> spaces.Box:
        """The environment's own."""
        return self.env_info.observation_space

    @property
    def action_space(self) -> ActionSpace:
        """The environment's own."""
        return self.env_info.action_space

    def check_env(
        self, env: gym.vector.VectorEnv[Any, Any, Any], wrappers: tuple[str, ...] = ()
    ) -> None:
        """Checks that observations and actions of environments mean what they meant in learning.

        Args:
            env: From `gymnasium.make_vec`.
            wrappers: Names of those that change values and come on top.

        Raises:
            ValueError: They come through other wrappers, actions are held for another time, or
                sensors have other places.
        """
        info = EnvInfo.of(GymnasiumVecEnv(env))
        whose = f"This {type(self).__name__}"
        self.env_info.check_meaning(replace(info, wrappers=(*wrappers, *info.wrappers)), whose)
        own, there = self.env_info.slices, info.slices
        if OBSERVATION not in {*own, *there} and dict(own) != dict(there):
            raise ValueError(
                f"{whose} does not fit {info}: it sees {self.env_info.describe()}; {info} is of "
                f"{info.describe()}."
            )

    @abstractmethod
    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """The recurrent state at an episode's start, [B, ..] each; empty without one."""

    @abstractmethod
    def _act(
        self,
        observations: dict[str, Tensor],
        state: tuple[Tensor, ...],
        deterministic: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Sensor -> [B, ..] and state [B, ..] -> actions and the next state.

        Actions are in -1 .. 1 [B, A], or choices [B] from 0 on where actions are discrete.
        """

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Acts, as Stable-Baselines3's policies do.

        Args:
            observation: One or a batch, of the environment's space; images channel last or first.
            state: What the previous call returned; None at the start. It is not changed.
            episode_start: Rows that start anew [B].
            deterministic: Without random choices.

        Returns:
            Actions [A] or [B, A] within the limits, or discrete ones [] or [B]; and the recurrent
            state, batch first.

        Raises:
            ValueError: The observation has another shape, or is the tuple that `reset` returns.
        """
        batch, single = self._as_batch(observation)
        fresh = self._initial_state(len(batch))
        if state is not None and fresh:
            starts = np.zeros(len(batch), dtype=bool)
            if episode_start is not None:
                starts = np.asarray(episode_start, dtype=bool)
            fresh = self._restart(state, fresh, starts)
        observations = self.env_info.split(batch, self.device)
        with torch.inference_mode():
            actions, held = self._act(observations, fresh, deterministic)
        limited = self._within_limits(actions)
        new_state = tuple(part.cpu().numpy() for part in held) if held else state
        return (limited[0] if single else limited), new_state

    def _within_limits(self, actions: Tensor) -> NDArray[Any]:
        """What `_act` gives -> actions of the environment's space."""
        space = self.env_info.action_space
        if isinstance(space, spaces.Discrete):
            choices: NDArray[Any] = actions.cpu().numpy() + space.start
            return choices
        scaled: NDArray[Any] = self.env_info.from_unit(actions).cpu().numpy()
        clipped: NDArray[Any] = np.clip(scaled, space.low, space.high)
        return clipped

    def _restart(
        self, state: State, fresh: tuple[Tensor, ...], starts: NDArray[np.bool_]
    ) -> tuple[Tensor, ...]:
        """The state, with a fresh one in the rows that start [B]."""
        shapes, needed = [np.shape(part) for part in state], [tuple(part.shape) for part in fresh]
        if shapes != needed:
            raise ValueError(
                f"The state has arrays of shapes {shapes}; needed for {len(starts)} observations "
                f"are {needed}."
            )
        present = tuple(torch.as_tensor(old, device=self.device) for old in state)
        if not starts.any():
            return present
        restarted = torch.as_tensor(starts, device=self.device)
        return tuple(
            torch.where(restarted.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(fresh, present, strict=True)
        )

    def _as_batch(self, observation: Any) -> tuple[NDArray[Any], bool]:
        if isinstance(observation, tuple):
            raise ValueError(
                "predict takes an observation, not the tuple (observation, info) that "
                "env.reset() returns."
            )
        observation = np.asarray(observation)
        shape = self.env_info.observation_space.shape
        single = observation.ndim == len(shape)
        batch = observation[None] if single else observation
        if len(shape) == 3 and batch.shape[1:] == (shape[2], *shape[:2]):
            batch = np.moveaxis(batch, 1, -1)
        if batch.shape[1:] != shape:
            sizes = ", ".join(map(str, shape))
            raise ValueError(
                f"An observation of {self.env_info} has shape [{sizes}], a batch has [B, {sizes}]; "
                f"got {list(observation.shape)}."
            )
        return batch, single
