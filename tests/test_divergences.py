"""Divergences against closed forms, in float32 at the distances that SMART makes."""

import math

import pytest
import torch

from mtdnn.divergences import Outputs, divergence

LOG = math.log
FORMS = ["symmetric_kl", "kl", "js", "squared"]


def of(*probabilities, dtype=torch.float64):
    return Outputs.categorical(torch.tensor([probabilities], dtype=dtype).log())


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("symmetric_kl", torch.tensor(3.0).log() / 4),  # (3/4 - 1/2)(log 3/4 - log 1/4), p = (3/4, 1/4), q = (1/2, 1/2)
        ("kl", 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()),
        ("js", (0.75 * LOG(6 / 5) + 0.25 * LOG(2 / 3) + 0.5 * LOG(4 / 5) + 0.5 * LOG(4 / 3)) / 2),  # to (5/8, 3/8)
        ("squared", torch.tensor(0.125)),  # 2 (1/4)^2
    ],
)
def test_a_divergence_is_its_closed_form(form, expected):
    values = divergence(of(0.75, 0.25), of(0.5, 0.5), form=form)
    expected = torch.as_tensor(expected, dtype=torch.float64).reshape(1)
    torch.testing.assert_close(values, expected, check_dtype=False, rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_a_divergence_of_equal_outputs_is_exactly_zero(form):
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert (divergence(Outputs.categorical(logits), Outputs.categorical(logits.clone()), form=form) == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_float32_is_right_for_outputs_as_close_as_epsilon_1e_5_makes_them(form):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    moved = logits + 1e-3 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    exact = divergence(Outputs.categorical(logits), Outputs.categorical(moved), form=form)
    single = divergence(Outputs.categorical(logits.float()), Outputs.categorical(moved.float()), form=form)
    assert (exact > 0).all()
    torch.testing.assert_close(single.double(), exact, rtol=2e-2, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_far_apart_outputs_have_finite_values_and_gradients(form):
    logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    other = torch.tensor([[-200.0, 200.0, 0.0]], requires_grad=True)
    values = divergence(Outputs.categorical(logits), Outputs.categorical(other), form=form)
    values.sum().backward()
    assert values.isfinite().all()
    assert logits.grad.isfinite().all()
    assert other.grad.isfinite().all()


def test_kl_is_its_closed_form_where_one_probability_is_many_times_the_other():
    values = divergence(of(0.99, 0.01), of(0.01, 0.99), form="kl")
    torch.testing.assert_close(values, torch.tensor([0.98 * LOG(99)], dtype=torch.float64))


def test_places_that_are_not_there_do_not_count():
    valid = torch.tensor([[True, True, False]])
    a = Outputs.categorical(torch.tensor([[1.0, 2.0, 7.0]]), valid)
    b = Outputs.categorical(torch.tensor([[2.0, 1.0, -7.0]]), valid)
    alone = divergence(Outputs.categorical(torch.tensor([[1.0, 2.0]])), Outputs.categorical(torch.tensor([[2.0, 1.0]])))
    torch.testing.assert_close(divergence(a, b), alone)


def test_scores_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(3, 1\)"):
        divergence(Outputs.scalar(torch.ones(3)), Outputs.scalar(torch.ones(3, 1)))


def test_scores_give_the_squared_difference():
    values = divergence(Outputs.scalar(torch.tensor([1.0, 2.0])), Outputs.scalar(torch.tensor([3.0, 2.0])))
    assert values.tolist() == [4.0, 0.0]


def test_bf16_logits_are_compared_in_float32():
    values = divergence(
        Outputs.categorical(torch.zeros(1, 2, dtype=torch.bfloat16)), Outputs.categorical(torch.ones(1, 2).bfloat16())
    )
    assert values.dtype == torch.float32


def test_the_value_of_a_unit_with_several_distributions_is_their_mean_and_of_one_with_none_is_zero():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = torch.tensor([0, 2, 0, 2, 2])
    one = Outputs.categorical(logits, unit_R=unit, num_units=4)
    other = Outputs.categorical(2 * logits, unit_R=unit, num_units=4)
    apart = divergence(Outputs.categorical(logits), Outputs.categorical(2 * logits))
    expected = torch.stack(
        [apart[[0, 2]].mean(), torch.zeros(()).double(), apart[[1, 3, 4]].mean(), torch.zeros(()).double()]
    )
    torch.testing.assert_close(divergence(one, other), expected)
    torch.testing.assert_close(divergence(one.detach(), other, stop_gradient="targets"), expected)


def test_a_unit_s_several_distributions_may_have_different_places():
    valid = torch.tensor([[True, True, False], [True, True, True]])
    a, b = torch.tensor([[1.0, 2.0, 7.0], [0.0, 1.0, 2.0]]), torch.tensor([[2.0, 1.0, -7.0], [2.0, 1.0, 0.0]])
    unit = torch.tensor([0, 0])
    both = [Outputs.categorical(each, valid, unit_R=unit, num_units=1) for each in (a, b)]
    parts = [divergence(Outputs.categorical(a[:1, :2]), Outputs.categorical(b[:1, :2]))]
    parts.append(divergence(Outputs.categorical(a[1:]), Outputs.categorical(b[1:])))
    torch.testing.assert_close(divergence(*both), torch.stack(parts).mean(0))
