"""Means over seeds, what no model gives, and what separates the systems."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtdnn.baseline import Constant, flat, is_number, name_of
from mtdnn.report.comparison import Comparison, against_first, comparison_table
from mtdnn.report.study import SPLITS, Section, Study
from mtdnn.report.table import Table
from mtdnn.report.tables import Line, lines, results_table
from mtdnn.runs import FinishedCell, Run

MOST_VERDICTS = 12
LEARNED, GIVEN = "training rows", "the split's own"
NOTE = (
    "Every cell that was trained is in it; none is the best of several. 'No model' answers every example alike: with "
    f"the most frequent label or the mean score of the task's {LEARNED} or, where these are not known, of {GIVEN} "
    "examples, as the column 'stage' says; candidates are ranked as they come. A dash: constant answers have no value."
)


def results(study: Study) -> Section:
    table = results_table(lines([each for run in study.runs for each in run.results], all_metrics=True), note=NOTE)
    return Section(name="results", title="Results", tables=[with_baselines(table, study)], open=True)


def with_baselines(table: Table, study: Study) -> Table:
    """The table, and below it each task's rows of no model at all."""
    found: dict[str, list[Line]] = {}
    for run in study.runs:
        for cell in run.cells:
            for task in cell.evaluated:
                found[task] = found.get(task) or list(baseline_lines(run, cell, task))
    rows = [(*line.cells()[:-1], "") for task_lines in found.values() for line in task_lines]
    return Table(name=table.name, title=table.title, header=table.header, rows=[*table.rows, *rows], note=table.note)


def baseline_lines(run: Run, cell: FinishedCell, task: str) -> Iterator[Line]:
    """A line a metric; none where the cell has no predictions that stand beside their targets."""
    rows = {split: known for split in SPLITS if (known := with_targets(cell.predictions(task, split)))}
    if not rows:
        return
    facts = run.experiment.get("training", {}).get(task)
    answers = {split: Constant(**facts) if facts else Constant.of(targets_of(known)) for split, known in rows.items()}
    entry = next(iter(cell.result["metrics"][task].values()))
    name = f"no model: {name_of(next(iter(rows.values()))[0])}"
    for metric in entry["values"]:
        values = {split: answers[split].value(known, metric) for split, known in rows.items()}
        validation, test = (tuple(v for v in [values.get(split)] if v is not None) for split in SPLITS)
        yield Line(name, LEARNED if facts else GIVEN, task, None, metric, validation, test)


def with_targets(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The predictions beside a target that an answer without a model can be compared with: a number, or several."""
    return [row for row in rows if "target" in row and is_number(row["target"])]


def targets_of(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return flat([row["target"] for row in rows])


def differences(study: Study) -> Section:
    found = against_first(study)
    return Section(
        name="differences",
        title="Does it help?",
        text=verdicts(found),
        tables=[comparison_table(found)] if found else [],
        open=True,
    )


def verdicts(found: list[Comparison]) -> list[str]:
    """The sentences on top: how much is resolved, then the resolved ones; all of them where they are few."""
    if not found:
        return ["No two systems share a task, a fraction and a seed: nothing to compare."]
    resolved = [each for each in found if each.resolved]
    shown = found if len(found) <= MOST_VERDICTS else resolved[:MOST_VERDICTS]
    count = (
        f"Of {len(found)} comparisons with the first system of each task, {len(resolved)} are resolved at 5 % after "
        f"adjustment for their number and {len(found) - len(resolved)} are not."
    )
    return [count, *(each.verdict + "." for each in shown)]
