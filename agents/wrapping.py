"""How a VecEnv is wrapped: what `aime_gym.wrappers` says of one environment, for several."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AsyncVectorEnv
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
)

from agents.vec_env import GymnasiumVecEnv
from aime_gym.wrappers import (
    AnyEnv,
    action_repeat,
    changing_wrappers,
    changing_wrappers_of_spec,
)


def wrappers_of(env: VecEnv) -> tuple[str, ...]:
    """Names of the wrappers that change the values of observations or actions, outermost first.

    Of environments in processes of their own, Gymnasium's wrappers alone are known.
    """
    around = []
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecFrameStack) or (isinstance(env, VecNormalize) and env.norm_obs):
            around.append(type(env).__name__)
        env = env.venv
    inner = _inner_env(env)
    names = () if inner is None else changing_wrappers(inner)
    if inner is None or isinstance(inner.unwrapped, AsyncVectorEnv):
        names = (*names, *changing_wrappers_of_spec(attribute(env, "spec")))
    return (*around, *names)


def action_repeat_of(env: VecEnv) -> int | None:
    """Steps of the environment's own clock for which an action is held; None where unknown."""
    inner = _inner_env(env.unwrapped)
    if inner is None or isinstance(inner.unwrapped, AsyncVectorEnv):
        found = attribute(env, "action_repeat")
    else:
        found = action_repeat(inner)
    return found if isinstance(found, int) else None


def drawing_of(env: VecEnv) -> str | None:
    """How an environment draws its images; None where it does not say."""
    found = attribute(env, "drawing")
    return found if isinstance(found, str) else None


def attribute(env: VecEnv, name: str) -> Any:
    """An attribute of the first environment; None where it has no such."""
    return env.get_attr(name, [0])[0] if env.has_attr(name) else None


def _inner_env(env: VecEnv) -> AnyEnv | None:
    """What a VecEnv consists of, or the first of it, where that is in this process."""
    if isinstance(env, GymnasiumVecEnv):
        return env.env
    return env.envs[0] if isinstance(env, DummyVecEnv) else None
