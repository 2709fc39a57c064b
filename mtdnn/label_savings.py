"""How many labels reach a score, and how many a better start saves, with the uncertainty that the seeds leave."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np

from mtdnn.errors import DataError

Curve = Mapping[int, Mapping[int, float]]
"""The score by number of labels, then by seed."""

RESAMPLES, LEVEL = 2000, 0.95


@dataclass(frozen=True, kw_only=True)
class Savings:
    """Labels that reach a score from either start, each with the 95 % interval over seeds.

    :param target: what the plain start reaches with ``num_labels``, its most.
    :param needed: labels from the better start; None where it never reaches the score.
    :param low: fewest labels in the interval; None with a single seed, and as ``needed``.
    """

    target: float
    num_labels: int
    needed: float | None
    low: float | None = None
    high: float | None = None

    def sentence(self, *, better: str, plain: str) -> str:
        """For people."""
        goal = f"{100 * self.target:.1f}, what {plain} reaches with {self.num_labels} labels"
        if self.needed is None:
            return f"{better} does not reach {goal}: it saves none."
        saved = (
            f"{better} reaches {goal}, with about {self.needed:.0f}: {self.num_labels - self.needed:.0f} labels saved"
        )
        if self.low is None:
            return f"{saved} (one seed: how sure that is, is not known)."
        most = "none" if self.high is None else f"{max(0.0, self.num_labels - self.high):.0f}"
        return f"{saved} (95 % over seeds: {most} to {self.num_labels - self.low:.0f})."


def curve_of(results: Sequence[Mapping[str, Any]], *, task: str, split: str) -> Curve:
    """The learning curve of one system from its cells' results: the task's first metric.

    A fraction's number of labels is the mean over seeds, which may leave out a few rows more or less.
    """
    values: dict[float, dict[int, float]] = {}
    counts: dict[float, list[int]] = {}
    for result in results:
        metrics = result["metrics"][task][split]["values"]
        values.setdefault(result["fraction"], {})[result["seed"]] = next(iter(metrics.values()))
        counts.setdefault(result["fraction"], []).append(result["data"][task]["trained_on"])
    return {round(mean(counts[fraction])): values[fraction] for fraction in sorted(values)}


def labels_needed(points: Sequence[tuple[int, float]], target: float) -> float | None:
    """The fewest labels at which the curve reaches a score, straight between points over the labels' logarithm."""
    if points[0][1] >= target:
        return float(points[0][0])
    for (few, low), (many, high) in pairwise(points):
        if high >= target:
            share = (target - low) / (high - low)
            return math.exp(math.log(few) + share * (math.log(many) - math.log(few)))
    return None


def savings(better: Curve, plain: Curve) -> Savings:
    """What the better start needs for the score that the plain one has at its largest number of labels.

    The interval resamples the seeds that both have, 2,000 times, each time with the curves and the score anew.

    :raises DataError: when the two have no seeds or no numbers of labels in common.
    """
    seeds = common_seeds(better, plain)
    most = max(plain)
    target, needed = once(better, plain, seeds)
    if len(seeds) < 2:
        return Savings(target=target, num_labels=most, needed=needed)
    rng = np.random.default_rng(0)
    drawn = [once(better, plain, rng.choice(seeds, len(seeds)).tolist())[1] for _ in range(RESAMPLES)]
    ordered = sorted(math.inf if each is None else each for each in drawn)
    low, high = (ordered[round(share * (RESAMPLES - 1))] for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Savings(target=target, num_labels=most, needed=needed, low=low, high=None if math.isinf(high) else high)


def once(better: Curve, plain: Curve, seeds: Sequence[int]) -> tuple[float, float | None]:
    target = mean(plain[max(plain)][seed] for seed in seeds)
    return target, labels_needed(list(means(better, seeds)), target)


def means(curve: Curve, seeds: Sequence[int]) -> Iterator[tuple[int, float]]:
    for count, values in curve.items():
        yield count, mean(values[seed] for seed in seeds)


def common_seeds(*curves: Curve) -> list[int]:
    """The seeds that every point of every curve has."""
    points = [set(values) for curve in curves for values in curve.values()]
    found = sorted(set.intersection(*points)) if points else []
    if not found:
        raise DataError("the learning curves have no seeds in common")
    return found
