"""What every regularizer owes the trainer, and what SMART and Bregman promise."""

import copy
import re

import pytest
import torch
from support import TASKS, TOKEN_TASKS, toy_batch, toy_model

from mtdnn.perturbation import project, row_norm, row_rms, unit_step
from mtdnn.registry import build, options_of
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.bregman import Bregman
from mtdnn.regularizers.perturbing import Perturbation
from mtdnn.regularizers.r3f import R3f
from mtdnn.regularizers.rapt import Rapt
from mtdnn.regularizers.smart import Smart
from mtdnn.regularizers.vat import Vat
from mtdnn.rng import Rng

RNG = Rng("test")
EVERY = [
    (name, preset) for name in REGULARIZERS.names() for preset in [None, *REGULARIZERS.get(name, where="").PRESETS]
]
ALL = (*TASKS, *TOKEN_TASKS)
NAMES = [task.name for task in ALL]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A model folder, for the methods that need one."""
    folder = tmp_path_factory.mktemp("teacher")
    toy_model(tasks=ALL, spread=0.2).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_penalty_is_a_finite_scalar_that_can_train_the_model(name, preset, task, teacher):
    model, batch = toy_model(tasks=ALL, num_hidden_layers=3).train(), toy_batch(task)
    options = {"type": name} if preset is None else {"type": name, "preset": preset}
    if "teachers" in options_of(REGULARIZERS.get(name, where="")):
        options["teachers"] = [teacher]
    regularizer = build(REGULARIZERS, options, where="test")
    regularizer.begin(model, num_steps=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in (1, 2):
        clean = model.run(batch, rng=RNG.at(step), sites=regularizer.sites)
        penalty = regularizer.penalty(model, batch, clean, RNG.at(step))
        assert penalty.shape == ()
        assert penalty.isfinite()
        assert penalty >= (-model.loss(clean.logits, batch).mean() if getattr(regularizer, "form", "") == "mean" else 0)
        optimizer.zero_grad()
        (model.loss(clean.logits, batch).mean() + penalty).backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())
        optimizer.step()
        regularizer.after_step(model, step=step)
    again = build(REGULARIZERS, options, where="test")
    again.begin(model, num_steps=4)
    again.load_state_dict(regularizer.state_dict())
    clean = model.run(batch, rng=RNG, sites=regularizer.sites)
    assert torch.equal(again.penalty(model, batch, clean, RNG), regularizer.penalty(model, batch, clean, RNG))


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("dropout", ["replay", "off"])
def test_the_penalty_at_a_perturbation_of_zero_is_exactly_zero(task, dropout, monkeypatch):
    model, batch = toy_model(tasks=ALL).train(), toy_batch(task)
    smart = Smart(dropout=dropout)
    monkeypatch.setattr(
        Smart,
        "perturbation",
        lambda self, model, batch, clean, rng: Perturbation(self.site, torch.zeros_like(clean.hidden(self.site))),
    )
    clean = model.run(batch, rng=RNG, sites=smart.sites)
    assert smart.penalty(model, batch, clean, RNG) == 0


def test_independent_dropout_alone_makes_a_penalty(monkeypatch):
    model, batch = toy_model().train(), toy_batch("nli")
    smart = Smart(dropout="independent")
    monkeypatch.setattr(
        Smart,
        "perturbation",
        lambda self, model, batch, clean, rng: Perturbation(self.site, torch.zeros_like(clean.hidden(self.site))),
    )
    assert smart.penalty(model, batch, model.run(batch, rng=RNG, sites=smart.sites), RNG) > 0


@pytest.mark.parametrize("task", NAMES)
def test_the_search_leaves_no_gradient_and_no_change_at_padding(task):
    model, batch = toy_model(tasks=ALL).train(), toy_batch(task)
    smart = Smart(num_steps=2)
    delta = smart.perturbation(model, batch, model.run(batch, rng=RNG, sites=smart.sites), RNG).delta_NTD
    assert all(weight.grad is None for weight in model.parameters())
    assert (delta[batch.mask_NT == 0] == 0).all()
    assert (delta[batch.mask_NT == 1].abs().sum(-1) > 0).all()
    assert not delta.requires_grad


def test_ascent_finds_more_than_noise_of_the_same_size():
    model, batch = toy_model().eval(), toy_batch("nli")
    size = {"radius": 0.05, "noise_std": 0.02, "step_size": 0.01, "scale": "absolute", "num_steps": 4}
    clean = model.run(batch, rng=RNG, sites=["embeddings"])
    found = Smart(**size).penalty(model, batch, clean, RNG)
    noise = Smart(**{**size, "step_size": 1e-12}).penalty(model, batch, clean, RNG)
    assert found > 1.5 * noise


def test_a_step_shorter_than_the_radius_goes_uphill_by_its_own_length():
    model, batch = toy_model(dtype=torch.float64).eval(), toy_batch("sts", dtype=torch.float64)
    clean = model.run(batch, rng=RNG, sites=["embeddings"])
    smart = Smart(radius=1.0, noise_std=1e-3, step_size=1e-5, scale="absolute")
    start = 1e-3 * RNG.at("noise").normal_NTD(batch.row_names, batch.mask_NT, 8, dtype=torch.float64)
    moved = smart.perturbation(model, batch, clean, RNG).delta_NTD - start
    torch.testing.assert_close(row_norm(moved, "inf").flatten(), torch.full((3,), 1e-5, dtype=torch.float64))

    def divergence_at(delta):
        other = model.resume(batch, clean, site="embeddings", delta_NTD=delta)
        return (other - clean.logits).square()

    assert (divergence_at(start + moved) > divergence_at(start)).all()
    assert (divergence_at(start - moved) < divergence_at(start)).all()


def test_the_noise_of_a_row_does_not_depend_on_the_batch_it_is_in():
    from dataclasses import replace

    batch = toy_batch("nli")
    alone = replace(
        batch,
        uids=batch.uids[1:2],
        inputs_NT={name: value[1:2, :3] for name, value in batch.inputs_NT.items()},
        num_rows_U=batch.num_rows_U[1:2],
    )
    whole = RNG.normal_NTD(batch.row_names, batch.mask_NT, 8, dtype=torch.float32)
    part = RNG.normal_NTD(alone.row_names, alone.mask_NT, 8, dtype=torch.float32)
    assert torch.equal(whole[1:2, :3], part)


def test_the_direction_under_bf16_training_is_float64s():
    directions = {}
    for dtype, autocast in ((torch.float64, False), (torch.float32, True)):
        model, batch = toy_model(dtype=dtype).train(), toy_batch("nli", dtype=dtype)
        smart = Smart(radius=1.0, noise_std=1e-3, step_size=1e-4, scale="absolute")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            clean = model.run(batch, rng=RNG, sites=smart.sites)
            delta = smart.perturbation(model, batch, clean, RNG).delta_NTD
        assert clean.autocast == autocast
        noise = 1e-3 * RNG.at("noise").normal_NTD(batch.row_names, batch.mask_NT, 8, dtype=dtype)
        directions[autocast] = (delta - noise).double().flatten(1)
    cosines = torch.nn.functional.cosine_similarity(directions[True], directions[False])
    assert (cosines >= 0.99).all()


@pytest.mark.parametrize("dropout", ["replay", "off"])
@pytest.mark.parametrize("autocast", [False, True])
def test_an_ascent_in_the_trainings_precision_runs_no_wider_pass_and_differs_only_where_training_is_narrow(
    autocast, dropout
):
    model, batch = toy_model().train(), toy_batch("nli")
    wide, own = (Smart(dropout=dropout, ascent_precision=each) for each in ("fp32", "training"))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        clean = model.run(batch, rng=RNG, sites=wide.sites)
        asked = spied_widths(model, lambda: own.perturbation(model, batch, clean, RNG))
        found, other = (each.perturbation(model, batch, clean, RNG).delta_NTD for each in (wide, own))
    assert asked == [None] * (2 if dropout == "off" else 1)
    assert torch.equal(found, other) != autocast
    assert torch.nn.functional.cosine_similarity(found.flatten(), other.flatten(), dim=0) > 0.95


def test_option_b_climbs_in_float32_alone():
    with pytest.raises(ValueError, match="option B climbs a difference of second order, which bf16 loses"):
        Smart(option="B", ascent_precision="training")


def test_an_ascent_under_fp16_is_in_float32_whatever_is_asked():
    model, batch = toy_model().train(), toy_batch("nli")
    wide, own = (Smart(ascent_precision=each) for each in ("fp32", "training"))
    with torch.autocast("cpu", dtype=torch.float16):
        clean = model.run(batch, rng=RNG, sites=wide.sites)
        found, other = (each.perturbation(model, batch, clean, RNG).delta_NTD for each in (wide, own))
        assert "of_fp32" not in own.diagnose(model, batch, clean, RNG)
    assert clean.autocast
    assert torch.equal(found, other)


def spied_widths(model, work):
    """The precision that each resumed pass of ``work`` asked for."""
    asked, resume = [], model.resume
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "resume", lambda *a, **k: asked.append(k.get("dtype")) or resume(*a, **k))
        work()
    return asked


def test_the_change_of_states_that_an_encoder_keeps_in_bf16_is_float32():
    model, batch = toy_model("electra").train(), toy_batch("nli")  # its projected embeddings are bf16 under autocast
    smart = Smart(site="layer:1")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        clean = model.run(batch, rng=RNG, sites=smart.sites)
        assert clean.hidden("layer:1").dtype == torch.bfloat16
        assert smart.perturbation(model, batch, clean, RNG).delta_NTD.dtype == torch.float32


def test_the_penalty_of_scores_is_a_mean_over_examples_and_never_a_square_of_them():
    # The official code's (B,) against (B, 1) made a B x B matrix of differences.
    model, batch = toy_model(dtype=torch.float64).eval(), toy_batch("sts", dtype=torch.float64)
    smart = Smart(radius=0.3, scale="absolute")
    clean = model.run(batch, rng=RNG, sites=smart.sites)
    delta = smart.perturbation(model, batch, clean, RNG).delta_NTD
    moved = model.resume(batch, clean, site="embeddings", delta_NTD=delta)
    by_hand = sum((float(a) - float(b)) ** 2 for a, b in zip(moved.detach(), clean.logits.detach(), strict=True)) / 3
    assert smart.penalty(model, batch, clean, RNG).item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("norm", ["inf", 1, 2])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-30])
def test_a_step_has_length_one_in_its_own_norm_however_small_the_gradient(norm, scale):
    gradient = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)) * scale
    torch.testing.assert_close(row_norm(unit_step(gradient, norm), norm).flatten(), torch.ones(2))
    assert (unit_step(torch.zeros(2, 3, 4), norm) == 0).all()


@pytest.mark.parametrize("norm", ["inf", 1, 2])
def test_a_projection_lands_in_the_ball_and_leaves_the_inside_alone(norm):
    delta = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    radius = torch.full((5, 1, 1), 0.7, dtype=torch.float64)
    projected = project(delta, radius, norm)
    assert (row_norm(projected, norm) <= 0.7 + 1e-9).all()
    torch.testing.assert_close(project(projected, radius, norm), projected)
    torch.testing.assert_close(project(delta, 100 * radius, norm), delta)


def test_rms_is_over_real_entries():
    values = torch.tensor([[[3.0, 4.0], [100.0, 100.0]]])
    assert row_rms(values, torch.tensor([[1, 0]])).item() == pytest.approx((12.5) ** 0.5)


def test_the_teacher_is_the_moving_average_of_the_weights():
    model = toy_model()
    start = copy.deepcopy(model.state_dict())
    bregman = Bregman(momentum=0.9, every=2)
    bregman.begin(model, num_steps=10)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    bregman.after_step(model, step=1)
    name = "heads.task_nli.output.weight"
    assert torch.equal(bregman.teacher.state_dict()[name], start[name])
    bregman.after_step(model, step=2)
    torch.testing.assert_close(bregman.teacher.state_dict()[name], start[name] + 0.1)  # 0.1 (w + 1) + 0.9 w


def test_the_teacher_starts_at_the_initial_weights_with_fresh_heads_and_the_first_penalty_is_zero_without_dropout():
    model, batch = toy_model().eval(), toy_batch("nli")
    bregman = Bregman()
    bregman.begin(model, num_steps=10)
    assert bregman.penalty(model, batch, model.run(batch), RNG) == 0


def test_shared_dropout_gives_the_teacher_the_students_masks():
    model, batch = toy_model().train(), toy_batch("nli")
    clean = model.run(batch, rng=RNG)
    for mode, zero in (("shared", True), ("off", False)):
        bregman = Bregman(reference_dropout=mode)
        bregman.begin(model, num_steps=10)
        assert bool(bregman.penalty(model, batch, clean, RNG) == 0) is zero


@pytest.mark.parametrize("form", ["kl", "squared"])
def test_bregman_weighs_the_mean_divergence_from_the_teacher_in_the_form_it_is_given(form):
    model, batch = toy_model(dtype=torch.float64).eval(), toy_batch("nli", dtype=torch.float64)
    bregman = Bregman(weight=0.7, divergence=form)
    bregman.begin(model, num_steps=10)
    teacher = model.run(batch).logits.softmax(-1).detach()
    with torch.no_grad():
        model.head("nli").output.weight.mul_(-1.5)
    student = model.run(batch).logits.softmax(-1).detach()
    terms = teacher * (teacher / student).log() if form == "kl" else (teacher - student).square()
    penalty = bregman.penalty(model, batch, model.run(batch), RNG)
    assert penalty.item() == pytest.approx(0.7 * terms.sum().item() / 3)


def test_the_early_momentum_is_for_the_first_tenth_of_the_updates():
    bregman = Bregman(momentum="mean_teacher")
    bregman.begin(toy_model(), num_steps=20)
    assert [bregman.beta(step) for step in (1, 2, 3, 20)] == [0.99, 0.99, 0.999, 0.999]


@pytest.mark.parametrize(
    ("options", "num_steps", "told"),
    [
        ({"momentum": "mean_teacher"}, 282, "after all 282 steps it is still 58 % .*; momentum: auto lets it follow"),
        ({"momentum": 0.999}, 1, "after all 1 steps it is still 100 % .*; momentum: auto lets it follow"),
        ({"every": 100}, 99, "it is still 100 % .*; a smaller every lets it follow"),
        ({"momentum": 0.0, "every": 100}, 99, "it is still 100 % .*; a smaller every lets it follow"),
        ({"momentum": "mean_teacher"}, 1000, None),
        ({}, 1, None),
        ({}, 20, None),
        ({}, 282, None),
        ({"momentum": 0.0, "every": 100}, 100, None),
    ],
)
def test_a_teacher_that_stays_at_the_start_is_doubted_with_the_remedy(options, num_steps, told):
    model = toy_model()
    bregman = Bregman(**options)
    bregman.begin(model, num_steps=num_steps)
    assert len(doubts := bregman.doubts()) == (told is not None)
    assert told is None or re.search(told, doubts[0])
    name = "heads.task_nli.output.weight"
    bregman.teacher.get_parameter(name).zero_()
    torch.nn.init.ones_(model.get_parameter(name))
    for step in range(1, num_steps + 1):
        bregman.after_step(model, step=step)
    left = 1 - bregman.teacher.get_parameter(name).mean().item()
    assert left == pytest.approx(bregman.start_share(), abs=1e-4)


def test_rapt_draws_every_layer_up_to_the_highest_anew_for_each_batch():
    model, batch = toy_model(num_hidden_layers=3).eval(), toy_batch("nli")
    rapt = Rapt(max_layer=3)
    clean = model.run(batch, sites=rapt.sites)
    drawn = [rapt.perturbation(model, batch, clean, RNG.at(step)).site for step in range(30)]
    assert set(drawn) == {"layer:1", "layer:2", "layer:3"}


def test_r3f_can_scale_its_noise_by_each_rows_states():
    model, batch = toy_model(dtype=torch.float64).eval(), toy_batch("nli", dtype=torch.float64)
    clean = model.run(batch, sites=["word"])
    delta = R3f(scale="rms", noise="normal", noise_std=0.1).perturbation(model, batch, clean, RNG).delta_NTD
    noise = RNG.at("noise").normal_NTD(batch.row_names, batch.mask_NT, 8, dtype=torch.float64)
    for row, length in enumerate((4, 3, 5)):
        size = clean.hidden("word")[row, :length].square().mean().sqrt()
        torch.testing.assert_close(delta[row], 0.1 * size * noise[row])


def test_without_dropout_the_search_and_the_penalty_are_those_of_the_model_in_eval():
    model, batch = toy_model(dtype=torch.float64), toy_batch("nli", dtype=torch.float64)
    smart = Smart(dropout="off", site="word")  # below every dropout
    found = []
    for training in (True, False):
        clean = model.train(training).run(batch, rng=RNG, sites=smart.sites)
        delta = smart.perturbation(model, batch, clean, RNG).delta_NTD
        found.append((delta, smart.penalty(model, batch, clean, RNG)))
    torch.testing.assert_close(*found)


def test_the_clean_side_of_the_twice_applied_block_has_it_once():
    model, batch = toy_model(dtype=torch.float64).eval(), toy_batch("nli", dtype=torch.float64)
    penalties = []
    for dropout in ("replay", "off"):
        smart = Smart(site="embeddings_twice", radius=1e-6, dropout=dropout)
        clean = model.run(batch, rng=RNG, sites=smart.sites)
        penalties.append(smart.penalty(model, batch, clean, RNG))
    torch.testing.assert_close(*penalties)
    assert penalties[0] > 1e-4  # the block applied again; the change itself is a millionth


@pytest.mark.parametrize("regularizer", [Smart(num_steps=2), Vat(num_steps=2)], ids=["smart", "vat"])
def test_padding_is_not_moved_even_where_an_encoder_gives_it_a_gradient(regularizer, monkeypatch):
    module = type(regularizer).__module__
    monkeypatch.setattr(f"{module}.gradient_of", lambda values, delta_NTD: torch.ones_like(delta_NTD))
    model, batch = toy_model().eval(), toy_batch("nli")
    clean = model.run(batch, sites=regularizer.sites)
    delta = regularizer.perturbation(model, batch, clean, RNG).delta_NTD
    assert (delta[batch.mask_NT == 0] == 0).all()
    assert (delta[batch.mask_NT == 1] != 0).all()
