"""What a metric is, and the registry of metrics."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from mtdnn.registry import Registry

Metric: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], float]
"""``(predictions, targets) -> value``, one entry per unit, in [-1, 1]; larger is better."""

METRICS: Registry[Metric] = Registry("metric", package="mtdnn.metrics")


class UndefinedMetricWarning(UserWarning):
    """A metric has no value for these predictions (constant ones, say) and was given a defined one."""


def compute(names: Sequence[str], predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    """All named metrics of one task, in the order given."""
    if len(predictions) != len(targets):
        raise ValueError(f"{len(predictions)} predictions but {len(targets)} targets")
    return {name: float(METRICS.get(name, where="metrics")(predictions, targets)) for name in names}


def undefined(name: str, reason: str) -> float:
    """The defined value, 0, of a metric that has none, with a warning that says why."""
    warnings.warn(f"{name} is undefined ({reason}); reported as 0", UndefinedMetricWarning, stacklevel=3)
    return 0.0


def is_constant(values: Sequence[Any]) -> bool:
    return len(np.unique(np.asarray(values))) < 2
