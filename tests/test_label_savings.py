"""How many labels a better start saves: by hand, and where nothing can be said."""

import math
import re

import numpy as np
import pytest
from scipy import stats

from mtdnn.errors import DataError
from mtdnn.label_savings import curve_of, labels_needed, labels_to_reach, savings

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
    assert (found.better.target, found.plain.labels, found.better.labels) == pytest.approx((0.7, 1000, 100))
    assert found.saved == pytest.approx(900)
    assert found.interval == pytest.approx((900, 900), rel=0.002)  # a step of the curve is 1 %
    told = found.sentence(better="ours", plain="theirs")
    assert told == (
        "ours reaches 70.0 (what theirs reaches with 1000 labels) with about 100 labels: 900 labels saved "
        "(2 seeds without spread: how sure that is, is not known)."
    )


def curves(scores, *, shifts=(0.0, 0.0, 0.0)):
    """Percentages by labels, each seed's curve moved as a whole."""
    return {
        count: {seed: score / 100 + shift for seed, shift in enumerate(shifts, start=1)}
        for count, score in scores.items()
    }


def noisy(scores, *, num_seeds, sd, rng):
    return {count: {s: score / 100 + rng.normal(0, sd) for s in range(num_seeds)} for count, score in scores.items()}


LEVELS_OFF = {30: 52, 100: 85, 300: 86, 1000: 83}


def test_where_the_plain_start_is_there_with_fewer_labels_those_count():
    """83 lies 31/33 of the way from 52 to 85 over the labels' logarithm: 30 (100 / 30)^(31 / 33) = 93.0 labels."""
    found = savings(curves({30: 62, 100: 83, 300: 87}), curves(LEVELS_OFF))
    assert found.plain.labels == pytest.approx(30 * (100 / 30) ** (31 / 33))
    assert found.saved == pytest.approx(-7.0, abs=0.05)
    told = found.sentence(better="ours", plain="theirs")
    assert "with about 100 labels, theirs already with about 93 labels: none saved (" in told


def test_a_plain_start_that_levels_off_early_leaves_few_labels_to_save():
    """Its scores at 100 labels are told above those at 1000 (2 points, by seeds 0.1 apart): it needs no 1000."""
    plain = curves(LEVELS_OFF, shifts=(-0.001, 0.0, 0.001))
    plain[1000] = {1: 0.830, 2: 0.831, 3: 0.829}
    found = savings(curves({30: 62, 100: 83, 300: 87}), plain)
    assert found.plain.high < 110
    assert found.interval[0] <= found.saved <= found.interval[1] < 20


@pytest.mark.parametrize("shifts", [(0.0, 0.0, 0.0), (0.0, 0.0001, 0.0002)])
def test_seeds_that_move_together_are_not_told_to_be_equal(shifts):
    better = curves({10: 50, 1000: 81}, shifts=shifts)
    told = savings(better, curves({10: 40, 1000: 70}, shifts=shifts)).sentence(better="a", plain="b")
    assert told.endswith("labels saved (3 seeds without spread: how sure that is, is not known).")


def test_fewer_labels_are_ruled_out_by_a_t_test_below_and_more_by_one_above():
    better = {10: {1: 0.58, 2: 0.62, 3: 0.60}, 100: {1: 0.69, 2: 0.71, 3: 0.70}, 1000: {1: 0.80, 2: 0.83, 3: 0.79}}
    found = labels_to_reach(better, target=0.7)
    assert 10 < found.low < found.labels < found.high < 1000
    for end, (few, many) in ((found.low, (10, 100)), (found.high, (100, 1000))):
        share = (math.log(end) - math.log(few)) / (math.log(many) - math.log(few))
        scores = [better[few][seed] + share * (better[many][seed] - better[few][seed]) for seed in (1, 2, 3)]
        assert stats.ttest_1samp(scores, 0.7).pvalue == pytest.approx(0.05, abs=0.003)


RISES = {30: 50, 100: 60, 300: 70, 1000: 80}


