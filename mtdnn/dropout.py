"""Dropout whose masks are drawn from a named generator, recorded, and replayed in a second pass.

A tape catches every dropout of a forward pass, whatever module it comes from; fused attention with dropout is written
out so that its mask is ours too. A pass that starts at a later layer replays from that layer's mark. While a tape runs,
autograd keeps neither that attention's weights nor what GELU puts into a linear layer, where they are large: both are
computed again when needed.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ReferenceType, ref

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mtdnn.recompute import Again, recomputed

LEVELS = 2**16  # a mask is decided by a 16-bit compare of 64-bit draws: 4 elements a draw


class DropoutTape(TorchFunctionMode):
    """Records dropout masks while it is entered, or replays those of another tape.

    :param generator: draws the masks; on the CPU, so that every device gets the same.
    :param replay: masks to use instead of drawing, in the order of the pass.
    :param off: no dropout at all.
    """

    recomputes_from: float = 2**18  # bytes a row, so that memory is linear in rows; what is smaller is kept: faster

    def __init__(
        self, generator: torch.Generator | None = None, *, replay: list[Tensor] | None = None, off: bool = False
    ):
        super().__init__()
        self.masks: list[Tensor] = []
        self._generator = generator
        self._replay = replay
        self._off = off
        self._bias: tuple[Tensor, Tensor] | None = None  # an attention mask, and what it adds to scores
        self._activated: tuple[ReferenceType[Tensor], int, Again] | None = None  # what GELU gave last, and its version

    def again(self, mark: int) -> "DropoutTape":
        """A tape that replays this one from ``mark`` on."""
        tape = DropoutTape(replay=self.masks[mark:], off=self._off)
        tape.recomputes_from = self.recomputes_from
        return tape

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.dropout:
            return self._dropout(*args, **kwargs)
        if function is F.scaled_dot_product_attention and kwargs.get("dropout_p", 0.0) > 0:
            return self._attention(*args, **kwargs)
        if function is F.gelu:
            return self._gelu(*args, **kwargs)
        if function is F.linear and self._activated and args:
            return self._linear(self._activated, *args, **kwargs)
        return function(*args, **kwargs)

    def _gelu(self, input: Tensor, **kwargs: Any) -> Tensor:
        out = F.gelu(input, **kwargs)
        if self._is_recomputed(out):
            self._activated = ref(out), out._version, Again(partial(F.gelu, **kwargs), input)
        return out

    def _linear(
        self, activated: tuple[ReferenceType[Tensor], int, Again], input: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        out, version, again = activated
        if input is not out() or input._version != version:
            return F.linear(input, *args, **kwargs)
        with recomputed(again, input):
            return F.linear(input, *args, **kwargs)

    def _is_recomputed(self, tensor: Tensor) -> bool:
        return tensor.requires_grad and tensor.nbytes >= self.recomputes_from * math.prod(tensor.shape[:1])

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0 or self._off:
            return input
        level = round(p * LEVELS)
        mask = self._next_mask(input.shape, level, input.device)
        return drop(input, mask, level)

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
        factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
        added = None if attn_mask is None else self._added(attn_mask, query.dtype)
        query, key = query.contiguous(), key.transpose(-2, -1).contiguous()  # as their product keeps them
        scores = attention_scores(query, key, added, factor=factor)
        if not self._is_recomputed(scores):
            return self._dropout(scores.softmax(-1), dropout_p) @ value
        sources = (query, key) if added is None else (query, key, added)
        again = Again(lambda *kept: attention_scores(*kept, factor=factor).softmax(-1), *sources)
        with recomputed(again):
            weights = scores.softmax(-1)
        dropped, level = self._dropout(weights, dropout_p), round(dropout_p * LEVELS)
        mask = None if dropped is weights else self.masks[-1]
        dtype = value.dtype  # autocast would make a copy of its own, which would be kept

        def then(weights: Tensor) -> Tensor:
            return (weights if mask is None else drop(weights, mask, level)).to(dtype)

        dropped = dropped.to(dtype)
        with recomputed(again, dropped, then):
            return dropped @ value

    def _added(self, attn_mask: Tensor, dtype: torch.dtype) -> Tensor:
        """What a mask adds to scores; the layers of a pass have one mask, for which it is made once."""
        if attn_mask.dtype != torch.bool:
            return attn_mask
        if self._bias is None or self._bias[0] is not attn_mask:
            bias = torch.zeros(attn_mask.shape, dtype=dtype, device=attn_mask.device)
            self._bias = attn_mask, bias.masked_fill_(~attn_mask, torch.finfo(dtype).min)
        return self._bias[1]


def attention_scores(query: Tensor, key: Tensor, added: Tensor | None = None, *, factor: float) -> Tensor:
    scores = query @ key * factor
    return scores if added is None else scores + added


def drop(input: Tensor, mask: Tensor, level: int) -> Tensor:
    return (input * mask.view(torch.uint8)).mul_(1.0 / (1.0 - level / LEVELS))  # bool would be converted slowly


def draw_mask(shape: torch.Size, level: int, generator: torch.Generator | None) -> Tensor:
    """True with probability 1 - level / 2^16."""
    count = math.prod(shape)
    draws = torch.empty(-(-count // 4), dtype=torch.int64)
    torch.Tensor.random_(draws, -(2**63), None, generator=generator)
    return (draws.view(torch.int16)[:count] >= level - LEVELS // 2).view(shape)
