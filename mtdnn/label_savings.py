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
MARGIN = 0.01  # below the score with all labels, where a curve is alone
UNKNOWN = "how many are saved is not known"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Labels with which a curve reaches a score, and which numbers of them its seeds leave possible.

    :param target: the score, in the metric's own unit, in [-1, 1].
    :param labels: the fewest at which the mean curve is there; None where it never is.
    :param low: its interval's lower end; ``fewest`` stands for that many or fewer, infinity for more than ``most``.
    :param high: its upper end; infinity where the seeds do not show that the score is reached at all.
    :param level: of the interval.
    :param fewest: the curve's smallest number of labels; below it nothing was measured.
    :param most: its largest.
    :param spread: whether anything differs between the seeds; otherwise they say nothing of the uncertainty.
    """

    target: float
    labels: float | None
    low: float
    high: float
    level: float
    fewest: int
    most: int
    num_seeds: int
    spread: bool

    def sentence(self, who: str, *, own: bool) -> str:
        """For people.

        :param own: the score is :data:`MARGIN` below what the curve itself has with all its labels.
        """
        less = f" (one point less than with {self.most} labels)" if own else ""
        goal = f"{100 * self.target:.1f}{less}"
        sure = in_words(self.num_seeds, self.level, self._possible(), spread=self.spread)
        if self.labels is None:
            return f"{who} does not reach {goal} with up to {self.most} labels{sure}."
        return f"{who} reaches {goal} with {self.about}{sure}."

    @property
    def at_first(self) -> bool:
        """Whether the score is reached with the fewest labels that were tried, or with fewer."""
        return self.labels is not None and self.labels <= self.fewest

    @property
    def about(self) -> str:
        """The number of labels, in words."""
        if self.labels is None:
            return f"more than {self.most} labels"
        return f"{self.fewest} labels or fewer" if self.at_first else f"about {self.labels:.0f} labels"

    def _possible(self) -> str:
        if math.isinf(self.low):
            return f"not with up to {self.most}"
        least = f"{self.low:.0f}"
        if math.isinf(self.high):
            return "any number" if self.low <= self.fewest else f"{least} or more"
        most = f"{self.high:.0f}"
        if self.low <= self.fewest:
            return f"{most} or fewer"
        return most if most == least else f"{least} to {most}"


@dataclass(frozen=True, kw_only=True)
class Savings:
    """What two starts need for the same score.

    :param own: the score is what the plain start reaches with its largest number of labels.
    """

    better: Reach
    plain: Reach
    own: bool

    @property
    def measured(self) -> bool:
        """Whether one of the two needs more than its fewest labels; else nothing tells how many each would need."""
        return not (self.better.at_first and self.plain.at_first)

    @property
    def saved(self) -> float | None:
        """Fewer labels with the better start, negative where it needs more; None where one of the two is not there."""
        if self.better.labels is None or self.plain.labels is None:
            return None
        return self.plain.labels - self.better.labels

    @property
    def interval(self) -> tuple[float, float]:
        """Fewest and most labels saved within the curves, at 95 %: each start's interval is at 97.5 % (Bonferroni).

        Where the plain start may be there with its fewest labels or with fewer, none is sure to be saved; where it may
        need more than its most, or the better start fewer than its fewest, more may be.
        """
        first = 0.0 if self.plain.low <= self.plain.fewest else min(self.plain.low, self.plain.most)
        return first - self.better.high, min(self.plain.high, self.plain.most) - self.better.low

    def sentence(self, *, better: str, plain: str) -> str:
        """For people."""
        own = f" (what {plain} reaches with {self.plain.most} labels)" if self.own else ""
        goal = f"{100 * self.better.target:.1f}{own}"
        if self.better.labels is None and self.plain.labels is None:
            tried = max(self.better.most, self.plain.most)
            return f"neither {better} nor {plain} reaches {goal} with up to {tried} labels: {UNKNOWN}."
        if self.better.labels is None:
            first = f"{better} does not reach {goal} with up to {self.better.most} labels"
        else:
            first = f"{better} reaches {goal} with {self.better.about}"
        saved = (
            f"{self._saved()}{self._sure()}"
            if self.measured
            else f"below {self.better.fewest} labels nothing was measured"
        )
        return f"{first}{self._plain_part(plain)}: {saved}."

    def _plain_part(self, plain: str) -> str:
        if self.plain.labels is None:
            return f", {plain} not with up to {self.plain.most} labels"
        if self.own and round(self.plain.labels) == self.plain.most:
            return ""
        does = " does" if self.better.labels is None else ""
        return f", {plain}{does}{' already' if self.own else ''} with {self.plain.about}"

    def _saved(self) -> str:
        known = self.plain.most if self.plain.labels is None else self.plain.labels
        count = 0 if self.better.labels is None else round(known - self.better.labels)
        if count <= 0:
            return UNKNOWN if self.plain.labels is None else "none saved"
        at_least = "at least " if self.better.at_first or self.plain.labels is None else ""
        return f"{at_least}{count} labels saved"

    def _sure(self) -> str:
        spread = self.better.spread or self.plain.spread
        return in_words(self.better.num_seeds, LEVEL, self._possible(), spread=spread)

    def _possible(self) -> str:
        least, most = ("none" if value < 0.5 else f"{value:.0f}" for value in self.interval)
        told = most if most == least else f"{least} to {most}"
        beyond = self.better.low <= self.better.fewest or math.isinf(self.plain.high)
        return f"{told} or more" if beyond else told


def in_words(num_seeds: int, level: float, possible: str, *, spread: bool) -> str:
    """How sure a number is, in brackets."""
    if num_seeds < 2:
        return " (one seed: how sure that is, is not known)"
    if not spread:
        return f" ({num_seeds} seeds without spread: how sure that is, is not known)"
    return f" ({100 * level:g} % over {num_seeds} seeds: {possible})"


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


def labels_to_reach(curve: Curve, *, target: float | None = None) -> Reach:
    """The fewest labels with which a start reaches a score, with its 95 % interval; see :func:`reach`.

    :param target: the score, in [-1, 1]; by default :data:`MARGIN` below what it has with all its labels.
    :raises DataError: when its points have no seeds in common.
    """
    seeds = common_seeds(curve)
    goals = at_most(curve, seeds) - MARGIN if target is None else np.full(len(seeds), target)
    return reach(curve, seeds, goals, level=LEVEL, sure=target is None)


def savings(better: Curve, plain: Curve, *, target: float | None = None) -> Savings:
    """The fewest labels that each start needs for the same score; each at 97.5 %, for both to hold at 95 %.

    :param target: the score, in [-1, 1]; by default what the plain start has with its largest number of labels.
    :raises DataError: when the two have no seeds in common.
    """
    seeds = common_seeds(better, plain)
    goals = at_most(plain, seeds) if target is None else np.full(len(seeds), target)
    level = 1 - (1 - LEVEL) / 2
    return Savings(
        better=reach(better, seeds, goals, level=level),
        plain=reach(plain, seeds, goals, level=level, sure=target is None),
        own=target is None,
    )


def reach(curve: Curve, seeds: Sequence[int], goals: np.ndarray, *, level: float, sure: bool = False) -> Reach:
    """The fewest labels at which a curve's mean is at the mean goal, with the numbers that the seeds leave possible.

    Fewer labels are ruled out where a paired t-test over the seeds tells the curve below the goal, more where it tells
    it above from there to the curve's end (the inversion of a test, as Fieller's, 1954). Each seed's curve is straight
    between its points over the labels' logarithm.

    :param goals: each seed's score to be reached: (seeds,).
    :param sure: that the goal is reached with the largest number of labels, for it was taken from there.
    """
    counts, scores = between(curve, seeds)
    differences = scores - goals
    labels = labels_needed(list(zip(sorted(curve), scores[::STEPS].mean(axis=1), strict=True)), float(goals.mean()))
    below, above = told_apart(differences, level=level)
    low, high = lower_end(counts, below), upper_end(counts, above, sure=sure)
    estimate = math.inf if labels is None else labels  # between two of the counts
    return Reach(
        target=float(goals.mean()),
        labels=labels,
        low=min(low, estimate),
        high=max(high, estimate),
        level=level,
        fewest=min(curve),
        most=max(curve),
        num_seeds=len(seeds),
        spread=bool((np.ptp(differences, axis=1) > ROUNDING).any()),
    )


def lower_end(counts: np.ndarray, below: np.ndarray) -> float:
    """The first number of labels (N,) that is not told to be too few; infinity when all are."""
    possible = np.flatnonzero(~below)
    return float(counts[possible[0]]) if len(possible) else math.inf


def upper_end(counts: np.ndarray, above: np.ndarray, *, sure: bool) -> float:
    """The first number of labels (N,) from which on all are told to be more than enough; infinity when none is.

    :param sure: the last one is enough, whatever a test says of it: it is the end where no smaller one is.
    """
    tested = above[:-1] if sure else above
    unclear = np.flatnonzero(~tested)
    first = unclear[-1] + 1 if len(unclear) else 0
    return float(counts[first]) if first < len(tested) or sure else math.inf


def between(curve: Curve, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of labels (N,), those of the curve and many between them, and each seed's score there (N, seeds)."""
    known = sorted(curve)
    points = np.log(known)
    places = np.interp(np.arange(STEPS * (len(known) - 1) + 1) / STEPS, range(len(known)), points)
    scores = [np.interp(places, points, [curve[count][seed] for count in known]) for seed in seeds]
    counts = np.exp(places)
    counts[::STEPS] = known
    return counts, np.stack(scores, axis=1)


def at_most(curve: Curve, seeds: Sequence[int]) -> np.ndarray:
    """Each seed's score with the largest number of labels: (seeds,)."""
    return np.array([curve[max(curve)][seed] for seed in seeds])


def told_apart(differences: np.ndarray, *, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a two-sided t-test over the seeds finds less than 0, and where more: (N, seeds) -> (N,), (N,).

    Nowhere with a single seed.
    """
    size, count = differences.shape
    if count < 2:
        return np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    error = differences.std(axis=1, ddof=1) / math.sqrt(count)
    far = scipy.stats.t.ppf((1 + level) / 2, count - 1) * error + ROUNDING
    centre = differences.mean(axis=1)
    return centre < -far, centre > far


def common_seeds(*curves: Curve) -> list[int]:
    """The seeds that every point of every curve has."""
    points = [set(values) for curve in curves for values in curve.values()]
    found = sorted(set.intersection(*points)) if points else []
    if not found:
        raise DataError("the learning curves have no seeds in common")
    return found
