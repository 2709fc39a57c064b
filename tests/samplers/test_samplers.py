"""Samplers: each end is what its name says."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdnn.registry import build
from mtdnn.samplers.base import SAMPLERS
from mtdnn.samplers.drawn import Drawn
from mtdnn.samplers.round_robin import RoundRobin

SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1)


def order_of(sampler, batches, *, examples=None, num_epochs=4, seed=0, epoch=0):
    """An order where a task has as many examples as batches, if nothing else is said."""
    examples = batches if examples is None else examples
    return sampler.order(batches, num_examples=examples, num_epochs=num_epochs, seed=seed, epoch=epoch)


@pytest.mark.parametrize("name", SAMPLERS.names())
@given(sizes=SIZES, per_batch=st.integers(1, 9), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_an_order_is_a_pure_function_that_names_tasks_alone(name, sizes, per_batch, seed, epoch):
    sampler = build(SAMPLERS, {"type": name}, where="test")
    examples = {task: count * per_batch for task, count in sizes.items()}
    order, again = (order_of(sampler, sizes, examples=examples, seed=seed, epoch=epoch) for _ in range(2))
    assert list(order) == list(again)
    assert set(order) <= set(sizes)
    if not isinstance(sampler, Drawn):
        assert set(order) == set(sizes)


@given(SIZES)
def test_cycle_gives_every_task_one_turn_a_round_until_the_largest_is_done(sizes):
    order = order_of(RoundRobin(end="cycle"), sizes)
    rounds = [order[start : start + len(sizes)] for start in range(0, len(order), len(sizes))]
    assert all(list(turn) == list(sizes) for turn in rounds)
    assert len(rounds) == max(sizes.values())


@given(SIZES)
def test_stop_first_ends_with_the_smallest_task(sizes):
    order = order_of(RoundRobin(end="stop_first"), sizes)
    assert Counter(order) == dict.fromkeys(sizes, min(sizes.values()))


@given(SIZES)
def test_until_all_seen_serves_each_batch_once_and_live_tasks_in_turn(sizes):
    order = order_of(RoundRobin(end="until_all_seen"), sizes)
    assert Counter(order) == sizes
    left, position = dict(sizes), 0
    while position < len(order):
        live = [task for task, count in left.items() if count]
        assert list(order[position : position + len(live)]) == live
        for task in live:
            left[task] -= 1
        position += len(live)


@given(SIZES, st.integers(0, 5))
def test_proportional_serves_each_batch_once(sizes, seed):
    order = order_of(build(SAMPLERS, {"type": "proportional"}, where="test"), sizes, seed=seed)
    assert Counter(order) == sizes
