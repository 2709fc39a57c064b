"""The regularizers that add random noise, in plain numpy: RAPT and R3F.

Pereira et al., 2022, "RAPT", Algorithm 1; Aghajanyan et al., 2020, "R3F" (arXiv:2008.03156), equation 6. Their noise
is given: what is checked is its scaling and the penalty.
"""

# Shape suffixes: B = rows, T = tokens, D = width, U = units.

from typing import Literal

import numpy as np

from .smart import Kind, log_softmax, squared_U, symmetric_kl_U

Array = np.ndarray


def rapt_delta(noise_BTD: Array, mask_BT: Array, *, step_size: float, norm_scope: Literal["example", "token"]) -> Array:
    """``eta delta / ||delta||_inf`` over a row's real tokens, or over each token; zero at padding."""
    delta_BTD = np.zeros_like(noise_BTD)
    for row, length in enumerate(mask_BT.sum(axis=1)):
        real_TD = noise_BTD[row, :length]
        largest = np.abs(real_TD).max() if norm_scope == "example" else np.abs(real_TD).max(axis=1, keepdims=True)
        delta_BTD[row, :length] = step_size * real_TD / largest
    return delta_BTD


def rapt_penalty(kind: Kind, clean: Array, noisy: Array, *, weight: float, group_B: Array | None = None) -> Array:
    """``alpha KL(clean || noisy)``, mean over units; regression: the squared difference."""
    if kind == "regression":
        return weight * squared_U(clean, noisy).mean()
    return weight * np.mean([kl(p, q) for p, q in pairs(clean, noisy, kind, group_B)])


def r3f_penalty(kind: Kind, clean: Array, noisy: Array, *, weight: float, group_B: Array | None = None) -> Array:
    """``lambda [KL(clean || noisy) + KL(noisy || clean)]``, mean over units; regression: the squared difference."""
    if kind == "regression":
        return weight * squared_U(clean, noisy).mean()
    return weight * np.mean([symmetric_kl_U(p[None], q[None])[0] for p, q in pairs(clean, noisy, kind, group_B)])


def pairs(first: Array, second: Array, kind: Kind, group_B: Array | None) -> list[tuple[Array, Array]]:
    """The logits of each unit on both sides: rows, or in ranking the scores of a group."""
    if kind == "classification":
        return list(zip(first, second, strict=True))
    return [(first[group_B == group], second[group_B == group]) for group in np.unique(group_B)]


def kl(p_logits: Array, q_logits: Array) -> Array:
    """``sum p (log p - log q)``."""
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    return (np.exp(log_p) * (log_p - log_q)).sum()
