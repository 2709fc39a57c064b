"""Metrics over groups of candidates.

A prediction is one score per candidate, a target one 0/1 per candidate. Only "clean" groups count: those with at least
one right and one wrong candidate. Ties are ranked worst-case: a wrong candidate stands before a right one.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mtdnn.metrics.base import METRICS, undefined

Ranked = np.ndarray  # 0/1 relevance, best-ranked candidate first


def ranked_groups(predictions: Sequence[Sequence[float]], targets: Sequence[Sequence[int]]) -> list[Ranked]:
    """The clean groups' relevances in ranked order."""
    groups = []
    for scores, relevance in zip(predictions, targets, strict=True):
        right = np.asarray(relevance, dtype=int)
        if len(scores) != len(right):
            raise ValueError(f"a group has {len(scores)} scores but {len(right)} targets")
        if 0 < right.sum() < len(right):
            groups.append(right[np.lexsort((right, -np.asarray(scores, dtype=float)))])
    return groups


def mean_over_groups(
    name: str,
    value: Callable[[Ranked], float],
    predictions: Sequence[Sequence[float]],
    targets: Sequence[Sequence[int]],
) -> float:
    groups = ranked_groups(predictions, targets)
    if not groups:
        return undefined(name, "no group has both a right and a wrong candidate")
    return float(np.mean([value(group) for group in groups]))


def reciprocal_rank(group: Ranked) -> float:
    return float(1.0 / (np.argmax(group) + 1))


def average_precision(group: Ranked) -> float:
    precision = np.cumsum(group) / np.arange(1, len(group) + 1)
    return float(precision[group == 1].mean())


def ndcg_at(group: Ranked, k: int) -> float:
    """Binary gains; worst-case ties, which scikit-learn's averaging over ties does not offer."""
    discount = 1.0 / np.log2(np.arange(2, len(group) + 2))
    ideal = np.sort(group)[::-1]
    return float((group * discount)[:k].sum() / (ideal * discount)[:k].sum())


@METRICS.register("mrr")
def mrr(predictions: Sequence[Sequence[float]], targets: Sequence[Sequence[int]]) -> float:
    """Mean reciprocal rank of the best-ranked right candidate, in (0, 1]."""
    return mean_over_groups("mrr", reciprocal_rank, predictions, targets)


@METRICS.register("map")
def mean_average_precision(predictions: Sequence[Sequence[float]], targets: Sequence[Sequence[int]]) -> float:
    """Mean average precision, in (0, 1]."""
    return mean_over_groups("map", average_precision, predictions, targets)


@METRICS.register("ndcg@10")
def ndcg_10(predictions: Sequence[Sequence[float]], targets: Sequence[Sequence[int]]) -> float:
    """Normalised discounted cumulative gain of the first ten, in [0, 1]."""
    return mean_over_groups("ndcg@10", lambda group: ndcg_at(group, 10), predictions, targets)


@METRICS.register("hits@1")
def hits_1(predictions: Sequence[Sequence[float]], targets: Sequence[Sequence[int]]) -> float:
    """Share of groups whose first-ranked candidate is right, in [0, 1]."""
    return mean_over_groups("hits@1", lambda group: float(group[0]), predictions, targets)
