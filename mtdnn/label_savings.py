"""How many labels reach a score, and how many a better start saves, with the uncertainty that the seeds leave."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np
import scipy

from mtdnn.errors import DataError
from mtdnn.statistics import LEVEL, ROUNDING

Curve = Mapping[int, Mapping[int, float]]
"""The score by number of labels, then by seed."""

STEPS = 200  # between two points of a curve


@dataclass(frozen=True, kw_only=True)
class Savings:
    """Labels that reach a score from either start, and which numbers the seeds leave possible.

    :param target: what the plain start reaches with ``num_labels``, its most.
    :param needed: labels from the better start; None where its mean never reaches the score.
    :param low: fewest labels in the 95 % interval; None where the seeds say nothing of it, or leave no number.
    :param high: most labels in it; None as ``low``, and where it does not end within the curve.
    :param fewest: the better start's smallest number of labels; below it nothing was measured.
    """

    target: float
    num_labels: int
    needed: float | None
    num_seeds: int
    fewest: int
    low: float | None = None
    high: float | None = None

    def sentence(self, *, better: str, plain: str) -> str:
        """For people."""
        goal = f"{100 * self.target:.1f}, what {plain} reaches with {self.num_labels} labels"
        if self.needed is None:
            return f"{better} does not reach {goal}: {self._never()}."
        reaches = f"{better} reaches {goal}, with {self._about()}"
        if self.needed > self.num_labels:
            return f"{reaches}: it saves none{self._interval()}."
        at_least = "at least " if self.needed <= self.fewest else ""
        return f"{reaches}: {at_least}{self.num_labels - self.needed:.0f} labels saved{self._interval()}."

    def _about(self) -> str:
        return f"{self.fewest} or fewer" if self.needed == self.fewest else f"about {self.needed:.0f}"

    def _never(self) -> str:
        if self.low is None:
            return f"it saves none{self._interval()}"
        return f"none is shown to be saved (95 % over {self.num_seeds} seeds: it may with {self.low:.0f} or more)"

    def _interval(self) -> str:
        if self.num_seeds < 2:
            return " (one seed: how sure that is, is not known)"
        if self.low is None:
            return " (the seeds do not differ)" if self.needed is not None and self.needed > self.fewest else ""
        least = "none" if self.high is None or self.high >= self.num_labels else f"{self.num_labels - self.high:.0f}"
        most = "none" if self.low >= self.num_labels else f"{self.num_labels - self.low:.0f}"
        beyond = " or more" if self.low <= self.fewest else ""
        told = most if most == least else f"{least} to {most}"
        return f" (95 % over {self.num_seeds} seeds: {told}{beyond})"


def curve_of(results: Sequence[Mapping[str, Any]], *, task: str, split: str) -> Curve:
    """The learning curve of one system from its cells' results: the task's first metric.

    A fraction's number of labels is the mean over seeds, which may leave out a few rows more or less; of fractions
    with the same number, the larger is taken.
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

    The interval holds every number of labels at which a paired t-test over the seeds that both have does not tell the
    better start's score from that one (the inversion of a test, as Fieller's, 1954), each seed's curve straight between
    its points over the labels' logarithm.

    :raises DataError: when the two have no seeds or no numbers of labels in common.
    """
    seeds = common_seeds(better, plain)
    goals = np.array([plain[max(plain)][seed] for seed in seeds])
    counts, scores = between(better, seeds)
    possible = counts[not_told_apart(scores - goals)].tolist()
    low, high = (possible[0], possible[-1]) if possible else (None, None)
    means = [(count, mean(values[seed] for seed in seeds)) for count, values in better.items()]
    return Savings(
        target=float(goals.mean()),
        num_labels=max(plain),
        needed=labels_needed(means, float(goals.mean())),
        num_seeds=len(seeds),
        fewest=min(better),
        low=low,
        high=None if high == max(better) else high,
    )


def between(curve: Curve, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of labels (N,), those of the curve and many between them, and each seed's score there (N, seeds)."""
    known = sorted(curve)
    points = np.log(known)
    places = np.interp(np.arange(STEPS * (len(known) - 1) + 1) / STEPS, range(len(known)), points)
    scores = [np.interp(places, points, [curve[count][seed] for count in known]) for seed in seeds]
    counts = np.exp(places)
    counts[::STEPS] = known
    return counts, np.stack(scores, axis=1)


def not_told_apart(differences: np.ndarray) -> np.ndarray:
    """Where a t-test over the seeds finds no difference: (N, seeds) -> (N,); nowhere with a single seed."""
    count = differences.shape[1]
    if count < 2:
        return np.zeros(len(differences), dtype=bool)
    error = differences.std(axis=1, ddof=1) / math.sqrt(count)
    reach = scipy.stats.t.ppf((1 + LEVEL) / 2, count - 1) * error
    return np.asarray(np.abs(differences.mean(axis=1)) <= reach + ROUNDING)


def common_seeds(*curves: Curve) -> list[int]:
    """The seeds that every point of every curve has."""
    points = [set(values) for curve in curves for values in curve.values()]
    found = sorted(set.intersection(*points)) if points else []
    if not found:
        raise DataError("the learning curves have no seeds in common")
    return found
