"""What a sample of scores says: mean, interquartile mean, bootstrap interval.

N values, R resamples. As in Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021 (arXiv:2108.13264).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95
QUARTER = 0.25

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean over the last axis, [.., N] -> [..]."""
    return np.asarray(np.asarray(values, dtype=np.float64).mean(axis=-1))


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half, over the last axis, [.., N] -> [..].

    floor(N / 4) values are left out at either end.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    size = ordered.shape[-1]
    cut = int(QUARTER * size)
    return np.asarray(ordered[..., cut : size - cut].mean(axis=-1))


def bootstrap_interval(
    values: ArrayLike,
    statistic: Statistic = mean,
    generator: np.random.Generator | None = None,
) -> tuple[float, float]:
    """95% percentile interval of a statistic, from 10,000 resamples with replacement.

    Args:
        values: The sample [N].
        statistic: Reduces the last axis, [R, N] -> [R].
        generator: Draws the resamples; None for a new one with seed 0, so that the same sample
            always has the same interval.

    Returns:
        The interval's ends, in the values' unit.

    Raises:
        ValueError: The sample is empty, or has more than one axis.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size:
        raise ValueError(f"A sample is one row of values [N]; got shape {list(sample.shape)}.")
    generator = np.random.default_rng(0) if generator is None else generator
    draws = generator.integers(sample.size, size=(RESAMPLES, sample.size))
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(statistic(sample[draws]), [tail, 100.0 - tail])
    return float(low), float(high)
