"""One group of runs against another on the same examples: the paired test, and what may be said after it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from mtdnn.metrics.base import METRICS, OF_COUNTS
from mtdnn.report.study import SPLITS, Group
from mtdnn.report.table import Table
from mtdnn.statistics import Difference, false_discoveries, mcnemar, paired_bootstrap, paired_difference

MOST_EXAMPLES = 20_000  # of a bootstrap
MOST_SEEDS = 10_000  # that are told to be needed
ONE_START = "*"
BEYOND = "> 100"  # a difference that hardly a metric can have
HEADER = (
    "task",
    "fraction",
    "a",
    "b",
    "split",
    "metric",
    "b - a",
    "95 % over seeds",
    "n",
    "verdict",
    "p",
    "p adjusted",
    "detectable alone",
    "detectable",
    "seeds needed",
)
EXAMPLES_HEADER = ("examples", "95 % over examples", "p over examples", "McNemar")
OTHERS_HEADER = HEADER[:9]
BRIEF_HEADER = ("task", "split", "metric", "b - a", "over seeds", "n", "over examples", "p adjusted", "verdict")


class Verdict(StrEnum):
    """What the seeds and the examples say of a difference."""

    RESOLVED = "resolved"  # over both
    OVER_SEEDS = "over seeds"  # nothing is known of other examples
    THESE_EXAMPLES = "these examples"  # over seeds, and not over examples
    UNRESOLVED = "not resolved"
    NO_SPREAD = "no spread"
    SAME = "no difference"
    ONE_SEED = "one seed"


TESTED = (Verdict.RESOLVED, Verdict.OVER_SEEDS, Verdict.THESE_EXAMPLES, Verdict.UNRESOLVED)
SHOWN_BY_SEEDS = (Verdict.RESOLVED, Verdict.OVER_SEEDS, Verdict.THESE_EXAMPLES)


class NoPairsError(ValueError):
    """Two groups have nothing that could be paired; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """b against a, over the seeds that both have.

    :param adjusted: p over seeds, adjusted for the number of comparisons that were tested together.
    :param tests: that number.
    :param examples: over examples; None where predictions are missing or it was not asked for.
    :param mcnemar_p: with one seed and a right-or-wrong metric.
    """

    a: Group
    b: Group
    split: str
    metric: str
    seeds: Difference
    adjusted: float | None = None
    tests: int = 1
    examples: Difference | None = None
    mcnemar_p: float | None = None

    @property
    def verdict(self) -> Verdict:
        """At 5 %, after adjustment where there was one."""
        if self.seeds.num == 1:
            return Verdict.ONE_SEED
        if self.seeds.p_value is None:
            return Verdict.NO_SPREAD if self.seeds.mean else Verdict.SAME
        if not self.seeds.resolved or (self.adjusted is not None and self.adjusted >= 0.05):
            return Verdict.UNRESOLVED
        if self.examples is None:
            return Verdict.OVER_SEEDS
        return Verdict.RESOLVED if self.examples.resolved else Verdict.THESE_EXAMPLES

    @property
    def one_start(self) -> bool:
        """Whether the seeds of a or b start from one model of an earlier stage."""
        return self.a.one_start or self.b.one_start

    def sentence(self) -> str:
        """For people."""
        examples = f", {count:,} examples" if (count := self.b.num_examples(self.split)) else ""
        seeds = "one seed" if self.seeds.num == 1 else f"{self.seeds.num} seeds"
        start = f"{self.b.system} {shown(self.seeds.mean)} against {self.a.system} on {self.b.place}"
        return f"{start} ({self.split} {self.metric}, {seeds}{examples}): {self._finding()}{self._start()}."

    def _finding(self) -> str:
        over = f"over examples {interval(self.examples)}" if self.examples else ""
        match self.verdict:
            case Verdict.ONE_SEED:
                exact = f", McNemar's p {shown_p(self.mcnemar_p)}" if self.mcnemar_p is not None else ""
                return "nothing is known of its spread" + (f"; {over}{exact}" if over else "")
            case Verdict.SAME:
                return "the same value in every seed"
            case Verdict.NO_SPREAD:
                return "the same difference in every seed, which says nothing of its spread"
            case Verdict.RESOLVED:
                return f"resolved, over seeds {interval(self.seeds)}, {over}"
            case Verdict.OVER_SEEDS:
                told = "what other examples would give was not tested"
                return f"resolved over seeds, {interval(self.seeds)}; {told}"
            case Verdict.THESE_EXAMPLES:
                return f"resolved on these examples, over seeds {interval(self.seeds)}; not for others, {over}"
        p = f"p {shown_p(self.seeds.p_value)}"
        if self.tests > 1:
            p += f", adjusted for {self.tests} comparisons {shown_p(self.adjusted)}"
        found = f"not resolved, 95 % interval {interval(self.seeds)}, {p}"
        size = self._detectable()
        if size == BEYOND:
            return f"{found}; so few seeds show hardly any difference that there could be"
        return f"{found}; with so many seeds one below {size} is missed more than one time in five"

    def _start(self) -> str:
        tested = self.verdict in TESTED
        return "; the seeds start from one model, whose own variation is not in it" if tested and self.one_start else ""

    def _detectable(self, *, alone: bool = False) -> str:
        found = self.seeds.detectable(tests=1 if alone else self.tests)
        return "-" if found is None else BEYOND if found > 1 else f"{100 * found:.1f}"

    def row(self) -> tuple[str, ...]:
        return (
            *self.start_of_row(),
            self._told_verdict(),
            shown_p(self.seeds.p_value),
            shown_p(self.adjusted),
            self._detectable(alone=True),
            self._detectable(),
            self._seeds_needed(),
        )

    def brief_row(self) -> tuple[str, ...]:
        examples = interval(self.examples) if self.examples else "-"
        seeds = (shown(self.seeds.mean), interval(self.seeds), str(self.seeds.num))
        return (self.b.place, self.split, self.metric, *seeds, examples, shown_p(self.adjusted), self._told_verdict())

    def _told_verdict(self) -> str:
        return f"{self.verdict}{ONE_START if self.verdict in TESTED and self.one_start else ''}"

    def start_of_row(self) -> tuple[str, ...]:
        return (
            self.b.task,
            self.b.shown_fraction(),
            self.a.name,
            self.b.name,
            self.split,
            self.metric,
            shown(self.seeds.mean),
            interval(self.seeds),
            str(self.seeds.num),
        )

    def _seeds_needed(self) -> str:
        needed = self.seeds.pairs_needed
        return "-" if needed is None else f"{needed:,}" if needed <= MOST_SEEDS else f"> {MOST_SEEDS:,}"

    def examples_row(self) -> tuple[str, ...]:
        count = self.b.num_examples(self.split)
        known = f"{count:,}" if count else "-"
        if self.examples is None:
            return (known, "-", "-", "-")
        return (known, interval(self.examples), shown_p(self.examples.p_value), shown_p(self.mcnemar_p))


