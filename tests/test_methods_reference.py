"""Every method against its slow, independent float64 reference: value, perturbation and gradient."""

import itertools

import numpy as np
import pytest
import torch
from reference import label_seeking, r_drop, random_noise, smart, vat
from support import pairwise
from toy_reference import KINDS, RNG, Toy, assert_close, reference_weights

from mtdnn.objectives.free_at import FreeAt
from mtdnn.objectives.freelb import FreeLb
from mtdnn.objectives.pgd import Pgd
from mtdnn.objectives.r_drop import RDrop
from mtdnn.registry import build
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.r3f import R3f
from mtdnn.regularizers.rapt import Rapt
from mtdnn.regularizers.smart import Smart
from mtdnn.regularizers.vat import Vat

SMART_OPTIONS = {
    "task": ["nli", "sts", "rank"],
    "norm": ["inf", 2, 1],
    "site": ["word", "embeddings", "layer:1", "layer:2"],
    "ascent": ["projected", "steepest"],
    "num_steps": [1, 2],
    "divergence": ["symmetric_kl", "kl", "js", "squared"],
    "stop_gradient": ["none", "reference"],
    "scale": ["absolute", "rms"],
    "dropout": ["replay", "independent", "off"],
}


def test_every_pair_of_options_meets():
    combinations = pairwise(SMART_OPTIONS)
    assert 16 <= len(combinations) <= 40
    for a, b in itertools.combinations(SMART_OPTIONS, 2):
        met = {(each[a], each[b]) for each in combinations}
        assert met == set(itertools.product(SMART_OPTIONS[a], SMART_OPTIONS[b]))


@pytest.mark.parametrize("options", pairwise(SMART_OPTIONS), ids=lambda o: "-".join(map(str, o.values())))
def test_smart_option_a_equals_the_reference(options):
    toy = Toy(options["task"])
    given = {name: value for name, value in options.items() if name != "task"}
    regularizer = Smart(radius=0.3, step_size=0.2, noise_std=0.05, **given)
    clean = toy.clean(regularizer)
    site, divergence = options["site"], toy.divergence(options["stop_gradient"], options["divergence"])
    delta = reference_delta(toy, options)
    ours = regularizer.perturbation(toy.model, toy.batch, clean, RNG).delta_NTD.numpy()
    assert np.abs(delta).max() > 0.01
    np.testing.assert_allclose(ours, delta, rtol=1e-8, atol=1e-11)

    def of_weights(weights):
        return divergence(toy.logits(weights, toy.still, site), toy.logits(weights, delta, site)).mean()

    penalty = regularizer.penalty(toy.model, toy.batch, clean, RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-9)
    toy.check_gradients(of_weights)


def reference_delta(toy, options):
    """Algorithm 1, row by row where the scale is the row's own."""
    hidden = toy.at(options["site"])
    sizes = np.ones(len(hidden))
    if options["scale"] == "rms":
        sizes = np.array([np.sqrt((h[: m.sum()] ** 2).mean()) for h, m in zip(hidden, toy.mask, strict=True)])
    divergence = toy.divergence("reference", options["divergence"])
    direction = smart.steepest_direction if options["ascent"] == "steepest" else smart.unit_direction
    delta = 0.05 * sizes[:, None, None] * toy.noise()
    for _ in range(options["num_steps"]):
        gradient = smart.row_gradient_BTD(
            lambda d: toy.logits(toy.weights, d, options["site"]), divergence, delta, toy.mask, toy.unit_rows
        )
        norm = str(options["norm"])
        delta = np.stack(
            [
                smart.project(d + 0.2 * size * direction(g, norm), 0.3 * size, norm)
                for d, g, size in zip(delta, gradient, sizes, strict=True)
            ]
        )
    return delta


