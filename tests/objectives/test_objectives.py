"""What every objective owes the trainer, and what each promises."""

import pytest
import torch
from support import TASKS, TOKEN_TASKS, toy_batch, toy_model

from mtdnn.objectives.base import OBJECTIVES
from mtdnn.objectives.free_at import FreeAt
from mtdnn.objectives.freelb import FreeLb
from mtdnn.objectives.label_seeking import frobenius
from mtdnn.objectives.pgd import Pgd
from mtdnn.objectives.r_drop import RDrop
from mtdnn.objectives.standard import Standard
from mtdnn.registry import build
from mtdnn.rng import Rng

RNG = Rng("test")
EVERY = [(name, preset) for name in OBJECTIVES.names() for preset in [None, *OBJECTIVES.get(name, where="").PRESETS]]
ALL = (*TASKS, *TOKEN_TASKS)
NAMES = [task.name for task in ALL]
LABEL_SEEKING = [Pgd, FreeAt, FreeLb]


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_an_objective_yields_as_many_finite_losses_as_it_says_and_each_can_train_the_model(name, preset, task):
    model, batch = toy_model(tasks=ALL).train(), toy_batch(task)
    options = {"type": name} if preset is None else {"type": name, "preset": preset}
    objective = build(OBJECTIVES, options, where="test")
    count, clean_passes = 0, 0
    for term in objective.terms(model, batch, RNG, sites=["embeddings"]):
        count, clean_passes = count + 1, clean_passes + (term.clean is not None)
        assert term.loss.shape == ()
        assert term.loss.isfinite()
        (term.loss * term.share).backward()
        assert model.head(task).output.weight.grad.isfinite().all()
    assert count == objective.num_terms
    assert clean_passes == (0 if objective.unattachable else 1)


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_the_same_source_of_randomness_gives_the_same_losses(name):
    model, batch = toy_model().train(), toy_batch("nli")
    objective = build(OBJECTIVES, {"type": name}, where="test")

    def losses():
        found = []
        for term in objective.terms(model, batch, RNG, sites=()):
            term.loss.backward()
            found.append(term.loss.item())
        return found

    assert losses() == losses()


@pytest.mark.parametrize("cls", LABEL_SEEKING)
@pytest.mark.parametrize("task", NAMES)
def test_changes_stay_in_the_ball_and_off_the_padding(cls, task, monkeypatch):
    model, batch = toy_model(tasks=ALL).train(), toy_batch(task)
    objective, seen = cls(num_steps=4, step_size=0.5, init_magnitude=0.2, max_norm=0.3), []
    losses = cls.losses
    monkeypatch.setattr(cls, "losses", lambda self, m, b, d, rng: seen.append(d.detach()) or losses(self, m, b, d, rng))
    for term in objective.terms(model, batch, RNG, sites=()):
        term.loss.backward()
    assert len(seen) >= 4
    for delta_NTD in seen[1:]:
        sizes_N = frobenius(delta_NTD).flatten()
        has_loss_N = torch.ones(len(sizes_N)) if task != "rank" else torch.tensor([1, 1, 0, 1, 1, 1])
        torch.testing.assert_close(sizes_N[has_loss_N == 1], torch.full((int(has_loss_N.sum()),), 0.3))
        assert (sizes_N[has_loss_N == 0] < 0.2).all()
        assert delta_NTD[batch.mask_NT == 0].abs().max() == 0
    assert (frobenius(seen[0]) < 0.2).all()


def test_the_passes_of_freelb_share_one_dropout_mask_and_those_of_free_at_do_not():
    model, batch = toy_model().train(), toy_batch("nli")
    still = {"num_steps": 3, "step_size": 1e-9, "init_magnitude": 0.0}
    spread = {}
    for cls in (FreeLb, FreeAt):
        losses = []
        for term in cls(**still).terms(model, batch, RNG, sites=()):
            term.loss.backward()
            losses.append(term.loss.item())
        spread[cls] = max(losses) - min(losses)
    assert spread[FreeLb] < 1e-6 < spread[FreeAt]


def test_the_graph_of_a_pass_is_gone_before_the_next_begins():
    model, batch = toy_model().train(), toy_batch("nli")
    for term in FreeLb(num_steps=3).terms(model, batch, RNG, sites=()):
        term.loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            term.loss.backward()


