"""One score per example."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtdnn.data.batch import Batch
from mtdnn.divergences import Outputs, at_least_float32
from mtdnn.heads.base import HEADS, Head, StockHead

QUANTILES = 5


@HEADS.register("regression")
class RegressionHead(Head):
    """Linear layer and squared error on the raw score (MT-DNN, equations 3 and 7).

    :param dropout: on the pooled vector, in [0, 1).
    :param score_range: lowest and highest score of the task; a target outside is a fault. The layer starts at its
        middle, so that the first steps are not spent on moving there; without a range it starts at 0.
    """

    def __init__(self, *, hidden_size: int, score_range: tuple[float, float] | None = None, dropout: float = 0.1):
        super().__init__()
        self.score_range = score_range
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, 1)

    @torch.no_grad()
    def reset_bias(self) -> None:
        self.output.bias.fill_(sum(self.score_range) / 2 if self.score_range else 0.0)

    def parse(self, value: Any) -> float:
        try:
            score = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"expected a number, got {value!r:.60}") from None
        if not math.isfinite(score):
            raise ValueError(f"expected a finite number, got {value!r:.60}")
        if self.score_range and not self.score_range[0] <= score <= self.score_range[1]:
            raise ValueError(f"{score} is outside the task's range {list(self.score_range)}")
        return score

    def strata(self, targets: Sequence[Sequence[float]]) -> list[Hashable]:
        scores = np.array([unit[0] for unit in targets])
        edges = np.quantile(scores, np.arange(1, QUANTILES) / QUANTILES)
        return list(np.searchsorted(edges, scores, side="right").tolist())

    def collate(self, targets: Sequence[Sequence[float]]) -> Tensor:
        return torch.tensor([unit[0] for unit in targets], dtype=torch.float32)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        scores: Tensor = self.output(self.dropout(hidden)).squeeze(-1)
        return scores

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        if logits.shape != batch.targets.shape:
            raise ValueError(f"scores of shape {tuple(logits.shape)} for targets of shape {tuple(batch.targets.shape)}")
        return (at_least_float32(logits) - batch.targets).square()

    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        return Outputs.scalar(logits)

    def decode(self, logits: Tensor, batch: Batch) -> list[float]:
        return logits.float().tolist()

    def gold(self, targets: Sequence[float], texts: Any = ()) -> float:
        return targets[0]

    def describe(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        return [{"score": score} for score in logits.float().tolist()]

    def as_stock(self) -> StockHead:
        return StockHead(self.output, ("score",), "regression")
