"""SMART and MBPP against the slow, independent float64 reference, for every kind of head."""

import copy

import numpy as np
import pytest
import torch
from reference import bregman, smart
from support import toy_model
from toy_reference import KINDS, RNG, Toy, assert_close, reference_weights, some_entries

from mtdnn.divergences import divergence
from mtdnn.regularizers.bregman import Bregman
from mtdnn.regularizers.smart import Smart

RADII = [(1e-1, 1e-9), (1e-2, 1e-9), (1e-3, 1e-9), (1e-5, 1e-6)]


@pytest.mark.parametrize(("radius", "tolerance"), RADII)
@pytest.mark.parametrize("task", KINDS)
def test_smart_equals_the_reference_in_value_and_gradient(task, radius, tolerance):
    toy = Toy(task)
    options = {"radius": radius, "step_size": 2 * radius, "noise_std": radius, "scale": "absolute", "num_steps": 2}
    regularizer = Smart(**options)
    penalty = regularizer.penalty(toy.model, toy.batch, toy.clean(regularizer), RNG)
    penalty.backward()

    unit_rows = None if toy.groups is None else smart.unit_of_row_B(toy.groups)
    delta = smart.ascend(
        lambda d: toy.logits(toy.weights, d),
        toy.divergence(),
        radius * toy.noise(),
        toy.mask,
        radius=radius,
        step_size=2 * radius,
        num_steps=2,
        norm="inf",
        unit_B=unit_rows,
    )

    def of_weights(weights):
        return smart.smart_penalty(lambda d: toy.logits(weights, d), toy.divergence(), delta)

    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), tolerance)
    for name, reference_name, index in some_entries(toy.model, task):
        expected = smart.parameter_gradient(of_weights, toy.weights, reference_name, index)
        assert_close(toy.model.get_parameter(name).grad[index].item(), expected, tolerance)


@pytest.mark.parametrize("norm", ["inf", 2, 1])
@pytest.mark.parametrize("task", KINDS)
def test_the_perturbation_equals_the_reference_in_every_norm(task, norm):
    toy = Toy(task)
    regularizer = Smart(radius=0.3, step_size=0.2, noise_std=0.05, scale="absolute", num_steps=2, norm=norm)
    ours = regularizer.perturbation(toy.model, toy.batch, toy.clean(regularizer), RNG).delta_NTD.numpy()
    expected = smart.ascend(
        lambda d: toy.logits(toy.weights, d),
        toy.divergence(),
        0.05 * toy.noise(),
        toy.mask,
        radius=0.3,
        step_size=0.2,
        num_steps=2,
        norm=str(norm),
        unit_B=None if toy.groups is None else smart.unit_of_row_B(toy.groups),
    )
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("task", ["nli", "sts"])
def test_the_official_preset_moves_as_the_official_code_did(task):
    toy = Toy(task)
    options = {**Smart.PRESETS["official-2020-08"], "step_size": 0.5, "noise_std": 1e-3, "dropout": "replay"}
    regularizer = Smart(**options)
    ours = regularizer.perturbation(toy.model, toy.batch, toy.clean(regularizer), RNG).delta_NTD.numpy()
    everywhere = torch.ones_like(toy.batch.mask_NT)
    drawn = RNG.at("noise").normal_NTD(toy.batch.row_names, everywhere, 8, dtype=torch.float64).numpy()
    expected = smart.official_2020_08_delta(
        lambda d: toy.logits(toy.weights, d), toy.kind, 1e-3 * drawn, step_size=0.5, group_B=toy.groups
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-7, atol=1e-9)
    assert np.abs(ours).max(-1) == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("task", KINDS)
def test_bregman_equals_the_reference_in_value_and_gradient(task):
    toy = Toy(task)
    regularizer = Bregman(momentum=0.9)
    regularizer.begin(toy.model, num_steps=10)
    start = reference_weights(copy.deepcopy(toy.model), task)
    with torch.no_grad():
        for index, weight in enumerate(toy.model.parameters()):
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(index)))
    regularizer.after_step(toy.model, step=1)
    student = reference_weights(toy.model, task)
    teacher = bregman.update_teacher(start, student, 0.9)

    penalty = regularizer.penalty(toy.model, toy.batch, toy.clean(regularizer), RNG)
    penalty.backward()
    zero = np.zeros((*toy.mask.shape, 8))

    def of_weights(weights):
        return bregman.mbpp_penalty(toy.logits(weights, zero), toy.logits(teacher, zero), toy.divergence())

    assert_close(penalty.item(), float(np.real(of_weights(student))), 1e-9)
    for name, reference_name, index in some_entries(toy.model, task):
        expected = smart.parameter_gradient(of_weights, student, reference_name, index)
        assert_close(toy.model.get_parameter(name).grad[index].item(), expected, 1e-9)


@pytest.mark.parametrize("stop_gradient", ["none", "reference", "targets"])
def test_stopped_gradients_are_the_references(stop_gradient):
    toy = Toy("nli")
    regularizer = Smart(radius=0.1, step_size=0.1, noise_std=0.1, scale="absolute", stop_gradient=stop_gradient)
    clean = toy.clean(regularizer)
    delta = regularizer.perturbation(toy.model, toy.batch, clean, RNG).delta_NTD
    regularizer.penalty(toy.model, toy.batch, clean, RNG).backward()

    def of_weights(weights):
        return smart.smart_penalty(lambda d: toy.logits(weights, d), toy.divergence(stop_gradient), delta.numpy())

    for name, reference_name, index in some_entries(toy.model, "nli"):
        expected = smart.parameter_gradient(of_weights, toy.weights, reference_name, index)
        assert_close(toy.model.get_parameter(name).grad[index].item(), expected, 1e-9)


def test_the_schedule_of_the_momentum_is_the_references():
    regularizer = Bregman(momentum="mean_teacher")
    regularizer.num_steps = 25
    assert [regularizer.beta(step) for step in range(1, 26)] == [bregman.beta_at(update, 25) for update in range(25)]


@pytest.mark.parametrize(("every", "num_steps"), [(1, 282), (3, 100), (1, 1), (20, 100), (1, 5000), (1, 20000)])
def test_the_default_momentum_is_the_references_and_no_longer_than_a_tenth_of_the_run(every, num_steps):
    regularizer = Bregman(every=every)
    regularizer.begin(toy_model(), num_steps=num_steps)
    longest = bregman.longest_beta(every, num_steps)
    for step in (1, num_steps // 10, num_steps // 10 + 2, num_steps):
        if 1 <= step <= num_steps:
            expected = min(longest, bregman.beta_at(step - 1, num_steps))
            assert regularizer.beta(step) == pytest.approx(expected)


def test_the_model_equals_the_reference_so_that_the_comparison_means_something():
    for task in KINDS:
        toy = Toy(task)
        ours = toy.model(toy.batch).detach().numpy()
        np.testing.assert_allclose(ours, toy.logits(toy.weights, np.zeros((*toy.mask.shape, 8))), rtol=1e-10)
        assert (
            divergence(
                toy.model.outputs(toy.model(toy.batch), toy.batch), toy.model.outputs(toy.model(toy.batch), toy.batch)
            )
            .abs()
            .max()
            == 0
        )
