"""Setups: what an agent sees of a body, and the names of environments."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from aime_gym.envs.tasks import BODIES, Body, Sensor, Task

NAMESPACE = "AIME"
SETUPS = ("mdp", "lpomdp", "visual")
IMAGE_SHAPE = (64, 64, 3)
CONTROL_STEPS = 1_000  # Length of an episode.


class EnvId(NamedTuple):
    """The parts of ``AIME/<body>-<task>-<setup>``."""

    body: str
    task: str
    setup: str

    def __str__(self) -> str:
        return f"{NAMESPACE}/{self.body}-{self.task}-{self.setup}"


def all_env_ids() -> list[EnvId]:
    """Every registered environment, in the order of the tables."""
    return [
        EnvId(body.name, task, setup)
        for body in BODIES.values()
        for task in body.tasks
        for setup in SETUPS
    ]


def list_environments(body: str | None = None) -> list[str]:
    """The ids that ``gymnasium.make`` accepts, all or those of one body.

    Raises:
        ValueError: There is no such body.
    """
    if body is not None:
        get_body(body)
    return [str(env_id) for env_id in all_env_ids() if body in (None, env_id.body)]


def parse_env_id(env_id: str) -> EnvId:
    """``[aime_gym:]AIME/walker-run-mdp`` -> its parts.

    Raises:
        ValueError: The id, body, task or setup does not exist; the message lists what does.
    """
    name = env_id.removeprefix("aime_gym:")
    namespace, _, rest = name.partition("/")
    parts = rest.rsplit("-", 2)
    if namespace != NAMESPACE or len(parts) != 3:
        raise ValueError(
            f"{env_id!r} is no environment id: these are {NAMESPACE}/<body>-<task>-<setup>, "
            f"such as {NAMESPACE}/walker-run-mdp, with a body of {', '.join(BODIES)}."
        )
    parsed = EnvId(*parts)
    get_task(get_body(parsed.body), parsed.task)
    check_setup(parsed.setup)
    return parsed


def get_body(name: str) -> Body:
    """The body of this name, or a ValueError that lists them."""
    if name not in BODIES:
        raise ValueError(f"There is no body {name!r}: {_choices(name, BODIES)}.")
    return BODIES[name]


def get_task(body: Body, name: str) -> Task:
    """The body's task of this name, or a ValueError that lists them."""
    if name not in body.tasks:
        raise ValueError(f"{body.name} has no task {name!r}: {_choices(name, body.tasks)}.")
    return body.tasks[name]


def check_setup(setup: str) -> None:
    """ValueError unless this is a setup."""
    if setup not in SETUPS:
        raise ValueError(f"There is no setup {setup!r}: {_choices(setup, SETUPS)}.")


def visible_sensors(sensors: tuple[Sensor, ...], setup: str) -> tuple[Sensor, ...]:
    """The vector sensors in the observation of a setup, in order."""
    if setup == "visual":
        return ()
    return tuple(s for s in sensors if setup == "mdp" or s.order == "first")


def _choices(wrong: str, names: object) -> str:
    existing = [str(name) for name in names]  # type: ignore[attr-defined]
    close = difflib.get_close_matches(wrong, existing, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}there are {', '.join(existing)}"
