"""SMART's option [A] in plain numpy, with exact derivatives from the complex step.

Jiang et al., 2020, "SMART" (arXiv:1911.03437), section 3.1 and Algorithm 1, as read in ``design/numerics.md``; the
preset ``official-2020-08`` follows the behaviour of namisan/mt-dnn of that time. Slow on purpose: every derivative is
one more evaluation of the whole function, entry by entry.

The complex step (Squire & Trapp, 1998): ``f'(x) = Im f(x + ih) / h`` for an f that is real on real numbers. Nothing is
subtracted, so with h = 1e-30 it is exact to rounding. "Constant in the derivative" therefore means "take the real
part".
"""

# Shape suffixes: B = token sequences (rows), T = tokens, D = width, C = classes, U = units of the divergence.

from collections.abc import Callable
from typing import Literal

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]
Kind = Literal["classification", "regression", "ranking"]
StopGradient = Literal["none", "reference", "targets"]
Norm = Literal["inf", "2", "1"]
LogitsOf = Callable[[Array], Array]
Divergence = Callable[[Array, Array], Array]

STEP = 1e-30
GUARD = 1e-6  # mt-dnn's ``epsilon``, in the log-odds and in the division by a token's largest component.


# Derivatives


def derivative(function: Callable[[Array], Array], point: Array, index: tuple[int, ...]) -> Array:
    """Derivative of ``function``, of any shape, with respect to the one entry ``point[index]``."""
    moved = point.astype(np.complex128)
    moved[index] += 1j * STEP
    return np.imag(function(moved)) / STEP


def parameter_gradient(
    penalty_of_weights: Callable[[Weights], Array], weights: Weights, name: str, index: tuple[int, ...]
) -> float:
    """Derivative of a scalar penalty with respect to ``weights[name][index]``.

    A delta, a teacher or anything else that is a constant must be computed before, and be real.
    """
    return float(derivative(lambda moved: penalty_of_weights({**weights, name: moved}), weights[name], index))


# Divergences


def log_softmax(logits: Array) -> Array:
    """Over the last axis, shifted by the largest real part."""
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def symmetric_kl_U(reference_UC: Array, perturbed_UC: Array, stop_gradient: StopGradient = "none") -> Array:
    """KL(P||Q) + KL(Q||P) as ``sum (p - q)(log p - log q)`` per unit; SMART section 3.1.

    :param stop_gradient: ``none``, ``reference`` (P constant) or ``targets`` (KL(sg P||Q) + KL(sg Q||P)). The
        gradient of ``targets`` is ``sum (sg p - sg q)(dlog p - dlog q)``, because ``sum p dlog p = sum dp = 0``; so
        it is this same sum with the probabilities, not the logarithms, held constant.
    """
    assert reference_UC.shape == perturbed_UC.shape, (reference_UC.shape, perturbed_UC.shape)
    log_p, log_q = log_softmax(reference_UC), log_softmax(perturbed_UC)
    if stop_gradient == "reference":
        log_p = log_p.real
    p, q = np.exp(log_p), np.exp(log_q)
    difference = (p - q).real if stop_gradient == "targets" else p - q
    return (difference * (log_p - log_q)).sum(axis=-1)


def squared_U(reference: Array, perturbed: Array, stop_gradient: StopGradient = "none") -> Array:
    """``(p - q)^2`` per unit, of scores (U,) or (U, 1); SMART section 3.1. Not ``abs()**2``: that is not analytic."""
    assert reference.shape == perturbed.shape, (reference.shape, perturbed.shape)
    assert stop_gradient != "targets", "'targets' is a form of the KL divergence; a squared difference has none"
    difference_U = (reference.real if stop_gradient == "reference" else reference) - perturbed
    return (difference_U * difference_U).reshape(len(difference_U), -1).sum(axis=-1)


