"""PGD, FreeAT and FreeLB in plain numpy, with derivatives by the complex step.

Zhu et al., 2020, "FreeLB" (arXiv:1909.11764), sections 3.1 to 3.3 and Algorithm 1.
"""

# Shape suffixes: B = rows, T = tokens, D = width.

from collections.abc import Callable, Iterator

import numpy as np

from .smart import Weights, derivative

Array = np.ndarray
MeanLossOf = Callable[[Weights, Array], Array]

SMALLEST = 1e-10


def start(draws_BTD: Array, mask_BT: Array, magnitude: float) -> Array:
    """``U(-1, 1) magnitude / sqrt(T_i D)`` at a row's T_i real tokens, zero at padding."""
    delta_BTD = np.zeros_like(draws_BTD)
    for row, length in enumerate(mask_BT.sum(axis=1)):
        delta_BTD[row, :length] = draws_BTD[row, :length] * magnitude / np.sqrt(length * draws_BTD.shape[2])
    return delta_BTD


def step(delta_BTD: Array, gradient_BTD: Array, *, step_size: float, max_norm: float) -> Array:
    """``Pi(delta + alpha g / ||g||_F)`` of each row; ``max_norm`` 0 is no ball."""
    moved_BTD = np.zeros_like(delta_BTD)
    for row, (delta_TD, gradient_TD) in enumerate(zip(delta_BTD, gradient_BTD, strict=True)):
        moved_TD = delta_TD + step_size * gradient_TD / max(np.sqrt((gradient_TD**2).sum()), SMALLEST)
        length = np.sqrt((moved_TD**2).sum())
        moved_BTD[row] = moved_TD * (max_norm / length) if max_norm and length > max_norm else moved_TD
    return moved_BTD


def deltas(
    loss_of: MeanLossOf,
    weights: Callable[[], Weights],
    start_BTD: Array,
    mask_BT: Array,
    *,
    step_size: float,
    max_norm: float,
) -> Iterator[Array]:
    """delta_0, delta_1, ...: each one step further up the loss of the weights that there are at that time."""
    delta_BTD = start_BTD
    while True:
        yield delta_BTD
        slope_BTD = np.zeros_like(delta_BTD)
        for index in np.ndindex(delta_BTD.shape):
            if mask_BT[index[:2]]:
                slope_BTD[index] = derivative(lambda moved: loss_of(weights(), moved), delta_BTD, index)
        delta_BTD = step(delta_BTD, slope_BTD, step_size=step_size, max_norm=max_norm)
