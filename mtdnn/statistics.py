"""Whether two systems differ: paired differences with intervals, tests, and how well probabilities are calibrated.

Differences are ``b - a`` in the metric's own unit, in [-2, 2]. Nothing here picks the best of several runs.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import mean, stdev
from typing import Any

import numpy as np
import scipy

from mtdnn.metrics.base import UndefinedMetricWarning, resampled

LEVEL, POWER = 0.95, 0.8
RESAMPLES = 400
NUM_BINS = 10
ROUNDING = 1e-12
Metric = Callable[[Sequence[Any], Sequence[Any]], float]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far b lies above a.

    :param low: lower end of the 95 % interval; None where the pairs say nothing of their spread.
    :param p_value: of no difference at all, two-sided; None as ``low``.
    :param spread: standard deviation of the pairs' differences; None as ``low``.
    """

    mean: float
    num: int
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    spread: float | None = None

    def detectable(self, *, tests: int = 1) -> float | None:
        """The smallest true difference that as many pairs as these would show with a probability of 0.8.

        :param tests: among how many the 5 % are shared out, as they are where no other test finds anything.
        """
        return None if self.spread is None else detectable_size(self.num, level=1 - (1 - LEVEL) / tests) * self.spread

    @property
    def pairs_needed(self) -> int | None:
        """How many pairs would show a true difference as large as this one, with a probability of 0.8."""
        return None if not self.spread or not self.mean else pairs_needed(self.mean / self.spread)

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Over runs in pairs that share their seed: Student's t (as in a paired t-test).

    One pair, or pairs that all differ by the same amount, be it 0, say nothing of the spread: then there is no
    interval.

    :raises ValueError: when there are no pairs, or their numbers differ.
    """
    differences = [right - left for left, right in zip(a, b, strict=True)]
    count = len(differences)
    if not count:
        raise ValueError("no pairs to compare")
    centre = mean(differences)
    error = stdev(differences) / math.sqrt(count) if count > 1 else 0.0
    if error <= ROUNDING:
        return Difference(mean=0.0 if abs(centre) <= ROUNDING else centre, num=count)
    reach = float(scipy.stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    return Difference(
        mean=centre,
        num=count,
        low=centre - reach,
        high=centre + reach,
        p_value=float(2 * scipy.stats.t.sf(abs(centre / error), count - 1)),
        spread=stdev(differences),
    )


def pairs_needed(size: float) -> int:
    """Pairs with which a t-test finds a difference of ``size`` standard deviations with power 0.8, two-sided at 5 %.

    Exact up to 30 pairs (:func:`detectable_size`), beyond from the normal distribution with Guenther's correction for
    Student's (Guenther, 1981, The American Statistician).
    """
    limit, power = (float(scipy.stats.norm.ppf(share)) for share in ((1 + LEVEL) / 2, POWER))
    about = math.ceil(((limit + power) / size) ** 2 + limit**2 / 2)
    return next((count for count in range(2, 31) if detectable_size(count) <= abs(size)), max(31, about))


@cache
def detectable_size(count: int, *, level: float = LEVEL) -> float:
    """The difference, in standard deviations of the differences, that a t-test on ``count`` pairs finds with power 0.8.

    Two-sided at 1 - ``level``, from the noncentral t distribution (Cohen, 1988, chapter 2).
    """
    limit = float(scipy.stats.t.ppf((1 + level) / 2, count - 1))

    def missing(size: float) -> float:
        shift = size * math.sqrt(count)
        other_side = np.nan_to_num(scipy.stats.nct.cdf(-limit, count - 1, shift))  # too small for a number
        return float(scipy.stats.nct.sf(limit, count - 1, shift) + other_side) - POWER

    high = 0.125
    while missing(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(missing, high / 2, high))


def paired_bootstrap(
    metric: Metric,
    a: Sequence[Sequence[Any]],
    b: Sequence[Sequence[Any]],
    gold: Sequence[Any],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """Over examples: what the mean difference of these very models would be on other samples of such examples.

    :param a: the predictions of each of a's runs for the same examples, b's runs in the same order of seeds.
    :returns: a percentile interval (Efron and Tibshirani, 1993, section 13.3); p is twice the smaller share of
        resamples on either side of 0, with one added on both sides of the fraction.
    """

    pairs = [(indexable(one), indexable(two)) for one, two in zip(a, b, strict=True)]
    targets = indexable(gold)
    values_of = partial(resampled, metric, targets=targets, resamples=resamples, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        values = np.mean([values_of(two) - values_of(one) for one, two in pairs], axis=0)
        centre = mean(metric(two, targets) - metric(one, targets) for one, two in pairs)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    side = min(int((values <= 0).sum()), int((values >= 0).sum()))
    p_value = min(1.0, 2 * (side + 1) / (resamples + 1))
    return Difference(mean=centre, num=len(gold), low=float(low), high=float(high), p_value=p_value)


def indexable(values: Sequence[Any]) -> Any:
    """An array with a place a unit, whatever a unit's value is."""
    if values and isinstance(values[0], list):
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    return np.asarray(values)


def mcnemar(right_a: Sequence[bool], right_b: Sequence[bool]) -> float:
    """Exact p of both being right equally often on the same examples (McNemar, 1947)."""
    only_a = sum(a and not b for a, b in zip(right_a, right_b, strict=True))
    only_b = sum(b and not a for a, b in zip(right_a, right_b, strict=True))
    if only_a + only_b == 0:
        return 1.0
    return float(scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def false_discoveries(p_values: Sequence[float]) -> list[float]:
    """Each p adjusted for the number of tests in a table (Benjamini and Hochberg, 1995)."""
    return [float(each) for each in scipy.stats.false_discovery_control(p_values)] if len(p_values) else []


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same confidence.

    :param confidence: their mean probability of the predicted class, in [0, 1].
    :param accuracy: the share of them that is right.
    """

    confidence: float
    accuracy: float
    num: int


def reliability(confidences: Sequence[float], right: Sequence[bool], *, num_bins: int = NUM_BINS) -> list[Bin]:
    """Bins of equal width over the probability of the predicted class, empty ones left out (Guo et al., 2017)."""
    places = np.clip(np.ceil(np.asarray(confidences) * num_bins).astype(int) - 1, 0, num_bins - 1)
    values, hits = np.asarray(confidences, dtype=float), np.asarray(right, dtype=float)
    return [
        Bin(float(values[here].mean()), float(hits[here].mean()), int(here.sum()))
        for place in range(num_bins)
        if (here := places == place).any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy, weighted by the bins' sizes."""
    total = sum(each.num for each in bins)
    return sum(each.num * abs(each.confidence - each.accuracy) for each in bins) / total
