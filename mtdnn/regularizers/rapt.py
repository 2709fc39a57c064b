"""Random perturbation of a hidden layer, without any ascent.

Pereira et al., 2022, "RAPT", Algorithm 1.

Shape suffixes: N = rows, T = tokens, D = hidden width.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.passes import DropoutMode, Pass, Perturbable
from mtdnn.perturbation import row_norm
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.perturbing import Perturbation, Perturbing, wide
from mtdnn.rng import Rng, seed_of


@REGULARIZERS.register("rapt")
@dataclass(frozen=True, kw_only=True)
class Rapt(Perturbing):
    """Penalize how far the output moves under noise on a layer that is drawn anew for every mini-batch.

    alpha KL(f(x) || f_r(h_r + eta delta / ||delta||_inf)), delta ~ N(0, I), r ~ U{1 .. max_layer}; numbers take the
    squared difference. The layers up to r are computed once.

    :param weight: alpha, at least 0.
    :param step_size: eta, the largest entry of the change; above 0. The paper tries .01, 1.5, 2, 2.3 and 2.5.
    :param max_layer: the highest layer that may be perturbed, at least 1.
    :param where: ``layers``, or ``embeddings``: the embedding block's output in every mini-batch.
    :param norm_scope: over what the largest entry is taken: ``example`` (Algorithm 1) or ``token`` (MT-DNN's code).
    :param dropout: of the perturbed pass: ``independent`` masks above the layer [choice], ``replay`` or ``off``.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"step_size": 2.0, "max_layer": 3, "weight": 1.0},
        "embeddings": {"step_size": 2.0, "where": "embeddings", "weight": 1.0},
    }
    NOTES: ClassVar[Mapping[str, str]] = {
        "paper": "The text of Algorithm 1. sigma cancels in the normalisation and is no option; the gradient goes "
        "through both sides and the masks above the layer are fresh ones: the text is silent on both.",
        "embeddings": "The paper's RAPT-embedding.",
    }
    COST = "one forward and one backward pass of the layers above the perturbed one"
    divergence = "kl"
    stop_gradient = "none"
    climbs = False

    weight: float = 1.0
    step_size: float = 2.0
    max_layer: int = 3
    where: Literal["layers", "embeddings"] = "layers"
    norm_scope: Literal["example", "token"] = "example"
    dropout: DropoutMode = "independent"

    def __post_init__(self) -> None:
        if self.weight < 0 or not self.step_size > 0 or self.max_layer < 1:
            raise ValueError(
                "weight must be at least 0, step_size above 0 and max_layer at least 1, "
                f"got {self.weight}, {self.step_size} and {self.max_layer}"
            )

    @property
    def sites(self) -> tuple[str, ...]:
        if self.where == "embeddings":
            return ("embeddings",)
        return tuple(f"layer:{layer}" for layer in range(1, self.max_layer + 1))

    def perturbation(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Perturbation:
        site = random.Random(seed_of(rng.at("layer").key)).choice(self.sites)
        hidden_NTD = wide(clean.hidden(site).detach())
        noise_NTD = rng.at("noise").normal_NTD(
            batch.row_names, batch.mask_NT, hidden_NTD.shape[-1], dtype=hidden_NTD.dtype
        )
        return Perturbation(site, self.step_size * self._scaled(noise_NTD))

    def _scaled(self, noise_NTD: Tensor) -> Tensor:
        """The noise over its largest entry; padding stays zero."""
        largest = row_norm(noise_NTD, "inf") if self.norm_scope == "example" else noise_NTD.abs().amax(-1, keepdim=True)
        return noise_NTD / largest.clamp_min(torch.finfo(noise_NTD.dtype).tiny)
