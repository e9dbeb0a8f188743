"""The one interaction loop: a policy in a vector of environments gives trajectories.

Episodes run in waves, one per environment: episode i starts from ``seed + i`` whatever the number
of environments, and a policy's recurrent state starts anew with every wave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from aime_gym.trajectory import IMAGE, Trajectory

State = tuple[NDArray[Any], ...]


class Policy(Protocol):
    """Anything that acts: Stable-Baselines3's `predict`."""

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Observations [B, ..] and recurrent state -> actions [B, A] and the next state."""
        ...


class RandomPolicy:
    """Uniform actions within the limits.

    Args:
        action_space: The limits.
        seed: Of its own generator.
    """

    def __init__(self, action_space: gym.spaces.Box, seed: int = 0) -> None:
        self.action_space = action_space
        self._generator = np.random.default_rng(seed)

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], State | None]:
        """Draws actions [B, A]; the observation gives B alone."""
        low, high = self.action_space.low, self.action_space.high
        actions = self._generator.uniform(low, high, size=(len(observation), *low.shape))
        return actions.astype(np.float32), state


def rollout(
    policy: Policy,
    env: gym.vector.VectorEnv[Any, Any, Any],
    episodes: int,
    seed: int,
    deterministic: bool = True,
    record: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[Trajectory]:
    """Runs whole episodes, in order.

    Args:
        policy: What acts.
        env: AIME environments from `gymnasium.make_vec`.
        episodes: How many.
        seed: Episode i is reset with ``seed + i``.
        deterministic: Passed to `predict`.
        record: Keep images, and physics states where the environments can give them; else the
            trajectories have vector sensors, actions and rewards alone.
        on_step: Told, after every step of the vector, how many environments are still running.

    Yields:
        One trajectory an episode.

    Raises:
        ValueError: The policy's actions do not fit the environments.
    """
    for first in range(0, episodes, env.num_envs):
        wave = min(env.num_envs, episodes - first)
        yield from _wave(policy, env, wave, seed + first, deterministic, record, on_step)


def _wave(
    policy: Policy,
    env: gym.vector.VectorEnv[Any, Any, Any],
    wave: int,
    seed: int,
    deterministic: bool,
    record: bool,
    on_step: Callable[[int], None] | None,
) -> list[Trajectory]:
    """One episode in each of the first `wave` environments."""
    recorder = _Recorder(env, wave, record)
    seeds: Any = [seed + index for index in range(env.num_envs)]
    observation, info = env.reset(seed=seeds)
    recorder.observe(observation, info)
    running = np.arange(env.num_envs) < wave
    state: State | None = None
    episode_start = np.ones(env.num_envs, dtype=bool)
    while running.any():
        action, state = policy.predict(
            observation, state=state, episode_start=episode_start, deterministic=deterministic
        )
        action = check_actions(action, env)
        observation, reward, terminated, truncated, info = env.step(action)
        recorder.step(running, action, reward, terminated)
        recorder.observe(observation, info)
        episode_start = np.asarray(terminated | truncated)
        running &= ~episode_start
        if on_step is not None:
            on_step(int(running.sum()))
    return recorder.trajectories()


def check_actions(
    action: NDArray[Any], env: gym.vector.VectorEnv[Any, Any, Any]
) -> NDArray[np.float32]:
    """The actions [B, A], clipped to the limits.

    Raises:
        ValueError: They have another shape, or are not finite.
    """
    space = env.single_action_space
    assert isinstance(space, gym.spaces.Box)
    action = np.asarray(action)
    expected = (env.num_envs, *space.shape)
    if action.shape != expected:
        raise ValueError(
            f"The policy's actions have shape {action.shape}; these environments take {expected}. "
            "Was it made for another body?"
        )
    if not np.isfinite(action).all():
        raise ValueError("The policy's actions are not finite.")
    clipped: NDArray[np.float32] = np.clip(action, space.low, space.high).astype(np.float32)
    return clipped


class _Recorder:
    """Collects the rows of a wave, and cuts them into trajectories.

    The environments reset themselves in the step after the one that ends an episode (NEXT_STEP), so
    the row that ends it holds its own last observation; later rows belong to nobody.
    """

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any], wave: int, record: bool) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.NEXT_STEP:
            raise ValueError(f"rollout needs environments that reset in the next step, not {mode}.")
        self._env: Any = env
        self._wave, self._record = wave, record
        self._sensors: list[dict[str, NDArray[Any]]] = []
        self._states: list[NDArray[np.float64]] = []
        self._actions: list[NDArray[np.float32]] = []
        self._rewards: list[NDArray[np.float64]] = []
        self._num_steps = np.zeros(wave, dtype=int)
        self._terminated = np.zeros(wave, dtype=bool)

    def observe(self, observation: NDArray[Any], info: dict[str, Any]) -> None:
        """Notes what all environments show."""
        readings = info["sensors"]
        row = {name: readings[name][: self._wave] for name in readings if name[0] != "_"}
        if self._record:
            if observation.dtype == np.uint8:
                row[IMAGE] = observation[: self._wave].copy()
            self._states.append(np.stack(self._env.call("get_physics_state")[: self._wave]))
        self._sensors.append(row)

    def step(
        self,
        running: NDArray[np.bool_],
        action: NDArray[np.float32],
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
    ) -> None:
        """Notes what the running environments did."""
        wave = self._wave
        self._actions.append(action[:wave])
        self._rewards.append(reward[:wave].copy())
        self._num_steps += running[:wave]
        self._terminated |= terminated[:wave] & running[:wave]

    def trajectories(self) -> list[Trajectory]:
        """One a running environment of the wave."""
        return [self._trajectory(index, int(self._num_steps[index])) for index in range(self._wave)]

    def _trajectory(self, index: int, num_steps: int) -> Trajectory:
        rows, steps = slice(0, num_steps + 1), slice(0, num_steps)
        return Trajectory(
            sensors={
                name: np.stack([row[name][index] for row in self._sensors[rows]])
                for name in self._sensors[0]
            },
            actions=np.stack([action[index] for action in self._actions[steps]]),
            rewards=np.array([reward[index] for reward in self._rewards[steps]]),
            physics_states=(
                np.stack([state[index] for state in self._states[rows]]) if self._record else None
            ),
            terminated=bool(self._terminated[index]),
            truncated=not self._terminated[index],
        )
