"""Checks of settings, with errors that name the setting, its limit and what was given.

What is no number passes: None stands for a default, and tyro.MISSING for what is still to come.
"""

from __future__ import annotations


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
