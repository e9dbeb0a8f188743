"""Configuration dataclasses and Gymnasium spaces as plain JSON values, and back.

Decoding follows type hints: a nested dataclass is found by the annotation of its field, so nothing
has to be registered. Values that JSON lacks, such as infinities, never get into a file.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


def encode(value: Any) -> Any:
    """Dataclasses -> dictionaries, tuples -> lists; plain values stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def decode(annotation: Any, value: Any) -> Any:
    """The inverse of `encode`, for a value of an annotated type.

    Raises:
        ValueError: A dataclass has no field of a name that the value has.
    """
    if get_origin(annotation) in (Union, types.UnionType):
        return _decode_union(get_args(annotation), value)
    if dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
        return _decode_dataclass(annotation, value)
    if get_origin(annotation) is tuple:
        return tuple(value)
    return value


def decode_arguments(function: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a function, each decoded by its annotation."""
    hints = get_type_hints(function)
    return {name: decode(hints.get(name), value) for name, value in values.items()}


def _decode_union(choices: tuple[Any, ...], value: Any) -> Any:
    if isinstance(value, Mapping):
        configs = [choice for choice in choices if dataclasses.is_dataclass(choice)]
        assert len(configs) == 1, f"{choices} should have exactly one dataclass."
        return decode(configs[0], value)
    if isinstance(value, list):
        return tuple(value)
    return value


def _decode_dataclass(cls: Any, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(cls)
    unknown = values.keys() - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}: is it a newer one?")
    return cls(**{name: decode(hints[name], value) for name, value in values.items()})


# Spaces


def encode_space(space: spaces.Box | spaces.Discrete) -> dict[str, Any]:
    """A Box or Discrete space as plain values."""
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    return {
        "type": "Box",
        "shape": list(space.shape),
        "dtype": str(space.dtype),
        "low": _encode_limits(space.low),
        "high": _encode_limits(space.high),
    }


def decode_space(values: Mapping[str, Any]) -> spaces.Box | spaces.Discrete:
    """The inverse of `encode_space`."""
    if values["type"] == "Discrete":
        return spaces.Discrete(values["n"], start=values["start"])
    shape, dtype = tuple(values["shape"]), np.dtype(values["dtype"])
    low, high = (
        np.broadcast_to(np.array(values[key], dtype=np.float64), shape).astype(dtype)
        for key in ("low", "high")
    )
    return spaces.Box(low, high, shape, dtype.type)


def _encode_limits(limits: NDArray[Any]) -> Any:
    """One number where all are equal, else nested lists; infinities as text."""
    if (limits == limits.flat[0]).all():
        return _finite(float(limits.flat[0]))
    return np.vectorize(_finite, otypes=[object])(limits.astype(np.float64)).tolist()


def _finite(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)
