"""Lists of different lengths as arrays."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mtdnn.data.ragged import Ragged, hexadecimal, of_arrow

LISTS = st.lists(st.lists(st.integers(-5, 5), max_size=4), max_size=30)


@given(LISTS, st.data())
def test_lists_come_back_whole_and_chosen(lists, data):
    ragged = Ragged.of(iter(lists), dtype=np.int64)
    assert list(ragged) == [ragged[index] for index in range(len(lists))] == lists
    assert ragged.sizes_U.tolist() == [len(each) for each in lists]
    chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=9)) if lists else []
    assert list(ragged.select(np.array(chosen, int))) == [lists[index] for index in chosen]
    assert ragged.any(ragged.values_V > 0).tolist() == [any(value > 0 for value in each) for each in lists]
    assert ragged.select(np.array(chosen, int)).any(ragged.values_V > 0).tolist() == [
        any(value > 0 for value in lists[index]) for index in chosen
    ]


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=3), min_size=1, max_size=9))
def test_hexadecimal_digits_of_a_column_are_numbers_in_the_same_order(keys):
    texts = [[f"{key:016x}" for key in each] for each in keys]
    whole = pa.chunked_array([pa.array(part, pa.list_(pa.string())) for part in (texts, texts)])
    for column in (whole, whole.slice(1)):
        assert list(of_arrow(column, hexadecimal)) == [[int(text, 16) for text in each] for each in column.to_pylist()]
