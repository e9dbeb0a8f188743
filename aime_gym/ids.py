"""Environment ids: parsing them, listing them, and suggesting the right one.

The ids of this package are ``AIME/<body>-<task>-<setup>``; Gymnasium's registry knows them, and
everything here is read from it. Any other registered id, such as ``Hopper-v5``, has a body and a
name as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from aime_gym.grid_ids import find_grid, inner_id
from aime_gym.imujoco_ids import find_body, inner_name, register_body
from aime_gym.suggest import did_you_mean as did_you_mean

NAMESPACE = "AIME"
MODULE = "aime_gym:"  # In front of an id, it makes Gymnasium import this package first.


class EnvId(NamedTuple):
    """The parts of ``AIME/<body>-<task>-<setup>``."""

    body: str
    task: str
    setup: str

    def __str__(self) -> str:
        return f"{NAMESPACE}/{self.body}-{self.task}-{self.setup}"


def what_exists(wrong: str, existing: Iterable[str]) -> str:
    """The closest of the existing names, if one is close, and all of them, for an error."""
    names = list(existing)
    return f"{did_you_mean(wrong, names)}there are {', '.join(names)}"


def plain_id(env_id: str) -> str:
    """The id without ``aime_gym:`` in front."""
    return env_id.removeprefix(MODULE)


def check_env_id(env_id: str) -> str:
    """The plain id of any environment that is registered with Gymnasium.

    An id of MiniGrid's, such as ``MiniGrid-DoorKey-8x8-v0``, stands for the fully observed
    environment ``FullGrid/MiniGrid-DoorKey-8x8-v0``. Every ``iMuJoCo/<variant>`` that can be made
    counts as registered, whether or not it is in the catalogue.

    Raises:
        ModuleNotFoundError: MiniGrid is asked for, and is not installed.
        ValueError: It is not registered; the message says which part is wrong where it looks like
            an id of this package, else it suggests the closest, and lists this package's tasks.
    """
    name = plain_id(env_id)
    grid = inner_id(name)
    if grid is not None:
        return find_grid(grid)
    variant = inner_name(name)
    if variant is not None:
        return register_body(find_body(variant))
    if name in gym.registry:
        return name
    if name.startswith(f"{NAMESPACE}/"):
        return str(parse_env_id(name))
    known = _known_ids()
    tasks = dict.fromkeys(f"{NAMESPACE}/{parts.body}-{parts.task}" for parts in known)
    setups = dict.fromkeys(f"-{parts.setup}" for parts in known)
    raise ValueError(
        f"There is no environment {env_id!r}: {did_you_mean(name, gym.registry)}there are "
        f"{', '.join(tasks)}, each with {' or '.join(setups)}, and all others that are registered "
        "with Gymnasium."
    )


def parse_env_id(env_id: str) -> EnvId:
    """``[aime_gym:]AIME/walker-run-mdp`` -> its parts.

    Raises:
        ValueError: The id, body, task or setup does not exist; the message lists what does.
    """
    known = _known_ids()
    namespace, _, rest = plain_id(env_id).partition("/")
    parts = rest.rsplit("-", 2)
    if namespace != NAMESPACE or len(parts) != 3:
        bodies = dict.fromkeys(other.body for other in known)
        raise ValueError(
            f"{env_id!r} is no environment id: these are {NAMESPACE}/<body>-<task>-<setup>, "
            f"such as {NAMESPACE}/walker-run-mdp, with a body of {', '.join(bodies)}."
        )
    parsed = EnvId(*parts)
    _check_body(parsed.body, known)
    tasks = dict.fromkeys(other.task for other in known if other.body == parsed.body)
    if parsed.task not in tasks:
        raise ValueError(
            f"{parsed.body} has no task {parsed.task!r}: {what_exists(parsed.task, tasks)}."
        )
    setups = dict.fromkeys(other.setup for other in known if other[:2] == parsed[:2])
    if parsed.setup not in setups:
        raise ValueError(
            f"There is no setup {parsed.setup!r}: {what_exists(parsed.setup, setups)}."
        )
    return parsed


def find_env_id(env_id: str) -> EnvId | None:
    """The parts of an id of this package; None for another registered id.

    Raises:
        ValueError: The id is not registered.
    """
    return _parts(gym.registry[check_env_id(env_id)])


def body_of(env_id: str) -> str:
    """The body of an environment: ``"walker"``, or ``"Hopper"`` for ``Hopper-v5``.

    All variants of a robot have one, such as ``"imujoco-hopper"``, so that data and models of some
    can be used for another.

    Raises:
        ValueError: The id is not registered.
    """
    variant = inner_name(plain_id(env_id))
    if variant is not None:
        return f"imujoco-{find_body(variant).robot}"
    parts = find_env_id(env_id)
    return gym.registry[check_env_id(env_id)].name if parts is None else parts.body


def task_name(env_id: str) -> str:
    """The name of an environment whatever is observed: ``"walker-run"``, or ``"Hopper-v5"``.

    It can name a folder: a namespace of others, such as ``phys2d/``, becomes ``phys2d-``.

    Raises:
        ValueError: The id is not registered.
    """
    parts = find_env_id(env_id)
    if parts is None:
        return plain_id(env_id).replace("/", "-")
    return f"{parts.body}-{parts.task}"


def list_environments(body: str | None = None) -> list[str]:
    """The ids of this package that ``gymnasium.make`` accepts, all or those of one body.

    Raises:
        ValueError: There is no such body.
    """
    known = _known_ids()
    if body is not None:
        _check_body(body, known)
    return [str(parts) for parts in known if body in (None, parts.body)]


def _check_body(body: str, known: list[EnvId]) -> None:
    bodies = dict.fromkeys(parts.body for parts in known)
    if body not in bodies:
        raise ValueError(f"There is no body {body!r}: {what_exists(body, bodies)}.")


def _known_ids() -> list[EnvId]:
    """The parts of every registered id of this package, in the order of registration."""
    return [parts for spec in gym.registry.values() if (parts := _parts(spec)) is not None]


def _parts(spec: EnvSpec) -> EnvId | None:
    """The parts of a registered id; None where it is not one of this package."""
    if spec.namespace != NAMESPACE or not set(EnvId._fields) <= set(spec.kwargs):
        return None
    return EnvId(*(spec.kwargs[name] for name in EnvId._fields))
