"""Metrics over class ids, from scikit-learn; and the same from confusion matrices, for many resamples at once.

scikit-learn takes as long to import as torch, and is imported when a metric is computed.
"""

from collections.abc import Sequence

import numpy as np

from mtdnn.metrics.base import METRICS, is_constant, of_counts, undefined


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where there is nothing below."""
    return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below > 0))


def right(counts: np.ndarray) -> np.ndarray:
    """Of each class: (R, K)."""
    return np.diagonal(counts, axis1=1, axis2=2).copy()


def accuracy_of(counts: np.ndarray) -> np.ndarray:
    return np.asarray(right(counts).sum(1) / counts.sum((1, 2)))


def class_f1_of(counts: np.ndarray) -> np.ndarray:
    """The F1 of each class: (R, K)."""
    return ratio(2 * right(counts), counts.sum(1) + counts.sum(2))


def f1_of(counts: np.ndarray) -> np.ndarray:
    return class_f1_of(counts)[:, 1] if counts.shape[1] > 1 else np.zeros(len(counts))


def f1_macro_of(counts: np.ndarray) -> np.ndarray:
    present = counts.sum(1) + counts.sum(2) > 0
    return np.asarray(class_f1_of(counts).sum(1) / present.sum(1))


def matthews_of(counts: np.ndarray) -> np.ndarray:
    targets, found, all_ = counts.sum(2), counts.sum(1), counts.sum((1, 2))
    spread = (all_**2 - (targets**2).sum(1)) * (all_**2 - (found**2).sum(1))
    return ratio(right(counts).sum(1) * all_ - (targets * found).sum(1), np.sqrt(spread))


@METRICS.register("accuracy")
@of_counts(accuracy_of)
def accuracy(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Share of right predictions, in [0, 1]."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(targets, predictions))


@METRICS.register("f1")
@of_counts(f1_of)
def f1(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """F1 of class 1, for tasks with two classes; in [0, 1]."""
    from sklearn.metrics import f1_score

    if 1 not in predictions and 1 not in targets:
        return undefined("f1", "class 1 is neither predicted nor present")
    return float(f1_score(targets, predictions, labels=[1], average="micro", zero_division=0.0))


@METRICS.register("f1_macro")
@of_counts(f1_macro_of)
def f1_macro(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Mean of the classes' F1; in [0, 1]."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, average="macro", zero_division=0.0))


@METRICS.register("matthews_corrcoef")
@of_counts(matthews_of)
def matthews_corrcoef(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Matthews correlation, in [-1, 1]; 0 when either side is constant."""
    from sklearn import metrics

    if is_constant(predictions) or is_constant(targets):
        return undefined("matthews_corrcoef", "constant predictions or targets")
    return float(metrics.matthews_corrcoef(targets, predictions))
