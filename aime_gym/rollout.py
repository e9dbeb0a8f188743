"""Episodes as trajectories: a policy that acts in a vector of environments, and a recorder.

Episodes run in rounds, one per environment: episode i starts from ``seed + i`` whatever the number
of environments, and a policy's recurrent state starts anew with every round.

N environments; observations are vectors [n] or images [H, W, 3], actions vectors [A] or integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from aime_gym.grid_ids import inner_id
from aime_gym.ids import check_env_id, find_env_id
from aime_gym.physics import get_physics_state, get_physics_states
from aime_gym.trajectory import IMAGE, OBSERVATION, Trajectory
from aime_gym.wrappers import changing_wrappers, check_unchanged

State = tuple[NDArray[Any], ...]
AnyVectorEnv = gym.vector.VectorEnv[Any, Any, Any]


class Policy(Protocol):
    """Anything that acts: Stable-Baselines3's `predict`.

    One that has `check_env`, too, is asked whether environments are what it was made for.
    """

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Observations [N, ..] and recurrent state -> actions [N, A] or [N] and the next state."""
        ...


class RandomPolicy:
    """Uniform actions: within the limits of a box, or any of the discrete ones.

    Args:
        action_space: The actions that there are.
        seed: Seed of the policy's own generator.

    Raises:
        ValueError: The space is neither a box with finite limits nor discrete.
    """

    def __init__(self, action_space: spaces.Space[Any], seed: int = 0) -> None:
        self.action_space = check_action_space(action_space)
        if isinstance(self.action_space, spaces.Box) and not self.action_space.is_bounded():
            raise ValueError(f"Random actions need finite limits, which {action_space} has not.")
        self._generator = np.random.default_rng(seed)

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Draws actions [N, A] or [N]; the observation gives N alone."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            first, end = int(space.start), int(space.start + space.n)
            return self._generator.integers(first, end, size=len(observation)), state
        size = (len(observation), *space.shape)
        return self._generator.uniform(space.low, space.high, size).astype(np.float32), state


# Spaces


def check_action_space(space: spaces.Space[Any]) -> spaces.Box | spaces.Discrete:
    """The space, if actions of it can be recorded.

    Raises:
        ValueError: It is neither a box of vectors nor discrete.
    """
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space
    if isinstance(space, spaces.Discrete):
        return space
    raise ValueError(f"Actions are a Box of vectors [A], or Discrete; got {space}.")


def check_observation_space(space: spaces.Space[Any]) -> spaces.Box:
    """The space, if observations of it can be recorded.

    Raises:
        ValueError: It is neither a box of vectors nor one of pictures.
    """
    if isinstance(space, spaces.Box) and (len(space.shape) == 1 or is_image(space)):
        return space
    raise ValueError(
        f"Observations are a Box of vectors [n], or of uint8 images [H, W, 3]; got {space}."
    )


def check_actions(action: NDArray[Any], env: AnyVectorEnv) -> NDArray[Any]:
    """The actions as the environments take them: float32 [N, A] within the limits, or int64 [N].

    Raises:
        ValueError: They have another shape, are not finite, or are not among the discrete ones.
    """
    space = check_action_space(env.single_action_space)
    action = np.asarray(action)
    expected = (env.num_envs, *(space.shape or ()))
    if action.shape != expected:
        raise ValueError(
            f"The policy's actions have shape {action.shape}; these environments take {expected}. "
            "Was it made for another body?"
        )
    if isinstance(space, spaces.Discrete):
        return _check_discrete(action, space)
    if not np.isfinite(action).all():
        raise ValueError("The policy's actions are not finite.")
    return _clip(action, space)


def _check_discrete(action: NDArray[Any], space: spaces.Discrete) -> NDArray[np.int64]:
    first, last = int(space.start), int(space.start + space.n - 1)
    is_integer = np.issubdtype(action.dtype, np.integer)
    if not is_integer or action.min() < first or action.max() > last:
        raise ValueError(
            f"The policy's actions should be integers from {first} to {last}; got "
            f"{action.tolist()}."
        )
    return action.astype(np.int64)


def _clip(action: NDArray[Any], space: spaces.Box) -> NDArray[np.float32]:
    clipped: NDArray[np.float32] = np.clip(action, space.low, space.high).astype(np.float32)
    return clipped


def is_image(values: NDArray[Any] | spaces.Box) -> bool:
    """Whether an array, or what a space has, is a picture: uint8 [H, W, 3]."""
    return values.dtype == np.uint8 and len(values.shape) == 3 and values.shape[-1] == 3


# Recording


