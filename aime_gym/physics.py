"""Physics states: reading and restoring what an environment simulates.

Known are this package's environments, Gymnasium's MuJoCo environments, and its classic control.

    environment        physics state [P]
    AIME/...           qpos, qvel, act, values of the episode, late sensors (`DMControlEnv`)
    Hopper-v5, ...     qpos, qvel
    Pendulum-v1, ...   the environment's `state`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from aime_gym.ids import find_env_id

Array = NDArray[np.float64]

MUJOCO = "gymnasium.envs.mujoco"
CLASSIC_CONTROL = "gymnasium.envs.classic_control"


def get_physics_state(env: gym.Env[Any, Any]) -> Array | None:
    """What restores the environment's present sensors and picture [P].

    Args:
        env: An environment after its first reset.

    Returns:
        The state; None where this kind of environment gives none.
    """
    base: Any = env.unwrapped
    if hasattr(base, "get_physics_state"):
        state: Array = base.get_physics_state()
        return state
    if _comes_from(base, MUJOCO):
        return np.concatenate([base.data.qpos, base.data.qvel])
    classic = getattr(base, "state", None) if _comes_from(base, CLASSIC_CONTROL) else None
    return None if classic is None else np.array(classic, dtype=np.float64)


def set_physics_state(env: gym.Env[Any, Any], state: Array) -> None:
    """Restores what `get_physics_state` returned; the episode's step count stays.

    Raises:
        ValueError: This kind of environment has no physics states, or the state has another size,
            or is not finite.
        RuntimeError: There was no reset yet.
    """
    base: Any = env.unwrapped
    if hasattr(base, "set_physics_state"):
        base.set_physics_state(state)
    elif _comes_from(base, MUJOCO):
        positions = base.data.qpos.size
        state = _check(state, positions + base.data.qvel.size, env)
        base.set_state(state[:positions], state[positions:])
    elif _comes_from(base, CLASSIC_CONTROL):
        if getattr(base, "state", None) is None:
            raise RuntimeError("Call reset() once before set_physics_state(env, state).")
        base.state = _check(state, np.size(base.state), env)
    else:
        raise ValueError(
            f"{_name(env)} has no physics states to restore: known are those of this package's "
            "environments, and of Gymnasium's MuJoCo and classic control environments."
        )


def has_pose(env: gym.Env[Any, Any]) -> bool:
    """Whether sensors determine how the environment's body stands, see `pose_states`."""
    return bool(getattr(env.unwrapped, "has_pose", False))


def pose_states(
    env: gym.Env[Any, Any], sensors: Mapping[str, NDArray[Any]], states: Array
) -> Array:
    """Physics states whose body stands as sensors say, such as those that a model predicts.

    Args:
        env: An environment of this package, of a body whose sensors determine how it stands.
        sensors: The sensors that do not measure speeds [T, n].
        states: Physics states [T, P]; what the sensors do not determine stays as it is in these.

    Raises:
        ValueError: The sensors do not determine how this body stands, or one is missing.
    """
    base: Any = env.unwrapped
    if not hasattr(base, "pose_states"):
        raise ValueError(
            f"How the body of {_name(env)} stands is not known from its sensors: it is for "
            "environments of this package alone."
        )
    posed: Array = base.pose_states(sensors, states)
    return posed


def get_physics_states(env: gym.vector.VectorEnv[Any, Any, Any]) -> Array | None:
    """The physics state of every environment of a vector [N, P]; None where there are none.

    They are None, too, for vectors that step other environments than this package's in processes of
    their own, or without single environments.
    """
    base: Any = env.unwrapped
    states: list[Array | None]
    if env.spec is not None and find_env_id(env.spec.id) is not None:
        states = list(base.call("get_physics_state"))
    elif hasattr(base, "envs"):
        states = [get_physics_state(single) for single in base.envs]
    else:
        return None
    known = [state for state in states if state is not None]
    return np.stack(known) if len(known) == len(states) else None


def _comes_from(base: object, package: str) -> bool:
    """Whether an environment is of a class in one of Gymnasium's packages, or of a child of one."""
    return any(f"{parent.__module__}.".startswith(f"{package}.") for parent in type(base).__mro__)


def _check(state: Array, size: int, env: gym.Env[Any, Any]) -> Array:
    state = np.array(state, dtype=np.float64)
    if state.shape != (size,):
        raise ValueError(f"A physics state of {_name(env)} has shape ({size},), not {state.shape}.")
    if not np.isfinite(state).all():
        raise ValueError("The physics state has values that are not finite.")
    return state


def _name(env: gym.Env[Any, Any]) -> str:
    return type(env.unwrapped).__name__ if env.spec is None else env.spec.id
