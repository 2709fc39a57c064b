"""Parameter groups, optimizers and schedules."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

NO_DECAY = ("bias", "norm.weight")


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on everything but biases and LayerNorm."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    return [
        {"params": [w for n, w in named if not is_exempt(n)], "weight_decay": weight_decay},
        {"params": [w for n, w in named if is_exempt(n)], "weight_decay": 0.0},
    ]


def is_exempt(name: str) -> bool:
    return name.casefold().endswith(NO_DECAY)


def make_optimizer(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, 2019), fused."""
    groups = parameter_groups(model, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-8, fused=True)


def make_schedule(
    optimizer: torch.optim.Optimizer, *, num_steps: int, warmup: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over ``warmup`` x ``num_steps`` steps, then linearly to 0."""
    return get_linear_schedule_with_warmup(optimizer, round(warmup * num_steps), num_steps)  # type: ignore[no-any-return]


Precision = Literal["auto", "fp32", "bf16"]


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """bf16 where asked for, or where the hardware multiplies it fast; else None. fp32 master weights either way."""
    if precision == "fp32" or (precision == "auto" and not has_fast_bf16(device)):
        return None
    return torch.bfloat16


def has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = (
        getattr(torch.cpu, name, lambda: False) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )
    return device.type == "cpu" and any(flag() for flag in flags)


def clip(weights: Iterable[torch.nn.Parameter], *, max_norm: float) -> torch.Tensor:
    """Clip to the global norm; returns the norm before."""
    return nn.utils.clip_grad_norm_(list(weights), max_norm)
