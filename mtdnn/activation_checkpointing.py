"""Layers that run again in the backward pass instead of keeping what they computed.

Chen et al., 2016, "Training deep nets with sublinear memory cost". https://arxiv.org/abs/1604.06174
A layer that runs again has the dropout masks and the attention kernels of its first run, so that no bit changes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import count
from typing import Any

import torch
from torch.backends import cuda
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from mtdnn.dropout import DropoutTape
from mtdnn.encoder import layers

KERNELS = {
    SDPBackend.MATH: cuda.math_sdp_enabled,
    SDPBackend.FLASH_ATTENTION: cuda.flash_sdp_enabled,
    SDPBackend.EFFICIENT_ATTENTION: cuda.mem_efficient_sdp_enabled,
    SDPBackend.CUDNN_ATTENTION: cuda.cudnn_sdp_enabled,
}


@contextmanager
def recomputing(
    encoder: PreTrainedModel, tape: DropoutTape | None, around: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[None]:
    """While entered, the encoder's layers keep their inputs alone; those that return a record stay as they are.

    :param tape: of the pass; None where torch's own dropout runs.
    :param around: what the pass is entered with, so that a layer that runs again is too.
    """
    changed = [layer for layer in layers(encoder) if "forward" not in vars(layer)] if torch.is_grad_enabled() else []
    for layer in changed:
        layer.forward = partial(run_twice, layer.forward, tape, around)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward  # the class's own method shows again


def run_twice(
    forward: Callable[..., Any],
    tape: DropoutTape | None,
    around: Callable[[], AbstractContextManager[None]],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """What a layer puts out; it runs again when a gradient is asked for."""
    runs = count()
    again = partial(as_before, tape, 0 if tape is None else len(tape.masks), enabled_kernels())

    def layer(*args: Any, **kwargs: Any) -> Any:
        if not next(runs):
            return forward(*args, **kwargs)
        with again(), around():
            return forward(*args, **kwargs)

    return checkpoint(layer, *args, use_reentrant=False, preserve_rng_state=tape is None, **kwargs)


@contextmanager
def as_before(tape: DropoutTape | None, mark: int, kernels: list[SDPBackend]) -> Iterator[None]:
    """While entered, the masks are the tape's from ``mark`` on, and attention runs in one of ``kernels``."""
    with sdpa_kernel(kernels), nullcontext() if tape is None else tape.again(mark):
        yield


def enabled_kernels() -> list[SDPBackend]:
    return [kernel for kernel, enabled in KERNELS.items() if enabled()]
