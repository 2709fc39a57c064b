"""One label per word: names and other spans in a sentence.

Shape suffixes: U = units (one row each), N = rows, T = tokens, W = words of the longest unit, R = labelled words,
C = labels.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mtdnn.data.batch import Batch
from mtdnn.data.tokenize import Encoded
from mtdnn.data.units import Texts
from mtdnn.divergences import Outputs, at_least_float32, mean_by_unit
from mtdnn.heads.base import HEADS, UNLABELLED, Head
from mtdnn.heads.labels import copy_labels, label_counts, label_index
from mtdnn.heads.pieces import first_pieces, pieces_of
from mtdnn.metrics.spans import entities

OUTSIDE = "O"


@HEADS.register("tagging")
class TaggingHead(Head):
    """Linear layer and cross-entropy at the first piece of each word (Devlin et al., 2019, "BERT", section 5.3).

    A text is a list of words, or is split at white space; its target is a list of as many labels (or a text of them).
    Labels are IOB2: ``O``, and ``B-x`` with or without ``I-x``. The loss of a sentence is the mean over its words, so
    that sentences count alike [choice]. Words that ``max_length`` cuts off are predicted ``O``.

    :param dropout: on the hidden states, in [0, 1).
    :param label_words: per label its name and aliases.
    """

    reads_tokens = True
    token_columns = ("word",)
    keeps_texts = True
    constant_answer = False
    hub_task = "token-classification"

    def __init__(
        self, *, hidden_size: int, label_words: tuple[tuple[str, ...], ...], is_pair: bool = False, dropout: float = 0.1
    ):
        super().__init__()
        check_scheme([words[0] for words in label_words])
        if is_pair:
            raise ValueError("tagging labels the words of one text; leave inputs.text_b out")
        self.label_words = label_words
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, len(label_words))

    @property
    def names(self) -> list[str]:
        return [words[0] for words in self.label_words]

    @classmethod
    def read_text(cls, value: Any) -> str:
        if not isinstance(value, list):
            return super().read_text(value)
        for word in value:
            if not isinstance(word, str) or word.split() != [word]:
                raise ValueError(f"expected words without white space, got {word!r:.60}")
        return " ".join(value)

    def parse_targets(self, value: Any, texts: Texts | None) -> list[float]:
        labels = value.split() if isinstance(value, str) else value
        if not isinstance(labels, list):
            raise ValueError(f"expected a list of labels, one a word, got {value!r:.60}")
        found = [label_index(label, self.label_words) for label in labels]
        if texts is not None and len(found) != (count := len(texts[0].split())):
            raise ValueError(f"{len(found)} labels for {count} words: {value!r:.60}")
        return found

    def columns(self, encoded: Encoded, texts: Sequence[Texts]) -> dict[str, list[list[int]]]:
        rows = zip(pieces_of(encoded), texts, strict=True)
        return {"word": [first_pieces(piece, text) for piece, (text, _) in rows]}

    def strata(self, targets: Sequence[Sequence[float]]) -> list[Hashable]:
        """Sentences with the same labels in them, in whatever number and order."""
        return [frozenset(unit) for unit in targets]

    def collate(self, targets: Sequence[Sequence[float]]) -> Tensor:
        """Labels of each unit's words: (U, W), -1 where it has fewer."""
        rows = [torch.tensor(unit, dtype=torch.int64) for unit in targets]
        return pad_sequence(rows, batch_first=True, padding_value=-1)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(N, T, C)"""
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        unit_R, word_R, logits_RC = by_word(logits, batch)
        loss_R = F.cross_entropy(at_least_float32(logits_RC), batch.targets[unit_R, word_R], reduction="none")
        return mean_by_unit(loss_R, unit_R, num_units=batch.num_units)

    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        unit_R, _, logits_RC = by_word(logits, batch)
        return Outputs.categorical(logits_RC, unit_R=unit_R, num_units=batch.num_units)

    def decode(self, logits: Tensor, batch: Batch) -> list[list[str]]:
        """The label of each word."""
        found = [[OUTSIDE] * len(words) for words in words_of(batch)]
        unit_R, word_R, logits_RC = by_word(logits, batch)
        names = self.names
        for unit, word, label in zip(unit_R.tolist(), word_R.tolist(), logits_RC.argmax(-1).tolist(), strict=True):
            found[unit][word] = names[label]
        return found

    def gold(self, targets: Sequence[float], texts: Any = ()) -> list[str]:
        names = self.names
        return [names[int(target)] for target in targets]

    def summary(self, targets: Sequence[float]) -> str:
        return label_counts(targets, self.label_words) or UNLABELLED

    def describe(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        found = []
        for words, labels in zip(words_of(batch), self.decode(logits, batch), strict=True):
            named = [
                {"type": kind, "text": " ".join(words[start:stop]), "start": start, "stop": stop}
                for kind, start, stop in entities(labels)
            ]
            found.append({"words": words, "labels": labels, "entities": named})
        return found

    def copy_from(self, other: Head, mapping: Mapping[str, str]) -> None:
        if not isinstance(other, TaggingHead):
            raise ValueError(f"a tagger cannot start from a {type(other).__name__}")
        copy_labels(self, other, mapping)


def by_word(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Of each word that has a token: its unit, its place in the sentence, and its logits (R, C)."""
    word_NT = batch.tokens_NT["word"]
    unit_R, token_R = (word_NT >= 0).nonzero(as_tuple=True)
    return unit_R, word_NT[unit_R, token_R], logits[unit_R, token_R]


def words_of(batch: Batch) -> list[list[str]]:
    return [str(text).split() for ((text, _),) in batch.texts]


def check_scheme(names: Sequence[str]) -> None:
    """ValueError unless the labels are IOB2."""
    begins = {name.removeprefix("B-") for name in names if name.startswith("B-")}
    wrong = [
        name for name in names if name != OUTSIDE and not (name[:2] in ("B-", "I-") and name[2:] and name[2:] in begins)
    ]
    if OUTSIDE not in names or not begins or wrong:
        raise ValueError(
            f"tagging takes IOB2 labels, 'O', 'B-x' and 'I-x', got {list(names)}"
            + (f", of which {wrong} are none" if wrong else "")
            + "; convert IO and BIOES (IOBES) labels to IOB2"
        )
