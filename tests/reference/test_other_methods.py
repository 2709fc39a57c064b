"""RAPT, R3F, VAT, R-Drop, the label-seeking methods and the task losses against torch and hand numbers."""

# Shape suffixes: B = rows, T = tokens, D = width, C = classes.

import itertools

import numpy as np
import pytest
import torch

from . import label_seeking, losses, r_drop, random_noise, smart, vat
from .test_reference import (
    GROUP_B,
    KINDS,
    MASK_BT,
    B,
    D,
    T,
    TorchModel,
    linear_score,
    noise,
    outputs_of,
    reference_logits,
    reference_of,
)
from .test_smart_options import check_weights, close, real_noise, torch_divergence_U

REAL = MASK_BT.astype(bool)
TARGETS = {
    "classification": np.array([2, 0, 1]),
    "regression": np.array([0.3, -1.0, 2.0]),
    "ranking": np.array([1, 1, 0]),
}


def torch_losses_U(kind, logits):
    """Ranking: group 4 is row 1 alone and all right, group 7 is rows 0 (right) and 2."""
    targets = torch.tensor(TARGETS[kind])
    if kind == "classification":
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    if kind == "regression":
        return torch.nn.functional.mse_loss(logits[:, 0], targets, reduction="none")
    return torch.stack([0.0 * logits[1, 0], logits[[0, 2], 0].logsumexp(0) - logits[0, 0]])


def losses_U(kind, logits):
    scores = logits if kind == "classification" else logits[:, 0]
    return losses.loss_U(kind, scores, TARGETS[kind], group_B=GROUP_B)


# Task losses


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_and_their_gradients_equal_torch(kind):
    logits = np.random.default_rng(0).standard_normal((B, outputs_of(kind)))
    leaf = torch.tensor(logits, requires_grad=True)
    expected_U = torch_losses_U(kind, leaf)
    (gradient,) = torch.autograd.grad(expected_U.sum(), leaf)
    close(losses_U(kind, logits), expected_U, 1e-13)
    found = [smart.derivative(lambda x: losses_U(kind, x).sum(), logits, i) for i in np.ndindex(logits.shape)]
    close(np.reshape(found, logits.shape), gradient, 1e-13)


def test_the_ranking_loss_by_hand():
    # Group 5: probabilities 1/2, 1/4, 1/4 with the last two right; group 2: one of two equals is right.
    scores, groups = np.log([2.0, 3.0, 1.0, 3.0, 1.0]), np.array([5, 2, 5, 2, 5])
    found = losses.loss_U("ranking", scores, np.array([0, 1, 1, 0, 1]), group_B=groups)
    np.testing.assert_allclose(found, [np.log(2.0), np.log(2.0)], rtol=1e-14)


# RAPT and R3F


def test_rapt_by_hand():
    draws = np.zeros((B, T, D))
    draws[0, 0, 0], draws[0, 1, 1], draws[1, 0, 2], draws[1, 3, 0] = 4.0, -1.0, -0.5, 100.0  # the last is padding
    draws[REAL] += 0.25 * np.eye(1, D, 7)
    example = random_noise.rapt_delta(draws, MASK_BT, step_size=2.0, norm_scope="example")
    assert [example[0, 0, 0], example[0, 1, 1], example[1, 0, 2]] == [2.0, -0.5, -2.0]
    token = random_noise.rapt_delta(draws, MASK_BT, step_size=2.0, norm_scope="token")
    assert [token[0, 0, 0], token[0, 1, 1], token[1, 0, 2]] == [2.0, -2.0, -2.0]
    np.testing.assert_allclose(np.abs(token).max(-1), 2.0 * MASK_BT, rtol=1e-15)
    np.testing.assert_allclose(np.abs(example).max((1, 2)), 2.0, rtol=1e-15)
    assert not example[~REAL].any() and not token[~REAL].any()


@pytest.mark.parametrize(("method", "form"), [("rapt", "kl"), ("r3f", "symmetric_kl")])
@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_penalties_equal_autograd_through_both_sides(kind, method, form):
    model, delta = TorchModel(outputs_of(kind)), real_noise(0.4)
    expected = 0.7 * torch_divergence_U(kind, form, model(torch.zeros(B, T, D)), model(torch.tensor(delta))).mean()
    expected.backward()
    penalty_of = {"rapt": random_noise.rapt_penalty, "r3f": random_noise.r3f_penalty}[method]

    def penalty(weights):
        sides = [reference_logits(weights, each) for each in (np.zeros((B, T, D)), delta)]
        if kind == "ranking":
            sides = [each[:, 0] for each in sides]
        return penalty_of(kind, *sides, weight=0.7, group_B=GROUP_B)

    close(penalty(model.weights()), expected, 1e-10)
    check_weights(model, penalty, 1e-9)


