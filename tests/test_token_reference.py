"""SMART and the divergences on heads that read tokens, against the slow, independent float64 reference."""

import numpy as np
import pytest
import torch
from reference import bert, smart, token_heads
from support import TASKS, TOKEN_TASKS, toy_batch, toy_model
from toy_reference import RNG, Toy, assert_close, reference_weights

from mtdnn.divergences import divergence
from mtdnn.regularizers.smart import Smart

FORMS = ["symmetric_kl", "kl", "js", "squared"]
NAMES = ["tag", "read"]


class TokenToy(Toy):
    """A toy task whose head reads tokens; its logits are those of all its distributions, one a row."""

    def __init__(self, task: str):
        self.task, self.groups = task, None
        self.model = toy_model(tasks=(*TASKS, *TOKEN_TASKS), dtype=torch.float64).train()
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.batch = toy_batch(task, dtype=torch.float64)
        self.weights = reference_weights(self.model, task)
        self.unit_rows = np.repeat(np.arange(3), self.batch.num_rows_U.numpy())
        self.mask = self.batch.mask_NT.numpy()
        self.still = np.zeros((*self.mask.shape, 8))
        self.columns = {name: value.numpy() for name, value in self.batch.tokens_NT.items()}

    def head(self, weights, hidden):
        scores = bert.linear(weights, "head", hidden)
        if self.task == "tag":
            return token_heads.word_logits_RC(scores, self.columns["word"])
        return token_heads.end_logits_RT(scores, self.columns["start"])

    @property
    def unit_R(self):
        return token_heads.word_units_R(self.columns["word"]) if self.task == "tag" else np.tile(self.unit_rows, 2)

    def divergence(self, stop_gradient="none", form="symmetric_kl"):
        def of(reference, perturbed):
            return token_heads.mean_divergence_U(form, reference, perturbed, self.unit_R, 3, stop_gradient)

        return of


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", NAMES)
def test_a_divergence_is_the_mean_of_the_unit_s_distributions(task, form):
    toy = TokenToy(task)
    generator = torch.Generator().manual_seed(1)
    width = 3 if task == "tag" else 2
    shape = (*toy.mask.shape, width)
    one, other = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    head = toy.model.head(task)
    ours = divergence(head.outputs(one, toy.batch), head.outputs(other, toy.batch), form=form)
    read = token_heads.word_logits_RC if task == "tag" else token_heads.end_logits_RT
    column = toy.columns["word" if task == "tag" else "start"]
    expected = toy.divergence(form=form)(read(one.numpy(), column), read(other.numpy(), column))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 2, "norm": "inf", "site": "embeddings"},
        {"num_steps": 1, "norm": 2, "site": "layer:1", "divergence": "js"},
        {"num_steps": 1, "norm": "inf", "site": "word", "stop_gradient": "targets", "divergence": "symmetric_kl"},
    ],
    ids=lambda o: o["site"],
)
@pytest.mark.parametrize("task", NAMES)
def test_smart_equals_the_reference(task, options):
    toy = TokenToy(task)
    regularizer = Smart(radius=0.3, step_size=0.2, noise_std=0.05, scale="absolute", **options)
    site, form = options["site"], options.get("divergence", "symmetric_kl")
    clean = toy.clean(regularizer)
    sizes = {"radius": 0.3, "step_size": 0.2, "num_steps": options["num_steps"], "norm": str(options["norm"])}
    delta = smart.ascend(
        lambda d: toy.logits(toy.weights, d, site),
        toy.divergence("reference", form),
        0.05 * toy.noise(),
        toy.mask,
        unit_B=toy.unit_rows,
        **sizes,
    )
    ours = regularizer.perturbation(toy.model, toy.batch, clean, RNG).delta_NTD.numpy()
    np.testing.assert_allclose(ours, delta, rtol=1e-7, atol=1e-10)
    apart = toy.divergence(options.get("stop_gradient", "none"), form)

    def of_weights(weights):
        return apart(toy.logits(weights, toy.still, site), toy.logits(weights, delta, site)).mean()

    penalty = regularizer.penalty(toy.model, toy.batch, clean, RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-8)
    toy.check_gradients(of_weights, 1e-7)


@pytest.mark.parametrize("task", NAMES)
def test_the_task_loss_and_its_gradients_equal_the_reference(task):
    toy = TokenToy(task)

    def of_weights(weights):
        scores = bert.linear(weights, "head", toy.hidden(weights, weights, toy.still, "embeddings"))
        if task == "tag":
            return token_heads.tagging_loss_U(scores, toy.columns["word"], [[0, 1], [2], [1, 2]]).mean()
        ends = toy.columns["start"], toy.columns["end"]
        return token_heads.span_loss_U(scores, *ends, toy.unit_rows, [(4, 7), (0, 5), (4, 5)]).mean()

    loss = toy.model.loss(toy.model.run(toy.batch).logits, toy.batch).mean()
    loss.backward()
    assert_close(loss.item(), float(np.real(of_weights(toy.weights))), 1e-9)
    toy.check_gradients(of_weights, 1e-8)
