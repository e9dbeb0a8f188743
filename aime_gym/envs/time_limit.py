"""Environments that end their episodes by themselves, and say in their specification when."""

from __future__ import annotations

import copy
from typing import Any, overload

from gymnasium.envs.registration import EnvSpec


class SpecWithLimit:
    """The `spec` of an environment whose episodes end by themselves after `max_steps` agent steps.

    Its `max_episode_steps` is that number, whatever the action repeat. Gymnasium adds a time limit
    of its own where an id is registered with one; that would cut off episodes whose actions are
    repeated less often than by default. So the number is not that of the id but of what was made.
    """

    @overload
    def __get__(self, env: None, owner: type) -> SpecWithLimit: ...

    @overload
    def __get__(self, env: Any, owner: type) -> EnvSpec | None: ...

    def __get__(self, env: Any, owner: type) -> EnvSpec | SpecWithLimit | None:
        """The specification that Gymnasium gave to the environment; None before that."""
        return self if env is None else vars(env).get("_spec")

    def __set__(self, env: Any, spec: EnvSpec | None) -> None:
        """Keeps a specification, with the environment's own limit."""
        if spec is not None:
            spec = copy.copy(spec)
            given = spec.max_episode_steps
            spec.max_episode_steps = env.max_steps if given is None else min(given, env.max_steps)
        vars(env)["_spec"] = spec
