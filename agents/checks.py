"""Checks of settings, with errors that name the setting, its limit and what was given.

What is no number passes: None stands for a default, and tyro.MISSING for what is still to come.
"""

from __future__ import annotations

import torch
from stable_baselines3.common.utils import get_device


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
        ValueError: A GPU is asked for, and PyTorch finds none.
    """
    if device != "auto" and torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device is {str(device)!r}, but PyTorch finds no GPU here: take 'auto' or 'cpu', or "
            "install the PyTorch that fits the GPU's driver (pytorch.org says which)."
        )
    return get_device(device)
