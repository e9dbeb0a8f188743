"""The environments of AMIGo: MiniGrid's, fully observed, and copies of them to act in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from agents.amigo.config import AMIGoConfig
from agents.spaces import EnvInfo, Environment
from aime_gym.envs.minigrid.environment import FullGridEnv
from aime_gym.envs.minigrid.vector import GridVectorEnv
from aime_gym.grid_ids import GRIDS, find_grid, import_minigrid, inner_id
from aime_gym.ids import check_env_id

OF_VECTORS = ("num_envs", "engine", "autoreset_mode")  # Options of `make_vec` alone.
WHAT_IT_IS = (
    "AMIGo learns in MiniGrid environments: an id, such as 'MiniGrid-DoorKey-8x8-v0', or what "
    "gymnasium.make made of one"
)


def as_full_grid(env: Environment | EnvInfo) -> Environment | EnvInfo:
    """The environment, fully observed, where it is one of MiniGrid's.

    Raises:
        ModuleNotFoundError: MiniGrid is not installed.
        TypeError: It is none.
        ValueError: There is no such id.
    """
    if isinstance(env, EnvInfo | VecEnv):
        return env
    if isinstance(env, str):
        name = check_env_id(env)
        if inner_id(name) is not None:
            return name
        env = gym.make(name)
    import_minigrid()
    from minigrid.minigrid_env import MiniGridEnv

    if isinstance(env.unwrapped, FullGridEnv):
        return env
    if not isinstance(env.unwrapped, MiniGridEnv):
        raise TypeError(f"{WHAT_IT_IS}; got {env.unwrapped}.")
    if env.spec is None:
        raise TypeError(f"{WHAT_IT_IS}; this one was made by its class, and has no id.")
    return gym.make(find_grid(env.spec.id), **env.spec.kwargs)


def shape_of(env: VecEnv) -> tuple[int, int]:
    """Width and height of the grid of a fully observed environment.

    Raises:
        TypeError: It is no such environment.
    """
    try:
        width, height = env.get_attr("grid_shape", [0])[0]
    except AttributeError as error:
        raise TypeError(f"{WHAT_IT_IS}; this one has {env.observation_space}.") from error
    return int(width), int(height)


def without_vector_options(info: EnvInfo) -> EnvInfo:
    """What is known of an environment, without options that vectors of it alone have."""
    return replace(info, kwargs={n: v for n, v in info.kwargs.items() if n not in OF_VECTORS})


def make_actors_env(info: EnvInfo, config: AMIGoConfig) -> GridVectorEnv:
    """As many copies of the environment as act at once.

    Raises:
        ValueError: The environment has no id under which it could be made.
    """
    if info.env_id is None or not info.env_id.startswith(f"{GRIDS}/"):
        raise ValueError(f"{WHAT_IT_IS}; of {info} no copies can be made.")
    options: dict[str, Any] = dict(info.kwargs)
    if config.layout_seed is not None:
        options["layout_seed"] = config.layout_seed
    envs = gym.make_vec(
        check_env_id(info.env_id),
        num_envs=config.num_envs,
        autoreset_mode=AutoresetMode.SAME_STEP.value,
        **options,
    )
    assert isinstance(envs.unwrapped, GridVectorEnv)
    return envs.unwrapped
