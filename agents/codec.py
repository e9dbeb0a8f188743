"""Configuration dataclasses and Gymnasium spaces as plain JSON values, and back.

Decoding follows type hints: a nested dataclass is found by the annotation of its field, so nothing
has to be registered. Values that JSON lacks, such as infinities, never get into a file.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

MAX_SPACE = 2**24  # Values of an observation or an action.
NOT_FINITE = ("inf", "-inf", "nan")  # Numbers that JSON lacks, as text.


def encode(value: Any) -> Any:
    """Dataclasses -> dictionaries, tuples -> lists, infinities and NaN -> text.

    Raises:
        TypeError: A value is of a kind that `decode` could not give back.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"The keys of a saved dictionary are text; got {list(value)}.")
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, float):
        return _finite(float(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(
        f"{value!r} is a {type(value).__name__}, which cannot be saved. What can are numbers, "
        "text, None, dataclasses, and tuples, lists and dictionaries of them."
    )


def encode_arguments(function: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `decode_arguments`.

    Raises:
        TypeError: An argument, as it is annotated, would not come back as it was.
    """
    encoded: dict[str, Any] = encode(values)
    decoded = decode_arguments(function, encoded)
    for name, value in values.items():
        if repr(decoded[name]) != repr(value):  # NaN does not equal itself.
            raise TypeError(
                f"The argument {name!r} cannot be saved: {value!r} would be read as "
                f"{decoded[name]!r}. Do its fields have the types of their annotations?"
            )
    return encoded


def decode(annotation: Any, value: Any) -> Any:
    """The inverse of `encode`, for a value of an annotated type.

    Raises:
        ValueError: A dataclass has no field of a name that the value has.
    """
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return decode(arguments[0], value)
    if origin in (Union, types.UnionType):
        return _decode_union(arguments, value)
    if isinstance(value, Mapping):
        if dataclasses.is_dataclass(annotation):
            return _decode_dataclass(annotation, value)
        item = arguments[1] if len(arguments) == 2 else Any
        return {key: decode(item, element) for key, element in value.items()}
    if isinstance(value, list):
        return _decode_sequence(origin, arguments, value)
    return float(value) if annotation is float and value in NOT_FINITE else value


def decode_arguments(function: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a function, each decoded by its annotation."""
    hints = get_type_hints(function)
    return {name: decode(hints.get(name), value) for name, value in values.items()}


def decode_numbers(value: Any) -> Any:
    """Plain values without annotations, in which the texts of infinities and NaN are numbers."""
    if isinstance(value, Mapping):
        return {key: decode_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode_numbers(item) for item in value]
    return float(value) if value in NOT_FINITE else value


def _decode_sequence(origin: Any, arguments: tuple[Any, ...], value: list[Any]) -> Any:
    """A list, or a tuple where that is what the annotation says."""
    if origin is not tuple:
        item = arguments[0] if arguments else Any
        return [decode(item, element) for element in value]
    if not arguments or arguments[-1] is Ellipsis:
        arguments = (arguments[0] if arguments else Any,) * len(value)
    return tuple(decode(item, element) for item, element in zip(arguments, value, strict=True))


def _decode_union(choices: tuple[Any, ...], value: Any) -> Any:
    """A value of the first type that it may be; plain values are what they are."""
    if isinstance(value, Mapping):
        configs = [choice for choice in choices if dataclasses.is_dataclass(choice)]
        fitting = [config for config in configs if value.keys() <= _field_names(config)]
        fitting += configs or [choice for choice in choices if _is(choice, Mapping)]
    elif isinstance(value, list):
        fitting = [c for c in choices if _is(c, tuple) or _is(c, list) or _is(c, Sequence)]
    else:
        return decode(float if float in choices and str not in choices else Any, value)
    return decode(fitting[0] if fitting else Any, value)


def _field_names(cls: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def _is(annotation: Any, kind: type) -> bool:
    """Whether an annotation is of a kind of collection."""
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, kind)


def _decode_dataclass(cls: Any, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(cls)
    unknown = values.keys() - _field_names(cls)
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
    if math.prod(shape) > MAX_SPACE:
        raise ValueError(f"A space has at most {MAX_SPACE:,} values, not {list(shape)}.")
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