def shown(value: float) -> str:
    """A difference times 100, with its sign; with two digits where one would hide on which side of 0 it lies."""
    digits = 2 if 0 < abs(100 * value) < 0.05 else 1
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def interval(found: Difference) -> str:
    return "-" if found.low is None or found.high is None else f"{shown(found.low)} to {shown(found.high)}"


def shown_p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def compare(
    a: Group, b: Group, *, split: str | None = None, metric: str | None = None, examples: bool = False
) -> Comparison:
    """Over the seeds that both have.

    :param split: by default test where both have it, else validation.
    :param metric: b's first by default.
    :param examples: bootstrap over the examples of the split, too, whatever the metric takes; without it only where
        that is quick.
    :raises NoPairsError: when the two have no seeds, or not the same examples, in common.
    """
    metric = metric or b.metric
    split = split or next((split for split in reversed(SPLITS) if a.values(split) and b.values(split)), None)
    if split is None:
        raise NoPairsError(f"{a.system} and {b.system} have no split in common")
    left, right = a.values(split, metric), b.values(split, metric)
    for group, values in ((a, left), (b, right)):
        if not values:
            raise NoPairsError(f"{group.system} has no {split} {metric}")
    seeds = [seed for seed in right if seed in left]
    if not seeds:
        raise NoPairsError(f"no seed in common: {a.system} has {numbers(left)}, {b.system} {numbers(right)}")
    if len(a.contents(split) | b.contents(split)) > 1:
        raise NoPairsError(f"{a.system} and {b.system} were not evaluated on the same {split} examples")
    difference = paired_difference([left[seed] for seed in seeds], [right[seed] for seed in seeds])
    found = Comparison(a=a, b=b, split=split, metric=metric, seeds=difference)
    quick = len(seeds) == 1 or METRICS.get(metric, where="metrics") in OF_COUNTS
    return with_examples(found, seeds) if examples or quick else found


def numbers(seeds: Any) -> str:
    return ", ".join(map(str, seeds))


