"""Fractions: nested, stratified, the same everywhere."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdnn.data.subsample import fraction_size, prefix, seeded_order
from mtdnn.errors import DataError

CLASSES = st.lists(st.integers(0, 3), min_size=1, max_size=80)


@given(CLASSES, st.integers(0, 9))
def test_an_order_has_every_unit_once_and_starts_with_one_of_each_class(strata, seed):
    order = seeded_order([f"u{i}" for i in range(len(strata))], strata, seed=seed)
    assert sorted(order) == list(range(len(strata)))
    classes = set(strata)
    assert {strata[i] for i in order[: len(classes)]} == classes


@given(st.lists(st.integers(0, 1), min_size=40, max_size=200), st.integers(20, 40))
def test_a_prefix_has_the_classes_in_their_proportions(strata, size):
    order = seeded_order([f"u{i}" for i in range(len(strata))], strata, seed=0)
    shares, taken = Counter(strata), Counter(strata[i] for i in order[:size])
    for label, count in shares.items():
        assert abs(taken[label] - size * count / len(strata)) <= 2


def test_the_order_is_the_same_on_every_machine():
    assert seeded_order(["a", "b", "c", "d", "e"], [0, 0, 1, 1, 1], seed=1).tolist() == [2, 1, 4, 0, 3]


@pytest.mark.parametrize(
    ("fraction", "full", "size"),
    [(0.001, 549_367, 549), (0.01, 549_367, 5_493), (0.1, 549_367, 54_936), (0.001, 23_596, 23), (0.1, 23_596, 2_359)],
)
def test_sizes_are_those_of_the_papers(fraction, full, size):
    assert fraction_size(fraction, full_size=full, available=full, task="t") == size


def test_a_fraction_that_the_file_cannot_hold_is_refused_with_the_largest_possible_one():
    with pytest.raises(DataError, match=r"0.1 of 549367 rows is 54936, but the file holds 21605; .* is 0.0393"):
        fraction_size(0.1, full_size=549_367, available=21_605, task="snli")
    assert fraction_size(0.0393, full_size=549_367, available=21_605, task="snli") <= 21_605


def test_a_fraction_of_nothing_is_refused():
    with pytest.raises(DataError, match=r"is none; the smallest is 0\.01"):
        fraction_size(0.001, full_size=100, available=100, task="t")


def test_a_prefix_counts_rows_and_keeps_groups_whole():
    order, rows = np.array([2, 0, 1]), np.array([3, 4, 5])
    assert prefix(order, rows, 9).tolist() == [2, 0]
    assert prefix(order, rows, 1).tolist() == [2]
