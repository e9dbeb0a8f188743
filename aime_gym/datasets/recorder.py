"""Records what happens in an environment, whoever acts."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from aime_gym.datasets.dataset import Card
from aime_gym.trajectory import Trajectory


class RecordEpisodes(gym.Wrapper[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]):
    """Hands over every finished episode as a `Trajectory`, with physics states.

    Args:
        env: An AIME environment, wrapped or not.
        on_episode: Gets each trajectory when its episode ends.
        first_step: Agent steps taken before this environment was made.
    """

    def __init__(
        self, env: gym.Env[Any, Any], on_episode: Callable[[Trajectory], None], first_step: int = 0
    ) -> None:
        super().__init__(env)
        self._on_episode = on_episode
        self._next_step = first_step
        self._clear()

    def _clear(self) -> None:
        self._sensors: list[dict[str, NDArray[Any]]] = []
        self._states: list[NDArray[Any]] = []
        self._actions: list[NDArray[Any]] = []
        self._rewards: list[float] = []

    def _observe(self, info: dict[str, Any]) -> None:
        self._sensors.append(info["sensors"])
        self._states.append(self.env.unwrapped.get_physics_state())  # type: ignore[attr-defined]

    def reset(self, **kwargs: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts an episode; an unfinished one is dropped."""
        observation, info = self.env.reset(**kwargs)
        self._next_step += len(self._actions)
        self._clear()
        self._observe(info)
        return observation, info

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], Any, bool, bool, dict[str, Any]]:
        """Takes a step and notes it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        space = self.env.action_space
        assert isinstance(space, gym.spaces.Box)
        self._actions.append(np.clip(action, space.low, space.high).astype(np.float32))
        self._rewards.append(float(reward))
        self._observe(info)
        if terminated or truncated:
            self._on_episode(self._trajectory(terminated, truncated))
            self._next_step += len(self._actions)
            self._clear()
        return observation, reward, terminated, truncated, info

    def _trajectory(self, terminated: bool, truncated: bool) -> Trajectory:
        return Trajectory(
            sensors={
                name: np.stack([reading[name] for reading in self._sensors])
                for name in self._sensors[0]
            },
            actions=np.stack(self._actions),
            rewards=np.array(self._rewards, dtype=np.float32),
            physics_states=np.stack(self._states),
            terminated=terminated,
            truncated=truncated,
            first_step=self._next_step,
        )


def installed_versions() -> dict[str, str]:
    """Versions of what shapes the data, for cards."""
    packages = ("aime-gym", "mujoco", "dm_control", "gymnasium", "numpy")
    return {name: importlib.metadata.version(name) for name in packages}


def card_of_env(env_id: str, name: str, **fields: Any) -> Card:
    """A card for data from one environment, with the versions that make it."""
    body = gym.spec(env_id).kwargs["body"]
    return Card(
        name=name,
        body=body,
        env_id=env_id,
        source="aime-gym",
        versions=installed_versions(),
        **fields,
    )
