"""What a metric is, and the registry of metrics."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from mtdnn.registry import Registry

Metric: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], float]
"""``(predictions, targets) -> value``, one entry per unit, in [-1, 1]; larger is better."""

METRICS: Registry[Metric] = Registry("metric", package="mtdnn.metrics")
OfCounts: TypeAlias = Callable[[np.ndarray], np.ndarray]
OF_COUNTS: dict[Metric, OfCounts] = {}


class UndefinedMetricWarning(UserWarning):
    """A metric has no value for these predictions (constant ones, say) and was given a defined one."""


def compute(names: Sequence[str], predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    """All named metrics of one task, in the order given."""
    if len(predictions) != len(targets):
        raise ValueError(f"{len(predictions)} predictions but {len(targets)} targets")
    return {name: float(METRICS.get(name, where="metrics")(predictions, targets)) for name in names}


def of_counts(values: OfCounts) -> Callable[[Metric], Metric]:
    """Decorator: how to get a metric over class ids from confusion matrices, for many resamples at once.

    :param values: counts (R, K, K), targets by predictions -> the metric of each, (R,).
    """

    def add(metric: Metric) -> Metric:
        OF_COUNTS[metric] = values
        return metric

    return add


def resampled(
    metric: Metric, predictions: Sequence[Any], targets: Sequence[Any], *, resamples: int, seed: int
) -> np.ndarray:
    """The metric of as many units drawn with replacement, again and again: (R,); equal seeds draw the same units.

    scikit-learn takes milliseconds to look at its input, whatever its size; of class ids their counts are enough.
    """
    rng, count = np.random.default_rng(seed), len(targets)
    draws = (rng.integers(count, size=count) for _ in range(resamples))
    if metric not in OF_COUNTS:
        return np.array([metric(taken(predictions, draw), taken(targets, draw)) for draw in draws])
    found, gold = np.asarray(predictions), np.asarray(targets)
    num_labels = int(max(found.max(), gold.max())) + 1
    cells = gold * num_labels + found
    counts = np.array([np.bincount(cells[draw], minlength=num_labels**2) for draw in draws])
    return OF_COUNTS[metric](counts.reshape(-1, num_labels, num_labels).astype(float))


def taken(values: Sequence[Any], places: np.ndarray) -> Sequence[Any]:
    chosen: Sequence[Any] = values[places] if isinstance(values, np.ndarray) else [values[place] for place in places]
    return chosen


def undefined(name: str, reason: str) -> float:
    """The defined value, 0, of a metric that has none, with a warning that says why."""
    warnings.warn(f"{name} is undefined ({reason}); reported as 0", UndefinedMetricWarning, stacklevel=3)
    return 0.0


def is_constant(values: Sequence[Any]) -> bool:
    return len(np.unique(np.asarray(values))) < 2
