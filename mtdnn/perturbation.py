"""Norms, projections and steps of perturbations, each row for itself.

Shape suffixes: N = rows, T = tokens, D = hidden width. Padding is expected to be zero already.
"""

from typing import Literal

import torch
from torch import Tensor

Norm = Literal["inf", 1, 2]


def row_norm(values_NTD: Tensor, norm: Norm) -> Tensor:
    """The p-norm of each row: (N, 1, 1)."""
    order = float("inf") if norm == "inf" else float(norm)
    norm_N11: Tensor = torch.linalg.vector_norm(values_NTD, ord=order, dim=(1, 2), keepdim=True)
    return norm_N11


def unit_step(gradient_NTD: Tensor, norm: Norm) -> Tensor:
    """g / ||g||_p of each row, and 0 where g is 0. Scaled by max |g| first: gradients are as small as 1e-9."""
    largest_N11 = row_norm(gradient_NTD, "inf")
    scaled_NTD = gradient_NTD / largest_N11.masked_fill(largest_N11 == 0, 1.0)
    size_N11 = row_norm(scaled_NTD, norm)
    return scaled_NTD / size_N11.masked_fill(size_N11 == 0, 1.0)


def steepest_step(gradient_NTD: Tensor, norm: Norm) -> Tensor:
    """The step of p-norm 1 that gains most to first order: sign g; g / ||g||_2; the largest coordinate alone."""
    if norm == "inf":
        return gradient_NTD.sign()
    if norm == 2:
        return unit_step(gradient_NTD, 2)
    flat_NM = gradient_NTD.flatten(1)
    largest_N1 = flat_NM.abs().argmax(1, keepdim=True)
    signs_N1 = flat_NM.gather(1, largest_N1).sign()
    return torch.zeros_like(flat_NM).scatter(1, largest_N1, signs_N1).view_as(gradient_NTD)


def project(delta_NTD: Tensor, radius_N11: Tensor, norm: Norm) -> Tensor:
    """The nearest point of the p-ball of each row's radius."""
    if norm == "inf":
        return torch.maximum(torch.minimum(delta_NTD, radius_N11), -radius_N11)
    if norm == 2:
        size_N11 = row_norm(delta_NTD, 2)
        return delta_NTD * (radius_N11 / size_N11.clamp_min(torch.finfo(delta_NTD.dtype).tiny)).clamp_max(1.0)
    return _project_l1(delta_NTD, radius_N11)


def _project_l1(delta_NTD: Tensor, radius_N11: Tensor) -> Tensor:
    """Onto the l1-ball by its threshold (Duchi et al., 2008, figure 1)."""
    flat_NM = delta_NTD.flatten(1).abs()
    sorted_NM = flat_NM.sort(dim=1, descending=True).values
    excess_NM = sorted_NM.cumsum(1) - radius_N11.flatten(1)
    ranks_M = torch.arange(1, flat_NM.shape[1] + 1, device=flat_NM.device)
    last_N1 = (sorted_NM * ranks_M > excess_NM).sum(1, keepdim=True).clamp_min(1)
    threshold_N1 = (excess_NM.gather(1, last_N1 - 1) / last_N1).clamp_min(0.0)
    return delta_NTD.sign() * (flat_NM - threshold_N1).clamp_min(0.0).view_as(delta_NTD)


def random_like(delta_NTD: Tensor, generator: torch.Generator) -> Tensor:
    """A random change of the same size in every norm: each entry with a random sign."""
    signs_NTD = torch.randint(0, 2, delta_NTD.shape, generator=generator) * 2 - 1
    return delta_NTD * signs_NTD.to(delta_NTD)


def row_rms(values_NTD: Tensor, mask_NT: Tensor) -> Tensor:
    """Root mean square of each row's real entries: (N, 1, 1)."""
    real_NT1 = mask_NT.unsqueeze(-1).to(values_NTD.dtype)
    total_N11 = (values_NTD.square() * real_NT1).sum((1, 2), keepdim=True)
    return (total_N11 / (real_NT1.sum((1, 2), keepdim=True) * values_NTD.shape[-1])).sqrt()
