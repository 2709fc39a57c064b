"""SMART's options [A] and [B] in plain numpy, with exact derivatives from the complex step.

Jiang et al., 2020, "SMART" (arXiv:1911.03437), section 3.1 and Algorithm 1; the
presets ``official-*`` follow the behaviour of namisan/mt-dnn of their time. Slow on purpose: every derivative is one
more evaluation of the whole function, entry by entry.

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
Form = Literal["symmetric_kl", "kl", "js", "squared"]
Norm = Literal["inf", "2", "1"]
Ascent = Literal["normalized", "steepest"]
GradientAt = Literal["perturbed", "clean"]
LogitsOf = Callable[[Array], Array]
LossOf = Callable[[Array], Array]  # logits to the task loss of every unit: the labels are inside
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


def kl_U(reference_UC: Array, perturbed_UC: Array, stop_gradient: StopGradient = "none") -> Array:
    """KL(P||Q) = ``sum p (log p - log q)`` per unit: the reference, or clean, side comes first."""
    log_p, log_q = _two_log_softmaxes(reference_UC, perturbed_UC, stop_gradient)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def js_U(reference_UC: Array, perturbed_UC: Array, stop_gradient: StopGradient = "none") -> Array:
    """Jensen-Shannon, ``KL(P||M)/2 + KL(Q||M)/2`` with ``M = (P + Q)/2``, per unit; Lin, 1991, section IV."""
    log_p, log_q = _two_log_softmaxes(reference_UC, perturbed_UC, stop_gradient)
    largest = np.maximum(log_p.real, log_q.real)  # log M has no log of zero where both probabilities underflow.
    log_m = largest + np.log((np.exp(log_p - largest) + np.exp(log_q - largest)) / 2.0)
    return (np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m)).sum(axis=-1) / 2.0


def squared_probabilities_U(reference_UC: Array, perturbed_UC: Array, stop_gradient: StopGradient = "none") -> Array:
    """``sum (p - q)^2`` of the probabilities, per unit: the sum over the classes, not the mean."""
    log_p, log_q = _two_log_softmaxes(reference_UC, perturbed_UC, stop_gradient)
    difference_UC = np.exp(log_p) - np.exp(log_q)
    return (difference_UC * difference_UC).sum(axis=-1)


def _two_log_softmaxes(reference_UC: Array, perturbed_UC: Array, stop_gradient: StopGradient) -> tuple[Array, Array]:
    assert reference_UC.shape == perturbed_UC.shape, (reference_UC.shape, perturbed_UC.shape)
    assert stop_gradient != "targets", "'targets' is a form of the symmetric KL divergence"
    log_p = log_softmax(reference_UC)
    return (log_p.real if stop_gradient == "reference" else log_p), log_softmax(perturbed_UC)


def squared_U(reference: Array, perturbed: Array, stop_gradient: StopGradient = "none") -> Array:
    """``(p - q)^2`` per unit, of scores (U,) or (U, 1); SMART section 3.1. Not ``abs()**2``: that is not analytic."""
    assert reference.shape == perturbed.shape, (reference.shape, perturbed.shape)
    assert stop_gradient != "targets", "'targets' is a form of the KL divergence; a squared difference has none"
    difference_U = (reference.real if stop_gradient == "reference" else reference) - perturbed
    return (difference_U * difference_U).reshape(len(difference_U), -1).sum(axis=-1)


CATEGORICAL = {"symmetric_kl": symmetric_kl_U, "kl": kl_U, "js": js_U, "squared": squared_probabilities_U}


def form_U(form: Form, reference_UC: Array, perturbed_UC: Array, stop_gradient: StopGradient = "none") -> Array:
    """The divergence of that form between categorical outputs, per unit."""
    return CATEGORICAL[form](reference_UC, perturbed_UC, stop_gradient)


def divergence_U(
    kind: Kind,
    reference: Array,
    perturbed: Array,
    *,
    group_B: Array | None = None,
    stop_gradient: StopGradient = "none",
    form: Form = "symmetric_kl",
) -> Array:
    """Divergence per unit: an example, or for ``ranking`` a group of rows, in the ascending order of its number.

    :param reference: logits (B, C); scores (B,) or (B, 1) for regression and ranking. The clean, or the teacher's.
    :param group_B: ranking: which group a row belongs to, any integers, in any order.
    :param form: between categorical outputs; regression has the squared difference of the scores, whatever the form.
    """
    if kind == "regression":
        return squared_U(reference, perturbed, stop_gradient)
    if kind == "classification":
        return form_U(form, reference, perturbed, stop_gradient)
    assert reference.shape == perturbed.shape, (reference.shape, perturbed.shape)
    pairs = [(reference[rows].reshape(1, -1), perturbed[rows].reshape(1, -1)) for rows in rows_of_groups(group_B)]
    return np.concatenate([form_U(form, p, q, stop_gradient) for p, q in pairs])


def divergence_for(
    kind: Kind,
    *,
    group_B: Array | None = None,
    stop_gradient: StopGradient = "none",
    form: Form = "symmetric_kl",
) -> Divergence:
    """``divergence_U`` with its options filled in: ``(reference, perturbed) -> (U,)``."""

    def divergence(reference: Array, perturbed: Array) -> Array:
        return divergence_U(kind, reference, perturbed, group_B=group_B, stop_gradient=stop_gradient, form=form)

    return divergence


def unit_of_row_B(group_B: Array) -> Array:
    """The unit of the divergence that a row belongs to, counted from 0."""
    return np.unique(group_B, return_inverse=True)[1].reshape(-1)


def rows_of_groups(group_B: Array) -> list[Array]:
    """The rows of every group, the groups in the ascending order of their numbers."""
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


def steepest_direction(gradient: Array, norm: Norm) -> Array:
    """Where ``<g, d>`` is largest among ``||d||_p <= 1``: sign(g); g / ||g||_2; for p = 1 the largest coordinate.

    Madry et al., 2018, section 2.1 for the first. Among equally large coordinates the first is taken.
    """
    if norm == "2":
        return unit_direction(gradient, norm)
    if norm == "inf":
        return np.sign(gradient)
    first = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    direction = np.zeros_like(gradient)
    direction[first] = np.sign(gradient[first])
    return direction


# The inner maximisation


def unit_gradient_BTD(
    values_of: Callable[[Array], Array],
    delta_BTD: Array,
    mask_BT: Array,
    unit_B: Array | None = None,
) -> Array:
    """Per row, the gradient of its own unit's value, zero at padding.

    :param values_of: delta (B, T, D) to one value per unit (U,).
    :param unit_B: which unit a row belongs to, its own by default; ranking: ``unit_of_row_B(group_B)``.
    """
    units = np.arange(len(delta_BTD)) if unit_B is None else unit_B
    gradient_BTD = np.zeros_like(delta_BTD)
    for index in np.ndindex(delta_BTD.shape):
        row, token, _ = index
        if mask_BT[row, token]:
            gradient_BTD[index] = derivative(values_of, delta_BTD, index)[units[row]]
    return gradient_BTD


def row_gradient_BTD(
    logits_of: LogitsOf,
    divergence: Divergence,
    delta_BTD: Array,
    mask_BT: Array,
    unit_B: Array | None = None,
    clean: Array | None = None,
) -> Array:
    """Per row, the gradient of its own unit's divergence from the clean logits; the clean side is a constant.

    :param logits_of: delta (B, T, D) to logits; the clean ones are those at zero, unless ``clean`` is given.
    :param unit_B: which unit a row belongs to, its own by default; ranking: ``unit_of_row_B(group_B)``.
    """
    reference = _clean(logits_of, delta_BTD, clean).real
    return unit_gradient_BTD(lambda moved: divergence(reference, logits_of(moved)), delta_BTD, mask_BT, unit_B)


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
    ascent: Ascent = "normalized",
    clean: Array | None = None,
) -> Array:
    """The delta (B, T, D) of SMART's Algorithm 1, lines 6 to 10, zero at padding.

    The start is not projected before the first gradient (line 6), only after a step (line 9). Norm and ball are those
    of a row's real tokens together, T_i x D entries.

    :param start_delta_BTD: the noise nu of line 6; its entries at padding are ignored.
    :param radius: epsilon. :param step_size: eta. :param num_steps: T_x.
    :param ascent: ``normalized`` is g / ||g||_p (line 8), ``steepest`` the steepest direction of that norm.
    :param clean: the clean logits, where they are not those of ``logits_of`` at zero.
    """
    reference = _clean(logits_of, start_delta_BTD, clean).real
    options = {"radius": radius, "step_size": step_size, "num_steps": num_steps, "norm": norm, "ascent": ascent}
    return climb(lambda moved: divergence(reference, logits_of(moved)), start_delta_BTD, mask_BT, unit_B, **options)


def climb(
    values_of: Callable[[Array], Array],
    start_delta_BTD: Array,
    mask_BT: Array,
    unit_B: Array | None = None,
    *,
    radius: float,
    step_size: float,
    num_steps: int,
    norm: Norm,
    ascent: Ascent = "normalized",
) -> Array:
    """``ascend`` on any function of delta with one value per unit."""
    direction = {"normalized": unit_direction, "steepest": steepest_direction}[ascent]
    delta_BTD = np.where(mask_BT[:, :, None].astype(bool), start_delta_BTD, 0.0)
    for _ in range(num_steps):
        gradient_BTD = unit_gradient_BTD(values_of, delta_BTD, mask_BT, unit_B)
        # At padding delta and gradient are zero: they add to no norm and move in no projection.
        moved_BTD = delta_BTD + step_size * np.stack([direction(gradient_TD, norm) for gradient_TD in gradient_BTD])
        delta_BTD = np.stack([project(moved_TD, radius, norm) for moved_TD in moved_BTD])
    return delta_BTD


def smart_penalty(logits_of: LogitsOf, divergence: Divergence, delta_BTD: Array, clean: Array | None = None) -> Array:
    """R_s, option [A]: mean over the units of the divergence between the logits at 0 and at ``delta``.

    As a function of the weights inside ``logits_of``, with delta a constant, it is differentiated by
    ``parameter_gradient``: through both sides, unless the divergence stops one.

    :param clean: the clean logits, where they are not those of ``logits_of`` at zero: another dropout, embeddings
        applied once instead of twice, embeddings not detached. They may be complex, to be differentiated.
    """
    return divergence(_clean(logits_of, delta_BTD, clean), logits_of(delta_BTD)).mean()


def _clean(logits_of: LogitsOf, delta_BTD: Array, clean: Array | None) -> Array:
    return logits_of(np.zeros_like(delta_BTD)) if clean is None else clean


# Option [B]

# Central difference of order 8 (Fornberg, 1988, table 1): the weight of the value at +k steps; at -k its negative.
CENTRAL = {1: 4.0 / 5.0, 2: -1.0 / 5.0, 3: 4.0 / 105.0, 4: -1.0 / 280.0}
REAL_STEP = 1e-2


def slope_U(values_of: Callable[[Array], Array], point_BTD: Array, delta_BTD: Array, unit_B: Array) -> Array:
    """Per unit, ``<delta, gradient of its value at the point>``, summed over the unit's rows.

    A finite difference along delta, which leaves the imaginary part to the complex step: together they give second
    derivatives. Every unit's delta is scaled to length 1 first, so that the step does not depend on its size. A unit's
    value follows only its own rows, so all units are moved at once.
    """
    squares_B = (delta_BTD.real**2).sum(axis=(1, 2))
    length_U = np.sqrt(np.array([squares_B[unit_B == unit].sum() for unit in range(unit_B.max() + 1)]))
    length_U[length_U == 0.0] = 1.0
    step_BTD = REAL_STEP * delta_BTD / length_U[unit_B][:, None, None]
    rises = [
        w * (values_of(point_BTD + k * step_BTD) - values_of(point_BTD - k * step_BTD)) for k, w in CENTRAL.items()
    ]
    return sum(rises) * length_U / REAL_STEP


def linearity_error_U(
    logits_of: LogitsOf,
    loss_of: LossOf,
    delta_BTD: Array,
    *,
    gradient_at: GradientAt = "perturbed",
    unit_B: Array | None = None,
) -> Array:
    """``|l(x + delta) - l(x) - <delta, grad_x l>|`` per unit: what a plane leaves of the task loss.

    SMART section 3.1, option [B], has the gradient at x + delta (``perturbed``); Qin et al., 2019
    (arXiv:1907.02610), equation 5, at x (``clean``). The inner product runs over all rows of the unit. Everything is
    differentiated, the clean loss and the gradient too.

    :param loss_of: logits to one loss per unit (U,), not averaged.
    """
    units = np.arange(len(delta_BTD)) if unit_B is None else unit_B

    def losses_of(moved_BTD: Array) -> Array:
        return loss_of(logits_of(moved_BTD))

    zero_BTD = np.zeros(delta_BTD.shape)
    slopes_U = slope_U(losses_of, delta_BTD if gradient_at == "perturbed" else zero_BTD, delta_BTD, units)
    error_U = losses_of(delta_BTD) - losses_of(zero_BTD) - slopes_U
    return np.sign(error_U.real) * error_U


def option_b_ascend(
    logits_of: LogitsOf,
    loss_of: LossOf,
    start_delta_BTD: Array,
    mask_BT: Array,
    *,
    radius: float,
    step_size: float,
    num_steps: int,
    norm: Norm,
    gradient_at: GradientAt = "perturbed",
    unit_B: Array | None = None,
    ascent: Ascent = "normalized",
) -> Array:
    """The delta of option [B]: ``ascend`` on ``linearity_error_U`` in the place of the divergence."""
    options = {"radius": radius, "step_size": step_size, "num_steps": num_steps, "norm": norm, "ascent": ascent}

    def errors_of(moved_BTD: Array) -> Array:
        return linearity_error_U(logits_of, loss_of, moved_BTD, gradient_at=gradient_at, unit_B=unit_B)

    return climb(errors_of, start_delta_BTD, mask_BT, unit_B, **options)


def option_b_penalty(
    logits_of: LogitsOf,
    loss_of: LossOf,
    delta_BTD: Array,
    *,
    gradient_at: GradientAt = "perturbed",
    unit_B: Array | None = None,
) -> Array:
    """R_s, option [B]: mean over the units of ``linearity_error_U``."""
    return linearity_error_U(logits_of, loss_of, delta_BTD, gradient_at=gradient_at, unit_B=unit_B).mean()


# The presets official-2020-08 and official-2021-02


def official_inner_loss(kind: Kind, adversarial: Array, clean: Array, *, group_B: Array | None = None) -> Array:
    """``sum 2 p (logit p - logit y)`` over the batch, the log-odds and y constant; regression: squared differences.

    It is summed, not averaged: the preset's gradient is not normalised before the noise is added, so its size counts.
    Ranking: p and y are softmaxes over a group.
    """
    if kind == "regression":
        return squared_U(clean, adversarial, "reference").sum()
    if kind == "classification":
        return _log_odds_loss(adversarial, clean)
    pairs = [(adversarial[rows].reshape(1, -1), clean[rows].reshape(1, -1)) for rows in rows_of_groups(group_B)]
    return sum(_log_odds_loss(p, y) for p, y in pairs)


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
    clean: Array | None = None,
) -> Array:
    """``(noise + eta g) / (max over D |noise + eta g| + 1e-6)`` per token, padding included; no projection.

    :param clean: the clean logits, where they are not those of ``logits_of`` at zero.
    """
    reference = _clean(logits_of, noise_BTD, clean).real

    def loss_of_delta(moved_BTD: Array) -> Array:
        return official_inner_loss(kind, logits_of(moved_BTD), reference, group_B=group_B)

    delta_BTD = noise_BTD
    for _ in range(num_steps):
        moved_BTD = delta_BTD + step_size * full_gradient_BTD(loss_of_delta, delta_BTD)
        delta_BTD = moved_BTD / (np.abs(moved_BTD).max(axis=-1, keepdims=True) + GUARD)
    return delta_BTD


def official_2021_02_delta(
    logits_of: LogitsOf,
    clean: Array,
    kind: Kind,
    noise_BTD: Array,
    *,
    step_size: float = 1e-5,
    num_steps: int = 1,
    group_B: Array | None = None,
) -> Array:
    """As ``official_2020_08_delta`` with another step.

    :param logits_of: at the site ``embeddings_twice`` of ``bert.hidden_with``; at zero it is not the clean model.
    :param clean: the logits of the clean pass, embeddings applied once.
    """
    options = {"step_size": step_size, "num_steps": num_steps, "group_B": group_B}
    return official_2020_08_delta(logits_of, kind, noise_BTD, clean=clean, **options)


def full_gradient_BTD(value_of: Callable[[Array], Array], delta_BTD: Array) -> Array:
    """Gradient of one number with respect to every entry of delta, those at padding too."""
    slopes = [derivative(value_of, delta_BTD, index) for index in np.ndindex(delta_BTD.shape)]
    return np.array(slopes).reshape(delta_BTD.shape)


# The preset official-2020-04


def official_2020_04_delta(
    logits_of: LogitsOf,
    kind: Kind,
    noise_BTD: Array,
    *,
    step_size: float = 1e-3,
    num_steps: int = 1,
    group_B: Array | None = None,
    clean: Array | None = None,
) -> Array:
    """``eta g / max over D |g|`` per token, padding included: the noise is only where g is taken, and is not kept.

    g is the gradient of KL(clean||perturbed), regression of the squared difference, averaged over the units. No
    projection, no guard: where a token's g is zero, so is its delta. The penalty is ``smart_penalty`` with
    ``stop_gradient="targets"`` (regression: ``none``), where the perturbed pass gets its embeddings as a constant:
    ``embeddings_BTD`` of ``bert.hidden_with``.
    """
    reference = _clean(logits_of, noise_BTD, clean).real

    def loss_of_delta(moved_BTD: Array) -> Array:
        return divergence_U(kind, reference, logits_of(moved_BTD), group_B=group_B, form="kl").mean()

    delta_BTD = noise_BTD
    for _ in range(num_steps):
        gradient_BTD = full_gradient_BTD(loss_of_delta, delta_BTD)
        largest_BT1 = np.abs(gradient_BTD).max(axis=-1, keepdims=True)
        delta_BTD = step_size * gradient_BTD / np.where(largest_BT1 == 0.0, 1.0, largest_BT1)
    return delta_BTD