@pytest.mark.parametrize("num_seeds", [2, 5])
@pytest.mark.parametrize(
    ("better", "plain"),
    [
        ({30: 60, 100: 70, 300: 80, 1000: 85}, RISES),
        ({30: 70, 100: 80, 300: 80, 1000: 80}, RISES),  # it levels off where the score is
        ({30: 62, 100: 83, 300: 87, 1000: 87}, LEVELS_OFF),  # none is saved
        ({30: 52, 100: 85, 300: 85, 1000: 85}, {30: 52, 100: 85, 300: 85, 1000: 85}),  # none is saved
        ({30: 70, 100: 79, 300: 79.9, 1000: 79.9}, RISES),  # it never gets there
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says_and_the_estimate_always(better, plain, num_seeds):
    rng, hits, trials = np.random.default_rng(num_seeds), 0, 200
    truth = savings(curves(better), curves(plain))
    saved = -math.inf if truth.better.labels is None else truth.plain.labels - truth.better.labels
    for _ in range(trials):
        found = savings(*(noisy(each, num_seeds=num_seeds, sd=0.01, rng=rng) for each in (better, plain)))
        low, high = found.interval
        hits += low <= saved <= max(high, 0) + 1e-9
        assert found.saved is None or low <= found.saved <= high + 1e-9
    assert hits / trials >= 0.95 - 0.03  # two standard errors of a share of 200


def test_one_seed_says_nothing_of_the_spread_and_two_curves_need_a_seed_in_common():
    one = [{count: {1: values[1]} for count, values in curve.items()} for curve in (BETTER, PLAIN)]
    unsure = "(one seed: how sure that is, is not known)."
    assert savings(*one).sentence(better="a", plain="b").endswith(f"900 labels saved {unsure}")
    assert savings(*one[::-1]).sentence(better="a", plain="b").endswith(f"none saved {unsure}")
    assert labels_to_reach(one[0]).sentence("a", own=True).endswith(unsure)
    with pytest.raises(DataError, match="no seeds in common"):
        savings({10: {1: 0.5}}, {10: {2: 0.5}})


@pytest.mark.parametrize(
    ("better", "target", "told"),
    [
        # the mean stays a tenth below, and one of the seeds is above
        (
            {10: {1: 0.50, 2: 0.51}, 100: {1: 0.695, 2: 0.703}},
            None,
            r"a does not reach 70.0 \(.*\) with up to 100 labels: none saved \(95 % over 2 seeds: none to \d+",
        ),
        # better from its first labels on
        (
            {30: {1: 0.90, 2: 0.901}, 100: {1: 0.95, 2: 0.951}},
            None,
            r"with 30 labels or fewer: at least 970 labels saved \(95 % over 2 seeds: 970 or more\)",
        ),
        # as good with its first labels as far as the seeds tell
        (
            {30: {1: 0.71, 2: 0.70}, 100: {1: 0.95, 2: 0.96}},
            None,
            r"at least 970 labels saved \(95 % over 2 seeds: \d+ to 970 or more\)",
        ),
        # there, with more labels than the plain start has
        (
            {100: {1: 0.5, 2: 0.5001}, 9000: {1: 0.80, 2: 0.8001}},
            None,
            r"with about \d+ labels: none saved \(95 % over 2 seeds: none\)",
        ),
        # where the interval does not end, nothing is sure to be saved
        (
            {10: {1: 0.5, 2: 0.5}, 900: {1: 0.78, 2: 0.66}},
            None,
            r"\d labels saved \(95 % over 2 seeds: none to \d+\)",
        ),
        # the plain start never gets there
        (
            {10: {1: 0.5, 2: 0.5001}, 500: {1: 0.80, 2: 0.8001}, 1000: {1: 0.90, 2: 0.9001}},
            0.8,
            r"a reaches 80.0 with about 500 labels, b not with up to 1000 labels: "
            r"at least 500 labels saved \(95 % over 2 seeds: \d+ to 50\d or more\)",
        ),
        ({10: {1: 0.5, 2: 0.5}}, 0.8, r"neither a nor b reaches 80.0 with up to 1000 labels: .* not known"),
        (
            {10: {1: 0.5, 2: 0.5}},
            0.3,
            r"a .* 10 labels or fewer, b with 10 labels or fewer: below 10 labels nothing was",
        ),
        (
            {10: {1: 0.2, 2: 0.21}},
            0.3,
            r"a does not reach 30.0 .*10 labels, b does with 10 labels or fewer: none saved \(",
        ),
    ],
)
def test_the_sentence_claims_no_more_than_the_curves_show(better, target, told):
    plain = {10: {1: 0.40, 2: 0.401}, 999: {1: 0.60, 2: 0.601}, 1000: {1: 0.70, 2: 0.70}}
    found = savings(better, plain, target=target).sentence(better="a", plain="b")
    assert re.match(f".*{told}", found), found


@pytest.mark.parametrize(
    ("target", "told"),
    [
        # 0.69, a tenth of the way down from 0.7 at 1000 to 0.6 at 100
        (None, "b reaches 69.0 (one point less than with 1000 labels) with about 794 labels (95 % over 2 seeds: "),
        (0.65, "b reaches 65.0 with about 316 labels (95 % over 2 seeds: "),
        (0.5, "b reaches 50.0 with 10 labels or fewer (95 % over 2 seeds: "),
        (0.9, "b does not reach 90.0 with up to 1000 labels (95 % over 2 seeds: not with up to 1000)."),
    ],
)
def test_a_curve_alone_says_how_many_labels_reach_a_score(target, told):
    plain = {count: {1: values[1] - 0.001, 2: values[2] + 0.001} for count, values in PLAIN.items()}
    plain[10] = {1: 0.5, 2: 0.5}
    assert labels_to_reach(plain, target=target).sentence("b", own=target is None).startswith(told)


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
