import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, trim_mean

from aime_gym.evaluation.statistics import (
    bootstrap_interval,
    interquartile_mean,
    mean,
    optimality_gap,
    performance_profile,
    stratified_interval,
)

SAMPLE = np.random.default_rng(3).gamma(2.0, 30.0, size=100)


def test_by_hand():
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert interquartile_mean([100.0, 1.0, 2.0, -50.0]) == 1.5
    assert interquartile_mean([[0.0, 1.0, 3.0, 9.0], [4.0, 4.0, 4.0, 4.0]]).tolist() == [2.0, 4.0]
    assert interquartile_mean([5.0]) == 5.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_interquartile_mean_is_scipys_trimmed_mean(values):
    expected = trim_mean(values, 0.25)
    assert interquartile_mean(values) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_interval_is_scipys_percentile_bootstrap():
    for statistic in (mean, interquartile_mean):
        expected = bootstrap(
            (SAMPLE,),
            lambda values, axis, statistic=statistic: statistic(values),
            n_resamples=10_000,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert bootstrap_interval(SAMPLE, statistic) == pytest.approx(tuple(expected), rel=0.01)


def test_the_optimality_gap_is_what_is_missing():
    assert optimality_gap([50.0, 120.0, 100.0]) == pytest.approx(50.0 / 3)
    assert optimality_gap([[150.0, 101.0], [0.0, 100.0]]).tolist() == [0.0, 50.0]


def test_strata_are_resampled_apart():
    """Two samples without spread have none together; pooled, they would."""
    strata = [[0.0] * 10, [100.0] * 10]
    assert stratified_interval(strata) == (50.0, 50.0)
    assert bootstrap_interval(np.ravel(strata)) != (50.0, 50.0)
    assert stratified_interval([SAMPLE]) == bootstrap_interval(SAMPLE)


def test_stratified_interval_is_scipys_over_independent_samples():
    other = SAMPLE[:40] + 20.0
    expected = bootstrap(
        (SAMPLE, other),
        lambda a, b, axis: (a.sum(axis) + b.sum(axis)) / 140,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert stratified_interval([SAMPLE, other]) == pytest.approx(tuple(expected), rel=0.01)


def test_a_profiles_interval_is_that_of_the_share_above():
    _, low, high = performance_profile([SAMPLE], [60.0])
    expected = bootstrap_interval((SAMPLE > 60.0).astype(float))
    assert (low[0], high[0]) == pytest.approx(expected, abs=0.015)


def test_the_generator_makes_the_interval():
    assert bootstrap_interval(SAMPLE) == bootstrap_interval(SAMPLE)
    seeded = [bootstrap_interval(SAMPLE, generator=np.random.default_rng(s)) for s in (0, 1, 1)]
    assert seeded[0] == bootstrap_interval(SAMPLE)
    assert seeded[1] == seeded[2] != seeded[0]


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    bootstrap_interval(SAMPLE)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_wrong_samples():
    for wrong in ([], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="one row of values"):
            bootstrap_interval(wrong)
        with pytest.raises(ValueError, match="one row of values"):
            performance_profile([[1.0], wrong], [0.0])
    with pytest.raises(ValueError, match="There is no sample"):
        stratified_interval([])


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = [
        low <= 5.0 <= high
        for low, high in (
            bootstrap_interval(generator.normal(5.0, 2.0, size=60)) for _ in range(150)
        )
    ]
    assert 0.88 < np.mean(covered) <= 1.0
