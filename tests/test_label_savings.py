"""How many labels a better start saves: by hand, and where nothing can be said."""

import math
import re

import numpy as np
import pytest
from scipy import stats

from mtdnn.errors import DataError
from mtdnn.label_savings import curve_of, labels_needed, savings

PLAIN = {10: {1: 0.50, 2: 0.50}, 100: {1: 0.60, 2: 0.60}, 1000: {1: 0.70, 2: 0.70}}
BETTER = {10: {1: 0.60, 2: 0.60}, 100: {1: 0.70, 2: 0.70}, 1000: {1: 0.80, 2: 0.80}}


@pytest.mark.parametrize(
    ("target", "needed"), [(0.4, 10.0), (0.5, 10.0), (0.55, math.sqrt(1000)), (0.6, 100.0), (0.7, 1000.0), (0.71, None)]
)
def test_labels_are_read_off_the_curve_over_their_logarithm(target, needed):
    points = [(10, 0.5), (100, 0.6), (1000, 0.7)]
    assert labels_needed(points, target) == (None if needed is None else pytest.approx(needed))


def test_a_start_that_is_ten_times_better_saves_nine_tenths():
    found = savings(BETTER, PLAIN)
    assert (found.target, found.num_labels) == (pytest.approx(0.7), 1000)
    assert (found.needed, found.low, found.high) == pytest.approx((100, 100, 100))
    told = found.sentence(better="ours", plain="theirs")
    assert told.startswith("ours reaches 70.0, what theirs reaches with 1000 labels, with about 100: 900 labels saved")
    assert told.endswith("(95 % over 2 seeds: 900).")


def test_the_interval_holds_the_labels_at_which_a_t_test_finds_no_difference():
    better = {10: {1: 0.58, 2: 0.62, 3: 0.60}, 100: {1: 0.68, 2: 0.71, 3: 0.72}, 1000: {1: 0.80, 2: 0.83, 3: 0.79}}
    plain = {count: {**values, 3: values[1]} for count, values in PLAIN.items()}
    found = savings(better, plain)
    assert 10 < found.low < found.needed < found.high < 1000
    for end, side in ((found.low, (10, 100)), (found.high, (100, 1000))):
        few, many = side
        share = (math.log(end) - math.log(few)) / (math.log(many) - math.log(few))
        scores = [better[few][seed] + share * (better[many][seed] - better[few][seed]) for seed in (1, 2, 3)]
        assert stats.ttest_1samp(scores, 0.7).pvalue == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_the_interval_holds_the_truth_at_least_as_often_as_it_says(num_seeds):
    rng, hits = np.random.default_rng(num_seeds), 0
    for _ in range(1000):
        noisy = [
            {
                count: {seed: score[1] + rng.normal(0, 0.015) for seed in range(num_seeds)}
                for count, score in curve.items()
            }
            for curve in (BETTER, PLAIN)
        ]
        found = savings(*noisy)
        low, high = found.low or math.inf, found.high or math.inf
        hits += low <= 100 <= high
    assert hits / 1000 >= 0.93


def test_what_never_gets_there_saves_none_and_one_seed_says_nothing_of_the_spread():
    assert savings(PLAIN, BETTER).needed is None
    assert savings(PLAIN, BETTER).sentence(better="a", plain="b").endswith("it saves none.")
    one = [{count: {1: values[1]} for count, values in curve.items()} for curve in (BETTER, PLAIN)]
    for curves, words in ((one, "900 labels saved (one seed"), (one[::-1], "it saves none (one seed")):
        found = savings(*curves)
        assert (found.low, found.high) == (None, None)
        assert words in found.sentence(better="a", plain="b")
    with pytest.raises(DataError, match="no seeds in common"):
        savings({10: {1: 0.5}}, {10: {2: 0.5}})


@pytest.mark.parametrize(
    ("better", "told"),
    [
        # the mean stays a tenth below, and one of the seeds is above
        ({10: {1: 0.50, 2: 0.51}, 100: {1: 0.695, 2: 0.703}}, r"none is shown to be saved \(95 % over 2 seeds: it may"),
        # better from its first labels on
        ({30: {1: 0.90, 2: 0.91}, 100: {1: 0.95, 2: 0.96}}, "with 30 or fewer: at least 970 labels saved$"),
        # as good with its first labels as far as the seeds tell
        ({30: {1: 0.71, 2: 0.70}, 100: {1: 0.95, 2: 0.96}}, r"at least 970 labels saved \(.*: \d+ to 970 or more\)"),
        # nothing differs between the seeds, and the curve crosses between two points
        ({10: {1: 0.5, 2: 0.5}, 1000: {1: 0.81, 2: 0.81}}, r"labels saved \(the seeds do not differ\)"),
        # there, with more labels than the plain start has
        (
            {100: {1: 0.5, 2: 0.51}, 9000: {1: 0.80, 2: 0.81}},
            r"with about \d+: it saves none \(95 % over 2 seeds: none",
        ),
        # where the interval does not end, nothing is sure to be saved
        ({10: {1: 0.5, 2: 0.5}, 900: {1: 0.78, 2: 0.66}}, r"labels saved \(95 % over 2 seeds: none to \d+"),
    ],
)
def test_the_sentence_claims_no_more_than_the_curves_show(better, told):
    found = savings(better, {1000: {1: 0.70, 2: 0.70}}).sentence(better="a", plain="b")
    assert re.search(told, found.removesuffix(".")), found


def test_the_curve_of_a_run_is_by_labels_and_seed_even_where_seeds_leave_out_different_rows():
    results = [
        {
            "seed": seed,
            "fraction": fraction,
            "data": {"t": {"trained_on": count + seed}},
            "metrics": {"t": {"test": {"values": {"f1": count / 100}}}},
        }
        for seed in (1, 2, 3)
        for fraction, count in ((1.0, 48), (0.1, 3))
    ]
    found = curve_of(results, task="t", split="test")
    assert list(found.items()) == [(5, {1: 0.03, 2: 0.03, 3: 0.03}), (50, {1: 0.48, 2: 0.48, 3: 0.48})]
