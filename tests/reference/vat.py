"""Virtual adversarial training in plain numpy.

Miyato et al., 2018 (arXiv:1704.03976), equations 5 to 8 and Algorithm 1; derivatives by the complex step.
"""

# Shape suffixes: B = rows, T = tokens, D = width.

import numpy as np

from .random_noise import kl, pairs
from .smart import Kind, LogitsOf, derivative

Array = np.ndarray


def unit(direction_TD: Array) -> Array:
    """Of 2-norm 1; zero stays zero."""
    length = np.sqrt((direction_TD * direction_TD).sum())
    return direction_TD / length if length else direction_TD


def penalty(kind: Kind, clean: Array, moved: Array, *, group_B: Array | None = None) -> Array:
    """``KL(P || P(x + r))``, P constant, mean over units; regression: the squared difference."""
    if kind == "regression":
        error = clean.real - moved
        return (error * error).mean()
    return np.mean([kl(p.real, q) for p, q in pairs(clean, moved, kind, group_B)])


def direction(
    logits_of: LogitsOf,
    kind: Kind,
    start_BTD: Array,
    mask_BT: Array,
    *,
    probe: float,
    num_steps: int,
    group_B: Array | None = None,
) -> Array:
    """``d <- unit(grad of KL(P(x) || P(x + xi d)) at d)``, K times from a start of norm 1; each row by itself."""
    real_BT1 = mask_BT[:, :, None].astype(float)
    clean = logits_of(np.zeros_like(start_BTD)).real
    found_BTD = np.stack([unit(row_TD) for row_TD in start_BTD * real_BT1])
    for _ in range(num_steps):
        point_BTD = probe * found_BTD
        slope_BTD = np.zeros_like(point_BTD)
        for index in np.ndindex(point_BTD.shape):
            if mask_BT[index[:2]]:
                slope_BTD[index] = derivative(
                    lambda moved_BTD: penalty(kind, clean, logits_of(moved_BTD), group_B=group_B), point_BTD, index
                )
        found_BTD = np.stack([unit(row_TD) for row_TD in slope_BTD])
    return found_BTD