def divergence_U(
    kind: Kind,
    reference: Array,
    perturbed: Array,
    *,
    group_B: Array | None = None,
    stop_gradient: StopGradient = "none",
) -> Array:
    """Divergence per unit: an example, or for ``ranking`` a group of rows, in the ascending order of its number.

    :param reference: logits (B, C); scores (B,) or (B, 1) for regression and ranking. The clean, or the teacher's.
    :param group_B: ranking: which group a row belongs to, any integers, in any order.
    """
    if kind == "regression":
        return squared_U(reference, perturbed, stop_gradient)
    if kind == "classification":
        return symmetric_kl_U(reference, perturbed, stop_gradient)
    assert reference.shape == perturbed.shape, (reference.shape, perturbed.shape)
    pairs = [(reference[rows].reshape(1, -1), perturbed[rows].reshape(1, -1)) for rows in _rows_of_groups(group_B)]
    return np.concatenate([symmetric_kl_U(p, q, stop_gradient) for p, q in pairs])


def divergence_for(kind: Kind, *, group_B: Array | None = None, stop_gradient: StopGradient = "none") -> Divergence:
    """``divergence_U`` with its options filled in: ``(reference, perturbed) -> (U,)``."""

    def divergence(reference: Array, perturbed: Array) -> Array:
        return divergence_U(kind, reference, perturbed, group_B=group_B, stop_gradient=stop_gradient)

    return divergence


def unit_of_row_B(group_B: Array) -> Array:
    """The unit of the divergence that a row belongs to, counted from 0."""
    return np.unique(group_B, return_inverse=True)[1].reshape(-1)


def _rows_of_groups(group_B: Array) -> list[Array]:
    return [np.flatnonzero(group_B == group) for group in np.unique(group_B)]


# Projections onto ||delta||_p <= radius, of one row's entries taken as one vector


def project(vector: Array, radius: float, norm: Norm) -> Array:
    """The nearest point of the p-ball, of the same shape."""
    if norm == "inf":
        return np.clip(vector, -radius, radius)
    if norm == "2":
        length = np.sqrt((vector * vector).sum())
        return vector if length <= radius else vector * (radius / length)
    return _project_on_l1(vector, radius)


def _project_on_l1(vector: Array, radius: float) -> Array:
    """Duchi et al., 2008, figure 1 on the absolute values (section 4), with the signs put back."""
    size = np.abs(vector)
    if size.sum() <= radius:
        return vector
    descending = np.sort(size.reshape(-1))[::-1]
    candidates = (np.cumsum(descending) - radius) / np.arange(1, descending.size + 1)
    threshold = candidates[np.flatnonzero(descending > candidates)[-1]]
    return np.sign(vector) * np.maximum(size - threshold, 0.0)


def unit_direction(gradient: Array, norm: Norm) -> Array:
    """``g / ||g||_p``; a zero gradient stays zero. Scaled by max|g| first: squares of 1e-200 would be lost."""
    largest = np.abs(gradient).max()
    if largest == 0.0:
        return np.zeros_like(gradient)
    scaled = gradient / largest
    if norm == "inf":
        return scaled
    return scaled / (np.sqrt((scaled * scaled).sum()) if norm == "2" else np.abs(scaled).sum())


# The inner maximisation


def row_gradient_BTD(
    logits_of: LogitsOf,
    divergence: Divergence,
    delta_BTD: Array,
    mask_BT: Array,
    unit_B: Array | None = None,
) -> Array:
    """Per row, the gradient of its own unit's divergence from the clean logits; the clean side is a constant.

    :param logits_of: delta (B, T, D) to logits; the clean ones are those at zero.
    :param unit_B: which unit a row belongs to, its own by default; ranking: ``unit_of_row_B(group_B)``.
    """
    clean = logits_of(np.zeros_like(delta_BTD)).real
    units = np.arange(len(delta_BTD)) if unit_B is None else unit_B
    gradient_BTD = np.zeros_like(delta_BTD)
    for index in np.ndindex(delta_BTD.shape):
        row, token, _ = index
        if mask_BT[row, token]:
            slope_U = derivative(lambda moved_BTD: divergence(clean, logits_of(moved_BTD)), delta_BTD, index)
            gradient_BTD[index] = slope_U[units[row]]
    return gradient_BTD