@pytest.mark.parametrize("task", ["nli", "sts"])
def test_the_preset_official_2020_04_equals_the_reference(task):
    toy = Toy(task)
    regularizer = build(REGULARIZERS, {"type": "smart", "preset": "official-2020-04"}, where="test")
    clean = toy.clean(regularizer)
    delta = smart.official_2020_04_delta(
        lambda d: toy.logits(toy.weights, d), toy.kind, 1e-3 * toy.noise(padding=True), step_size=1e-3
    )
    assert np.abs(delta).max(-1)[toy.mask.astype(bool)] == pytest.approx(1e-3)
    ours = regularizer.perturbation(toy.model, toy.batch, clean, RNG).delta_NTD.numpy()
    np.testing.assert_allclose(ours, delta, rtol=1e-7, atol=1e-15)
    divergence = toy.divergence("targets" if task == "nli" else "none")

    def of_weights(weights):
        moved = toy.logits(weights, delta, constant_embeddings=True)
        return divergence(toy.logits(weights, toy.still), moved).mean()

    penalty = regularizer.penalty(toy.model, toy.batch, clean, RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-8)
    toy.check_gradients(of_weights, 1e-7)


@pytest.mark.parametrize("preset", ["official-2020-08", "official-2021-02"])
@pytest.mark.parametrize("task", KINDS)
def test_the_later_official_presets_equal_the_reference(task, preset):
    toy = Toy(task)
    regularizer = build(REGULARIZERS, {"type": "smart", "preset": preset}, where="test")
    site = regularizer.site
    clean = toy.clean(regularizer)
    reference = toy.logits(toy.weights, toy.still)
    options = {"step_size": regularizer.step_size, "group_B": toy.groups}

    def logits_of(delta):
        # The official function takes the logits at no change as the clean ones: the block applied once.
        return toy.logits(toy.weights, delta, site) if delta.any() else reference

    delta = smart.official_2020_08_delta(logits_of, toy.kind, 1e-5 * toy.noise(padding=True), **options)
    ours = regularizer.perturbation(toy.model, toy.batch, clean, RNG).delta_NTD.numpy()
    np.testing.assert_allclose(ours, delta, rtol=1e-7, atol=1e-9)
    divergence = toy.divergence("none" if task == "sts" else "targets")

    def of_weights(weights):
        return divergence(toy.logits(weights, toy.still), toy.logits(weights, delta, site)).mean()

    penalty = regularizer.penalty(toy.model, toy.batch, clean, RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-8)
    toy.check_gradients(of_weights, 1e-7)


@pytest.mark.parametrize("gradient_at", ["perturbed", "clean"])
@pytest.mark.parametrize(
    ("task", "site", "norm"), [("nli", "word", 2), ("sts", "layer:1", 1), ("rank", "embeddings", "inf")]
)
def test_smart_option_b_equals_the_reference(task, site, norm, gradient_at):
    toy = Toy(task)
    sizes = {"radius": 0.3, "step_size": 0.2}
    regularizer = Smart(
        option="B", gradient_at=gradient_at, noise_std=0.1, scale="absolute", site=site, norm=norm, **sizes
    )
    clean = toy.clean(regularizer)

    def logits_of(weights):
        return lambda delta: toy.logits(weights, delta, site)

    choice = {"gradient_at": gradient_at, "unit_B": toy.unit_rows}
    start = 0.1 * toy.noise()
    delta = smart.option_b_ascend(
        logits_of(toy.weights), toy.loss, start, toy.mask, num_steps=1, norm=str(norm), **sizes, **choice
    )
    ours = regularizer.perturbation(toy.model, toy.batch, clean, RNG).delta_NTD.numpy()
    np.testing.assert_allclose(ours, delta, rtol=1e-9, atol=1e-11)

    def of_weights(weights):
        return smart.option_b_penalty(logits_of(weights), toy.loss, delta, **choice)

    penalty = regularizer.penalty(toy.model, toy.batch, clean, RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-9)
    toy.check_gradients(of_weights)


