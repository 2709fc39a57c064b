"""Batches: every unit once an epoch, groups whole, padding on the right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import toy_batch

from mtdnn.data.batch import count_batches, epoch_batches, pad_rows, sorted_batches


class Sizes:
    """What batching needs of a split."""

    def __init__(self, lengths, num_rows):
        self.lengths, self.num_rows = np.array(lengths), np.array(num_rows)

    def __len__(self):
        return len(self.lengths)


UNITS = st.lists(st.tuples(st.integers(1, 100), st.integers(1, 12)), min_size=1, max_size=300)


@given(UNITS, st.integers(1, 40), st.booleans())
def test_an_epoch_covers_every_unit_exactly_once_with_groups_whole(units, batch_size, buckets):
    data = Sizes(*zip(*units, strict=True))
    batches = [batch.tolist() for batch in epoch_batches(data, batch_size=batch_size, seed="s", buckets=buckets)]
    assert count_batches(data, batch_size=batch_size, seed="s", buckets=buckets) == len(batches)
    assert sorted(index for batch in batches for index in batch) == list(range(len(data)))
    for batch in batches:
        assert len(batch) == 1 or data.num_rows[batch].sum() <= batch_size
    again = epoch_batches(data, batch_size=batch_size, seed="s", buckets=buckets)
    assert batches == [batch.tolist() for batch in again]


def test_another_seed_gives_other_batches():
    data = Sizes(range(1, 201), [1] * 200)
    first, second = (epoch_batches(data, batch_size=8, seed=seed) for seed in "ab")
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}


def test_a_small_set_keeps_changing_the_members_of_its_batches():
    data = Sizes(range(1, 24), [1] * 23)
    members = {tuple(sorted(epoch_batches(data, batch_size=8, seed=str(epoch))[0])) for epoch in range(10)}
    assert len(members) == 10


def test_buckets_fill_batches_with_little_padding():
    rng = np.random.default_rng(0)
    data = Sizes(rng.integers(5, 100, 3200), [1] * 3200)

    def fill(batches):
        return data.lengths.sum() / sum(data.lengths[batch].max() * len(batch) for batch in batches)

    assert fill(epoch_batches(data, batch_size=32, seed="s", buckets=False)) < 0.6
    assert fill(epoch_batches(data, batch_size=32, seed="s")) > 0.93


def test_evaluation_covers_every_unit_once():
    data = Sizes([3, 9, 1, 4], [1, 1, 1, 1])
    assert [batch.tolist() for batch in sorted_batches(data, batch_size=2)] == [[1, 3], [0, 2]]


def test_padding_is_on_the_right_and_masked():
    inputs = pad_rows([[5, 6], [7]], [[0, 1], [0]], pad_id=9)
    assert inputs["input_ids"].tolist() == [[5, 6], [7, 9]]
    assert inputs["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert inputs["token_type_ids"].tolist() == [[0, 1], [0, 0]]


def test_rows_are_named_by_their_unit():
    assert toy_batch("rank").row_names == ["u0/0", "u0/1", "u1/0", "u2/0", "u2/1", "u2/2"]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_group_larger_than_a_batch_is_a_batch_of_its_own(batch_size):
    assert sorted(map(len, epoch_batches(Sizes([1] * 3, [20, 20, 20]), batch_size=batch_size, seed="s"))) == [1, 1, 1]
