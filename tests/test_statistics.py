"""Statistics against scipy, statsmodels and numbers by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from mtdnn.metrics.classification import accuracy
from mtdnn.statistics import (
    calibration_error,
    detectable_size,
    false_discoveries,
    mcnemar,
    paired_bootstrap,
    paired_difference,
    pairs_needed,
    reliability,
)

A, B = [0.61, 0.58, 0.66, 0.60, 0.63], [0.64, 0.57, 0.69, 0.66, 0.65]


def test_a_paired_difference_is_that_of_scipy_and_statsmodels():
    found = paired_difference(A, B)
    expected = stats.ttest_rel(B, A)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-12)
    differences = DescrStatsW(np.subtract(B, A))
    assert (found.low, found.high) == pytest.approx(differences.tconfint_mean(), rel=1e-12)
    assert found.mean == pytest.approx(0.026)
    assert (found.num, found.resolved) == (5, False)


def test_one_pair_has_a_difference_and_nothing_else():
    found = paired_difference([0.5], [0.7])
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.p_value, found.detectable(), found.pairs_needed) == (None, None, None, None)
    assert not found.resolved
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="zip"):
        paired_difference([0.5], [0.5, 0.6])


def test_differences_that_are_all_the_same_say_nothing_of_their_spread():
    same = paired_difference([0.5, 0.25], [0.5, 0.25])
    assert (same.mean, same.p_value, same.low, same.high, same.resolved) == (0.0, None, None, None, False)
    shifted = paired_difference([0.60, 0.65], [0.70, 0.75])
    assert shifted.mean == pytest.approx(0.1)
    assert (shifted.p_value, shifted.low, shifted.resolved) == (None, None, False)


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_the_smallest_detectable_difference_is_statsmodels(count):
    expected = TTestPower().solve_power(nobs=count, alpha=0.05, power=0.8)
    assert detectable_size(count) == pytest.approx(expected, rel=1e-5)
    spread = np.subtract(B, A).std(ddof=1)
    assert paired_difference(A, B).detectable() == pytest.approx(detectable_size(5) * spread)
    shared_out = TTestPower().solve_power(nobs=5, alpha=0.05 / 22, power=0.8)
    assert paired_difference(A, B).detectable(tests=22) == pytest.approx(shared_out * spread, rel=1e-5)


@pytest.mark.parametrize("size", [0.1, 0.3, 0.6, 1.0, 2.0, 3.0])
def test_the_number_of_pairs_that_would_show_a_difference_is_statsmodels(size):
    expected = TTestPower().solve_power(effect_size=size, alpha=0.05, power=0.8)
    assert pairs_needed(-size) == pairs_needed(size) == math.ceil(expected)
    found = paired_difference(A, B)
    assert found.pairs_needed == pairs_needed(found.mean / found.spread)


def test_a_difference_as_large_as_the_detectable_one_is_found_four_times_in_five():
    rng, size = np.random.default_rng(0), detectable_size(5)
    drawn = rng.normal(size, 1.0, size=(4000, 5))
    found = stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_statsmodels(pairs):
    right_a, right_b = zip(*pairs, strict=True)
    table = [[sum(p == (x, y) for p in pairs) for y in (True, False)] for x in (True, False)]
    assert mcnemar(right_a, right_b) == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_the_adjusted_p_values_are_statsmodels(p_values):
    expected = multipletests(p_values, method="fdr_bh")[1]
    assert false_discoveries(p_values) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_paired_bootstrap_covers_the_normal_interval_of_a_mean_of_differences():
    rng = np.random.default_rng(1)
    gold = rng.integers(2, size=1500)
    a = [np.where(rng.random(1500) < 0.70, gold, 1 - gold).tolist() for _ in range(2)]
    b = [np.where(rng.random(1500) < 0.74, gold, 1 - gold).tolist() for _ in range(2)]
    found = paired_bootstrap(accuracy, a, b, gold.tolist(), resamples=2000)
    per_example = np.mean([(np.equal(two, gold) * 1.0 - np.equal(one, gold)) for one, two in zip(a, b, strict=True)], 0)
    error = per_example.std() / np.sqrt(1500)
    assert found.mean == pytest.approx(per_example.mean())
    assert found.low == pytest.approx(per_example.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(per_example.mean() + 1.96 * error, abs=0.2 * error)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(per_example.mean() / error), rel=0.5)


def test_the_same_predictions_are_not_told_apart():
    found = paired_bootstrap(accuracy, [[0, 1, 1]], [[0, 1, 1]], [0, 1, 0], resamples=50)
    assert (found.mean, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_the_calibration_error_is_the_weighted_distance_of_confidence_and_accuracy():
    # (0.5, 0.6]: two at 0.6, one right: distance 0.1; (0.8, 0.9]: one at 0.9, right: 0.1; (0.9, 1]: one at 1, wrong: 1
    bins = reliability([0.6, 0.6, 0.9, 1.0], [True, False, True, False])
    assert [(each.num, each.accuracy) for each in bins] == [(2, 0.5), (1, 1.0), (1, 0.0)]
    assert calibration_error(bins) == pytest.approx((2 * 0.1 + 0.1 + 1.0) / 4)
