"""Answers as characters of a text and as tokens of its windows.

Shape suffixes: N = rows (windows), T = tokens, S = tokens of an answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.data.units import Texts

SHAPE = "{text: [...], answer_start: [...]} or a list of {text, answer_start}"


def answers_of(value: Any) -> Iterator[tuple[str, int]]:
    """Text and start of each right answer; ValueError says what was expected."""
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
    elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        texts, starts = ([each.get(key) for each in value] for key in ("text", "answer_start"))
    else:
        raise ValueError(f"expected {SHAPE}, got {value!r:.60}")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise ValueError(f"expected {SHAPE}, as many of either, got {value!r:.60}")
    if not texts:
        raise ValueError(
            "no right answer; span extraction takes answerable questions: leave the others of SQuAD 2.0 out"
        )
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip() or not isinstance(start, int) or isinstance(start, bool):
            raise ValueError(
                f"expected an answer's text and the number of its first character, got {text!r:.40} and {start!r:.20}"
            )
        yield text, start


def checked(text: str, start: int, texts: Texts | None) -> tuple[int, int]:
    """Where an answer begins and ends, without the white space around it; ValueError where it is not there."""
    if texts is not None and (start < 0 or not (texts[1] or "").startswith(text, start)):
        there = (texts[1] or "")[max(0, start) : max(0, start) + len(text)]
        raise ValueError(f"answer_start {start}: the text has {there[:40]!r} there, the answer is {text[:40]!r}")
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())


def unit_of_row(batch: Batch) -> Tensor:
    """(N,)"""
    return torch.repeat_interleave(batch.num_rows_U)


def answer_places(answer_N2: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The tokens of each row at which its answer begins and ends; the first token, twice, where it is not all there.

    :param answer_N2: first character of the row's answer and the one after its last.
    """
    start_NT, end_NT = batch.tokens_NT["start"], batch.tokens_NT["end"]
    first_N1, last_N1 = answer_N2[:, :1], answer_N2[:, 1:]
    text_NT = start_NT >= 0
    begins_NT, stops_NT = text_NT & (end_NT > first_N1), text_NT & (start_NT < last_N1)
    here_N = (text_NT & (start_NT <= first_N1)).any(1) & (text_NT & (end_NT >= last_N1)).any(1)
    begin_N = begins_NT.int().argmax(1)
    stop_N = stops_NT.shape[1] - 1 - stops_NT.int().flip(1).argmax(1)
    return begin_N * here_N, stop_N * here_N


@dataclass(frozen=True)
class BestSpans:
    """The best span of each row: (N,) each.

    :param score_N: the sum of its two scores; minus infinity in a row without a token of the text.
    """

    score_N: Tensor
    first_N: Tensor
    last_N: Tensor

    def of_first(self, values_NT: Tensor) -> Tensor:
        """Each row's value at the first token of its span: (N,)."""
        return values_NT.gather(1, self.first_N.unsqueeze(1)).squeeze(1)

    def of_last(self, values_NT: Tensor) -> Tensor:
        """Each row's value at the last token of its span: (N,)."""
        return values_NT.gather(1, self.last_N.unsqueeze(1)).squeeze(1)


def best_spans(logits_NT2: Tensor, batch: Batch, *, max_tokens: int) -> BestSpans:
    """The span of the text with the largest sum of scores, of at most ``max_tokens`` tokens."""
    text_NT = batch.tokens_NT["start"] >= 0
    start_NT, end_NT = (logits_NT2[..., side].masked_fill(~text_NT, -torch.inf) for side in (0, 1))
    length = min(max_tokens, text_NT.shape[1])
    ends_NTS = F.pad(end_NT, (0, length - 1), value=-torch.inf).unfold(1, length, 1)
    score_N, place_N = (start_NT.unsqueeze(-1) + ends_NTS).flatten(1).max(1)
    first_N = place_N // length
    return BestSpans(score_N, first_N, first_N + place_N % length)
