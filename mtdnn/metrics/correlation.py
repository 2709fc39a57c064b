"""Correlations of scores, from scipy."""

from collections.abc import Sequence

import scipy

from mtdnn.metrics.base import METRICS, is_constant, undefined


@METRICS.register("pearson")
def pearson(predictions: Sequence[float], targets: Sequence[float]) -> float:
    """Linear correlation, in [-1, 1]; 0 when either side is constant."""
    if is_constant(predictions) or is_constant(targets):
        return undefined("pearson", "constant predictions or targets")
    return float(scipy.stats.pearsonr(predictions, targets).statistic)


@METRICS.register("spearman")
def spearman(predictions: Sequence[float], targets: Sequence[float]) -> float:
    """Rank correlation, in [-1, 1]; 0 when either side is constant."""
    if is_constant(predictions) or is_constant(targets):
        return undefined("spearman", "constant predictions or targets")
    return float(scipy.stats.spearmanr(predictions, targets).statistic)
