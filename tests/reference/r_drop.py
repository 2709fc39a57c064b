"""R-Drop in plain numpy, from the logits of two passes.

Liang et al., 2021 (arXiv:2106.14448), equations 2 to 4; ``repository``: as the authors' code halves the losses.
"""

from typing import Literal

import numpy as np

from .losses import loss_U
from .random_noise import kl, pairs
from .smart import Kind

Array = np.ndarray


def objective(
    kind: Kind,
    first: Array,
    second: Array,
    targets: Array,
    *,
    weight: float,
    form: Literal["paper", "repository"],
    group_B: Array | None = None,
) -> Array:
    """``(L1 + L2) + alpha / 2 (KL + KL)``, or half the losses; regression: ``alpha (y1 - y2)^2``; mean over units."""
    losses = loss_U(kind, first, targets, group_B=group_B) + loss_U(kind, second, targets, group_B=group_B)
    if kind == "regression":
        apart = (first - second) * (first - second)
    else:
        apart = np.array([0.5 * (kl(p, q) + kl(q, p)) for p, q in pairs(first, second, kind, group_B)])
    return (losses * (1.0 if form == "paper" else 0.5)).mean() + weight * apart.mean()