def with_examples(found: Comparison, seeds: Sequence[int]) -> Comparison:
    pairs = [(predictions(found.a, seed, found.split), predictions(found.b, seed, found.split)) for seed in seeds]
    uids = [row["uid"] for row in pairs[0][0]] if pairs else []
    same = all([row["uid"] for row in rows] == uids for pair in pairs for rows in pair)
    if not uids or not same or len(uids) > MOST_EXAMPLES or "target" not in pairs[0][0][0]:
        return found
    gold = [row["target"] for row in pairs[0][0]]
    one, two = ([[row["prediction"] for row in pair[side]] for pair in pairs] for side in (0, 1))
    metric = METRICS.get(found.metric, where="metrics")
    exact = None
    if found.metric == "accuracy" and len(seeds) == 1:
        exact = mcnemar(*([x == y for x, y in zip(side[0], gold, strict=True)] for side in (one, two)))
    return replace(found, examples=paired_bootstrap(metric, one, two, gold), mcnemar_p=exact)


def predictions(group: Group, seed: int, split: str) -> list[dict[str, Any]]:
    (cell,) = (cell for cell in group.cells if cell.seed == seed)
    return cell.predictions(group.task, split)


def adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    """The same, with p adjusted over all that were tested."""
    known = [each.seeds.p_value for each in found if each.seeds.p_value is not None]
    values = iter(false_discoveries(known))
    return [
        each if each.seeds.p_value is None else replace(each, adjusted=next(values), tests=len(known)) for each in found
    ]


def of_other_metrics(found: Sequence[Comparison]) -> list[Comparison]:
    """The same pairs in every metric but the first."""
    return [
        compare(each.a, each.b, split=each.split, metric=metric)
        for each in found
        for metric in each.b.metrics(each.split)
        if metric != each.metric and each.a.values(each.split, metric)
    ]


def comparison_table(found: Sequence[Comparison]) -> Table:
    examples = any(each.examples for each in found)
    rows = [each.row() + (each.examples_row() if examples else ()) for each in found]
    return Table(
        name="differences",
        title="Differences in pairs of the same seed",
        header=HEADER + (EXAMPLES_HEADER if examples else ()),
        rows=rows,
        note=" ".join(notes_of(found)),
    )


def brief_table(found: Sequence[Comparison]) -> Table:
    """What fits on a terminal, of two systems' comparisons; the sentences say what could have been seen."""
    first = found[0]
    return Table(
        name="differences",
        title=f"b = {first.b.system}, a = {first.a.system}, pairs of the same seed; 95 % intervals",
        header=BRIEF_HEADER,
        rows=[each.brief_row() for each in found],
        note=" ".join(notes_of(found, whole=False)),
    )


def notes_of(found: Sequence[Comparison], *, whole: bool = True) -> list[str]:
    """What a reader of the table must know, in sentences.

    :param whole: it has the columns of what could have been seen.
    """
    tests = max((each.tests for each in found), default=1)
    unless = f"no predictions{',' if whole else ' or'} more than {MOST_EXAMPLES:,}"
    slow = ", or a metric that takes long (mtdnn compare)" if whole else ""
    notes = [
        "Times 100; each task's first metric, on test where both have it.",
        "Over seeds: Student's t on the differences, which says how these trainings would vary on these examples.",
        "Over examples: a paired bootstrap of these very models, which says how other examples would vary; a dash "
        f"where there are {unless}{slow}.",
        "'Resolved' needs both intervals to leave 0 out; 'over seeds' that of the seeds, where the other is not known; "
        "'these examples' says that the other holds 0.",
    ]
    if whole:
        notes.append(
            "'Detectable' is the smallest true difference that as many seeds would show four times in five, if no "
            "other row shows one; 'alone', if there were no other row. It is as uncertain as the spread of so many "
            "seeds. 'Seeds needed' is how many would show a true difference as large as this one, by itself, as often."
        )
    if tests > 1:
        notes.append(f"'P adjusted' is Benjamini and Hochberg's over the {tests} rows that were tested, and decides.")
    if any(each.one_start for each in found):
        notes.append(f"{ONE_START} The seeds start from one model, whose own variation is not in the interval.")
    if any(each.split == "validation" and (each.a.chose_on_validation or each.b.chose_on_validation) for each in found):
        notes.append("With select: best the checkpoints were chosen on the validation split that is compared.")
    return notes


def others_table(found: Sequence[Comparison]) -> Table:
    return Table(
        name="differences-other-metrics",
        title="The same pairs in the other metrics",
        header=OTHERS_HEADER,
        rows=[each.start_of_row() for each in found],
        note="Times 100; intervals by themselves, not adjusted for their number.",
    )