class EpisodeRecorder:
    """Collects the rows of one environment's episode, and makes a trajectory of them.

    Args:
        sensors: Sensor name -> values at the start.
        physics_state: Physics state at the start [P]; None where there is none.
    """

    def __init__(
        self, sensors: Mapping[str, NDArray[Any]], physics_state: NDArray[Any] | None = None
    ) -> None:
        self._sensors: list[dict[str, NDArray[Any]]] = []
        self._states: list[NDArray[Any] | None] = []
        self._actions: list[NDArray[Any]] = []
        self._rewards: list[float] = []
        self._observe(sensors, physics_state)

    @property
    def num_steps(self) -> int:
        """Steps so far."""
        return len(self._actions)

    def step(
        self,
        action: NDArray[Any] | np.integer[Any],
        reward: float,
        sensors: Mapping[str, NDArray[Any]],
        physics_state: NDArray[Any] | None = None,
    ) -> None:
        """Adds an action [A] or [], its reward, and what was observed after it."""
        self._actions.append(np.array(action, ndmin=1))
        self._rewards.append(float(reward))
        self._observe(sensors, physics_state)

    def trajectory(
        self, terminated: bool, truncated: bool, first_step: int | None = None
    ) -> Trajectory:
        """The episode; one that terminated counts as not truncated."""
        states = [state for state in self._states if state is not None]
        return Trajectory(
            sensors={
                name: np.stack([row[name] for row in self._sensors]) for name in self._sensors[0]
            },
            actions=np.stack(self._actions),
            rewards=np.array(self._rewards),
            physics_states=np.stack(states) if states else None,
            terminated=bool(terminated),
            truncated=bool(truncated and not terminated),
            first_step=first_step,
        )

    def _observe(
        self, sensors: Mapping[str, NDArray[Any]], physics_state: NDArray[Any] | None
    ) -> None:
        self._sensors.append({name: np.array(values) for name, values in sensors.items()})
        self._states.append(None if physics_state is None else np.array(physics_state))


def read_sensors(
    observation: NDArray[Any], info: Mapping[str, Any], images: bool
) -> dict[str, NDArray[Any]]:
    """What one environment shows at one time: sensor name -> values.

    Args:
        observation: A vector [n], or an image [H, W, 3].
        info: Its ``"sensors"`` are the environment's named sensors; without them there is one,
            ``"observation"`` or ``"image"``.
        images: Whether to keep the image beside named sensors; one that stands alone is kept.
    """
    named = dict(info.get("sensors", {}))
    if is_image(observation) and (images or not named):
        return {**named, IMAGE: observation}
    return named or {OBSERVATION: np.asarray(observation, dtype=np.float32)}


