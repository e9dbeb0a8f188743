"""Setups: what an agent sees of a body. With the look-up of bodies and tasks by name."""

from __future__ import annotations

from collections.abc import Iterator

from aime_gym.envs.dm_control.tasks import BODIES, Body, Sensor, Task
from aime_gym.ids import EnvId, what_exists

SETUPS = ("mdp", "lpomdp", "visual")
CONTROL_STEPS = 1_000  # Length of an episode.


def all_env_ids() -> Iterator[EnvId]:
    """Every environment of the tables, in their order."""
    for body in BODIES.values():
        for task in body.tasks:
            for setup in SETUPS:
                yield EnvId(body.name, task, setup)


def get_body(name: str) -> Body:
    """The body of this name, or a ValueError that lists them."""
    if name not in BODIES:
        raise ValueError(f"There is no body {name!r}: {what_exists(name, BODIES)}.")
    return BODIES[name]


def get_task(body: Body, name: str) -> Task:
    """The body's task of this name, or a ValueError that lists them."""
    if name not in body.tasks:
        raise ValueError(f"{body.name} has no task {name!r}: {what_exists(name, body.tasks)}.")
    return body.tasks[name]


def check_setup(setup: str) -> None:
    """ValueError unless this is a setup."""
    if setup not in SETUPS:
        raise ValueError(f"There is no setup {setup!r}: {what_exists(setup, SETUPS)}.")


def visible_sensors(sensors: tuple[Sensor, ...], setup: str) -> tuple[Sensor, ...]:
    """The vector sensors in the observation of a setup, in order."""
    if setup == "visual":
        return ()
    return tuple(s for s in sensors if setup == "mdp" or s.order == "first")
