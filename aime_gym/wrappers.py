"""What wrappers make of an environment's observations and actions, and of how long one is held.

Data, agents and scores are of what `gymnasium.make(id)` shows and takes. A wrapper that gives other
values in the same form, such as `NormalizeObservation`, would go unnoticed, and the values would
mean something else wherever the environment is made anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym
from gymnasium import spaces, wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import vector

Wrapper = gym.Wrapper[Any, Any, Any, Any] | gym.vector.VectorWrapper[Any, Any, Any]
AnyEnv = gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any]
CHANGING = (
    gym.ObservationWrapper,
    gym.vector.VectorObservationWrapper,
    gym.ActionWrapper,
    gym.vector.VectorActionWrapper,
    wrappers.AddWhiteNoise,
    wrappers.FrameStackObservation,
    wrappers.MaxAndSkipObservation,
    wrappers.ObstructView,
)
OF_FORM = (  # What these give has the values that were there, or is of an evidently other form.
    wrappers.AddRenderObservation,
    wrappers.DtypeObservation,
    wrappers.FilterObservation,
    wrappers.FlattenObservation,
    wrappers.GrayscaleObservation,
    wrappers.ReshapeObservation,
    wrappers.ResizeObservation,
    wrappers.ClipAction,
    vector.DtypeObservation,
    vector.FilterObservation,
    vector.FlattenObservation,
    vector.GrayscaleObservation,
    vector.ReshapeObservation,
    vector.ResizeObservation,
    vector.ClipAction,
)


def changing_wrappers(env: AnyEnv) -> tuple[str, ...]:
    """Names of the wrappers that change the values of observations or actions, outermost first.

    Time limits, recordings, statistics and whatever else leaves both alone are not among them, nor
    is what changes their form: pictures of another size, or dictionaries made vectors. Wrappers
    that the id itself brings are not either.

    Args:
        env: One environment, or a vector of them, of which the first one counts.
    """
    return tuple(type(wrapper).__name__ for wrapper in _added(env) if _changes_values(wrapper))


def changing_wrappers_of_spec(spec: EnvSpec | None) -> tuple[str, ...]:
    """What `changing_wrappers` says of an environment in another process, by its specification.

    Only Gymnasium's own wrappers are known there.
    """
    if spec is None:
        return ()
    inherent = _inherent(spec)
    names = [w.name for w in reversed(spec.additional_wrappers) if w.name not in inherent]
    kinds = {name: getattr(wrappers, name, None) for name in names}
    return tuple(
        name
        for name, kind in kinds.items()
        if kind is not None and issubclass(kind, CHANGING) and not issubclass(kind, OF_FORM)
    )


def check_unchanged(names: Iterable[str], what: str) -> None:
    """Checks that no wrapper changes values.

    Args:
        names: Those that do, as `changing_wrappers` gives them.
        what: What would be misled.

    Raises:
        ValueError: There is one.
    """
    if found := ", ".join(names):
        raise ValueError(
            f"{found} changes the values of observations or actions, and {what} would not fit the "
            "environment without it, in which data are recorded and scores are measured. Leave it "
            "out: agents standardise observations and scale actions by themselves."
        )


def action_repeat(env: AnyEnv) -> int:
    """Steps of an environment's own clock for which an action is held.

    It is 1 for environments that say nothing of it; `RepeatAction` multiplies it.
    """
    base: Any = env.unwrapped
    if hasattr(base, "envs"):
        base = base.envs[0].unwrapped
    repeat = getattr(base, "action_repeat", 1)
    repeat = repeat if isinstance(repeat, int) else 1
    for wrapper in _added(env):
        if isinstance(wrapper, wrappers.RepeatAction):
            repeat *= wrapper.num_repeats
    return repeat


def _added(env: AnyEnv) -> Iterator[Wrapper]:
    """The wrappers that were put around what `gymnasium.make` gives, from the outside in."""
    inherent = _inherent(env.spec)
    while isinstance(env, gym.Wrapper | gym.vector.VectorWrapper):
        if isinstance(env, wrappers.OrderEnforcing):
            return  # Gymnasium's own; what is further in belongs to the id.
        if type(env).__name__ not in inherent:
            yield env
        env = env.env
    singles = getattr(env, "envs", None)
    if singles and isinstance(singles[0], gym.Env):
        yield from _added(singles[0])


def _inherent(spec: EnvSpec | None) -> set[str]:
    """Names of the wrappers with which an id is registered."""
    registered = None if spec is None else gym.registry.get(spec.id)
    return set() if registered is None else {w.name for w in registered.additional_wrappers}


def _changes_values(wrapper: Wrapper) -> bool:
    """Whether what comes out could be taken for what goes in."""
    if not isinstance(wrapper, CHANGING) or isinstance(wrapper, OF_FORM):
        return False
    if isinstance(wrapper, gym.ActionWrapper | gym.vector.VectorActionWrapper):
        return True
    inside, outside = _observations(wrapper.env), _observations(wrapper)
    if _is_picture(inside):
        return inside.shape == outside.shape
    return isinstance(inside, spaces.Box) and not _is_picture(outside)


def _observations(env: AnyEnv) -> spaces.Space[Any]:
    single: spaces.Space[Any] | None = getattr(env, "single_observation_space", None)
    return env.observation_space if single is None else single


def _is_picture(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == "uint8" and len(space.shape) == 3
