"""What the registered environment ids say of bodies, without making an environment."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium as gym

NAMESPACE = "AIME"


def body_of(env_id: str) -> str:
    """The body of an environment id, with or without ``aime_gym:`` in front.

    Raises:
        ValueError: There is no such id of this package.
    """
    for known, body, _ in _entries():
        if known == plain_id(env_id):
            return body
    raise ValueError(
        f"There is no environment {env_id!r}; aime_gym.list_environments() lists them."
    )


def plain_id(env_id: str) -> str:
    """The id without ``aime_gym:`` in front."""
    return env_id.removeprefix("aime_gym:")


def guess_env(dataset_name: str) -> tuple[str, str | None] | None:
    """``walker-run-expert`` -> the body and the environment that its name starts with.

    Returns:
        The body with None where the name has no task, such as ``walker-mix``; None for no body.
    """
    bodies = {body for _, body, _ in _entries() if _starts_with(dataset_name, body)}
    if not bodies:
        return None
    body = max(bodies, key=len)
    for env_id in state_env_ids(body):
        if _starts_with(dataset_name, env_id.removeprefix(f"{NAMESPACE}/").removesuffix("-mdp")):
            return body, env_id
    return body, None


def state_env_ids(body: str) -> list[str]:
    """The body's ids whose observations are no pictures, one a task."""
    return [env_id for env_id, other, setup in _entries() if other == body and setup == "mdp"]


def _starts_with(name: str, start: str) -> bool:
    return name == start or name.startswith(f"{start}-")


def _entries() -> Iterator[tuple[str, str, str]]:
    """(id, body, setup) of every registered environment with a body."""
    for spec in gym.registry.values():
        if spec.namespace == NAMESPACE and {"body", "setup"} <= set(spec.kwargs):
            yield spec.id, spec.kwargs["body"], spec.kwargs["setup"]
