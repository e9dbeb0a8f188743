"""Checks of settings, with errors that name the setting, its limit and what was given.

What is no number passes: None stands for a default, and tyro.MISSING for what is still to come.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from numbers import Integral, Real
from typing import Any, get_args, get_type_hints

import torch
from stable_baselines3.common.utils import get_device


def check_numbers(settings: object) -> None:
    """Checks the kind of every number in a dataclass, alone or in tuples, by its annotation.

    Args:
        settings: An instance; each `__post_init__` begins with this, and goes on with the ranges.

    Raises:
        ValueError: One is NaN or infinite, a boolean or text, or a fraction where an int is meant.
    """
    kind: type = type(settings)
    for name, whole in _numbers(kind).items():
        given = getattr(settings, name)
        for value in given if isinstance(given, tuple) else (given,):
            if isinstance(value, Integral) and not isinstance(value, bool):
                continue
            number = isinstance(value, Real) and not isinstance(value, bool)
            if isinstance(value, bool | str) or (number and (whole or not math.isfinite(value))):
                meant = "a whole number" if whole else "a finite number"
                raise ValueError(f"{name} is {meant}; got {value!r}.")


@cache
def _numbers(kind: type[Any]) -> dict[str, bool]:
    """The fields of a dataclass that are numbers, and whether they are whole."""
    found = {}
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        parts = [inner for part in (hint, *get_args(hint)) for inner in (part, *get_args(part))]
        kinds = {part for part in parts if isinstance(part, type)}
        if field.init and kinds & {int, float} and not kinds & {bool, str}:
            found[field.name] = float not in kinds
    return found


def check_at_least(minimum: float, **settings: float | None) -> None:
    """Checks that settings are not too small.

    Args:
        minimum: The least value.
        **settings: Name -> value.

    Raises:
        ValueError: One is less, or NaN.

    Example:
        >>> check_at_least(1, batch_size=50, stack=None)
    """
    for name, value in settings.items():
        if isinstance(value, int | float) and not value >= minimum:
            raise ValueError(f"{name} is at least {minimum}; got {value}.")


def check_positive(**settings: float | None) -> None:
    """Checks that settings are greater than zero.

    Args:
        **settings: Name -> value.

    Raises:
        ValueError: One is not.
    """
    for name, value in settings.items():
        if isinstance(value, int | float) and not value > 0:
            raise ValueError(f"{name} is greater than 0; got {value}.")


def check_share(**settings: float | None) -> None:
    """Checks that settings are shares, from 0 to 1.

    Args:
        **settings: Name -> value.

    Raises:
        ValueError: One is not.
    """
    for name, value in settings.items():
        if isinstance(value, int | float) and not 0 <= value <= 1:
            raise ValueError(f"{name} is a share, from 0 to 1; got {value}.")


def check_device(device: torch.device | str) -> torch.device:
    """The device to compute on; ``"auto"`` is a GPU where there is one, else the CPU.

    Raises:
        ValueError: A GPU is asked for, and PyTorch finds none; or there is no such kind of device.
    """
    try:
        kind = "" if device == "auto" else torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"A device is 'auto', 'cpu', 'cuda', ..., not {device!r}.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device is {str(device)!r}, but PyTorch finds no GPU here: take 'auto' or 'cpu', or "
            "install the PyTorch that fits the GPU's driver (pytorch.org says which)."
        )
    return get_device(device)
