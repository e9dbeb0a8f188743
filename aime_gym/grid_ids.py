"""Ids of grid worlds: ``FullGrid/<id>`` is MiniGrid's environment of that id, fully observed.

MiniGrid's own ids, such as ``MiniGrid-DoorKey-8x8-v0``, stand for the same in every function and
command of this package. MiniGrid is an optional package; nothing here needs it before an
environment that is not listed is asked for.
"""

from __future__ import annotations

import os

import gymnasium as gym

from aime_gym.suggest import did_you_mean

GRIDS = "FullGrid"
PREFIXES = ("MiniGrid-", "BabyAI-")  # Of MiniGrid's own ids.
KNOWN = (  # Those of the papers, which are registered before MiniGrid is imported.
    *(f"MiniGrid-Empty-{size}-v0" for size in ("5x5", "6x6", "8x8", "16x16")),
    *(f"MiniGrid-Empty-Random-{size}-v0" for size in ("5x5", "6x6")),
    *(f"MiniGrid-DoorKey-{size}-v0" for size in ("5x5", "6x6", "8x8", "16x16")),
    *(f"MiniGrid-KeyCorridor{size}-v0" for size in ("S3R1", "S3R2", "S3R3")),
    *(f"MiniGrid-KeyCorridor{size}-v0" for size in ("S4R3", "S5R3", "S6R3")),
    *(f"MiniGrid-ObstructedMaze-{kind}-v0" for kind in ("1Dl", "1Dlh", "1Dlhb")),
    *(f"MiniGrid-ObstructedMaze-{kind}-v0" for kind in ("2Dl", "2Dlh", "2Dlhb")),
    *(f"MiniGrid-ObstructedMaze-{kind}-v0" for kind in ("1Q", "2Q", "Full")),
)


def inner_id(name: str) -> str | None:
    """The id within ``FullGrid/<id>``, or MiniGrid's own id; None where it is neither."""
    if name.startswith(f"{GRIDS}/"):
        return name.removeprefix(f"{GRIDS}/")
    return name if name.startswith(PREFIXES) else None


def register_grid(inner: str) -> str:
    """Registers ``FullGrid/<inner>``, where it is not yet, and returns it."""
    name = f"{GRIDS}/{inner}"
    if name not in gym.registry:
        gym.register(
            id=name,
            entry_point="aime_gym.envs.minigrid.environment:FullGridEnv",
            vector_entry_point="aime_gym.envs.minigrid.vector:make_full_grids",
            kwargs={"env_id": inner},
        )
    return name


def register_known_grids() -> None:
    """Makes ``gym.make("FullGrid/MiniGrid-...")`` known for the environments of the papers."""
    for inner in KNOWN:
        register_grid(inner)


def find_grid(inner: str) -> str:
    """The id ``FullGrid/<inner>`` of a grid world that there is.

    Raises:
        ModuleNotFoundError: MiniGrid is not installed.
        ValueError: There is no such environment; the message suggests the closest.
    """
    if inner not in gym.registry and inner not in KNOWN:
        import_minigrid()
    if inner not in gym.registry and inner not in KNOWN:
        names = [name for name in gym.registry if name.startswith(PREFIXES)]
        raise ValueError(
            f"There is no grid world {inner!r}: {did_you_mean(inner, names)}there are "
            f"MiniGrid's, such as {KNOWN[0]}, and all others that are registered with Gymnasium."
        )
    return register_grid(inner)


def import_minigrid() -> None:
    """Imports MiniGrid, which registers its environments.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import minigrid  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Grid worlds need MiniGrid: pip install 'aime-gym[minigrid]'."
        ) from error
