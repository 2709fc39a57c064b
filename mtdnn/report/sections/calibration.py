"""How near the models' probabilities are to how often they are right, and whether a system's are nearer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

from mtdnn.report.comparison import interval, shown, shown_p
from mtdnn.report.figures import Curve, Panel
from mtdnn.report.pairing import baseline_pairs
from mtdnn.report.sections.answers import Rows, classified
from mtdnn.report.study import Group, Section, Study
from mtdnn.report.table import Table
from mtdnn.statistics import Bin, Difference, calibration_error, false_discoveries, paired_difference, reliability

NOTE = (
    "Times 100, over the seeds that both have; below 0, b's probabilities are nearer to how often it is right. "
    "A model that fits its training data less is often nearer, be it right no more often."
)


@dataclass(frozen=True)
class Calibrated:
    """A group's reliability on the split that decides.

    :param bins: by seed.
    """

    group: Group
    split: str
    bins: Mapping[int, Sequence[Bin]]

    @cached_property
    def errors(self) -> dict[int, float]:
        """The expected calibration error by seed."""
        return {seed: calibration_error(found) for seed, found in self.bins.items()}

    def row(self) -> tuple[str, ...]:
        group, error = self.group, f"{100 * mean(self.errors.values()):.1f}"
        return (group.task, group.shown_fraction(), group.name, self.split, error, str(len(self.errors)))


@dataclass(frozen=True)
class Nearer:
    """b's calibration error against a's."""

    a: Calibrated
    b: Calibrated
    difference: Difference

    def row(self, adjusted: str) -> tuple[str, ...]:
        found, group = self.difference, self.b.group
        values = (shown(found.mean), interval(found), str(found.num), shown_p(found.p_value), adjusted)
        return (group.task, group.shown_fraction(), self.a.group.name, group.name, self.b.split, *values)


def calibration(study: Study) -> Section | None:
    found = [
        Calibrated(group, split, {seed: bins_of(rows) for seed, rows in runs.items()})
        for group, split, runs in classified(study)
    ]
    if not found:
        return None
    errors = Table(
        name="calibration",
        title="Expected calibration error, 10 bins, times 100",
        header=("task", "fraction", "system", "split", "error", "n"),
        rows=[each.row() for each in found],
        note="The mean distance between how sure the model is and how often it is right; mean over seeds.",
    )
    compared = list(against_baseline(study, found))
    settings = dict.fromkeys(each.group.setting for each in found)
    panels = [reliability_panel([each for each in found if each.group.setting == setting]) for setting in settings]
    tables = [errors, differences_table(compared)] if compared else [errors]
    return Section(name="calibration", title="Calibration", tables=tables, panels=panels)


def bins_of(rows: Rows) -> list[Bin]:
    sure = [max(row["probabilities"].values()) for row in rows]
    return reliability(sure, [row["prediction"] == row["target"] for row in rows])


def against_baseline(study: Study, found: Sequence[Calibrated]) -> Iterator[Nearer]:
    """Those that share their split's examples and a seed with the baseline."""
    known = {(each.group.name, each.group.setting): each for each in found}
    for pair in baseline_pairs(study).found:
        a, b = (known.get((group.name, group.setting)) for group in pair)
        if a is None or b is None or not same_examples(a, b):
            continue
        if seeds := [seed for seed in b.errors if seed in a.errors]:
            one, two = ([each.errors[seed] for seed in seeds] for each in (a, b))
            yield Nearer(a, b, paired_difference(one, two))


def same_examples(a: Calibrated, b: Calibrated) -> bool:
    return a.split == b.split and len(a.group.contents(a.split) | b.group.contents(b.split)) <= 1


def differences_table(compared: Sequence[Nearer]) -> Table:
    tested = [each.difference.p_value for each in compared if each.difference.p_value is not None]
    adjusted = iter(false_discoveries(tested))
    return Table(
        name="calibration-differences",
        title="Differences in calibration error in pairs of the same seed",
        header=("task", "fraction", "a", "b", "split", "b - a", "95 % over seeds", "n", "p", "p adjusted"),
        rows=[each.row(shown_p(None if each.difference.p_value is None else next(adjusted))) for each in compared],
        note=f"{NOTE} 'P adjusted' is Benjamini and Hochberg's over the {len(tested)} rows that were tested.",
    )


def reliability_panel(found: Sequence[Calibrated]) -> Panel:
    """Accuracy over confidence of each system's first seed; the diagonal is a calibrated model."""
    group, split = found[0].group, found[0].split
    diagonal = Curve(name="calibrated", x=[0.0, 1.0], y=[0.0, 1.0])
    firsts = [(each.group.system, next(iter(each.bins.values()))) for each in found]
    curves = [Curve(name=name, x=[b.confidence for b in bins], y=[b.accuracy for b in bins]) for name, bins in firsts]
    return Panel(
        title=" ".join(filter(None, [group.task, group.shown_fraction()])),
        x_label="probability of the predicted label",
        y_label=f"share that is right ({split})",
        curves=[diagonal, *curves],
    )
