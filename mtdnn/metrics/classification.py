"""Metrics over class ids, from scikit-learn."""

from collections.abc import Sequence

from sklearn.metrics import accuracy_score, f1_score
from sklearn.metrics import matthews_corrcoef as sklearn_matthews

from mtdnn.metrics.base import METRICS, is_constant, undefined


@METRICS.register("accuracy")
def accuracy(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Share of right predictions, in [0, 1]."""
    return float(accuracy_score(targets, predictions))


@METRICS.register("f1")
def f1(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """F1 of class 1, for tasks with two classes; in [0, 1]."""
    if 1 not in predictions and 1 not in targets:
        return undefined("f1", "class 1 is neither predicted nor present")
    return float(f1_score(targets, predictions, labels=[1], average="micro", zero_division=0.0))


@METRICS.register("f1_macro")
def f1_macro(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Mean of the classes' F1; in [0, 1]."""
    return float(f1_score(targets, predictions, average="macro", zero_division=0.0))


@METRICS.register("matthews_corrcoef")
def matthews_corrcoef(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Matthews correlation, in [-1, 1]; 0 when either side is constant."""
    if is_constant(predictions) or is_constant(targets):
        return undefined("matthews_corrcoef", "constant predictions or targets")
    return float(sklearn_matthews(targets, predictions))
