"""Tensors that autograd asks for again in the backward pass instead of keeping them: less memory, no bit changed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class Unchanged:
    """Tensors as they are now.

    :raises RuntimeError: from :meth:`get`, where one was changed in place since; autograd leaves that check to hooks.
    """

    def __init__(self, *tensors: Tensor):
        self._tensors = tensors
        self._versions = [each._version for each in tensors]

    def get(self) -> tuple[Tensor, ...]:
        if [each._version for each in self._tensors] != self._versions:
            raise RuntimeError("a tensor that the backward pass needs was changed in place after the forward pass")
        return self._tensors


class Again:
    """Computes a tensor again, with the autocast of now.

    :param compute: of ``sources``; gives the same values in the same layout each time.
    :param sources: should be kept anyway.
    """

    def __init__(self, compute: Callable[..., Tensor], *sources: Tensor):
        self.requests = 0  # in a backward pass, which one computation serves
        self._compute = compute
        self._sources = Unchanged(*(each.detach() for each in sources))
        device = sources[0].device.type
        self._autocast = torch.autocast(
            device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,
        )
        self._waiting: list[Tensor] = []

    def __call__(self) -> Tensor:
        if not self._waiting:
            with torch.no_grad(), self._autocast:
                self._waiting = [self._compute(*self._sources.get())] * self.requests
        return self._waiting.pop()


def recomputed(
    again: Again, tensor: Tensor | None = None, then: Callable[[Tensor], Tensor] | None = None
) -> saved_tensors_hooks:
    """While entered, what autograd would keep of ``tensor`` and its views is computed again when it is needed.

    :param tensor: None stands for all that autograd would keep.
    :param then: makes ``tensor`` of what ``again`` gives; None where they are the same.
    """
    sought = None if tensor is None else (tensor.data_ptr(), tensor.numel())  # the hooks outlive the context

    def pack(kept: Tensor) -> Any:
        if sought not in (None, (kept.data_ptr(), kept.numel())):
            return Unchanged(kept)
        again.requests += 1
        return kept.shape, kept.stride()

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Unchanged):
            return kept.get()[0]
        found = again()
        return (then(found) if then else found).as_strided(*kept)

    return saved_tensors_hooks(pack, unpack)