# VAT


@pytest.mark.parametrize("num_steps", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_vat_equals_autograd(kind, num_steps):
    model = TorchModel(outputs_of(kind))
    clean = model(torch.zeros(B, T, D)).detach()
    mask = torch.tensor(MASK_BT)[:, :, None]

    def unit(direction):
        length = direction.flatten(1).norm(dim=1)
        return direction / length.where(length > 0, 1.0)[:, None, None]

    found = unit(torch.tensor(noise(1.0)) * mask)
    for _ in range(num_steps):
        point = (0.1 * found).requires_grad_()
        (gradient,) = torch.autograd.grad(torch_divergence_U(kind, "kl", clean, model(point)).sum(), point)
        found = unit(gradient * mask)
    radius_delta = 0.3 * found
    torch_divergence_U(kind, "kl", clean, model(radius_delta)).mean().backward()
    options = {"probe": 0.1, "num_steps": num_steps, "group_B": GROUP_B}

    def logits_of(weights):
        column = (lambda logits: logits[:, 0]) if kind == "ranking" else (lambda logits: logits)
        return lambda delta: column(reference_logits(weights, delta))

    ours = vat.direction(logits_of(model.weights()), kind, noise(1.0), MASK_BT, **options)
    # Group 4 has a single candidate: its divergence is 0 and its gradient rounding, so any unit direction is right.
    rows = [0, 2] if kind == "ranking" else [0, 1, 2]
    close(ours[rows], found[rows], 1e-8)
    lengths = np.sqrt((ours**2).sum((1, 2)))
    np.testing.assert_allclose(lengths[rows], 1.0, rtol=1e-12)
    assert not ours[~REAL].any()

    def penalty(weights):
        sides = [logits_of(weights)(each) for each in (np.zeros((B, T, D)), radius_delta.numpy())]
        return vat.penalty(kind, *sides, group_B=GROUP_B)

    check_weights(model, penalty, 1e-8)


def test_vat_finds_the_slope_of_a_linear_score():
    options = {"probe": 0.1, "num_steps": 1}
    found = vat.direction(linear_score, "regression", noise(1.0), MASK_BT, **options)
    moved = linear_score(0.1 * found) ** 2
    assert (
        moved >= linear_score(0.1 * real_noise(1.0) / np.sqrt((real_noise(1.0) ** 2).sum((1, 2)))[:, None, None]) ** 2
    ).all()
    slope = np.array([3.0, -1.0, 0.5, 2.0, -0.25, 1.0, -2.0, 0.75])
    best = np.sqrt(MASK_BT.sum(1)) * np.linalg.norm(slope)  # the largest score on the sphere of radius 1
    np.testing.assert_allclose(linear_score(found), np.sign(linear_score(real_noise(1.0))) * best, rtol=1e-12)


# R-Drop


@pytest.mark.parametrize("form", ["paper", "repository"])
@pytest.mark.parametrize("kind", KINDS)
def test_r_drop_equals_autograd(kind, form):
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, B, outputs_of(kind)))
    leaf = torch.tensor(first, requires_grad=True)
    other = torch.tensor(second)
    losses_sum = torch_losses_U(kind, leaf).mean() + torch_losses_U(kind, other).mean()
    apart = torch_divergence_U(kind, "symmetric_kl", leaf, other).mean() * (1.0 if kind == "regression" else 0.5)
    expected = losses_sum * (1.0 if form == "paper" else 0.5) + 0.7 * apart
    (gradient,) = torch.autograd.grad(expected, leaf)

    def objective(logits):
        sides = (logits, second) if kind == "classification" else (logits[:, 0], second[:, 0])
        return r_drop.objective(kind, *sides, TARGETS[kind], weight=0.7, form=form, group_B=GROUP_B)

    close(objective(first), expected, 1e-12)
    found = [smart.derivative(objective, first, index) for index in np.ndindex(first.shape)]
    close(np.reshape(found, first.shape), gradient, 1e-12)


# PGD, FreeAT, FreeLB


def test_the_uniform_start_by_hand():
    found = label_seeking.start(np.full((B, T, D), -0.5), MASK_BT, 0.4)
    expected_B = -0.5 * 0.4 / np.sqrt(np.array([4, 2, 3]) * D)
    np.testing.assert_allclose(found, expected_B[:, None, None] * REAL[:, :, None] * np.ones(D), rtol=1e-15)
    np.testing.assert_array_equal(label_seeking.start(noise(1.0), MASK_BT, 0.0), 0.0)


