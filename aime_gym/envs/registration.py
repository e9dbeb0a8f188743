"""Registers every id with Gymnasium, from the plain tables alone."""

from __future__ import annotations

import gymnasium as gym

from aime_gym.envs.dm_control.setups import all_env_ids
from aime_gym.grid_ids import register_known_grids
from aime_gym.imujoco_ids import register_catalogue


def register_environments() -> None:
    """Makes ``gym.make("AIME/<body>-<task>-<setup>")`` known."""
    for env_id in all_env_ids():
        if str(env_id) not in gym.registry:
            gym.register(
                id=str(env_id),
                entry_point="aime_gym.envs.dm_control.environment:DMControlEnv",
                vector_entry_point="aime_gym.envs.dm_control.vector:DMControlVectorEnv",
                kwargs=env_id._asdict(),
            )
    register_known_grids()
    register_catalogue()
