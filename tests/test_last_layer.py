"""A last layer of the first token alone gives what the whole one gives, with fewer products."""

import pytest
import torch
from support import FAMILIES as ALL
from support import TASKS, TOKEN_TASKS, toy_batch, toy_model
from torch.utils.flop_counter import FlopCounterMode

from mtdnn import evaluate
from mtdnn.last_layer import FAMILIES, can_be_shortened
from mtdnn.regularizers.rapt import Rapt
from mtdnn.regularizers.smart import Smart
from mtdnn.rng import Rng

KNOWN = sorted(set(ALL) & set(FAMILIES))


def model_of(family, *, whole=False, pool="first", **options):
    model = toy_model(family, tasks=(*TASKS, *TOKEN_TASKS), pool=pool, dtype=torch.float64, **options).eval()
    model.reads_first_token &= not whole
    return model


def trained(model, regularizer, task="nli"):
    """The loss with a penalty, and the gradient of every weight."""
    batch = toy_batch(task, dtype=torch.float64)
    clean = model.run(batch, rng=Rng("step"), sites=regularizer.sites)
    penalty = regularizer.penalty(model, batch, clean, Rng("smart"))
    assert penalty > 0
    loss = model.loss(clean.logits, batch).mean() + penalty
    loss.backward()
    return clean, loss.detach(), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("family", KNOWN)
@pytest.mark.parametrize("task", ["nli", "sts", "rank"])
def test_losses_and_gradients_are_those_of_the_whole_layer(family, task):
    clean, loss, gradients = trained(model_of(family), Smart(), task)
    whole, expected, all_gradients = trained(model_of(family, whole=True), Smart(), task)
    assert (clean.record.shortened, whole.record.shortened) == (True, False)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for name, expected in all_gradients.items():
        assert (gradients[name] is None) == (expected is None), name
        if expected is not None:
            torch.testing.assert_close(gradients[name], expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("task", ["tag", "read", "san"])
def test_a_head_that_reads_tokens_gets_the_whole_layer(task):
    clean, loss, gradients = trained(model_of("bert"), Smart(), task)
    _, expected, all_gradients = trained(model_of("bert", whole=True), Smart(), task)
    assert not clean.record.shortened
    assert torch.equal(loss, expected)
    assert all(gradients[name] is None or torch.equal(gradients[name], grad) for name, grad in all_gradients.items())


def test_the_native_pooler_reads_the_first_token_too():
    _, loss, _ = trained(model_of("bert", pool="native"), Smart())
    _, expected, _ = trained(model_of("bert", pool="native", whole=True), Smart())
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("family", "pool", "sites", "expected"),
    [
        ("bert", "first", [], True),
        ("bert", "first", ["embeddings", "layer:1"], True),
        ("bert", "first", ["layer:2"], False),
        ("bert", "mean", [], False),
        ("distilbert", "first", [], False),
        ("modernbert", "first", [], False),
    ],
)
def test_only_what_nobody_reads_is_left_out(family, pool, sites, expected):
    model = model_of(family, pool=pool)
    assert model.run(toy_batch("nli"), sites=sites).record.shortened is expected
    assert (model.reads_first_token and can_be_shortened(model.encoder, sites)) is expected


def test_noise_on_the_last_layer_sees_the_whole_layer():
    method = Rapt(max_layer=2)
    clean, loss, _ = trained(model_of("bert"), method)
    assert not clean.record.shortened
    _, expected, _ = trained(model_of("bert", whole=True), method)
    assert torch.equal(loss, expected)


def test_a_replayed_pass_reads_what_the_first_one_read():
    model = model_of("bert").train()
    batch = toy_batch("nli", dtype=torch.float64)
    for sites in ([], ["layer:2"]):
        clean = model.run(batch, rng=Rng("step"), sites=sites)
        assert torch.equal(model.run(batch, replay=clean).logits, clean.logits)


def products(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_the_products_that_are_saved_are_counted():
    # Per token, in D^2: keys, values and queries 3, output 1, feed-forward block 2 x the ratio of the widths.
    batch, width = toy_batch("nli", dtype=torch.float64), 8
    rest = (batch.mask_NT.numel() - len(batch.mask_NT)) * 2 * width**2
    whole, saved = (model_of("bert", whole=each) for each in (True, False))
    assert products(lambda: whole.run(batch)) - products(lambda: saved.run(batch)) == rest * (1 + 2 * 2)


def test_evaluation_leaves_it_out_too(monkeypatch):

    model, batch = model_of("bert"), toy_batch("nli", dtype=torch.float64)
    monkeypatch.setattr(evaluate, "sorted_batches", lambda *_, **__: [[0, 1, 2]])
    monkeypatch.setattr(evaluate, "make_batch", lambda *_, **__: batch)

    class Split:
        task = "nli"

    found = []
    saved = products(lambda: found.extend(evaluate.predict_batches(model, Split, batch_size=3, pad_id=0)))
    assert saved == products(lambda: model.run(batch))
    torch.testing.assert_close(found[0][2], model_of("bert", whole=True).run(batch).logits, rtol=1e-12, atol=0)
