"""Dropout whose masks are drawn from a named generator, recorded, and replayed in a second pass.

A tape catches every dropout of a forward pass, whatever module it comes from; fused attention with dropout is written
out so that its mask is ours too. A pass that starts at a later layer replays from that layer's mark.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LEVELS = 2**16  # a mask is decided by a 16-bit compare of 64-bit draws: 4 elements a draw


class DropoutTape(TorchFunctionMode):
    """Records dropout masks while it is entered, or replays those of another tape.

    :param generator: draws the masks; on the CPU, so that every device gets the same.
    :param replay: masks to use instead of drawing, in the order of the pass.
    :param off: no dropout at all.
    """

    def __init__(
        self, generator: torch.Generator | None = None, *, replay: list[Tensor] | None = None, off: bool = False
    ):
        super().__init__()
        self.masks: list[Tensor] = []
        self._generator = generator
        self._replay = replay
        self._off = off
        self._bias: tuple[Tensor, Tensor] | None = None  # an attention mask, and what it adds to scores

    def again(self, mark: int) -> "DropoutTape":
        """A tape that replays this one from ``mark`` on."""
        return DropoutTape(replay=self.masks[mark:], off=self._off)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.dropout:
            return self._dropout(*args, **kwargs)
        if function is F.scaled_dot_product_attention and kwargs.get("dropout_p", 0.0) > 0:
            return self._attention(*args, **kwargs)
        return function(*args, **kwargs)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0 or self._off:
            return input
        level = round(p * LEVELS)
        mask = self._next_mask(input.shape, level, input.device)
        return (input * mask.view(torch.uint8)).mul_(1.0 / (1.0 - level / LEVELS))  # bool would be converted slowly

    def _next_mask(self, shape: torch.Size, level: int, device: torch.device) -> Tensor:
        if self._replay is not None:
            mask = self._replay[len(self.masks)]
            if mask.shape != shape:
                raise RuntimeError(f"dropout replay out of step: a mask of {tuple(mask.shape)} for {tuple(shape)}")
        else:
            mask = draw_mask(shape, level, self._generator).to(device)
        self.masks.append(mask)
        return mask

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,
    ) -> Tensor:
        if is_causal:
            raise NotImplementedError("causal attention with dropout is not replayed; encoders do not use it")
        scores = query @ key.transpose(-2, -1) * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None:
            scores = scores + self._added(attn_mask, scores.dtype)
        return self._dropout(scores.softmax(-1), dropout_p) @ value

    def _added(self, attn_mask: Tensor, dtype: torch.dtype) -> Tensor:
        """What a mask adds to scores; the layers of a pass have one mask, for which it is made once."""
        if attn_mask.dtype != torch.bool:
            return attn_mask
        if self._bias is None or self._bias[0] is not attn_mask:
            bias = torch.zeros(attn_mask.shape, dtype=dtype, device=attn_mask.device)
            self._bias = attn_mask, bias.masked_fill_(~attn_mask, torch.finfo(dtype).min)
        return self._bias[1]


def draw_mask(shape: torch.Size, level: int, generator: torch.Generator | None) -> Tensor:
    """True with probability 1 - level / 2^16."""
    count = math.prod(shape)
    draws = torch.empty(-(-count // 4), dtype=torch.int64)
    torch.Tensor.random_(draws, -(2**63), None, generator=generator)
    return (draws.view(torch.int16)[:count] >= level - LEVELS // 2).view(shape)
