"""How many labels a better start saves: by hand, and where nothing can be said."""

import math

import pytest

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
    assert told.endswith("(95 % over seeds: 900 to 900).")


def test_seeds_that_part_make_the_interval_wide():
    better = {10: {1: 0.60, 2: 0.40, 3: 0.5}, 100: {1: 0.70, 2: 0.60, 3: 0.72}, 1000: {1: 0.80, 2: 0.75, 3: 0.7}}
    plain = {count: {**values, 3: values[1]} for count, values in PLAIN.items()}
    found = savings(better, plain)
    assert found.low < found.needed < found.high
    assert found.low == pytest.approx(labels_needed([(10, 0.5), (100, 0.72), (1000, 0.7)], 0.7))  # seed 3 three times


def test_what_never_gets_there_saves_none_and_one_seed_says_nothing_of_the_spread():
    assert savings(PLAIN, BETTER).needed is None
    assert savings(PLAIN, BETTER).sentence(better="a", plain="b").endswith("it saves none.")
    one = [{count: {1: values[1]} for count, values in curve.items()} for curve in (BETTER, PLAIN)]
    assert savings(*one).low is None
    assert "one seed" in savings(*one).sentence(better="a", plain="b")
    with pytest.raises(DataError, match="no seeds in common"):
        savings({10: {1: 0.5}}, {10: {2: 0.5}})


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
