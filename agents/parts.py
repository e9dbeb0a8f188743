"""What has state in a learner, found by declaration.

An object names the attributes that have state in a class attribute, ``parts``. Each is one of

- a network (`torch.nn.Module`), whose weights are what the learner has learned;
- an optimiser, a random generator, a dataclass of counters and tensors, or any other object with
  ``state_dict`` and ``load_state_dict``: what is needed to go on learning;
- an object that has ``parts`` itself.

Names of nested parts are joined by dots: ``supervised.network.net.0.weight``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

OUTSIDE = {"num_timesteps", "device_type", "log_ent_coef"}  # State that is of no part.
GROUPS, PARAMS = "groups.", "params"  # Settings of optimisers; what they lack in archives.
Parts = Mapping[str, Any]
"""Name -> network, optimiser, generator, ...: what `find_parts` returns."""


def find_parts(owner: object, names: Sequence[str]) -> dict[str, Any]:
    """The attributes of these names, and in place of one that has parts itself, these."""
    found = dict[str, Any]()
    for name in names:
        part = getattr(owner, name)
        if hasattr(part, "parts"):
            inner = find_parts(part, part.parts)
            found |= {f"{name}.{key}": value for key, value in inner.items()}
        else:
            found[name] = part
    return found


def weights_of(parts: Parts) -> dict[str, Tensor]:
    """The weights of all networks."""
    return {
        f"{name}.{key}": weight
        for name, part in parts.items()
        if isinstance(part, nn.Module)
        for key, weight in part.state_dict().items()
    }


def cast(
    weights: Mapping[str, Tensor], before: torch.dtype, after: torch.dtype
) -> dict[str, Tensor]:
    """Weights of one precision in another one; those of other precisions stay."""
    return {
        name: weight.to(after) if weight.dtype == before else weight
        for name, weight in weights.items()
    }


def state_of(parts: Parts) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The state of all other parts: plain values, and tensors."""
    plain, tensors = dict[str, Any](), dict[str, Tensor]()
    for name, part in parts.items():
        if not isinstance(part, nn.Module):
            for key, value in _get_state(part).items():
                (tensors if isinstance(value, Tensor) else plain)[f"{name}.{key}"] = value
    return plain, tensors


def restore_weights(parts: Parts, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads the weights of all networks.

    Raises:
        ValueError: Weights are missing, of another shape, or unknown.
    """
    check_weights(weights_of(parts), weights, source)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            part.load_state_dict(_below(name, weights))


def restore_state(
    parts: Parts,
    plain: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: torch.device,
) -> None:
    """Loads what `state_of` returned; parts of which nothing was saved stay as they are."""
    for key in {*plain, *tensors} - OUTSIDE:
        if not any(key.startswith(f"{name}.") for name in parts):
            raise ValueError(f"There is no part that the saved state {key!r} is of.")
    for name, part in parts.items():
        state = {**_below(name, plain), **_below(name, tensors)}
        if state and not isinstance(part, nn.Module):
            _set_state(part, state, device)


def _below(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{name}."
    return {key.removeprefix(start): v for key, v in values.items() if key.startswith(start)}


def _get_state(part: Any) -> dict[str, Any]:
    """A part's state under flat names."""
    if isinstance(part, torch.optim.Optimizer):
        saved = part.state_dict()
        groups = dict(enumerate(saved["param_groups"]))
        return {**_flat("", saved["state"]), **_flat(GROUPS, groups, without=PARAMS)}
    if isinstance(part, torch.Generator):
        return {"state": part.get_state()}
    if dataclasses.is_dataclass(part):
        return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    state: dict[str, Any] = part.state_dict()
    return state


def _flat(
    start: str, slots: Mapping[int, Mapping[str, Any]], without: str | None = None
) -> dict[str, Any]:
    """Index -> name -> value as one dictionary."""
    return {
        f"{start}{index}.{key}": value
        for index, slot in slots.items()
        for key, value in slot.items()
        if key != without
    }


def _nested(values: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The inverse of `_flat`."""
    slots = dict[int, dict[str, Any]]()
    for name, value in values.items():
        index, key = name.split(".", 1)
        slots.setdefault(int(index), {})[key] = value
    return slots


def _like(group: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Saved settings of an optimiser; what was a tuple, such as Adam's betas, is one again."""
    return {
        key: tuple(value) if isinstance(group.get(key), tuple) else value
        for key, value in saved.items()
    }


def _set_state(part: Any, state: dict[str, Any], device: torch.device) -> None:
    if isinstance(part, torch.optim.Optimizer):
        slots = {name: v for name, v in state.items() if not name.startswith(GROUPS)}
        groups = _nested(_below(GROUPS.rstrip("."), state))
        part.load_state_dict(
            {
                "state": _nested(slots),
                "param_groups": [
                    {**group, **_like(group, groups.get(index, {}))}
                    for index, group in enumerate(part.state_dict()["param_groups"])
                ],
            }
        )
    elif isinstance(part, torch.Generator):
        part.set_state(state["state"])
    elif dataclasses.is_dataclass(part):
        for name, value in state.items():
            _check_kind(name, getattr(part, name), value)
            setattr(part, name, value.to(device) if isinstance(value, Tensor) else value)
    else:
        part.load_state_dict(state)


def _check_kind(name: str, present: Any, saved: Any) -> None:
    """ValueError unless a saved value could have taken the place of the present one."""
    if present is None or saved is None:
        fits = True
    elif isinstance(present, Tensor) is not isinstance(saved, Tensor):
        fits = False
    elif isinstance(present, int | float):
        fits = isinstance(saved, int | float)
    elif isinstance(present, list | tuple):  # JSON knows lists alone.
        fits = isinstance(saved, list | tuple)
    else:
        fits = isinstance(saved, Tensor | type(present))
    if not fits:
        raise ValueError(f"The saved state {name!r} is {saved!r:.80}, which is of another kind.")


def load_weights(
    module: nn.Module, state: Mapping[str, Tensor], source: str, optional: tuple[str, ...] = ()
) -> None:
    """Loads weights, which must fit the module; those that start with `optional` may be too many.

    Raises:
        ValueError: Weights are missing, of another shape, or unknown.
    """
    expected = module.state_dict()
    check_weights(expected, state, source, optional)
    module.load_state_dict({name: state[name] for name in expected})


def _holds(place: Tensor, value: Tensor) -> bool:
    """Whether values of a kind are at home in a place, which is at least as precise."""
    of_a_kind = place.is_floating_point() == value.is_floating_point()
    return of_a_kind and torch.promote_types(place.dtype, value.dtype) == place.dtype


def check_weights(
    expected: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    source: str,
    optional: tuple[str, ...] = (),
) -> None:
    """ValueError unless weights have the expected names and shapes; see `load_weights`."""
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected and not name.startswith(optional)]
    wrong = [
        f"{name} {list(given[name].shape)} instead of {list(value.shape)}"
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    wrong += [
        f"{name} {given[name].dtype} instead of {value.dtype}"
        for name, value in expected.items()
        if name in given and not _holds(value, given[name])
    ]
    if missing or unknown or wrong:
        raise ValueError(
            f"The weights of {source} do not fit: "
            f"missing {_some(missing)}; unknown {_some(unknown)}; "
            f"of another shape or kind {_some(wrong)}."
        )
    check_finite(given, f"the weights of {source}")


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """ValueError, which names them, if tensors have NaN or infinities."""
    wrong = [name for name, t in tensors.items() if not bool(torch.isfinite(t).all())]
    if wrong:
        raise ValueError(f"{source} has values that are not finite, in {_some(wrong)}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) + more) or "none"