def ascend(
    logits_of: LogitsOf,
    divergence: Divergence,
    start_delta_BTD: Array,
    mask_BT: Array,
    *,
    radius: float,
    step_size: float,
    num_steps: int,
    norm: Norm,
    unit_B: Array | None = None,
) -> Array:
    """The delta (B, T, D) of SMART's Algorithm 1, lines 6 to 10, zero at padding.

    The start is not projected before the first gradient (line 6), only after a step (line 9). Norm and ball are those
    of a row's real tokens together, T_i x D entries.

    :param start_delta_BTD: the noise nu of line 6; its entries at padding are ignored.
    :param radius: epsilon. :param step_size: eta. :param num_steps: T_x.
    """
    delta_BTD = np.where(mask_BT[:, :, None].astype(bool), start_delta_BTD, 0.0)
    for _ in range(num_steps):
        gradient_BTD = row_gradient_BTD(logits_of, divergence, delta_BTD, mask_BT, unit_B)
        # At padding delta and gradient are zero: they add to no norm and move in no projection.
        directions = [unit_direction(gradient_TD, norm) for gradient_TD in gradient_BTD]
        moved_BTD = delta_BTD + step_size * np.stack(directions)
        delta_BTD = np.stack([project(moved_TD, radius, norm) for moved_TD in moved_BTD])
    return delta_BTD


def smart_penalty(logits_of: LogitsOf, divergence: Divergence, delta_BTD: Array) -> Array:
    """R_s, option [A]: mean over the units of the divergence between the logits at 0 and at ``delta``.

    As a function of the weights inside ``logits_of``, with delta a constant, it is differentiated by
    ``parameter_gradient``: through both sides, unless the divergence stops one.
    """
    return divergence(logits_of(np.zeros_like(delta_BTD)), logits_of(delta_BTD)).mean()


# The preset official-2020-08


def official_inner_loss(kind: Kind, adversarial: Array, clean: Array, *, group_B: Array | None = None) -> Array:
    """``sum 2 p (logit p - logit y)`` over the batch, the log-odds and y constant; regression: squared differences.

    It is summed, not averaged: the preset's gradient is not normalised before the noise is added, so its size counts.
    Ranking: p and y are softmaxes over a group.
    """
    if kind == "regression":
        return squared_U(clean, adversarial, "reference").sum()
    if kind == "classification":
        return _log_odds_loss(adversarial, clean)
    rows_of_groups = _rows_of_groups(group_B)
    return sum(_log_odds_loss(adversarial[rows].reshape(1, -1), clean[rows].reshape(1, -1)) for rows in rows_of_groups)


def _log_odds_loss(adversarial_UC: Array, clean_UC: Array) -> Array:
    p_UC, y_UC = np.exp(log_softmax(adversarial_UC)), np.exp(log_softmax(clean_UC.real))
    return (p_UC * (_log_odds(p_UC.real) - _log_odds(y_UC)) * 2.0).sum()


def _log_odds(probability: Array) -> Array:
    """``log(p / (1 - p))``, guarded the way of mt-dnn."""
    return -np.log(1.0 / (probability + GUARD) - 1.0 + GUARD)


def official_2020_08_delta(
    logits_of: LogitsOf,
    kind: Kind,
    noise_BTD: Array,
    *,
    step_size: float = 1e-3,
    num_steps: int = 1,
    group_B: Array | None = None,
) -> Array:
    """``(noise + eta g) / (max over D |noise + eta g| + 1e-6)`` per token, padding included; no projection."""
    clean = logits_of(np.zeros_like(noise_BTD)).real
    delta_BTD = noise_BTD
    for _ in range(num_steps):
        moved_BTD = delta_BTD + step_size * _official_gradient_BTD(logits_of, kind, clean, delta_BTD, group_B)
        delta_BTD = moved_BTD / (np.abs(moved_BTD).max(axis=-1, keepdims=True) + GUARD)
    return delta_BTD


def _official_gradient_BTD(
    logits_of: LogitsOf, kind: Kind, clean: Array, delta_BTD: Array, group_B: Array | None
) -> Array:
    def loss(moved_BTD: Array) -> Array:
        return official_inner_loss(kind, logits_of(moved_BTD), clean, group_B=group_B)

    slopes = [derivative(loss, delta_BTD, index) for index in np.ndindex(delta_BTD.shape)]
    return np.array(slopes).reshape(delta_BTD.shape)
