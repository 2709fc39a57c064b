"""The results table: a line per system, stage, task and fraction; mean +- sd over seeds, and how many they are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from mtdnn.report.table import Table

HEADER = ("system", "stage", "task", "fraction", "metric", "validation", "test", "n")
TITLE = "Mean ± standard deviation over n seeds, times 100"
Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """One line of the table; values as the metrics give them, in [-1, 1]."""

    system: str
    stage: str
    task: str
    fraction: float | None
    metric: str
    validation: tuple[float, ...]
    test: tuple[float, ...]

    def cells(self) -> tuple[str, ...]:
        fraction = "" if self.fraction is None else f"{100 * self.fraction:g} %"
        counts = dict.fromkeys(len(values) for values in (self.validation, self.test) if values)
        count = " and ".join(map(str, counts))
        shown = (shown_mean(self.validation), shown_mean(self.test))
        return (self.system, self.stage, self.task, fraction, self.metric, *shown, count)


def shown_mean(values: Sequence[float]) -> str:
    """Mean +- standard deviation, times 100; a single value alone; a dash for none."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    return f"{100 * mean(values):.1f} ± {100 * stdev(values):.1f}"


def lines(results: Results, *, all_metrics: bool = False) -> list[Line]:
    """One line for each system, stage, task, fraction and metric (by default the first metric alone)."""
    grouped: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for task, splits in result["metrics"].items():
            for split, entry in splits.items():
                names = list(entry["values"])
                for metric in names if all_metrics else names[:1]:
                    key = (result["system"], result["stage"], task, result["fraction"], metric)
                    grouped[key][split].append(entry["values"][metric])
    return [
        Line(system, stage, task, fraction, metric, tuple(values["validation"]), tuple(values["test"]))
        for (system, stage, task, fraction, metric), values in grouped.items()
    ]


def results_table(table: Iterable[Line], *, note: str = "") -> Table:
    return Table(name="results", title=TITLE, header=HEADER, rows=[line.cells() for line in table], note=note)
