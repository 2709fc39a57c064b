"""Training with activation checkpointing gives the same bits, and runs again exactly the layers that it should."""

from collections import Counter

import pytest
import torch
from support import LAYERED, toy_batch, toy_model

from mtdnn import dropout
from mtdnn.dropout import DropoutTape
from mtdnn.encoder import layers
from mtdnn.objectives.free_at import FreeAt
from mtdnn.objectives.freelb import FreeLb
from mtdnn.objectives.pgd import Pgd
from mtdnn.objectives.r_drop import RDrop
from mtdnn.objectives.standard import Standard
from mtdnn.regularizers.bregman import Bregman
from mtdnn.regularizers.r3f import R3f
from mtdnn.regularizers.rapt import Rapt
from mtdnn.regularizers.smart import Smart
from mtdnn.regularizers.vat import Vat
from mtdnn.rng import Rng

METHODS = {
    "standard": (Standard(), None),
    "smart": (Standard(), lambda: Smart()),
    "smart without dropout": (Standard(), lambda: Smart(dropout="off")),
    "smart, other dropout": (Standard(), lambda: Smart(dropout="independent")),
    "smart above a layer": (Standard(), lambda: Smart(site="layer:1")),
    "smart as its authors' code": (Standard(), lambda: Smart(**Smart.PRESETS["official-2021-02"])),
    "smart, option B": (Standard(), lambda: Smart(option="B")),
    "bregman": (Standard(), lambda: Bregman(reference_dropout="shared")),
    "rapt": (Standard(), lambda: Rapt(max_layer=2)),
    "vat": (Standard(), lambda: Vat()),
    "r3f": (Standard(), lambda: R3f()),
    "pgd": (Pgd(), None),
    "freelb": (FreeLb(), None),
    "free_at": (FreeAt(), None),
    "r_drop": (RDrop(), None),
}
STEPS = 3


@pytest.fixture(autouse=True)
def all_again(monkeypatch):
    """Where layers are not run again, attention's weights and GELU's output are, whatever their size."""
    monkeypatch.setattr(DropoutTape, "recomputes_from", 0)


def trained(family, method, *, saving, dtype=None, **changes):
    """Losses, gradients and weights of some steps over all kinds of task."""
    objective, make = METHODS[method]
    model = toy_model(family, **changes).train()
    model.activation_checkpointing = saving
    regularizer = make() if make else None
    sites = regularizer.sites if regularizer else ()
    if regularizer:
        regularizer.begin(model, num_steps=STEPS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = []
    for step, task in enumerate(("nli", "sts", "rank")[:STEPS]):
        batch, rng = toy_batch(task), Rng(f"{step}")
        terms = objective.terms(model, batch, rng, sites=sites)
        while True:
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                if (term := next(terms, None)) is None:
                    break
                loss = term.loss * term.share
                if regularizer:
                    loss = loss + regularizer.penalty(model, batch, term.clean, rng.at("penalty"))
            loss.backward()
            seen.append(loss.detach())
        seen += [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
        optimizer.step()
        optimizer.zero_grad()
        if regularizer:
            regularizer.after_step(model, step=step + 1)
    return [*seen, *model.state_dict().values()]


def assert_same_bits(some, others):
    assert len(some) == len(others) > STEPS
    assert all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", method) for method in METHODS]
    + [(family, method) for family in LAYERED if family != "bert" for method in ("rapt", "smart, option B", "freelb")],
)
def test_losses_gradients_and_weights_are_the_same_bits(family, method):
    assert_same_bits(trained(family, method, saving=True), trained(family, method, saving=False))


@pytest.mark.parametrize("method", ["smart", "smart, option B"])
def test_so_are_they_under_autocast(method):
    runs = [trained("bert", method, saving=saving, dtype=torch.bfloat16) for saving in (True, False)]
    assert_same_bits(*runs)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_second_derivatives_take_the_kernels_of_the_first_run(family):
    """Without dropout attention is torch's own, whose fused kernels have no second derivative."""
    off = {"attention_probs_dropout_prob": 0.0} if family == "bert" else {"attention_dropout": 0.0}
    runs = [trained(family, "smart, option B", saving=saving, **off) for saving in (True, False)]
    assert_same_bits(*runs)


def test_a_pass_with_torchs_own_dropout_runs_again_with_the_same_masks():
    def gradients(saving):
        model, batch = toy_model().train(), toy_batch("nli")
        model.activation_checkpointing = saving
        torch.manual_seed(1)
        model.loss(model.run(batch).logits, batch).sum().backward()
        return [weight.grad for weight in model.parameters() if weight.grad is not None]

    assert_same_bits(gradients(True), gradients(False))


def test_each_layer_runs_again_once_and_none_at_or_below_a_resumed_site():
    model, batch = toy_model(num_hidden_layers=3).train(), toy_batch("nli")
    model.activation_checkpointing = True
    runs = Counter()
    for number, layer in enumerate(layers(model.encoder), start=1):
        layer.attention.register_forward_hook(lambda *_, number=number: runs.update([number]))
    clean = model.run(batch, rng=Rng("x"), sites=["layer:2"])
    assert runs == {1: 1, 2: 1, 3: 1}
    delta_NTD = torch.ones_like(clean.hidden("layer:2"), requires_grad=True)
    moved = model.resume(batch, clean, site="layer:2", delta_NTD=delta_NTD, detach=True)
    runs.clear()
    moved.sum().backward()
    assert runs == {3: 1}
    runs.clear()
    clean.logits.sum().backward()
    assert runs == {1: 1, 2: 1, 3: 1}


def test_a_layer_that_runs_again_keeps_nothing_to_compute_parts_of_it(monkeypatch):
    """It would hold the tensors that they are computed from."""
    monkeypatch.setattr(dropout, "Again", None)
    trained("bert", "smart", saving=True)
    with pytest.raises(TypeError):
        trained("bert", "smart", saving=False)


@pytest.mark.parametrize("saving", [True, False])
def test_transformers_own_checkpointing_works_beside_it(saving):
    def gradients(kwargs):
        model, batch = toy_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train(), toy_batch("nli")
        if kwargs is not None:
            new_name = "activation_checkpointing_enable"
            getattr(model.encoder, new_name, model.encoder.gradient_checkpointing_enable)(kwargs)
        model.activation_checkpointing = saving
        model.loss(model.run(batch, rng=Rng("x")).logits, batch).sum().backward()
        return [weight.grad for weight in model.parameters() if weight.grad is not None]

    assert_same_bits(gradients({"use_reentrant": False}), gradients(None))


def test_fewer_tensors_are_kept_for_the_backward_pass():
    def kept(saving):
        model, batch = toy_model(num_hidden_layers=4).train(), toy_batch("nli")
        model.activation_checkpointing = saving
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            model.run(batch, rng=Rng("x"))
        return sum(sizes)

    assert kept(True) < kept(False) / 2


@pytest.mark.parametrize("method", ["smart", "rapt", "bregman"])
def test_a_last_layer_of_the_first_token_alone_keeps_its_bits_too(method):
    assert_same_bits(*(trained("bert", method, saving=saving, pool="native") for saving in (True, False)))
