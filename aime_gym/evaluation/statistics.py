"""What samples of scores say: mean, interquartile mean, optimality gap, performance profile.

All with bootstrap intervals. N values, R resamples, K thresholds. As in Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021 (arXiv:2108.13264).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95
TAILS = (50.0 * (1.0 - CONFIDENCE), 100.0 - 50.0 * (1.0 - CONFIDENCE))  # Percentiles.
QUARTER = 0.25
TARGET = 100.0  # The expert's score, percent.

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean over the last axis, [.., N] -> [..]."""
    return np.asarray(np.asarray(values, dtype=np.float64).mean(axis=-1))


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half, over the last axis, [.., N] -> [..].

    floor(N / 4) values are left out at either end.
    """
    numbers = np.asarray(values, dtype=np.float64)
    size = numbers.shape[-1]
    cut = int(QUARTER * size)
    ordered = np.partition(numbers, (cut, size - cut - 1), axis=-1)  # The middle in the middle.
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
    return stratified_interval([values], statistic, generator)


def stratified_interval(
    strata: Sequence[ArrayLike],
    statistic: Statistic = mean,
    generator: np.random.Generator | None = None,
) -> tuple[float, float]:
    """95% percentile interval of a statistic of several samples together.

    Each of the 10,000 resamples draws from every sample as many values as it has.

    Args:
        strata: The samples, one row [N_c] each.
        statistic: Reduces the last axis, [R, sum of N_c] -> [R].
        generator: Draws the resamples; None for a new one with seed 0.

    Returns:
        The interval's ends, in the values' unit.

    Raises:
        ValueError: There is no sample, or one is empty or has more than one axis.
    """
    generator = np.random.default_rng(0) if generator is None else generator
    resampled = []
    for sample in _samples(strata):
        draws = generator.integers(sample.size, size=(RESAMPLES, sample.size))
        resampled.append(sample[draws])
    low, high = np.percentile(statistic(np.concatenate(resampled, axis=-1)), TAILS)
    return float(low), float(high)


def optimality_gap(values: ArrayLike) -> NDArray[np.float64]:
    """Mean shortfall from a score of 100, over the last axis, [.., N] -> [..]; 0 is best."""
    return mean(np.maximum(0.0, TARGET - np.asarray(values, dtype=np.float64)))


def performance_profile(
    strata: Sequence[ArrayLike],
    thresholds: ArrayLike,
    generator: np.random.Generator | None = None,
) -> NDArray[np.float64]:
    """The share of scores above thresholds, with 95% bootstrap intervals at each of them.

    Of a resample's values from one sample, as many are above a threshold as a binomial variable
    says, so that these are drawn, and not the values.

    Args:
        strata: The samples of scores, one row [N_c] each.
        thresholds: [K].
        generator: Draws the resamples; None for a new one with seed 0.

    Returns:
        Share, low end and high end [3, K], from 0 to 1.

    Raises:
        ValueError: There is no sample, or one is empty or has more than one axis.
    """
    generator = np.random.default_rng(0) if generator is None else generator
    limits = np.asarray(thresholds, dtype=np.float64)
    above, total = np.zeros(limits.size), 0
    resampled = np.zeros((RESAMPLES, limits.size))
    for sample in _samples(strata):
        counts = (sample[:, None] > limits).sum(axis=0)
        above += counts
        total += sample.size
        resampled += generator.binomial(sample.size, counts / sample.size, resampled.shape)
    low, high = np.percentile(resampled / total, TAILS, axis=0)
    return np.stack([above / total, low, high])


def _samples(strata: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    samples = [np.asarray(values, dtype=np.float64) for values in strata]
    for sample in samples:
        if sample.ndim != 1 or not sample.size:
            raise ValueError(f"A sample is one row of values [N]; got shape {list(sample.shape)}.")
    if not samples:
        raise ValueError("There is no sample.")
    return samples