@pytest.mark.parametrize("norm_scope", ["example", "token"])
@pytest.mark.parametrize("where", ["layers", "embeddings"])
@pytest.mark.parametrize("task", KINDS)
def test_rapt_equals_the_reference(task, where, norm_scope):
    toy = Toy(task)
    regularizer = Rapt(where=where, norm_scope=norm_scope, max_layer=2, weight=0.7)
    clean = toy.clean(regularizer)
    change = regularizer.perturbation(toy.model, toy.batch, clean, RNG)
    assert change.site in regularizer.sites
    delta = random_noise.rapt_delta(toy.noise(), toy.mask, step_size=2.0, norm_scope=norm_scope)
    np.testing.assert_allclose(change.delta_NTD.numpy(), delta, rtol=1e-12)

    def of_weights(weights):
        clean, noisy = (toy.logits(weights, d, change.site) for d in (toy.still, delta))
        return random_noise.rapt_penalty(toy.kind, clean, noisy, weight=0.7, group_B=toy.groups)

    penalty = regularizer.penalty(toy.model, toy.batch, clean, RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-9)
    toy.check_gradients(of_weights)


@pytest.mark.parametrize("noise", ["normal", "uniform"])
@pytest.mark.parametrize("task", KINDS)
def test_r3f_equals_the_reference(task, noise):
    toy = Toy(task)
    regularizer = R3f(noise=noise, noise_std=0.1, weight=0.7)
    clean = toy.clean(regularizer)
    delta = 0.1 * toy.noise(uniform=noise == "uniform")

    def of_weights(weights):
        clean, noisy = (toy.logits(weights, d, "word") for d in (toy.still, delta))
        return random_noise.r3f_penalty(toy.kind, clean, noisy, weight=0.7, group_B=toy.groups)

    penalty = regularizer.penalty(toy.model, toy.batch, clean, RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-9)
    toy.check_gradients(of_weights)


@pytest.mark.parametrize(("num_steps", "scale", "site"), [(1, "absolute", "word"), (2, "norm", "embeddings")])
@pytest.mark.parametrize("task", KINDS)
def test_vat_equals_the_reference(task, num_steps, scale, site):
    toy = Toy(task)
    regularizer = Vat(radius=0.3, scale=scale, num_steps=num_steps, site=site)
    clean = toy.clean(regularizer)
    found = vat.direction(
        lambda d: toy.logits(toy.weights, d, site),
        toy.kind,
        toy.noise(),
        toy.mask,
        probe=0.1,
        num_steps=num_steps,
        group_B=toy.groups,
    )
    real = toy.at(site) * toy.mask[:, :, None]
    sizes = np.sqrt((real**2).sum((1, 2))) if scale == "norm" else np.ones(len(real))
    delta = 0.3 * sizes[:, None, None] * found
    ours = regularizer.perturbation(toy.model, toy.batch, clean, RNG).delta_NTD.numpy()
    np.testing.assert_allclose(ours, delta, rtol=1e-8, atol=1e-10)

    def of_weights(weights):
        clean, moved = (toy.logits(weights, d, site) for d in (toy.still, delta))
        return vat.penalty(toy.kind, clean, moved, group_B=toy.groups)

    penalty = regularizer.penalty(toy.model, toy.batch, clean, RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-9)
    toy.check_gradients(of_weights, 1e-8)


@pytest.mark.parametrize("form", ["repository", "paper"])
@pytest.mark.parametrize("task", KINDS)
def test_r_drop_equals_the_reference(task, form):
    toy = Toy(task)
    for module in toy.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    pooled = []
    handle = toy.model.head(task).output.register_forward_hook(lambda _, args, __: pooled.append(args[0].detach()))
    (term,) = RDrop(weight=0.7, form=form).terms(toy.model, toy.batch, RNG, sites=())
    handle.remove()
    term.loss.backward()
    first, second = (each.numpy() for each in pooled)
    assert np.abs(first - second).max() > 0.01

    def of_weights(weights):
        logits = [each @ weights["head.weight"].T + weights["head.bias"] for each in (first, second)]
        if toy.kind != "classification":
            logits = [each[:, 0] for each in logits]
        return r_drop.objective(toy.kind, *logits, toy.targets, weight=0.7, form=form, group_B=toy.groups)

    assert_close(term.loss.item(), float(of_weights(toy.weights)), 1e-9)
    gradient = toy.model.head(task).output.weight.grad
    for index in np.ndindex(tuple(gradient.shape)):
        expected = smart.parameter_gradient(of_weights, toy.weights, "head.weight", index)
        assert_close(gradient[index].item(), expected, 1e-9)


