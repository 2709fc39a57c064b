"""Two groups of runs on the same examples: the paired test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtdnn.errors import ConfigError, unknown
from mtdnn.metrics.base import METRICS
from mtdnn.report.study import Group, Study
from mtdnn.report.table import Table
from mtdnn.runs import read_run
from mtdnn.statistics import Difference, false_discoveries, mcnemar, paired_bootstrap, paired_difference

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
    "p",
    "p adjusted",
    "detectable",
)
EXAMPLES_HEADER = ("95 % over examples", "p over examples", "McNemar")
MOST_EXAMPLES = 20_000  # of a bootstrap


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """b against a, over the seeds that both have.

    :param adjusted: p over seeds, adjusted for the table's number of comparisons.
    :param examples: over examples; None where predictions are missing or not of the same examples.
    :param mcnemar_p: with one seed and a right-or-wrong metric.
    """

    a: Group
    b: Group
    split: str
    seeds: Difference
    adjusted: float | None = None
    examples: Difference | None = None
    mcnemar_p: float | None = None

    @property
    def resolved(self) -> bool:
        """At 5 %, after adjustment where there was one."""
        return self.seeds.resolved and (self.adjusted is None or self.adjusted < 0.05)

    @property
    def verdict(self) -> str:
        """One sentence."""
        where = " at ".join(filter(None, [self.b.task, self.b.shown_fraction()]))
        change = f"{self.b.system} {shown(self.seeds.mean)} against {self.a.system} on {where}"
        change = f"{change} ({self.split} {self.b.metric}"
        if self.seeds.num == 1:
            return f"{change}; one seed, nothing is known of its spread)"
        if not self.resolved:
            return f"{change}; not resolved at n = {self.seeds.num}: 95 % interval {interval(self.seeds)})"
        return f"{change}; resolved at n = {self.seeds.num}: 95 % interval {interval(self.seeds)})"

    def row(self) -> tuple[str, ...]:
        return (
            self.b.task,
            self.b.shown_fraction(),
            self.a.name,
            self.b.name,
            self.split,
            self.b.metric,
            shown(self.seeds.mean),
            interval(self.seeds),
            str(self.seeds.num),
            shown_p(self.seeds.p_value),
            shown_p(self.adjusted),
            "-" if not self.seeds.detectable else f"{100 * self.seeds.detectable:.1f}",
        )

    def examples_row(self) -> tuple[str, ...]:
        if self.examples is None:
            return ("-", "-", "-")
        return (interval(self.examples), shown_p(self.examples.p_value), shown_p(self.mcnemar_p))


def shown(value: float) -> str:
    """A difference times 100, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def interval(found: Difference) -> str:
    return "-" if found.low is None or found.high is None else f"{shown(found.low)} to {shown(found.high)}"


def shown_p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def compare(a: Group, b: Group, *, split: str, examples: bool = False) -> Comparison | None:
    """Over the seeds that both have; None where they share none.

    :param examples: bootstrap over the examples of the split, too.
    """
    left, right = a.values(split, b.metric), b.values(split, b.metric)
    seeds = [seed for seed in right if seed in left]
    if not seeds:
        return None
    difference = paired_difference([left[seed] for seed in seeds], [right[seed] for seed in seeds])
    found = Comparison(a=a, b=b, split=split, seeds=difference)
    return with_examples(found, seeds) if examples else found


def with_examples(found: Comparison, seeds: Sequence[int]) -> Comparison:
    pairs = [(predictions(found.a, seed, found.split), predictions(found.b, seed, found.split)) for seed in seeds]
    uids = [row["uid"] for row in pairs[0][0]] if pairs else []
    same = all([row["uid"] for row in rows] == uids for pair in pairs for rows in pair)
    if not uids or not same or len(uids) > MOST_EXAMPLES or "target" not in pairs[0][0][0]:
        return found
    gold = [row["target"] for row in pairs[0][0]]
    one, two = ([[row["prediction"] for row in pair[side]] for pair in pairs] for side in (0, 1))
    metric = METRICS.get(found.b.metric, where="metrics")
    exact = None
    if found.b.metric == "accuracy" and len(seeds) == 1:
        exact = mcnemar(*([x == y for x, y in zip(side[0], gold, strict=True)] for side in (one, two)))
    return replace(found, examples=paired_bootstrap(metric, one, two, gold), mcnemar_p=exact)


def predictions(group: Group, seed: int, split: str) -> list[dict[str, Any]]:
    (cell,) = (cell for cell in group.cells if cell.seed == seed)
    return cell.predictions(group.task, split)


def against_first(study: Study) -> list[Comparison]:
    """Each system's last stage against the first system's, by task and fraction; p adjusted over the table.

    Over examples only where there is one seed: elsewhere ``mtdnn compare`` does it, which takes seconds a pair.
    """
    found = []
    for _, groups in study.settings():
        first, *others = [group for group in groups if group.kind != "cosine"] or groups
        split = study.best_split(first)
        once = len(first.cells) == 1
        found += [made for other in others if (made := compare(first, other, split=split, examples=once))]
    return adjusted(found)


def adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    known = [each.seeds.p_value for each in found if each.seeds.p_value is not None]
    values = iter(false_discoveries(known))
    return [each if each.seeds.p_value is None else replace(each, adjusted=next(values)) for each in found]


def comparison_table(found: Sequence[Comparison]) -> Table:
    examples = any(each.examples for each in found)
    rows = [each.row() + (each.examples_row() if examples else ()) for each in found]
    return Table(
        name="differences",
        title="Differences in pairs of the same seed",
        header=HEADER + (EXAMPLES_HEADER if examples else ()),
        rows=rows,
        note="Times 100. Over seeds: Student's t on the differences, which says how the training would vary; over "
        "examples: a paired bootstrap of these very models. 'p adjusted' is Benjamini and Hochberg's over this table. "
        "'detectable' is the smallest true difference that as many seeds would show four times in five.",
    )


def compare_systems(a: Path, b: Path) -> list[Comparison]:
    """b against a, each ``runs/<name>/<system>``, on every task and fraction that both have.

    Systems of one name are called ``<run>/<system>``.

    :raises ConfigError: when a folder is no system of a run, or they are one, or they have nothing in common.
    """
    if a.resolve() == b.resolve():
        raise ConfigError(f"{a} and {b} are the same system; give two")
    names = told_apart(a, b)
    left, right = (last_groups(path, name) for path, name in zip((a, b), names, strict=True))
    found = []
    for key in (key for key in right if key in left):
        split = "test" if left[key].values("test") and right[key].values("test") else "validation"
        if made := compare(left[key], right[key], split=split, examples=True):
            found.append(made)
    if not found:
        raise ConfigError(f"{a} and {b} have no task, fraction and seed in common")
    return adjusted(found)


def told_apart(a: Path, b: Path) -> tuple[str, str]:
    """As much of the ends of two paths as makes them differ."""
    one, two = a.resolve().parts, b.resolve().parts
    length = next(length for length in range(1, len(one) + len(two)) if one[-length:] != two[-length:])
    return "/".join(one[-length:]), "/".join(two[-length:])


def last_groups(system: Path, name: str) -> dict[tuple[str, float | None], Group]:
    """What a system comes to, by task and fraction; it is called ``name``, which ends in its own."""
    own = system.resolve()
    study = Study([read_run(own.parent, prefix=name.removesuffix(own.name))])
    if name not in study.systems:
        known = [each.rpartition("/")[2] for each in study.systems]
        raise ConfigError(f"{system}: {unknown('system', own.name, known)} in {system.parent}")
    return {(group.task, group.fraction): group for group in study.last if group.system == name}
