"""Tensors that autograd asks for again in the backward pass instead of keeping them: less memory, no bit changed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class Again:
    """Computes a tensor again, with the autocast of now.

    :param requests: how many requests in a row a computation serves.
    """

    def __init__(self, compute: Callable[[], Tensor], device: torch.device, requests: int = 1):
        self._compute = compute
        self._autocast = torch.autocast(
            device.type,
            dtype=torch.get_autocast_dtype(device.type),
            enabled=torch.is_autocast_enabled(device.type),
            cache_enabled=False,
        )
        self._requests = requests
        self._waiting: list[Tensor] = []

    def __call__(self) -> Tensor:
        if not self._waiting:
            with torch.no_grad(), self._autocast:
                self._waiting = [self._compute()] * self._requests
        return self._waiting.pop()


def recomputed(again: Callable[[], Tensor], tensor: Tensor | None = None) -> saved_tensors_hooks:
    """While entered, what autograd would keep of ``tensor`` and its views is asked of ``again`` when it is needed.

    :param again: gives the same values in the same layout; what it holds on to should be kept anyway.
    :param tensor: None stands for all that autograd would keep.
    """

    sought = None if tensor is None else (tensor.data_ptr(), tensor.numel())  # the hooks outlive the context

    def pack(kept: Tensor) -> Any:
        return (kept.shape, kept.stride()) if sought in (None, (kept.data_ptr(), kept.numel())) else kept

    def unpack(kept: Any) -> Tensor:
        return kept if isinstance(kept, Tensor) else again().as_strided(*kept)

    return saved_tensors_hooks(pack, unpack)