LABEL_SEEKING = {"num_steps": 2, "step_size": 0.2, "init_magnitude": 0.4, "max_norm": 0.3}


def reference_deltas(toy, site, weights=None):
    start = label_seeking.start(toy.noise("delta", uniform=True), toy.mask, 0.4)

    def loss_of(weights, delta):
        # The sum of the units' losses: each row's own direction does not see the others.
        return toy.loss(toy.logits(weights, delta, site)).sum()

    current = weights or (lambda: toy.weights)
    return label_seeking.deltas(loss_of, current, start, toy.mask, step_size=0.2, max_norm=0.3)


def mean_loss(toy, weights, delta, site):
    return toy.loss(toy.logits(weights, delta, site)).mean()


@pytest.mark.parametrize("site", ["word", "embeddings"])
@pytest.mark.parametrize("task", KINDS)
def test_pgd_trains_at_the_references_last_change(task, site):
    toy = Toy(task)
    (term,) = Pgd(**LABEL_SEEKING, site=site).terms(toy.model, toy.batch, RNG, sites=())
    delta = list(itertools.islice(reference_deltas(toy, site), 3))[-1]
    term.loss.backward()
    assert_close(term.loss.item(), float(np.real(mean_loss(toy, toy.weights, delta, site))), 1e-9)
    toy.check_gradients(lambda weights: mean_loss(toy, weights, delta, site))


@pytest.mark.parametrize("num_passes", ["K", "1+K"])
@pytest.mark.parametrize("task", KINDS)
def test_freelb_averages_the_references_gradients(task, num_passes):
    toy = Toy(task)
    objective = FreeLb(**LABEL_SEEKING, num_passes=num_passes)
    count = 2 if num_passes == "K" else 3
    total = 0.0
    for term in objective.terms(toy.model, toy.batch, RNG, sites=()):
        (term.loss * term.share).backward()
        total += (term.loss * term.share).item()
    assert objective.num_terms == count
    deltas = list(itertools.islice(reference_deltas(toy, "word"), count))

    def of_weights(weights):
        return sum(mean_loss(toy, weights, delta, "word") for delta in deltas) / count

    assert_close(total, float(np.real(of_weights(toy.weights))), 1e-9)
    toy.check_gradients(of_weights)


@pytest.mark.parametrize("task", KINDS)
def test_free_at_climbs_while_the_weights_move(task):
    toy = Toy(task)
    objective = FreeAt(**{**LABEL_SEEKING, "num_steps": 3})
    optimizer = torch.optim.SGD(toy.model.parameters(), lr=0.05)
    deltas = reference_deltas(toy, "word", lambda: reference_weights(toy.model, task))
    for term in objective.terms(toy.model, toy.batch, RNG, sites=()):
        weights = toy.weights = reference_weights(toy.model, task)
        delta = next(deltas)
        optimizer.zero_grad()
        term.loss.backward()
        assert_close(term.loss.item(), float(np.real(mean_loss(toy, weights, delta, "word"))), 1e-9)
        toy.check_gradients(lambda weights, delta=delta: mean_loss(toy, weights, delta, "word"))
        # The change's gradient belongs to the weights before this update.
        frozen = weights
        deltas = continued(toy, delta, frozen)
        optimizer.step()
    assert objective.num_updates == 3


def continued(toy, delta, weights):
    """The changes after ``delta``, whose gradient is taken at ``weights``."""

    def loss_of(weights, delta):
        return toy.loss(toy.logits(weights, delta, "word")).sum()

    found = label_seeking.deltas(loss_of, lambda: weights, delta, toy.mask, step_size=0.2, max_norm=0.3)
    return itertools.islice(found, 1, None)
