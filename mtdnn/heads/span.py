"""The answer to a question, as a span of a text that may be longer than a row.

Shape suffixes: U = units (questions), N = rows (windows of a text; more than units), T = tokens, A = right answers,
R = distributions, S = tokens of an answer.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mtdnn.data.batch import Batch
from mtdnn.data.tokenize import Encoded
from mtdnn.data.units import Texts
from mtdnn.divergences import Outputs, at_least_float32
from mtdnn.errors import ConfigError
from mtdnn.heads.base import HEADS, UNLABELLED, Head
from mtdnn.heads.pieces import characters, pieces_of
from mtdnn.heads.span_places import answer_places, answers_of, best_spans, checked, unit_of_row

FEWEST_TOKENS = 2  # of the text in a window


@HEADS.register("span")
class SpanHead(Head):
    """Two scores per token, that the answer begins and that it ends there (Devlin et al., 2019, "BERT", section 4.2).

    ``text_a`` is the question and ``text_b`` the text. A target is SQuAD's ``answers``: ``{text: [...], answer_start:
    [...]}``, or a list of ``{text, answer_start}``; starts count characters from 0. A text longer than a row is cut
    into windows. The loss of a question is the mean over its windows of the cross-entropies of start and end, halved;
    it takes the first right answer, and in a window that does not hold all of it the first token is the target. The
    answer is the best span of any window by the sum of its two scores.

    :param stride: tokens that two neighbouring windows share (as in ``transformers``), at least 0; where rows are so
        short that half a window is less, that half.
    :param max_answer_tokens: of an answer that is predicted, at least 1.
    :param max_question_tokens: the end of a longer question is cut off, at least 1; never more than half a row.
    :param dropout: on the hidden states, in [0, 1).
    """

    reads_tokens = True
    token_columns = ("start", "end")
    keeps_texts = True
    constant_answer = False
    hub_task = "question-answering"

    def __init__(
        self,
        *,
        hidden_size: int,
        is_pair: bool = True,
        stride: int = 128,
        max_answer_tokens: int = 30,
        max_question_tokens: int = 64,
        dropout: float = 0.1,
    ):
        super().__init__()
        if not is_pair:
            raise ValueError("span extraction reads a question, inputs.text_a, and a text, inputs.text_b")
        if stride < 0 or max_answer_tokens < 1 or max_question_tokens < 1:
            raise ValueError(
                "stride must be at least 0, max_answer_tokens and max_question_tokens at least 1, "
                f"got {stride}, {max_answer_tokens} and {max_question_tokens}"
            )
        self.stride, self.max_answer_tokens, self.max_question_tokens = stride, max_answer_tokens, max_question_tokens
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, 2)

    def parse_targets(self, value: Any, texts: Texts | None) -> list[float]:
        """First character of each right answer and the one after its last, one answer after the other."""
        return [float(place) for text, start in answers_of(value) for place in checked(text, start, texts)]

    @property
    def encoding(self) -> Hashable:
        return "windows", self.stride, self.max_question_tokens

    def encode(self, tokenizer: Any, texts: Sequence[Texts], *, max_length: int) -> Encoded:
        """As many windows of each text as it takes, each with the question before it."""
        limit = min(self.max_question_tokens, max_length // 2)
        room = max_length - limit - tokenizer.num_special_tokens_to_add(pair=True)
        if room < FEWEST_TOKENS:
            raise ConfigError(
                f"encoder.max_length: {max_length} leaves no room for a text beside its question; raise it"
            )
        questions, cut = shortened(tokenizer, [question for question, _ in texts], limit)
        found = tokenizer(
            questions,
            [text or "" for _, text in texts],
            truncation="only_second",
            max_length=max_length,
            stride=min(self.stride, room // 2),
            return_overflowing_tokens=True,
            padding=False,
        )
        return Encoded(
            input_ids=found["input_ids"],
            token_type_ids=found.get("token_type_ids"),
            num_rows=np.bincount(found["overflow_to_sample_mapping"], minlength=len(texts)),
            truncated=cut,
            pieces=found.encodings,
        )

    def columns(self, encoded: Encoded, texts: Sequence[Texts]) -> dict[str, list[list[int]]]:
        """Where each token of the text begins and ends in it, in characters."""
        starts, ends = zip(*(characters(piece, text=1) for piece in pieces_of(encoded)), strict=True)
        return {"start": list(starts), "end": list(ends)}

    def strata(self, targets: Sequence[Sequence[float]]) -> list[Hashable]:
        return [0] * len(targets)

    def collate(self, targets: Sequence[Sequence[float]]) -> Tensor:
        """Start and end of the right answers: (U, A, 2), -1 where a question has fewer than A."""
        rows = [torch.tensor(unit, dtype=torch.int64).view(-1, 2) for unit in targets]
        return pad_sequence(rows, batch_first=True, padding_value=-1)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(N, T, 2)"""
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        found, unit_N = self.outputs(logits, batch), unit_of_row(batch)
        assert found.log_probs_UK is not None
        place_R = torch.cat(answer_places(batch.targets[:, 0][unit_N], batch))
        loss_R = -found.log_probs_UK.gather(1, place_R.unsqueeze(1)).squeeze(1)
        return found.by_unit(loss_R)

    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        """Of each window the distribution of the start and that of the end, over its text and its first token."""
        valid_NT = batch.tokens_NT["start"] >= 0
        valid_NT[:, 0] = True
        logits_RT = logits.permute(2, 0, 1).flatten(0, 1)
        unit_R = unit_of_row(batch).repeat(2)
        return Outputs.categorical(logits_RT, valid_NT.repeat(2, 1), unit_R=unit_R, num_units=batch.num_units)

    def decode(self, logits: Tensor, batch: Batch) -> list[str]:
        return [answer["answer"] for answer in self.describe(logits, batch)]

    def gold(self, targets: Sequence[float], texts: Any = ()) -> list[str]:
        ((_, text),) = texts
        places = [int(place) for place in targets]
        return [str(text)[start:end] for start, end in zip(places[::2], places[1::2], strict=True)]

    def summary(self, targets: Sequence[float]) -> str:
        lengths = np.diff(np.reshape(targets, (-1, 2)), axis=1)
        return f"{len(lengths)} answers, median {np.median(lengths):g} characters" if len(lengths) else UNLABELLED

    def describe(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """The answer, where it stands, and how probable both its ends are among those of its window."""
        best = best_spans(at_least_float32(logits.detach()), batch, max_tokens=self.max_answer_tokens)
        log_probs_RT = self.outputs(logits.detach(), batch).log_probs_UK
        assert log_probs_RT is not None
        begins_NT, stops_NT = log_probs_RT.chunk(2)
        sure_N = (best.of_first(begins_NT) + best.of_last(stops_NT)).exp()
        starts_N, ends_N = best.of_first(batch.tokens_NT["start"]), best.of_last(batch.tokens_NT["end"])
        rows = torch.stack([each.double() for each in (best.score_N, starts_N, ends_N, sure_N)], 1).tolist()
        found, windows = [], iter(rows)
        for count, ((_, text), *_) in zip(batch.num_rows_U.tolist(), batch.texts, strict=True):
            _, start, end, sure = max(islice(windows, count), key=lambda row: row[0])
            answer = str(text)[int(start) : int(end)]
            found.append({"answer": answer, "start": int(start), "end": int(end), "probability": sure})
        return found

    def copy_from(self, other: Head, mapping: Mapping[str, str]) -> None:
        if not isinstance(other, SpanHead):
            raise ValueError(f"span extraction cannot start from a {type(other).__name__}")
        self.output.load_state_dict(other.output.state_dict())


def shortened(tokenizer: Any, questions: Sequence[str], limit: int) -> tuple[list[str], int]:
    """Questions without what lies beyond their first ``limit`` tokens, and how many lost something."""
    encoded = tokenizer(list(questions), add_special_tokens=False, truncation=True, max_length=limit, padding=False)
    if encoded.encodings is None:
        return list(questions), 0
    cut = [bool(piece.overflowing) for piece in encoded.encodings]
    found = [
        question[: piece.offsets[-1][1]] if short else question
        for question, piece, short in zip(questions, encoded.encodings, cut, strict=True)
    ]
    return found, sum(cut)