class RecordEpisodes(gym.Wrapper[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]):
    """Hands over every finished episode as a `Trajectory`, with physics states where there are any.

    Pictures beside named sensors are left out.

    Args:
        env: An environment, wrapped or not.
        on_episode: Called with each trajectory when its episode ends.
        first_step: Agent steps taken before this environment was made.

    Raises:
        ValueError: The environment's observations or actions cannot be recorded, or a wrapper
            changes their values.
    """

    def __init__(
        self, env: gym.Env[Any, Any], on_episode: Callable[[Trajectory], None], first_step: int = 0
    ) -> None:
        super().__init__(env)
        check_unchanged(changing_wrappers(env), "the trajectories")
        check_observation_space(env.observation_space)
        self._limits = check_action_space(env.action_space)
        self._on_episode = on_episode
        self._next_step = first_step
        self._recorder: EpisodeRecorder | None = None

    def reset(self, **kwargs: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts an episode; an unfinished one is dropped."""
        observation, info = self.env.reset(**kwargs)
        self._close_episode()
        self._recorder = EpisodeRecorder(
            read_sensors(observation, info, images=False), get_physics_state(self.env)
        )
        return observation, info

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], Any, bool, bool, dict[str, Any]]:
        """Takes a step and records it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._recorder is not None:
            limits = self._limits
            self._recorder.step(
                _clip(action, limits) if isinstance(limits, spaces.Box) else np.int64(action),
                float(reward),
                read_sensors(observation, info, images=False),
                get_physics_state(self.env),
            )
            if terminated or truncated:
                self._on_episode(self._recorder.trajectory(terminated, truncated, self._next_step))
                self._close_episode()
        return observation, reward, terminated, truncated, info

    def _close_episode(self) -> None:
        self._next_step += 0 if self._recorder is None else self._recorder.num_steps
        self._recorder = None


# Acting


def make_envs(env_id: str, num_envs: int) -> AnyVectorEnv:
    """A vector of environments in which environment i is seeded with ``seed + i``.

    Those of this package step as a batch, all others one after the other.

    Raises:
        ValueError: The id is not registered.
    """
    name = check_env_id(env_id)
    in_batches = find_env_id(env_id) is not None or inner_id(name) is not None
    mode = None if in_batches else "sync"
    envs: AnyVectorEnv = gym.make_vec(name, num_envs=num_envs, vectorization_mode=mode)
    return envs


def rollout(
    policy: Policy,
    env: AnyVectorEnv,
    episodes: int,
    seed: int,
    deterministic: bool = True,
    record: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[Trajectory]:
    """Runs whole episodes, in order.

    Args:
        policy: What acts.
        env: Environments from `make_envs` or `gymnasium.make_vec`.
        episodes: How many.
        seed: Episode i is reset with ``seed + i``.
        deterministic: Passed to `predict`.
        record: Keep images, and physics states where the environments can give them; else the
            trajectories have vector sensors, actions and rewards alone. Images that are all that
            an environment shows are always kept.
        on_step: Told, after every step of the vector, how many environments are still running.

    Yields:
        One trajectory per episode.

    Raises:
        ValueError: The environments' spaces or way of resetting are not supported, or the policy's
            actions do not fit them, or it was made for others.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.NEXT_STEP:
        raise ValueError(f"rollout needs environments that reset in the next step, not {mode}.")
    check_observation_space(env.single_observation_space)
    check_action_space(env.single_action_space)
    if callable(check := getattr(policy, "check_env", None)):
        check(env)
    for first in range(0, episodes, env.num_envs):
        count = min(env.num_envs, episodes - first)
        yield from _run_round(policy, env, count, seed + first, deterministic, record, on_step)


def _run_round(
    policy: Policy,
    env: AnyVectorEnv,
    count: int,
    seed: int,
    deterministic: bool,
    record: bool,
    on_step: Callable[[int], None] | None,
) -> list[Trajectory]:
    """One episode in each of the first `count` environments.

    The environments reset themselves in the step after the one that ends an episode (NEXT_STEP), so
    the row that ends it holds its own last observation; later rows are not recorded.
    """
    observation, info = env.reset(seed=seed)
    rows = VectorRows(env, observation, info, record)
    lengths = np.zeros(count, dtype=int)  # 0 while an episode is running.
    terminations, truncations = (np.zeros(count, dtype=bool) for _ in range(2))
    state: State | None = None
    episode_start = np.ones(env.num_envs, dtype=bool)
    while not lengths.all():
        action, state = policy.predict(
            observation, state=state, episode_start=episode_start, deterministic=deterministic
        )
        action = check_actions(action, env)
        observation, reward, terminated, truncated, info = env.step(action)
        rows.step(action, reward, observation, info)
        episode_start = np.asarray(terminated | truncated)
        over = episode_start[:count] & (lengths == 0)
        lengths[over] = rows.num_steps
        terminations[over], truncations[over] = terminated[:count][over], truncated[:count][over]
        if on_step is not None:
            on_step(int((lengths == 0).sum()))
    return rows.trajectories(lengths, terminations, truncations)


class VectorRows:
    """What happens in all environments of a vector, in one array each per step.

    Args:
        env: The vector.
        observation: What it shows at the start.
        info: What it tells at the start.
        record: Keep images beside named sensors, and physics states.
    """

    def __init__(
        self, env: AnyVectorEnv, observation: NDArray[Any], info: Mapping[str, Any], record: bool
    ) -> None:
        self._env, self._record = env, record
        self._shows_images = is_image(check_observation_space(env.single_observation_space))
        self._sensors: dict[str, list[NDArray[Any]]] = {}
        self._states: list[NDArray[Any]] = []
        self._actions: list[NDArray[Any]] = []
        self._rewards: list[NDArray[Any]] = []
        self._observe(observation, info)

    @property
    def num_steps(self) -> int:
        """Steps so far."""
        return len(self._actions)

    def step(
        self,
        actions: NDArray[Any],
        rewards: NDArray[Any],
        observation: NDArray[Any],
        info: Mapping[str, Any],
    ) -> None:
        """Adds actions [N, A] or [N], rewards [N], and what was observed after them."""
        self._actions.append(np.array(actions))
        self._rewards.append(np.array(rewards, dtype=np.float64))
        self._observe(observation, info)

    def _observe(self, observation: NDArray[Any], info: Mapping[str, Any]) -> None:
        named = {name: rows for name, rows in info.get("sensors", {}).items() if name[0] != "_"}
        if self._shows_images and (self._record or not named):
            named[IMAGE] = observation
        for name, rows in (named or {OBSERVATION: np.asarray(observation, np.float32)}).items():
            self._sensors.setdefault(name, []).append(np.array(rows))
        states = get_physics_states(self._env) if self._record else None
        self._states += [] if states is None else [states]

    def trajectories(
        self,
        lengths: NDArray[np.int_],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> list[Trajectory]:
        """The first episode of each of the first environments, of so many steps each."""
        sensors = {name: np.stack(self._sensors.pop(name)) for name in [*self._sensors]}
        states = np.stack(self._states) if self._states else None
        actions = np.stack(self._actions).reshape(self.num_steps, self._env.num_envs, -1)
        rewards = np.stack(self._rewards)
        return [
            Trajectory(
                sensors={name: rows[: steps + 1, index].copy() for name, rows in sensors.items()},
                actions=actions[:steps, index].copy(),
                rewards=rewards[:steps, index].copy(),
                physics_states=None if states is None else states[: steps + 1, index].copy(),
                terminated=bool(terminated[index]),
                truncated=bool(truncated[index] and not terminated[index]),
            )
            for index, steps in enumerate(lengths.tolist())
        ]
