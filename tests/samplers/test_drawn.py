"""Samplers that draw: their probabilities by hand, and the frequencies that come of them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdnn.errors import ConfigError
from mtdnn.registry import build
from mtdnn.samplers.annealed import alpha
from mtdnn.samplers.base import SAMPLERS
from mtdnn.samplers.drawn import powers

DRAWN = [
    {"type": "temperature"},
    {"type": "temperature", "temperature": 5.0, "cap": 40},
    {"type": "sqrt"},
    {"type": "uniform"},
    {"type": "annealed"},
]
EXAMPLES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 400_000), min_size=1)


def made(**options):
    return build(SAMPLERS, options, where="sampler")


def probabilities(sampler, examples, *, num_epochs=4, epoch=0):
    weights = sampler.weights(examples, num_epochs=num_epochs, epoch=epoch)
    return {task: weight / sum(weights.values()) for task, weight in weights.items()}


def order_of(sampler, batches, examples, *, seed=0, epoch=0):
    return sampler.order(batches, num_examples=examples, num_epochs=4, seed=seed, epoch=epoch)


@pytest.mark.parametrize("options", DRAWN)
@given(examples=EXAMPLES, seed=st.integers(0, 99), epoch=st.integers(0, 3))
def test_an_epoch_is_as_long_as_all_batches_and_a_pure_function(options, examples, seed, epoch):
    batches = {task: 1 + count % 50 for task, count in examples.items()}
    order = order_of(made(**options), batches, examples, seed=seed, epoch=epoch)
    assert len(order) == sum(batches.values())
    assert set(order) <= set(batches)
    assert list(order) == list(order_of(made(**options), batches, examples, seed=seed, epoch=epoch))


@pytest.mark.parametrize("options", DRAWN)
def test_epochs_and_seeds_draw_differently(options):
    sizes = {"a": 100, "b": 100}
    orders = [order_of(made(**options), sizes, sizes, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("options", DRAWN)
def test_tasks_come_as_often_as_their_probabilities_say(options, epoch):
    examples = {"a": 25, "b": 100, "c": 900}
    order = order_of(made(**options), {"a": 20_000, "b": 10_000, "c": 10_000}, examples, epoch=epoch)
    for task, p in probabilities(made(**options), examples, epoch=epoch).items():
        assert Counter(order)[task] / 40_000 == pytest.approx(p, abs=5 * (p * (1 - p) / 40_000) ** 0.5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"type": "temperature", "temperature": 1.0}, (1 / 26, 25 / 26)),  # n
        ({"type": "temperature"}, (1 / 6, 5 / 6)),  # 4 : 20
        ({"type": "temperature", "cap": 64}, (1 / 3, 2 / 3)),  # 4 : 8
        ({"type": "temperature", "cap": 16}, (1 / 2, 1 / 2)),
        ({"type": "temperature", "temperature": 4.0}, (1 / (1 + 5**0.5), 5**0.5 / (1 + 5**0.5))),  # 2 : sqrt(20)
        ({"type": "temperature", "temperature": 0.5}, (1 / 626, 625 / 626)),  # n^2
        ({"type": "sqrt"}, (1 / 6, 5 / 6)),
        ({"type": "uniform"}, (1 / 2, 1 / 2)),
    ],
)
def test_probabilities_of_16_and_400_examples_are_those_by_hand(options, expected):
    assert tuple(probabilities(made(**options), {"a": 16, "b": 400}).values()) == pytest.approx(expected)


def test_annealed_starts_by_size_and_ends_at_the_fifth_root():
    examples = {"a": 1, "b": 32}  # 32^(1/5) = 2
    ways = [
        tuple(probabilities(made(type="annealed"), examples, num_epochs=5, epoch=epoch).values()) for epoch in (0, 4)
    ]
    assert ways[0] == pytest.approx((1 / 33, 32 / 33))
    assert ways[1] == pytest.approx((1 / 3, 2 / 3))


def test_the_exponent_falls_in_equal_steps_and_is_one_in_a_run_of_one_epoch():
    assert [alpha(num_epochs=5, epoch=epoch) for epoch in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert alpha(num_epochs=1, epoch=0) == 1.0


@given(EXAMPLES, st.integers(0, 9))
def test_sqrt_is_temperature_two(examples, seed):
    batches = dict.fromkeys(examples, 10)
    orders = [order_of(made(type=name), batches, examples, seed=seed) for name in ("sqrt", "temperature")]
    assert orders[0] == orders[1]


@given(EXAMPLES, st.floats(0, 1e3))
def test_powers_are_finite_and_the_largest_is_one(examples, exponent):
    found = powers(examples, exponent)
    assert max(found.values()) == 1.0
    assert min(found.values()) >= 0.0


@given(EXAMPLES)
def test_tasks_without_batches_are_not_drawn(examples):
    live = dict.fromkeys(sorted(examples)[:1], 5)
    for options in DRAWN:
        assert set(order_of(made(**options), live, examples)) == set(live)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "sampler: temperature must be above 0, got 0.0"),
        ({"temperature": float("nan")}, "sampler: temperature must be above 0, got nan"),
        ({"cap": 0}, "sampler: cap must be at least 1, got 0"),
        ({"temprature": 2.0}, "Did you mean 'temperature'"),
    ],
)
def test_options_out_of_range_are_named_with_their_value(options, message):
    with pytest.raises(ConfigError, match=message):
        made(type="temperature", **options)