def test_all_passes_of_pgd_share_one_dropout_mask(monkeypatch):
    model, batch = toy_model().train(), toy_batch("nli")
    objective, seen = Pgd(num_steps=2, step_size=1e-9, init_magnitude=0.0), []
    losses = Pgd.losses
    monkeypatch.setattr(Pgd, "losses", lambda *arguments: seen.append(losses(*arguments)) or seen[-1])
    list(objective.terms(model, batch, RNG, sites=()))
    assert len(seen) == 3
    for loss_U in seen[1:]:
        torch.testing.assert_close(loss_U, seen[0])


@pytest.mark.parametrize("cls", LABEL_SEEKING)
@pytest.mark.parametrize("task", NAMES)
def test_what_a_label_seeking_objective_says_is_of_the_change_it_trains_at(cls, task, monkeypatch):
    model, batch = toy_model(tasks=ALL).eval(), toy_batch(task)
    objective, seen = cls(num_steps=3, step_size=0.2, init_magnitude=0.1, max_norm=0.5), []
    losses = cls.losses
    monkeypatch.setattr(
        cls, "losses", lambda self, m, b, d, r: seen.append((d.detach(), losses(self, m, b, d, r))) or seen[-1][1]
    )
    told = objective.diagnose(model, batch, RNG)
    (_, raised), (random_NTD, random) = ((d, loss.mean().item()) for d, loss in seen[-2:])
    assert all(weight.grad is None for weight in model.parameters())
    for term in objective.terms(model, batch, RNG, sites=()):
        (term.loss * term.share).backward()
    (trained_NTD, _) = seen[-1]
    still = model.loss(model.run(batch).logits, batch).mean().item()
    assert term.loss.item() == pytest.approx(raised, rel=1e-5)
    assert told["penalty"] == pytest.approx(raised - still, rel=1e-4)
    assert told["penalty/loss"] == pytest.approx((raised - still) / still, rel=1e-4)
    assert told["delta_inf"] == pytest.approx(trained_NTD.abs().amax((1, 2)).mean().item(), rel=1e-4)
    assert told["penalty"] > 0
    torch.testing.assert_close(random_NTD.abs(), trained_NTD.abs(), rtol=1e-3, atol=1e-6)
    assert told.get("gain") == (
        pytest.approx((raised - still) / (random - still), rel=1e-3) if random > still else None
    )


@pytest.mark.parametrize("name", ["standard", "r_drop"])
def test_an_objective_without_a_perturbation_says_nothing_of_one(name):
    assert build(OBJECTIVES, {"type": name}, where="test").diagnose(toy_model(), toy_batch("nli"), RNG) == {}


def test_a_step_leaves_padding_alone_even_where_it_has_a_gradient():
    batch = toy_batch("nli")
    everywhere = torch.ones(*batch.mask_NT.shape, 8)
    moved = Pgd(step_size=0.2).ascended(torch.zeros_like(everywhere), everywhere, batch)
    assert (moved[batch.mask_NT == 0] == 0).all()
    torch.testing.assert_close(frobenius(moved).flatten(), torch.full((3,), 0.2))


def test_a_step_inside_the_ball_is_not_moved_and_without_a_ball_none_is():
    batch = toy_batch("nli")
    gradient = torch.randn(*batch.mask_NT.shape, 8, generator=torch.Generator().manual_seed(0))
    for max_norm, step_size, length in ((0.3, 0.1, 0.1), (0.3, 5.0, 0.3), (0.0, 5.0, 5.0)):
        moved = Pgd(step_size=step_size, max_norm=max_norm).ascended(torch.zeros_like(gradient), gradient, batch)
        torch.testing.assert_close(frobenius(moved).flatten(), torch.full((3,), length))


def test_the_standard_loss_is_the_mean_over_units():
    model, batch = toy_model().eval(), toy_batch("sts")
    (term,) = Standard().terms(model, batch, RNG, sites=())
    by_hand = sum((score - target) ** 2 for score, target in zip(model(batch).tolist(), [0.5, 2.0, 5.0], strict=True))
    assert term.loss.item() == pytest.approx(by_hand / 3)


def test_r_drop_without_dropout_is_the_plain_loss():
    model, batch = toy_model().eval(), toy_batch("nli")
    (term,) = RDrop(weight=5.0).terms(model, batch, RNG, sites=())
    torch.testing.assert_close(term.loss, model.loss(model(batch), batch).mean())


@pytest.mark.parametrize(
    "options", [{"num_steps": 0}, {"step_size": 0.0}, {"init_magnitude": -1.0}, {"max_norm": -1.0}]
)
@pytest.mark.parametrize("cls", LABEL_SEEKING)
def test_values_out_of_range_are_refused_with_the_value(cls, options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        cls(**options)
