"""Smoothness-inducing adversarial regularization, option [A].

Jiang et al., 2020, "SMART", section 3.1 and Algorithm 1. https://arxiv.org/abs/1911.03437

Shape suffixes: U = units, N = rows, T = tokens, D = hidden width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.divergences import Form, Outputs, StopGradient, divergence
from mtdnn.model import DropoutMode, MultiTaskModel, Pass
from mtdnn.regularizers.base import REGULARIZERS, Regularizer
from mtdnn.regularizers.perturbation import Norm, project, row_rms, unit_step
from mtdnn.rng import Rng

OFFICIAL_GUARD = 1e-6


@REGULARIZERS.register("smart")
@dataclass(frozen=True, kw_only=True)
class Smart(Regularizer):
    """Penalize how far the output moves under the worst small change of the embeddings.

    :param weight: lambda_s, at least 0.
    :param radius: epsilon, the largest p-norm of a row's change; above 0, in units of ``scale``.
    :param step_size: eta, how far one ascent step moves before projection; above 0, in units of ``scale``.
    :param noise_std: sigma of the starting point; above 0 (at 0 the gradient is 0), in units of ``scale``. The paper
        does not give it [choice].
    :param scale: ``absolute``, or ``rms``: times the root mean square of the row's hidden states at the site, so that
        one value fits every encoder [choice].
    :param num_steps: T_x, ascent steps; each costs one forward and one backward pass.
    :param norm: p of the ball and of the gradient's normalisation: inf, 2 or 1.
    :param site: ``word``, ``embeddings`` or ``layer:<r>``: where the change is added.
    :param dropout: of the perturbed pass: ``replay`` the clean pass's masks, ``independent`` ones, or ``off`` in both.
    :param divergence: l_s for distributions; numbers always take the squared difference.
    :param stop_gradient: which side of the penalty carries no gradient.
    :param ascent: ``projected``: Algorithm 1. ``official``: (noise + eta g) / (max_D |.| + 1e-6) per token, g raw and
        summed over the batch, no projection, padding perturbed too, its inner loss in log-odds.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {"radius": 0.1, "step_size": 0.1, "noise_std": 0.1, "scale": "rms"},
        "paper": {"radius": 1e-5, "step_size": 1e-3, "noise_std": 1e-5, "scale": "absolute"},
        "official-2020-08": {
            "radius": 1.0,
            "step_size": 1e-3,
            "noise_std": 1e-5,
            "scale": "absolute",
            "ascent": "official",
            "stop_gradient": "targets",
            "dropout": "independent",
        },
    }

    weight: float = 1.0
    radius: float = 0.1
    step_size: float = 0.1
    noise_std: float = 0.1
    scale: Literal["absolute", "rms"] = "rms"
    num_steps: int = 1
    norm: Norm = "inf"
    site: str = "embeddings"
    dropout: DropoutMode = "replay"
    divergence: Form = "symmetric_kl"
    stop_gradient: StopGradient = "none"
    ascent: Literal["projected", "official"] = "projected"

    def __post_init__(self) -> None:
        for name in ("radius", "step_size", "noise_std", "num_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.weight < 0:
            raise ValueError(f"weight must be at least 0, got {self.weight}")

    @property
    def sites(self) -> tuple[str, ...]:
        return (self.site,)

    def penalty(self, model: MultiTaskModel, batch: Batch, clean: Pass, rng: Rng) -> Tensor:
        delta_NTD = self.worst_delta(model, batch, clean, rng)
        reference = clean.logits
        if self.dropout == "off":
            reference = model.resume(batch, clean, site=self.site, delta_NTD=None, dropout="off")
        perturbed = model.resume(
            batch, clean, site=self.site, delta_NTD=delta_NTD, dropout=self.dropout, rng=rng.at("dropout")
        )
        values_U = divergence(
            model.outputs(reference, batch),
            model.outputs(perturbed, batch),
            form=self.divergence,
            stop_gradient=self.stop_gradient,
        )
        return self.weight * values_U.mean()

    def worst_delta(self, model: MultiTaskModel, batch: Batch, clean: Pass, rng: Rng) -> Tensor:
        """Ascent on the divergence from a random start (Algorithm 1, lines 6 to 10): (N, T, D), no graph.

        Both sides are computed in float32 (or wider) from the same embeddings: with a bf16 reference the direction
        of the first step is noise (``numerics.md``, precision of the inner pass).
        """
        hidden_NTD = wide(clean.hidden(self.site).detach())
        mask_NT = batch.mask_NT if self.ascent == "projected" else torch.ones_like(batch.mask_NT)
        unit_N11 = row_rms(hidden_NTD, batch.mask_NT) if self.scale == "rms" else torch.ones_like(hidden_NTD[:, :1, :1])
        noise_NTD = rng.at("noise").normal_NTD(batch.row_names, mask_NT, hidden_NTD.shape[-1], dtype=hidden_NTD.dtype)
        reference = self._reference(model, batch, clean, hidden_NTD.dtype, rng)
        delta_NTD = self.noise_std * unit_N11 * noise_NTD
        for _ in range(self.num_steps):
            gradient_NTD = self._gradient(model, batch, clean, delta_NTD, reference, rng)
            if self.ascent == "official":
                delta_NTD = official_step(delta_NTD, gradient_NTD, self.step_size)
            else:
                step_NTD = unit_step(gradient_NTD * mask_NT.unsqueeze(-1), self.norm)
                moved_NTD = delta_NTD + self.step_size * unit_N11 * step_NTD
                delta_NTD = project(moved_NTD, self.radius * unit_N11, self.norm)
        return delta_NTD

    @torch.no_grad()
    def _reference(self, model: MultiTaskModel, batch: Batch, clean: Pass, dtype: torch.dtype, rng: Rng) -> Outputs:
        """The clean side of the ascent; run again only where the clean pass was narrower or had other dropout."""
        if clean.logits.dtype == dtype and self.dropout != "off":
            return model.outputs(clean.logits.detach(), batch)
        mode: DropoutMode = "off" if self.dropout == "off" else "replay"
        logits = model.resume(batch, clean, site=self.site, delta_NTD=None, dropout=mode, dtype=dtype)
        return model.outputs(logits, batch)

    def _gradient(
        self, model: MultiTaskModel, batch: Batch, clean: Pass, delta_NTD: Tensor, reference: Outputs, rng: Rng
    ) -> Tensor:
        """Of each unit's own inner loss with respect to its rows' change; parameters collect nothing."""
        with torch.enable_grad():
            delta_NTD = delta_NTD.detach().requires_grad_()
            logits = model.resume(
                batch,
                clean,
                site=self.site,
                delta_NTD=delta_NTD,
                dropout=self.dropout,
                dtype=delta_NTD.dtype,
                rng=rng.at("dropout"),
            )
            perturbed = model.outputs(logits, batch)
            if self.ascent == "official":
                values_U = official_inner_loss(reference, perturbed)
            else:
                values_U = divergence(reference, perturbed, form=self.divergence)
            (gradient_NTD,) = torch.autograd.grad(values_U.sum(), delta_NTD)
        return gradient_NTD


def wide(values: Tensor) -> Tensor:
    """float32 or wider."""
    return values if values.dtype == torch.float64 else values.float()


def official_step(delta_NTD: Tensor, gradient_NTD: Tensor, step_size: float) -> Tensor:
    """The official code's update between 2020-08 and 2020-12: every token ends with a largest entry of about 1."""
    moved_NTD = delta_NTD + step_size * gradient_NTD
    return moved_NTD / (moved_NTD.abs().amax(-1, keepdim=True) + OFFICIAL_GUARD)


def official_inner_loss(reference: Outputs, perturbed: Outputs) -> Tensor:
    """2 p (logit p - logit y) of each unit with the log-odds detached, p the perturbed side; squared for numbers."""
    if perturbed.values_U is not None:
        return divergence(reference, perturbed)
    assert perturbed.log_probs_UK is not None and reference.log_probs_UK is not None
    p_UK, y_UK = perturbed.log_probs_UK.exp(), reference.log_probs_UK.exp()
    return (2.0 * p_UK * (_log_odds(p_UK) - _log_odds(y_UK))).sum(-1)


def _log_odds(p_UK: Tensor) -> Tensor:
    return -(1.0 / (p_UK.detach() + OFFICIAL_GUARD) - 1.0 + OFFICIAL_GUARD).log()
