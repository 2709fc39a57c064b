"""SMART's option [B] in plain numpy.

Jiang et al., 2020 (arXiv:1911.03437), section 3.1, option B, as printed (``perturbed``); Qin et al., 2019
(arXiv:1907.02610), equation 5 (``clean``).

``<d, grad l(z)>`` is the derivative of ``l(z + t d)`` at t = 0. It is taken by a central finite difference of 8th
order, which leaves the expression analytic in delta and in the weights, so that the complex step still differentiates
it. Steps along t are steps of a few hundredths of delta, which is small itself: the error is at rounding.
"""

# Shape suffixes: B = rows, T = tokens, D = width, U = units.

from collections.abc import Callable
from typing import Literal

import numpy as np

from .smart import Norm, derivative, project, unit_direction

Array = np.ndarray
LossOf = Callable[[Array], Array]

STENCIL = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))  # Fornberg, 1988, table 1


def along(loss_of: LossOf, point_BTD: Array, direction_BTD: Array, step: float = 0.02) -> Array:
    """``<direction, grad l(point)>`` of each unit."""
    return (
        sum(
            weight * (loss_of(point_BTD + k * step * direction_BTD) - loss_of(point_BTD - k * step * direction_BTD))
            for k, weight in STENCIL
        )
        / step
    )


def error_U(loss_of: LossOf, delta_BTD: Array, gradient_at: Literal["perturbed", "clean"]) -> Array:
    """``|l(x + d) - l(x) - <d, grad l>|`` of each unit, as a real number with its sign put right.

    :param loss_of: delta (B, T, D) to the loss of each unit; a unit's loss depends on its own rows only.
    """
    still_BTD = np.zeros_like(delta_BTD)
    at_BTD = delta_BTD if gradient_at == "perturbed" else still_BTD
    error = loss_of(delta_BTD) - loss_of(still_BTD) - along(loss_of, at_BTD, delta_BTD)
    return error * np.sign(error.real)


def ascend(
    loss_of: LossOf,
    start_BTD: Array,
    mask_BT: Array,
    *,
    gradient_at: Literal["perturbed", "clean"],
    radius: float,
    step_size: float,
    num_steps: int,
    norm: Norm,
    unit_B: Array,
) -> Array:
    """Algorithm 1 with the error in place of the divergence."""
    delta_BTD = np.where(mask_BT[:, :, None].astype(bool), start_BTD, 0.0)
    for _ in range(num_steps):
        gradient_BTD = np.zeros_like(delta_BTD)
        for index in np.ndindex(delta_BTD.shape):
            if mask_BT[index[:2]]:
                slope_U = derivative(lambda moved: error_U(loss_of, moved, gradient_at), delta_BTD, index)
                gradient_BTD[index] = slope_U[unit_B[index[0]]]
        moved_BTD = delta_BTD + step_size * np.stack([unit_direction(g_TD, norm) for g_TD in gradient_BTD])
        delta_BTD = np.stack([project(moved_TD, radius, norm) for moved_TD in moved_BTD])
    return delta_BTD
