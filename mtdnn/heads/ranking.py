"""One score per candidate; the candidates of a question compete."""

import random
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtdnn.data.batch import Batch
from mtdnn.divergences import Outputs, at_least_float32
from mtdnn.heads.base import HEADS, UNLABELLED, Head, StockHead
from mtdnn.heads.labels import label_counts, label_index
from mtdnn.tasks import Groups

RIGHT_OR_WRONG = (("0",), ("1",))


@HEADS.register("ranking")
class RankingHead(Head):
    """Softmax over a group's candidates (MT-DNN, equations 4, 5 and 8), for any number of them and of right answers.

    The loss of a group with right answers R is -log sum_{j in R} P_j [choice: the paper has one right answer].

    :param loss: ``marginal``: as above. ``mean_positive``: mean over R of -log P_j. ``mtdnn``: mean over R of a
        softmax of that right answer against the wrong ones alone.
    :param label_words: the words for wrong and for right, in this order.
    :param groups: what to do with groups that have no right answer, and how many candidates training keeps.
    """

    chooses_rows = True
    hub_task = "text-ranking"

    def __init__(
        self,
        *,
        hidden_size: int,
        groups: Groups,
        label_words: tuple[tuple[str, ...], ...] = (),
        dropout: float = 0.1,
        loss: Literal["marginal", "mean_positive", "mtdnn"] = "marginal",
    ):
        super().__init__()
        self.label_words = label_words or RIGHT_OR_WRONG
        if len(self.label_words) != 2:
            raise ValueError(f"ranking needs two labels, [wrong, right], got {len(self.label_words)}")
        self.groups, self.loss_form = groups, loss
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, 1)

    def parse(self, value: Any) -> float:
        return label_index(value, self.label_words)

    def admit(self, targets: Sequence[float]) -> bool:
        if any(targets):
            return True
        if self.groups.no_right == "error":
            raise ValueError(
                f"a group of {len(targets)} candidates has no right answer; groups.no_right: drop leaves it out"
            )
        return False

    def trainable(self, targets: Sequence[float]) -> bool:
        return any(targets) and not all(targets)

    def keep_rows(self, targets: Sequence[float], *, key: str) -> list[int]:
        right = [row for row, target in enumerate(targets) if target]
        wrong = [row for row, target in enumerate(targets) if not target]
        room = max(1, self.groups.max_candidates - len(right))
        if len(wrong) > room:
            wrong = random.Random(key).sample(wrong, room)
        return sorted(right + wrong)

    def strata(self, targets: Sequence[Sequence[float]]) -> list[Hashable]:
        return [0] * len(targets)

    def collate(self, targets: Sequence[Sequence[float]]) -> Tensor:
        """0/1 per candidate row: (N,), float32."""
        return torch.tensor([target for unit in targets for target in unit], dtype=torch.float32)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        scores_N: Tensor = self.output(self.dropout(hidden)).squeeze(-1)
        return scores_N

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        scores_UK, valid_UK = by_group(at_least_float32(logits), batch)
        right_UK = by_group(batch.targets, batch)[0].bool() & valid_UK
        lowest = torch.finfo(scores_UK.dtype).min
        log_p_UK = scores_UK.masked_fill(~valid_UK, lowest).log_softmax(-1)
        if self.loss_form == "marginal":
            loss_U = -log_p_UK.masked_fill(~right_UK, lowest).logsumexp(-1)
        else:
            if self.loss_form == "mtdnn":
                rivals_U1 = scores_UK.masked_fill(right_UK | ~valid_UK, lowest).logsumexp(-1, keepdim=True)
                log_p_UK = scores_UK - torch.logaddexp(scores_UK, rivals_U1)
            loss_U = -log_p_UK.masked_fill(~right_UK, 0.0).sum(-1) / right_UK.sum(-1).clamp_min(1)
        counts = right_UK.any(-1) & (valid_UK & ~right_UK).any(-1)
        return loss_U.masked_fill(~counts, 0.0)

    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        return Outputs.categorical(*by_group(logits, batch))

    def decode(self, logits: Tensor, batch: Batch) -> list[list[float]]:
        return [scores.tolist() for scores in logits.float().split(batch.num_rows_U.tolist())]

    def gold(self, targets: Sequence[float], texts: Any = ()) -> list[int]:
        return [int(target) for target in targets]

    def summary(self, targets: Sequence[float]) -> str:
        return label_counts(targets, self.label_words) or UNLABELLED

    def describe(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        groups = logits.float().split(batch.num_rows_U.tolist())
        return [
            {"best": int(scores.argmax()), "scores": scores.tolist(), "probabilities": scores.softmax(0).tolist()}
            for scores in groups
        ]

    def describe_rows(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        return [{"score": score} for score in logits.float().tolist()]

    def as_stock(self) -> StockHead:
        return StockHead(self.output, ("score",), "regression")


def by_group(values_N: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Rows laid out by group: values (U, K), zero where a group has fewer than K rows, and which places are real."""
    counts_U = batch.num_rows_U
    valid_UK = torch.arange(int(counts_U.max()), device=values_N.device) < counts_U.unsqueeze(1)
    values_UK = values_N.new_zeros(valid_UK.shape)
    return values_UK.masked_scatter(valid_UK, values_N), valid_UK
