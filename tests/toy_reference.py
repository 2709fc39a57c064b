"""One toy batch, seen by the package's model and by the references; both without dropout."""

import numpy as np
import torch
from reference import bert, losses, smart
from support import toy_batch, toy_model

from mtdnn.rng import Rng

KINDS = {"nli": "classification", "sts": "regression", "rank": "ranking"}
HEADS = 2
RNG = Rng("test")


class Toy:
    """A task's model and batch in float64, and the same weights for the references."""

    def __init__(self, task: str):
        self.task, self.kind = task, KINDS[task]
        self.model = toy_model(dtype=torch.float64).train()
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.batch = toy_batch(task, dtype=torch.float64)
        self.weights = reference_weights(self.model, task)
        groups = np.repeat(np.arange(3), self.batch.num_rows_U.numpy())
        self.groups = groups if task == "rank" else None
        self.unit_rows = groups if task == "rank" else np.arange(3)
        self.mask = self.batch.mask_NT.numpy()
        self.targets = self.batch.targets.numpy()
        self.still = np.zeros((*self.mask.shape, 8))

    def embeddings(self, weights, delta=0.0):
        ids, types = self.batch.inputs_NT["input_ids"].numpy(), self.batch.inputs_NT["token_type_ids"].numpy()
        return bert.embed(weights, ids, types, self.eps, word_delta_BTD=delta)

    @property
    def eps(self) -> float:
        return self.model.config.encoder["layer_norm_eps"]

    def logits(self, weights, delta, site="embeddings", *, constant_embeddings=False):
        """Logits with delta at a site; ``constant_embeddings``: no derivative through what lies below it."""
        below = self.weights if constant_embeddings else weights
        return self.head(weights, self.hidden(weights, below, delta, site))

    def hidden(self, weights, below, delta, site):
        def encode(hidden, layers=None):
            return bert.encode(weights, hidden, self.mask, HEADS, self.eps, layers=layers)

        if site == "word":
            return encode(self.embeddings(below, delta))
        if site == "embeddings":
            return encode(self.embeddings(below) + delta)
        if site == "embeddings_twice":
            words = below["embeddings.word_embeddings.weight"][self.batch.inputs_NT["input_ids"].numpy()]
            return encode(self.embeddings(weights, self.embeddings(below) + delta - words))
        number = int(site.removeprefix("layer:"))
        lower = encode(self.embeddings(weights), range(number))
        return encode(lower + delta, range(number, bert.num_layers(weights)))

    def at(self, site):
        """Hidden states (N, T, D) at a site."""
        if site == "word":
            return self.weights["embeddings.word_embeddings.weight"][self.batch.inputs_NT["input_ids"].numpy()]
        layers = range(0 if site == "embeddings" else int(site.removeprefix("layer:")))
        return bert.encode(self.weights, self.embeddings(self.weights), self.mask, HEADS, self.eps, layers=layers)

    def head(self, weights, hidden):
        scores = bert.linear(weights, "head", bert.mean_pool(hidden, self.mask))
        return scores if self.kind == "classification" else scores[:, 0]

    def loss(self, logits):
        return losses.loss_U(self.kind, logits, self.targets, group_B=self.groups)

    def divergence(self, stop_gradient="none", form="symmetric_kl"):
        if form == "symmetric_kl" or self.kind == "regression":
            return smart.divergence_for(self.kind, group_B=self.groups, stop_gradient=stop_gradient)

        def divergence(reference, perturbed):
            reference = reference.real if stop_gradient == "reference" else reference
            if self.groups is None:
                return smart.form_U(form, reference, perturbed)
            rows = [np.flatnonzero(self.groups == group) for group in np.unique(self.groups)]
            return np.concatenate([smart.form_U(form, reference[r][None], perturbed[r][None]) for r in rows])

        return divergence

    def noise(self, name="noise", *, uniform=False, padding=False):
        mask_NT = torch.ones_like(self.batch.mask_NT) if padding else self.batch.mask_NT
        draw = RNG.at(name).uniform_NTD if uniform else RNG.at(name).normal_NTD
        return draw(self.batch.row_names, mask_NT, 8, dtype=torch.float64).numpy()

    def clean(self, regularizer):
        return self.model.run(self.batch, rng=RNG, sites=regularizer.sites)

    def check_gradients(self, penalty_of_weights, tolerance=1e-9):
        """The model's gradients beside the reference's, at the largest entry of every part of the model."""
        for name, reference_name, index in some_entries(self.model, self.task):
            expected = smart.parameter_gradient(penalty_of_weights, self.weights, reference_name, index)
            assert_close(self.model.get_parameter(name).grad[index].item(), expected, tolerance)


def reference_weights(model, task: str) -> dict[str, np.ndarray]:
    """The model's weights under the references' names; copies."""
    state = {name.removeprefix("encoder."): value.numpy().copy() for name, value in model.state_dict().items()}
    state["head.weight"] = state[f"heads.task_{task}.output.weight"]
    state["head.bias"] = state[f"heads.task_{task}.output.bias"]
    return state


def some_entries(model, task: str):
    """(name in our model, name in the reference, index) of the largest gradients: every layer and the head."""
    names = [
        "encoder.embeddings.word_embeddings.weight",
        "encoder.encoder.layer.0.attention.self.query.weight",
        "encoder.encoder.layer.1.output.dense.weight",
        f"heads.task_{task}.output.weight",
    ]
    for name in names:
        gradient = model.get_parameter(name).grad
        if gradient is None or not gradient.any():
            continue
        index = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        yield name, name.removeprefix("encoder.") if "head" not in name else "head.weight", tuple(map(int, index))


def assert_close(ours: float, reference: float, tolerance: float) -> None:
    assert reference != 0
    assert abs(ours - reference) <= tolerance * abs(reference), (ours, reference)
