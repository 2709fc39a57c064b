"""SMART beside the packages that others published, at the same noise: their numbers, and what explains them."""

import pytest
import torch
from toy_reference import RNG, Toy

from mtdnn.regularizers.smart import Smart
from mtdnn.rng import Rng

ROWS = 3
PACKAGES = {"smart_pytorch": "eval_fn", "vat_pytorch": "model"}


def theirs(package, toy, clean, **losses):
    """The package's SMARTLoss on our model, its noise drawn from seed 0; every row and token is its own."""
    module = pytest.importorskip(package)
    hidden_NTD = clean.hidden("embeddings").detach()

    def logits_of(embed_NTD):
        return toy.model.resume(toy.batch, clean, site="embeddings", delta_NTD=embed_NTD - hidden_NTD)

    loss = module.SMARTLoss(**{PACKAGES[package]: logits_of}, num_steps=2, **losses)
    torch.manual_seed(0)
    return loss(hidden_NTD, clean.logits)


def ours(toy, clean, monkeypatch, **options):
    torch.manual_seed(0)
    noise_NTD = torch.randn_like(clean.hidden("embeddings"))
    monkeypatch.setattr(Rng, "normal_NTD", lambda *_, **__: noise_NTD)
    given = {**Smart.PRESETS["official-2020-08"], "num_steps": 2, "dropout": "replay", **options}
    return Smart(**given).penalty(toy.model, toy.batch, clean, RNG)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_official_preset_gives_the_packages_number_once_the_two_differences_are_named(package, monkeypatch):
    # They climb KL(clean || perturbed), not the log-odds loss, and its mean, which divides eta by the batch.
    toy = Toy("nli")
    module = pytest.importorskip(package)
    clean = toy.model.run(toy.batch, rng=RNG, sites=["embeddings"])
    found = theirs(package, toy, clean, loss_fn=module.kl_loss, loss_last_fn=module.sym_kl_loss)
    expected = found / ROWS if package == "smart_pytorch" else found  # smart_pytorch sums where vat_pytorch averages
    penalty = ours(toy, clean, monkeypatch, inner="kl", step_size=1e-3 / ROWS)
    assert found.item() > 1e-3
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_gradients_agree_too(monkeypatch):
    toy = Toy("nli")
    module = pytest.importorskip("vat_pytorch")
    gradients = []
    for make in (
        lambda clean: theirs("vat_pytorch", toy, clean, loss_fn=module.kl_loss, loss_last_fn=module.sym_kl_loss),
        lambda clean: ours(toy, clean, monkeypatch, inner="kl", step_size=1e-3 / ROWS, detach_embeddings=True),
    ):
        toy.model.zero_grad()
        make(toy.model.run(toy.batch, rng=RNG, sites=["embeddings"])).backward()
        gradients.append(toy.model.get_parameter("encoder.encoder.layer.0.output.dense.weight").grad.clone())
    assert gradients[0].abs().max() > 1e-4
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-14)
