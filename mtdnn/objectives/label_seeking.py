"""What PGD, FreeAT and FreeLB share: a change of the word embeddings that raises the task's own loss.

Zhu et al., 2020, "FreeLB", section 3. https://arxiv.org/abs/1909.11764

Shape suffixes: U = units, N = rows, T = tokens, D = hidden width.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.objectives.base import Objective
from mtdnn.passes import Perturbable
from mtdnn.perturbation import random_like, row_norm, row_rms
from mtdnn.rng import Rng

SMALLEST_NORM = 1e-10


@dataclass(frozen=True, kw_only=True)
class LabelSeeking(Objective):
    """Steps of ``step_size`` along the loss's gradient, each row for itself, inside a ball.

    :param num_steps: K, at least 1.
    :param step_size: alpha, the Frobenius norm of a step; above 0.
    :param init_magnitude: the start is U(-1, 1) x this / sqrt(T_i D), T_i the row's tokens; at least 0.
    :param max_norm: epsilon, the largest Frobenius norm of a row's change; 0 for no ball.
    :param site: ``word``, ``embeddings`` or ``layer:<r>``: where the change is added.
    """

    unattachable: ClassVar[str] = "it has no pass without a perturbation for a penalty to attach to"

    num_steps: int = 3
    step_size: float = 0.1
    init_magnitude: float = 0.2
    max_norm: float = 0.3
    site: str = "word"

    def __post_init__(self) -> None:
        if self.num_steps < 1 or not self.step_size > 0:
            raise ValueError(
                f"num_steps must be at least 1 and step_size above 0, got {self.num_steps} and {self.step_size}"
            )
        if self.init_magnitude < 0 or self.max_norm < 0:
            raise ValueError(
                f"init_magnitude and max_norm must be at least 0, got {self.init_magnitude} and {self.max_norm}"
            )

    @property
    def sites(self) -> tuple[str, ...]:
        return (self.site,)

    def start(self, model: Perturbable, batch: Batch, rng: Rng) -> Tensor:
        """The first change, zero at padding: (N, T, D)."""
        width, dtype = model.width_at(self.site), torch.promote_types(model.encoder.dtype, torch.float32)
        draws_NTD = rng.at("delta").uniform_NTD(batch.row_names, batch.mask_NT, width, dtype=dtype)
        size_N11 = self.init_magnitude / (batch.mask_NT.sum(1).to(dtype) * width).sqrt()[:, None, None]
        return draws_NTD * size_N11

    def losses(self, model: Perturbable, batch: Batch, delta_NTD: Tensor, rng: Rng) -> Tensor:
        """The loss of each unit under a change: (U,); one source of masks is one mask."""
        moved = model.run(batch, rng=rng, site=self.site, delta_NTD=delta_NTD)
        return model.loss(moved.logits, batch)

    @property
    def num_climbs(self) -> int:
        """Ascent steps to the last change that the parameters are trained at."""
        return self.num_terms - 1

    def climbed(self, model: Perturbable, batch: Batch, rng: Rng, masks: Rng) -> Tensor:
        """That change, found at fixed parameters, which collect nothing: (N, T, D)."""
        delta_NTD = self.start(model, batch, rng)
        for _ in range(self.num_climbs):
            delta_NTD.requires_grad_()
            loss_U = self.losses(model, batch, delta_NTD, masks)
            (gradient_NTD,) = torch.autograd.grad(loss_U.sum(), delta_NTD)
            delta_NTD = self.ascended(delta_NTD, gradient_NTD, batch)
        return delta_NTD

    def diagnose(self, model: Perturbable, batch: Batch, rng: Rng) -> dict[str, float]:
        """How large the last change is, and how much it raises the loss, with one dropout mask for all.

        ``penalty/loss`` is the rise over the loss without a change; ``gain`` the rise over that of a random change of
        the same size in every norm, where that one rises.
        """
        masks = rng.at("dropout")
        delta_NTD = self.climbed(model, batch, rng, masks)
        with torch.no_grad():
            clean = model.run(batch, rng=masks, sites=self.sites)
            still = model.loss(clean.logits, batch).mean().item()
            shuffled_NTD = random_like(delta_NTD, rng.at("random").generator())
            rise, random = (
                self.losses(model, batch, each_NTD, masks).mean().item() - still
                for each_NTD in (delta_NTD, shuffled_NTD)
            )
        ratio_N11 = row_rms(delta_NTD, batch.mask_NT) / row_rms(clean.hidden(self.site), batch.mask_NT)
        found = {
            "delta_inf": row_norm(delta_NTD, "inf").mean().item(),
            "delta_rms/x_rms": ratio_N11.mean().item(),
            "penalty": rise,
        }
        found |= {"penalty/loss": rise / still} if still > 0 else {}
        return found | ({"gain": rise / random} if random > 0 else {})

    def ascended(self, delta_NTD: Tensor, gradient_NTD: Tensor, batch: Batch) -> Tensor:
        """One step along the gradient's direction and back into the ball."""
        gradient_NTD = gradient_NTD * batch.mask_NT.unsqueeze(-1)
        moved_NTD = delta_NTD.detach() + self.step_size * gradient_NTD / frobenius(gradient_NTD)
        limit = self.max_norm or math.inf
        return moved_NTD * (limit / frobenius(moved_NTD)).clamp_max(1.0)


def frobenius(values_NTD: Tensor) -> Tensor:
    """The norm of each row, at least 1e-10: (N, 1, 1)."""
    norm_N11: Tensor = torch.linalg.vector_norm(values_NTD, dim=(1, 2), keepdim=True)
    return norm_N11.clamp_min(SMALLEST_NORM)


def gradient_at(delta_NTD: Tensor) -> Tensor:
    """What back-propagating a term left at its change."""
    assert delta_NTD.grad is not None, "a term is back-propagated before the next is asked for"
    return delta_NTD.grad
