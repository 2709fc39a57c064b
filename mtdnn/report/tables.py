"""The results table: a line per system, stage, task and fraction; mean +- sd over seeds, and how many they are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from mtdnn.report.table import Table

HEADER = ("system", "stage", "task", "fraction", "metric", "validation", "test", "n")
OVER_EXAMPLES = "95 % over examples"
TITLE = "Mean ± standard deviation over n seeds, times 100"
Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """One line of the table; values as the metrics give them, in [-1, 1].

    :param intervals: of each seed's model over examples, on test where it was tested, else on validation; none where
        they are not known.
    """

    system: str
    stage: str
    task: str
    fraction: float | None
    metric: str
    validation: tuple[float, ...]
    test: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...] = ()

    def cells(self) -> tuple[str, ...]:
        fraction = "" if self.fraction is None else f"{100 * self.fraction:g} %"
        counts = dict.fromkeys(len(values) for values in (self.validation, self.test) if values)
        count = " and ".join(map(str, counts))
        shown = (shown_mean(self.validation), shown_mean(self.test))
        return (self.system, self.stage, self.task, fraction, self.metric, *shown, count)

    def over_examples(self) -> str:
        """The mean of the models' intervals: what one of them would reach on other examples."""
        if not self.intervals:
            return ""
        low, high = (mean(ends) for ends in zip(*self.intervals, strict=True))
        return shown_interval(low, high)


def shown_mean(values: Sequence[float]) -> str:
    """Mean +- standard deviation, times 100; a single value alone; a dash for none."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    return f"{100 * mean(values):.1f} ± {100 * stdev(values):.1f}"


def shown_interval(low: float, high: float) -> str:
    """Times 100."""
    return f"{100 * low:.1f} to {100 * high:.1f}".replace("-", "−")


def lines(results: Results, *, all_metrics: bool = False) -> list[Line]:
    """One line for each system, stage, task, fraction and metric (by default the first metric alone)."""
    grouped: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    intervals: dict[tuple[Any, ...], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for task, splits in result["metrics"].items():
            for split, entry in splits.items():
                names = list(entry["values"])
                for metric in names if all_metrics else names[:1]:
                    key = (result["system"], result["stage"], task, result["fraction"], metric)
                    grouped[key][split].append(entry["values"][metric])
                    if metric == names[0] and entry.get("interval_95"):
                        intervals[key][split].append(tuple(entry["interval_95"]))
    return [
        Line(
            system,
            stage,
            task,
            fraction,
            metric,
            tuple(values["validation"]),
            tuple(values["test"]),
            tuple(intervals[system, stage, task, fraction, metric][last_of(values)]),
        )
        for (system, stage, task, fraction, metric), values in grouped.items()
    ]


def last_of(splits: Mapping[str, Sequence[float]]) -> str:
    return "test" if splits["test"] else "validation"


def results_table(table: Iterable[Line], *, note: str = "") -> Table:
    rows = [(*line.cells(), line.over_examples()) for line in table]
    return Table(name="results", title=TITLE, header=(*HEADER, OVER_EXAMPLES), rows=rows, note=note)
