"""What the regularizers that perturb hidden states have in common, and what is measured of them.

Shape suffixes: U = units, N = rows, T = tokens, D = hidden width.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.divergences import Form, Outputs, StopGradient, divergence
from mtdnn.encoder import TWICE
from mtdnn.passes import DropoutMode, Pass, Perturbable
from mtdnn.perturbation import random_like, row_norm, row_rms
from mtdnn.regularizers.base import Regularizer
from mtdnn.rng import Rng


@dataclass(frozen=True)
class Perturbation:
    """A change of the hidden states at a site: (N, T, D), no graph."""

    site: str
    delta_NTD: Tensor


class Perturbing(Regularizer):
    """Penalizes how far the output moves when hidden states are changed; subclasses say by how much and where to."""

    weight: float
    dropout: DropoutMode
    divergence: Form
    stop_gradient: StopGradient
    detach_embeddings: bool = False
    climbs = True  # the change is found by ascent, so that its gain over a random one counts

    @abstractmethod
    def perturbation(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Perturbation:
        """The change of this batch."""

    def penalty(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Tensor:
        found = self.perturbation(model, batch, clean, rng)
        return self.weight * self.values(model, batch, clean, found, rng).mean()

    def values(self, model: Perturbable, batch: Batch, clean: Pass, change: Perturbation, rng: Rng) -> Tensor:
        """The unweighted penalty of each unit under a change: (U,), with its graph."""
        reference = clean.logits
        if self.dropout == "off":
            reference = model.resume(batch, clean, site=applied_once(change.site), delta_NTD=None, dropout="off")
        moved = self.moved(model, batch, clean, change, rng)
        return divergence(
            model.outputs(reference, batch),
            model.outputs(moved, batch),
            form=self.divergence,
            stop_gradient=self.stop_gradient,
        )

    def moved(
        self,
        model: Perturbable,
        batch: Batch,
        clean: Pass,
        change: Perturbation,
        rng: Rng,
        *,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Logits of the perturbed pass; the same masks every time, whether replayed or independent."""
        return model.resume(
            batch,
            clean,
            site=change.site,
            delta_NTD=change.delta_NTD,
            dropout=self.dropout,
            dtype=dtype,
            rng=rng.at("dropout"),
            detach=self.detach_embeddings,
        )

    @torch.no_grad()
    def inner_reference(
        self, model: Perturbable, batch: Batch, clean: Pass, *, site: str, dtype: torch.dtype | None
    ) -> Outputs:
        """The clean side of an ascent; run again only where the clean pass was narrower or had other dropout.

        :param dtype: of the ascent; None for the clean pass's.
        """
        as_wide = dtype is None or not clean.autocast
        if as_wide and self.dropout != "off":
            return model.outputs(clean.logits.detach(), batch)
        mode: DropoutMode = "off" if self.dropout == "off" else "replay"
        logits = model.resume(batch, clean, site=applied_once(site), delta_NTD=None, dropout=mode, dtype=dtype)
        return model.outputs(logits, batch)

    def diagnose(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> dict[str, float]:
        """How large the change is, what the ascent gains, and what dropout alone would give.

        ``gain`` is the penalty over that of a random change of the same size in every norm; ``dropout_floor`` the
        penalty at no change with this run's dropout.
        """
        change = self.perturbation(model, batch, clean, rng)
        hidden_NTD = clean.hidden(change.site).detach()
        ratio_N11 = row_rms(change.delta_NTD, batch.mask_NT) / row_rms(hidden_NTD, batch.mask_NT)
        shuffled = random_like(change.delta_NTD, rng.at("random").generator())
        still = torch.zeros_like(change.delta_NTD)
        value, random, floor = (
            self.values(model, batch, clean, Perturbation(change.site, delta_NTD), rng).mean().item()
            for delta_NTD in (change.delta_NTD, shuffled, still)
        )
        found = {
            "delta_inf": row_norm(change.delta_NTD, "inf").mean().item(),
            "delta_rms/x_rms": ratio_N11.mean().item(),
            "penalty": self.weight * value,
            "dropout_floor": self.weight * floor,
        }
        return found | ({"gain": value / random} if self.climbs and random > 0 else {})


def applied_once(site: str) -> str:
    """The site whose resumed pass, without a change, is the clean pass."""
    return "embeddings" if site == TWICE else site


def wide(values: Tensor) -> Tensor:
    """float32 or wider."""
    return values if values.dtype == torch.float64 else values.float()


def gradient_of(values: Callable[[Tensor], Tensor], delta_NTD: Tensor) -> Tensor:
    """Of each unit's own value with respect to its rows' change; parameters collect nothing."""
    with torch.enable_grad():
        delta_NTD = delta_NTD.detach().requires_grad_()
        (gradient_NTD,) = torch.autograd.grad(values(delta_NTD).sum(), delta_NTD)
    return gradient_NTD.detach()
