"""How far two outputs lie apart, per unit, in float32 or wider.

Shape suffixes: U = units, K = outcomes (classes, or candidates of the largest group), R = distributions: as many as
units, or more where a unit has several (the words of a sentence, the start and the end of an answer).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

StopGradient = Literal["none", "reference", "targets"]
Form = Literal["symmetric_kl", "kl", "js", "squared"]


@dataclass(frozen=True)
class Outputs:
    """What a head says about each unit: a distribution over K outcomes, several of them, or a number.

    :param log_probs_UK: log-probabilities; for a number, None. Where units have several distributions, (R, K).
    :param valid_UK: False where a unit has fewer than K outcomes; None when all have K.
    :param values_U: the numbers; for a distribution, None.
    :param unit_R: the unit of each distribution, where units have several or none; None when each has one.
    :param num_units: U, beside ``unit_R``.
    """

    log_probs_UK: Tensor | None = None
    valid_UK: Tensor | None = None
    values_U: Tensor | None = None
    unit_R: Tensor | None = None
    num_units: int = 0

    @classmethod
    def categorical(
        cls,
        logits_UK: Tensor,
        valid_UK: Tensor | None = None,
        *,
        unit_R: Tensor | None = None,
        num_units: int = 0,
    ) -> "Outputs":
        logits_UK = at_least_float32(logits_UK)
        if valid_UK is not None:
            logits_UK = logits_UK.masked_fill(~valid_UK, torch.finfo(logits_UK.dtype).min)
        log_probs_UK = F.log_softmax(logits_UK, dim=-1)
        return cls(log_probs_UK=log_probs_UK, valid_UK=valid_UK, unit_R=unit_R, num_units=num_units)

    @classmethod
    def scalar(cls, values_U: Tensor) -> "Outputs":
        return cls(values_U=at_least_float32(values_U))

    def by_unit(self, values_R: Tensor) -> Tensor:
        """A value of each distribution as one of each unit, the mean of its own: (U,)."""
        return values_R if self.unit_R is None else mean_by_unit(values_R, self.unit_R, num_units=self.num_units)

    def detach(self) -> "Outputs":
        return replace(
            self,
            log_probs_UK=None if self.log_probs_UK is None else self.log_probs_UK.detach(),
            values_U=None if self.values_U is None else self.values_U.detach(),
        )


def at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def mean_by_unit(values_R: Tensor, unit_R: Tensor, *, num_units: int) -> Tensor:
    """The mean of each unit's values, 0 where it has none: (U,)."""
    none_U = values_R.new_zeros(num_units)
    counts_U = none_U.index_add(0, unit_R, torch.ones_like(values_R))
    return none_U.index_add(0, unit_R, values_R) / counts_U.clamp_min(1.0)


def symmetric_kl(a_UK: Tensor, b_UK: Tensor) -> Tensor:
    """KL(a || b) + KL(b || a) as sum (p - q)(log p - log q), of log-probabilities.

    The sum of two ``kl_div`` is off by a factor of 26 for outputs as close as an epsilon of 1e-5 makes them.
    """
    return (a_UK.exp() - b_UK.exp()) * (a_UK - b_UK)


def kl(a_UK: Tensor, b_UK: Tensor) -> Tensor:
    """KL(a || b), whose terms p(log p - log q) - p + q are each >= 0 and sum to the same."""
    step = b_UK - a_UK
    near = a_UK.exp() * (torch.expm1(step.clamp(max=1.0)) - step)
    return torch.where(step < 1.0, near, b_UK.exp() - a_UK.exp() * (1.0 + step))


def js(a_UK: Tensor, b_UK: Tensor) -> Tensor:
    """Jensen-Shannon: the mean of both KLs to the even mixture."""
    mixture_UK = torch.logaddexp(a_UK, b_UK) - torch.log(torch.tensor(2.0, dtype=a_UK.dtype))
    return 0.5 * (kl(a_UK, mixture_UK) + kl(b_UK, mixture_UK))


def squared_probabilities(a_UK: Tensor, b_UK: Tensor) -> Tensor:
    return (a_UK.exp() - b_UK.exp()).square()


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "symmetric_kl": symmetric_kl,
    "kl": kl,
    "js": js,
    "squared": squared_probabilities,
}


def divergence(
    reference: Outputs, other: Outputs, *, form: Form = "symmetric_kl", stop_gradient: StopGradient = "none"
) -> Tensor:
    """l_s of each unit: (U,). Distributions by ``form``; numbers by the squared difference (SMART, section 3.1).

    Of a unit's several distributions the mean [choice: the paper's tasks have one].


    :param stop_gradient: ``none``: gradients through both sides. ``reference``: none through ``reference``.
        ``targets``: KL(sg P || Q) + KL(sg Q || P), the official code's form of the symmetric KL; numbers as ``none``.
    """
    if stop_gradient == "targets" and reference.values_U is None:
        return _values(reference.detach(), other, "kl") + _values(other.detach(), reference, "kl")
    return _values(reference.detach() if stop_gradient == "reference" else reference, other, form)


def _values(a: Outputs, b: Outputs, form: Form) -> Tensor:
    if a.values_U is not None and b.values_U is not None:
        if a.values_U.shape != b.values_U.shape:
            raise ValueError(
                f"outputs of shapes {tuple(a.values_U.shape)} and {tuple(b.values_U.shape)} do not pair up"
            )
        return (a.values_U - b.values_U).square()
    assert a.log_probs_UK is not None and b.log_probs_UK is not None
    a_UK, b_UK = a.log_probs_UK, b.log_probs_UK
    if a.valid_UK is not None:
        a_UK, b_UK = a_UK.masked_fill(~a.valid_UK, 0.0), b_UK.masked_fill(~a.valid_UK, 0.0)
    return a.by_unit(TERMS[form](a_UK, b_UK).sum(-1))
