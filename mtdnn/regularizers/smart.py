"""Smoothness-inducing adversarial regularization, options [A] and [B].

Jiang et al., 2020, "SMART", section 3.1 and Algorithm 1. https://arxiv.org/abs/1911.03437
Option [B]: Qin et al., 2019, "Adversarial Robustness through Local Linearization". https://arxiv.org/abs/1907.02610

Shape suffixes: U = units, N = rows, T = tokens, D = hidden width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.divergences import Form, Outputs, StopGradient, divergence
from mtdnn.encoder import TWICE
from mtdnn.passes import DropoutMode, Pass, Perturbable
from mtdnn.perturbation import Norm, project, row_rms, steepest_step, unit_step
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.linearization import GradientAt, linearization_error
from mtdnn.regularizers.perturbing import Perturbation, Perturbing, gradient_of, wide
from mtdnn.rng import Rng

OFFICIAL_GUARD = 1e-6
InnerValues = Callable[[Tensor], Tensor]

OFFICIAL = {"scale": "absolute", "perturb_padding": True, "stop_gradient": "targets", "dropout": "independent"}


@REGULARIZERS.register("smart")
@dataclass(frozen=True, kw_only=True)
class Smart(Perturbing):
    """Penalize how far the output moves under the worst small change of the embeddings.

    R_s = mean over units of max over ||delta||_p <= epsilon of l_s(f(x), f(x + delta)), times lambda_s.

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
    :param option: ``A``: the divergence of the outputs. ``B``: the error of the loss's linear approximation, which sees
        the labels and needs second derivatives.
    :param gradient_at: where option B takes the loss's gradient: ``perturbed``, as the paper prints it, or ``clean``,
        as Qin et al. do.
    :param divergence: l_s for distributions; numbers always take the squared difference.
    :param stop_gradient: which side of the penalty carries no gradient.
    :param ascent: ``projected``: Algorithm 1. ``steepest``: the same with the steepest step of p-norm 1 instead of
        g / ||g||_p. ``official``: (noise + eta g) / (max_D |.| + 1e-6) per token. ``official_gradient``:
        eta g / max_D |g| per token. The official ones do not project, and ``norm`` and ``radius`` are not used.
    :param inner: what the ascent climbs: ``same``, what is penalized. ``kl``: KL(clean || perturbed). ``log_odds``: the
        official code's 2 p (logit p - logit y), log-odds constant.
    :param ascent_precision: ``fp32``, or wider where training is; or ``training``'s own: under bf16 a cheaper ascent,
        and one forward pass less where dropout is replayed [choice]. For radii of about 0.1 x RMS and more: the
        smaller, the further it strays. Option A alone; under fp16, which is too coarse, the ascent is in float32.
    :param perturb_padding: change padding too, as the official code does.
    :param detach_embeddings: no gradient from the perturbed pass into the embeddings, as the first official code.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {"radius": 0.1, "step_size": 0.1, "noise_std": 0.1, "scale": "rms"},
        "paper": {"radius": 1e-5, "step_size": 1e-3, "noise_std": 1e-5, "scale": "absolute"},
        "official-2020-04": {
            **OFFICIAL,
            "radius": 1e-3,
            "step_size": 1e-3,
            "noise_std": 1e-3,
            "ascent": "official_gradient",
            "inner": "kl",
            "detach_embeddings": True,
        },
        "official-2020-08": {
            **OFFICIAL,
            "radius": 1.0,
            "step_size": 1e-3,
            "noise_std": 1e-5,
            "ascent": "official",
            "inner": "log_odds",
        },
        "official-2021-02": {
            **OFFICIAL,
            "radius": 1.0,
            "step_size": 1e-5,
            "noise_std": 1e-5,
            "ascent": "official",
            "inner": "log_odds",
            "site": "embeddings_twice",
        },
    }
    NOTES: ClassVar[Mapping[str, str]] = {
        "default": "Ours: Algorithm 1 with radius, step and noise of 0.1 x the RMS of the embeddings, 10,000 times the "
        "paper's; the paper's own radius does nothing that can be measured.",
        "paper": "The text of ACL 2020; sigma is not given there. At a radius of 1e-5 the penalty is about 1e-7 of the "
        "loss and its gradient 1e-6 of the loss's: it needs float32 or wider in both passes, bf16 cannot see it, and "
        "its effect on training is below measurement.",
        "official-2020-04": "Official code from 2020-04 to 2020-08: the change is eta g / max|g| per token, 100 times "
        "the paper's; nothing is projected; padding is perturbed; the embeddings get no gradient from the penalty. "
        "Its noise_std was 1e-3 at first, later 1e-4 and 1e-5.",
        "official-2020-08": "Official code from 2020-08 to 2020-12, CAMERO, smart-pytorch, RAPT's SMART baseline: "
        "noise and gradient are normalised together, so that every token moves by about 1, 100,000 times the paper's; "
        "the raw gradient is tiny beside the noise, so that the direction is nearly random.",
        "official-2021-02": "Official code from 2021-02 to 2021-09, its last working state: as official-2020-08 with "
        "eta 1e-5, and the embedding block applied twice, so that the penalty is above 0 even without a change.",
    }
    COST = (
        "1 + num_steps forward and as many backward passes beside the clean pass; under bf16 one more forward where "
        "the ascent is in float32"
    )

    weight: float = 1.0
    radius: float = 0.1
    step_size: float = 0.1
    noise_std: float = 0.1
    scale: Literal["absolute", "rms"] = "rms"
    num_steps: int = 1
    norm: Norm = "inf"
    site: str = "embeddings"
    dropout: DropoutMode = "replay"
    option: Literal["A", "B"] = "A"
    gradient_at: GradientAt = "perturbed"
    divergence: Form = "symmetric_kl"
    stop_gradient: StopGradient = "none"
    ascent: Literal["projected", "steepest", "official", "official_gradient"] = "projected"
    inner: Literal["same", "kl", "log_odds"] = "same"
    ascent_precision: Literal["fp32", "training"] = "fp32"
    perturb_padding: bool = False
    detach_embeddings: bool = False

    def __post_init__(self) -> None:
        for name in ("radius", "step_size", "noise_std", "num_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.weight < 0:
            raise ValueError(f"weight must be at least 0, got {self.weight}")
        if self.stop_gradient == "targets" and self.divergence != "symmetric_kl":
            raise ValueError(f"stop_gradient: targets is a form of the symmetric KL, not of {self.divergence}")
        if self.option == "B" and (self.inner != "same" or self.stop_gradient != "none"):
            raise ValueError("option B has no divergence: leave inner and stop_gradient out")
        if self.option == "B" and self.ascent_precision != "fp32":
            raise ValueError("option B climbs a difference of second order, which bf16 loses: ascent_precision: fp32")

    @property
    def sites(self) -> tuple[str, ...]:
        return ("embeddings", TWICE) if self.site == TWICE else (self.site,)

    def values(self, model: Perturbable, batch: Batch, clean: Pass, change: Perturbation, rng: Rng) -> Tensor:
        if self.option == "A":
            return super().values(model, batch, clean, change, rng)
        dtype = wide(clean.hidden(self.site)).dtype
        return linearization_error(
            lambda delta_NTD: self._loss(model, batch, clean, delta_NTD, dtype, rng),
            change.delta_NTD,
            batch,
            gradient_at=self.gradient_at,
        )

    def diagnose(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> dict[str, float]:
        """As of every perturbing method; of an ascent in bf16 also ``of_fp32``: how high it comes beside float32."""
        found = super().diagnose(model, batch, clean, rng)
        if not self._ascends_as_trained(clean) or not clean.autocast:
            return found
        heights = self._inner_values(model, batch, clean, wide(clean.hidden(self.site)).dtype, rng)
        own, widest = (
            heights(each.perturbation(model, batch, clean, rng).delta_NTD).mean().item()
            for each in (self, replace(self, ascent_precision="fp32"))
        )
        return found | ({"of_fp32": own / widest} if widest > 0 else {})

    def _loss(
        self, model: Perturbable, batch: Batch, clean: Pass, delta_NTD: Tensor, dtype: torch.dtype | None, rng: Rng
    ) -> Tensor:
        return model.loss(self.moved(model, batch, clean, Perturbation(self.site, delta_NTD), rng, dtype=dtype), batch)

    def perturbation(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Perturbation:
        """Ascent from a random start (Algorithm 1, lines 6 to 10).

        Both sides are computed in float32 (or wider) from the same embeddings: with a bf16 reference the direction
        of the first step is noise, unless the step is large (``ascent_precision``).
        """
        hidden_NTD = wide(clean.hidden(self.site).detach())
        mask_NT = torch.ones_like(batch.mask_NT) if self.perturb_padding else batch.mask_NT
        unit_N11 = row_rms(hidden_NTD, batch.mask_NT) if self.scale == "rms" else torch.ones_like(hidden_NTD[:, :1, :1])
        noise_NTD = rng.at("noise").normal_NTD(batch.row_names, mask_NT, hidden_NTD.shape[-1], dtype=hidden_NTD.dtype)
        dtype = None if self._ascends_as_trained(clean) else hidden_NTD.dtype
        inner = self._inner_values(model, batch, clean, dtype, rng)
        delta_NTD = self.noise_std * unit_N11 * noise_NTD
        for _ in range(self.num_steps):
            gradient_NTD = gradient_of(inner, delta_NTD) * mask_NT.unsqueeze(-1)
            delta_NTD = self._step(delta_NTD, gradient_NTD, unit_N11)
        return Perturbation(self.site, delta_NTD)

    def _ascends_as_trained(self, clean: Pass) -> bool:
        """Whether the ascent is in the training's precision; a gradient of about 1e-9 would be 0 in float16."""
        half = clean.autocast and torch.get_autocast_dtype(clean.logits.device.type) == torch.float16
        return self.ascent_precision == "training" and not half

    def _step(self, delta_NTD: Tensor, gradient_NTD: Tensor, unit_N11: Tensor) -> Tensor:
        if self.ascent == "official":
            return official_step(delta_NTD, gradient_NTD, self.step_size)
        if self.ascent == "official_gradient":
            largest_NT1 = gradient_NTD.abs().amax(-1, keepdim=True)
            return self.step_size * gradient_NTD / largest_NT1.masked_fill(largest_NT1 == 0, 1.0)
        step = steepest_step if self.ascent == "steepest" else unit_step
        moved_NTD = delta_NTD + self.step_size * unit_N11 * step(gradient_NTD, self.norm)
        return project(moved_NTD, self.radius * unit_N11, self.norm)

    def _inner_values(
        self, model: Perturbable, batch: Batch, clean: Pass, dtype: torch.dtype | None, rng: Rng
    ) -> InnerValues:
        """What the ascent climbs, of each unit, as a function of the change; at None in the training's precision."""
        if self.option == "B":
            return lambda delta_NTD: linearization_error(
                lambda moved_NTD: self._loss(model, batch, clean, moved_NTD, dtype, rng),
                delta_NTD,
                batch,
                gradient_at=self.gradient_at,
            )
        reference = self.inner_reference(model, batch, clean, site=self.site, dtype=dtype)

        def values(delta_NTD: Tensor) -> Tensor:
            change = Perturbation(self.site, delta_NTD)
            outputs = model.outputs(self.moved(model, batch, clean, change, rng, dtype=dtype), batch)
            if self.inner == "log_odds":
                return official_inner_loss(reference, outputs)
            return divergence(reference, outputs, form="kl" if self.inner == "kl" else self.divergence)

        return values


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
    return reference.by_unit((2.0 * p_UK * (_log_odds(p_UK) - _log_odds(y_UK))).sum(-1))


def _log_odds(p_UK: Tensor) -> Tensor:
    return -(1.0 / (p_UK.detach() + OFFICIAL_GUARD) - 1.0 + OFFICIAL_GUARD).log()
