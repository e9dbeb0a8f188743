"""The suite's soft indicators over whole batches, to the bit as dm_control computes each alone.

An indicator is 1 within its bounds; outside, a sigmoid of the distance to them, in margins. Its
`value` is what it gives at one margin.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DEFAULT_VALUE = 0.1


def below(values: Array, bound: float, margin: float) -> Array:
    """How far values are below a bound, in margins; 0 where they are not."""
    return np.maximum((bound - values) / margin, 0.0)


def above(values: Array, bound: float, margin: float) -> Array:
    """How far values are above a bound, in margins; 0 where they are not."""
    return np.maximum((values - bound) / margin, 0.0)


def within(values: Array, lower: float, upper: float) -> Array:
    """1 between two bounds, which count as inside, else 0."""
    return np.where((lower <= values) & (values <= upper), 1.0, 0.0)


def linear(distance: Array, value: float) -> Array:
    """Falls in a straight line to 0."""
    return np.maximum(1.0 - distance * (1.0 - value), 0.0)


def quadratic(distance: Array) -> Array:
    """1 - d^2, which is 0 at one margin."""
    return np.where(distance < 1.0, 1.0 - np.square(distance), 0.0)


def gaussian(distance: Array, square: Callable[[Array], Array] = np.square) -> Array:
    """exp(-d^2 / 2), d scaled to give a tenth at one margin."""
    scale = np.sqrt(-2.0 * np.log(DEFAULT_VALUE))
    shaped: Array = np.exp(-0.5 * square(distance * scale))
    return shaped


def scalar_square(values: Array) -> Array:
    """d^2 by the C library's pow, as the suite's scalars; an array's ``**`` may differ in a bit."""
    return np.float_power(values, 2.0)
