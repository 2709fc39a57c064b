"""Model + split -> predictions and metrics."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtdnn.data.batch import Batch, make_batch, sorted_batches
from mtdnn.data.tokenize import TaskSplit
from mtdnn.distributed import ALONE, Ranks
from mtdnn.memory import memory_for
from mtdnn.metrics.base import Metric, UndefinedMetricWarning, compute, resampled
from mtdnn.model import MultiTaskModel
from mtdnn.optim import Precision, in_precision

RESAMPLES = 400


@dataclass(frozen=True)
class Evaluation:
    """What a model says about one split, in the file's order.

    :param metrics: by name, in the task's order; empty for an unlabelled split.
    :param num_counted: units that the metrics are over; in ranking those with both right and wrong answers.
    :param predictions: per unit, what the head describes: label words, probabilities, scores.
    """

    task: str
    split: str
    metrics: dict[str, float]
    uids: list[str]
    predictions: list[dict[str, Any]]
    decoded: list[Any]
    gold: list[Any]
    num_counted: int = 0

    def doubts(self) -> list[str]:
        """What is wrong with the answers as a whole, in words."""
        alike = all(each == self.decoded[0] for each in self.decoded)
        if not alike or all(each == self.gold[0] for each in self.gold):
            return []
        return [
            f"{self.task}: every {self.split} example gets the same answer; a lower learning rate, more steps or "
            "another seed may help"
        ]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping per unit, for a predictions file; ``prediction`` and ``target`` are as the metrics take them."""
        for index, (uid, described) in enumerate(zip(self.uids, self.predictions, strict=True)):
            target = {"target": self.gold[index]} if self.gold else {}
            yield {"uid": uid, "prediction": self.decoded[index], **described, **target}


@torch.inference_mode()
def predict_batches(
    model: MultiTaskModel,
    data: TaskSplit,
    *,
    batch_size: int,
    pad_id: int,
    precision: Precision = "fp32",
    ranks: Ranks = ALONE,
) -> Iterator[tuple[np.ndarray, Batch, torch.Tensor]]:
    """(positions, batch, logits) of this process's batches, with dropout off, longest rows first."""
    was_training = model.training
    model.eval()
    head = model.head(data.task)
    try:
        for indices in ranks.share(sorted_batches(data, batch_size=batch_size)):
            batch = make_batch(data, indices, head, pad_id=pad_id).to(model.device)
            with memory_for([batch], doing="evaluating"), in_precision(precision, model.device):
                logits = model.run(batch).logits
            yield indices, batch, logits
    finally:
        model.train(was_training)


def evaluate(
    model: MultiTaskModel,
    data: TaskSplit,
    *,
    batch_size: int = 64,
    pad_id: int = 0,
    precision: Precision = "fp32",
    ranks: Ranks = ALONE,
    metrics: Sequence[str] = (),
) -> Evaluation:
    """Predict every unit of a split once, each process a share of the batches, and compute the metrics.

    :param precision: of the encoder: ``fp32``, ``bf16``, or ``auto`` for what the hardware multiplies fastest.
    :param metrics: by default those that the model's task names.
    """
    names, head = metrics or model.task_defs[data.task].metrics, model.head(data.task)
    decoded: list[Any] = [None] * len(data)
    described: list[Any] = [None] * len(data)
    found: list[tuple[int, Any, Any]] = []
    predicted = predict_batches(model, data, batch_size=batch_size, pad_id=pad_id, precision=precision, ranks=ranks)
    for indices, batch, logits in predicted:
        found += zip(indices, head.decode(logits, batch), head.describe(logits, batch), strict=True)
    for index, one, words in ranks.gather(found):
        decoded[index], described[index] = one, words
    targets = data.targets
    labelled = bool(len(data)) and bool(targets.sizes_U.all())
    gold = [head.gold(each, texts) for each, texts in zip(targets, data.texts(), strict=True)] if labelled else []
    values = compute(names, decoded, gold) if labelled else {}
    counted = sum(map(head.trainable, targets))
    return Evaluation(data.task, data.split, values, data.uids, described, decoded, gold, counted)


def bootstrap(metric: Metric, evaluation: Evaluation, *, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of a metric over resampled units (Efron and Tibshirani, 1993, section 13.3)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        values = resampled(metric, evaluation.decoded, evaluation.gold, resamples=RESAMPLES, seed=seed)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def first_metrics(evaluations: Mapping[str, Evaluation]) -> float:
    """What selects the best checkpoint: the mean over tasks of each one's first metric."""
    return float(np.mean([next(iter(each.metrics.values())) for each in evaluations.values()]))