def test_one_step_by_hand():
    gradient = np.array([[[3.0, 4.0]], [[0.0, 0.0]], [[3e-11, 4e-11]]])  # the last is shorter than the clamp
    delta = np.array([[[0.1, 0.0]], [[0.2, 0.1]], [[0.0, 0.0]]])
    free = label_seeking.step(delta, gradient, step_size=0.5, max_norm=0.0)
    np.testing.assert_allclose(free, [[[0.4, 0.4]], [[0.2, 0.1]], [[0.15, 0.2]]], rtol=1e-12)
    held = label_seeking.step(delta, gradient, step_size=0.5, max_norm=0.2)
    lengths = np.sqrt((held**2).sum((1, 2)))
    np.testing.assert_allclose(lengths, 0.2, rtol=1e-12)
    np.testing.assert_allclose(held / lengths[:, None, None], free / np.sqrt((free**2).sum((1, 2)))[:, None, None])


@pytest.mark.parametrize("kind", KINDS)
def test_the_deltas_equal_autograd(kind):
    model = TorchModel(outputs_of(kind))
    start = label_seeking.start(np.random.default_rng(5).uniform(-1, 1, (B, T, D)), MASK_BT, 0.4)
    mask = torch.tensor(MASK_BT)[:, :, None]
    expected = [torch.tensor(start)]
    for _ in range(2):
        delta = expected[-1].detach().requires_grad_()
        (gradient,) = torch.autograd.grad(torch_losses_U(kind, model(delta)).sum(), delta)
        gradient = gradient * mask
        moved = delta.detach() + 0.2 * gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-10)[:, None, None]
        expected.append(moved * (0.3 / moved.flatten(1).norm(dim=1)).clamp(max=1.0)[:, None, None])
    weights = model.weights()

    def total(weights, delta):
        return losses_U(kind, reference_logits(weights, delta)).sum()

    found = label_seeking.deltas(total, lambda: weights, start, MASK_BT, step_size=0.2, max_norm=0.3)
    found = list(itertools.islice(found, 3))
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, 1e-9)
    assert total(weights, found[1]) > total(weights, found[0])
    # FreeLB: the average of the passes' gradients is the gradient of their average, the deltas constant.
    sum(torch_losses_U(kind, model(each.detach())).mean() for each in expected).div(3).backward()

    def average(weights):
        return sum(losses_U(kind, reference_logits(weights, each)).mean() for each in found) / 3

    check_weights(model, average, 1e-9)


def test_the_gradient_is_that_of_the_weights_of_its_own_time():
    model = TorchModel(3)
    old, new = model.weights(), {**model.weights(), "head.weight": -model.weights()["head.weight"]}
    current = {"weights": old}

    def total(weights, delta):
        return losses_U("classification", reference_logits(weights, delta)).sum()

    options = {"step_size": 0.1, "max_norm": 0.0}
    found = label_seeking.deltas(total, lambda: current["weights"], np.zeros((B, T, D)), MASK_BT, **options)
    next(found)
    current["weights"] = new
    moved = next(found)
    assert total(new, moved) > total(new, np.zeros((B, T, D)))
    assert not moved[~REAL].any()
    np.testing.assert_allclose(np.sqrt((moved**2).sum((1, 2))), 0.1, rtol=1e-12)
    assert reference_of(model)(moved).shape == (B, 3)


def test_the_deltas_of_a_linear_loss_by_hand():
    # The score's slope reaches padding, which must neither move nor count in the norm: w / (||w|| sqrt(T_i)) per step.
    slope_D = np.array([3.0, -1.0, 0.5, 2.0, -0.25, 1.0, -2.0, 0.75])
    unit_B11 = 1.0 / (np.linalg.norm(slope_D) * np.sqrt(MASK_BT.sum(1)))[:, None, None]
    direction_BTD = unit_B11 * slope_D * MASK_BT[:, :, None]
    options = {"step_size": 0.2, "max_norm": 0.3}
    found = label_seeking.deltas(lambda _, d: linear_score(d).sum(), dict, np.zeros((B, T, D)), MASK_BT, **options)
    for length, delta_BTD in zip((0.0, 0.2, 0.3, 0.3), itertools.islice(found, 4), strict=True):
        np.testing.assert_allclose(delta_BTD, length * direction_BTD, rtol=1e-12, atol=1e-15)
