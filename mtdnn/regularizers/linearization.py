"""How far a loss is from its linear approximation: what option [B] of SMART penalizes.

Jiang et al., 2020, "SMART", section 3.1, option B; Qin et al., 2019, equation 5.

Shape suffixes: U = units, N = rows, T = tokens, D = hidden width.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mtdnn.data.batch import Batch

GradientAt = Literal["perturbed", "clean"]


def linearization_error(
    loss_of: Callable[[Tensor], Tensor], delta_NTD: Tensor, batch: Batch, *, gradient_at: GradientAt
) -> Tensor:
    """|l(x + delta) - l(x) - <delta, grad_x l>| of each unit: (U,), twice differentiable.

    The losses are summed over the units before the gradient: each row's gradient is that of its own unit's loss.
    Attention runs in its plain form, since the fused kernels have no second derivative.

    :param loss_of: a change (N, T, D) to the loss of each unit.
    :param gradient_at: ``perturbed``: the gradient at x + delta. ``clean``: at x.
    """
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        if not delta_NTD.requires_grad:
            delta_NTD = delta_NTD.detach().requires_grad_()
        still_NTD = torch.zeros_like(delta_NTD, requires_grad=True)
        moved_U, clean_U = loss_of(delta_NTD), loss_of(still_NTD)
        at_U, point_NTD = (moved_U, delta_NTD) if gradient_at == "perturbed" else (clean_U, still_NTD)
        (gradient_NTD,) = torch.autograd.grad(at_U.sum(), point_NTD, create_graph=True)
        along_N = (delta_NTD * gradient_NTD).sum((1, 2))
        return (moved_U - clean_U - by_unit(along_N, batch)).abs()


def by_unit(values_N: Tensor, batch: Batch) -> Tensor:
    """The sum over each unit's rows: (U,)."""
    unit_N = torch.repeat_interleave(batch.num_rows_U)
    return values_N.new_zeros(batch.num_units).index_add(0, unit_N, values_N)
