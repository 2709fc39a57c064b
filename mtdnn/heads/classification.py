"""One class per example."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtdnn.data.batch import Batch
from mtdnn.divergences import Outputs, at_least_float32
from mtdnn.heads.base import HEADS, UNLABELLED, Head, StockHead
from mtdnn.heads.labels import copy_labels, label_counts, label_index


@HEADS.register("classification")
class ClassificationHead(Head):
    """Linear layer and cross-entropy (MT-DNN, equations 1, 2 and 6).

    :param dropout: on the pooled vector, in [0, 1).
    :param label_words: per class its name and aliases.
    """

    def __init__(self, *, hidden_size: int, label_words: tuple[tuple[str, ...], ...], dropout: float = 0.1):
        super().__init__()
        if len(label_words) < 2:
            raise ValueError(f"a classifier needs two or more labels, got {len(label_words)}")
        self.label_words = label_words
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, len(label_words))

    def parse(self, value: Any) -> float:
        return label_index(value, self.label_words)

    def strata(self, targets: Sequence[Sequence[float]]) -> list[Hashable]:
        return [unit[0] for unit in targets]

    def collate(self, targets: Sequence[Sequence[float]]) -> Tensor:
        return torch.tensor([int(unit[0]) for unit in targets])

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        return F.cross_entropy(at_least_float32(logits), batch.targets, reduction="none")

    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        return Outputs.categorical(logits)

    def decode(self, logits: Tensor, batch: Batch) -> list[int]:
        return logits.argmax(-1).tolist()

    def gold(self, targets: Sequence[float], texts: Any = ()) -> int:
        return int(targets[0])

    def summary(self, targets: Sequence[float]) -> str:
        return label_counts(targets, self.label_words) or UNLABELLED

    def describe(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        names = [words[0] for words in self.label_words]
        rows = at_least_float32(logits).softmax(-1).tolist()
        return [
            {"label": names[row.index(max(row))], "probabilities": dict(zip(names, row, strict=True))} for row in rows
        ]

    def as_stock(self) -> StockHead:
        return StockHead(self.output, tuple(words[0] for words in self.label_words), "single_label_classification")

    def copy_from(self, other: Head, mapping: Mapping[str, str]) -> None:
        if not isinstance(other, ClassificationHead):
            raise ValueError(f"a classifier cannot start from a {type(other).__name__}")
        copy_labels(self, other, mapping)
