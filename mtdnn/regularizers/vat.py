"""Virtual adversarial training: the direction of greatest curvature, by power iteration.

Miyato et al., 2018, "Virtual Adversarial Training", Algorithm 1 and equations 5 to 8. https://arxiv.org/abs/1704.03976

Shape suffixes: N = rows, T = tokens, D = hidden width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.divergences import divergence
from mtdnn.passes import DropoutMode, Pass, Perturbable
from mtdnn.perturbation import row_norm, unit_step
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.perturbing import Perturbation, Perturbing, gradient_of, wide
from mtdnn.rng import Rng


@REGULARIZERS.register("vat")
@dataclass(frozen=True, kw_only=True)
class Vat(Perturbing):
    """Penalize KL(P(x) || P(x + r)), r on the sphere in the direction that moves the output most; no labels needed.

    d ~ N(0, I) of 2-norm 1 for each row; K times d <- unit(grad_d KL(P(x) || P(x + xi d))); r = epsilon d.

    :param weight: lambda, at least 0.
    :param radius: epsilon, the 2-norm of a row's change; above 0, in units of ``scale``.
    :param scale: ``absolute``, or ``norm``: times the 2-norm of the row's hidden states at the site [choice].
    :param probe: xi, the 2-norm of the step that the gradient is taken at; above 0. It must stay above float32's
        resolution, hence 0.1 where the paper says 1e-6.
    :param num_steps: K, power iterations; each costs one forward and one backward pass.
    :param site: ``word``, ``embeddings`` or ``layer:<r>``.
    :param dropout: of the perturbed pass: ``replay`` the clean pass's masks, ``independent`` ones, or ``off`` in both.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {"radius": 0.1, "scale": "norm"}}
    NOTES: ClassVar[Mapping[str, str]] = {
        "default": "The paper's Algorithm 1; its epsilon belongs to images (or to normalised word vectors, where it is "
        "5), ours is a share of the row's norm, xi is 0.1, and the masks of dropout are replayed."
    }
    COST = "1 + num_steps forward and as many backward passes beside the clean pass; one more forward under bf16"
    divergence = "kl"
    stop_gradient = "reference"

    weight: float = 1.0
    radius: float = 0.1
    scale: Literal["absolute", "norm"] = "norm"
    probe: float = 0.1
    num_steps: int = 1
    site: str = "embeddings"
    dropout: DropoutMode = "replay"

    def __post_init__(self) -> None:
        if self.weight < 0 or not (self.radius > 0 and self.probe > 0 and self.num_steps > 0):
            raise ValueError(
                "weight must be at least 0, radius, probe and num_steps above 0, "
                f"got {self.weight}, {self.radius}, {self.probe} and {self.num_steps}"
            )

    @property
    def sites(self) -> tuple[str, ...]:
        return (self.site,)

    def perturbation(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Perturbation:
        hidden_NTD = wide(clean.hidden(self.site).detach())
        noise_NTD = rng.at("noise").normal_NTD(
            batch.row_names, batch.mask_NT, hidden_NTD.shape[-1], dtype=hidden_NTD.dtype
        )
        real_NT1 = batch.mask_NT.unsqueeze(-1)
        reference = self.inner_reference(model, batch, clean, site=self.site, dtype=hidden_NTD.dtype)

        def values(delta_NTD: Tensor) -> Tensor:
            change = Perturbation(self.site, delta_NTD)
            logits = self.moved(model, batch, clean, change, rng, dtype=hidden_NTD.dtype)
            return divergence(reference, model.outputs(logits, batch), form="kl")

        direction_NTD = unit_step(noise_NTD, 2)
        for _ in range(self.num_steps):
            direction_NTD = unit_step(gradient_of(values, self.probe * direction_NTD) * real_NT1, 2)
        size_N11 = row_norm(hidden_NTD * real_NT1, 2) if self.scale == "norm" else 1.0
        return Perturbation(self.site, self.radius * size_N11 * direction_NTD)
