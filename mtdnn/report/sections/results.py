"""Means over seeds, what no model gives, and what separates the systems."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtdnn.baseline import Constant, flat, is_number, name_of
from mtdnn.report.comparison import (
    SHOWN_BY_SEEDS,
    TESTED,
    Verdict,
    comparison_table,
    of_other_metrics,
    others_table,
)
from mtdnn.report.pairing import Compared, against_baseline
from mtdnn.report.study import SPLITS, Section, Study
from mtdnn.report.table import Table
from mtdnn.report.tables import OVER_EXAMPLES, Line, lines, results_table
from mtdnn.runs import FinishedCell, Run

MOST_VERDICTS = 12
LEARNED, GIVEN = "training rows", "the split's own"
NOTE = (
    f"Every cell that was trained is in it; none is the best of several. '{OVER_EXAMPLES}' is what one of these models "
    "would reach on other examples, of test where there is one: a bootstrap of each model's answers, the mean of its "
    "ends over the seeds; of each task's first metric."
)
NO_MODEL = (
    " 'No model' answers every example alike: with "
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
    rows = [(*line.cells()[:-1], "", "") for task_lines in found.values() for line in task_lines]
    note = table.note + (NO_MODEL if rows else "")
    return Table(name=table.name, title=table.title, header=table.header, rows=[*table.rows, *rows], note=note)


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
    compared = against_baseline(study)
    others = of_other_metrics(compared.found)
    tables = [comparison_table(compared.found)] if compared.found else []
    return Section(
        name="differences",
        title="Does it help?",
        text=verdicts(compared),
        tables=[*tables, others_table(others)] if others else tables,
        open=True,
    )


def verdicts(compared: Compared) -> list[str]:
    """The sentences on top: how much is resolved, then the resolved ones; all of them where they are few."""
    found = compared.found
    if not found and not compared.left_out:
        return ["No two systems share a task and a fraction: nothing to compare.", *one_model(compared.shared)]
    resolved = [each for each in found if each.verdict in SHOWN_BY_SEEDS]
    shown = found if len(found) <= MOST_VERDICTS else resolved[:MOST_VERDICTS]
    told = [count_of(compared), *(each.sentence() for each in shown)]
    if len(found) > MOST_VERDICTS:
        if len(resolved) > MOST_VERDICTS:
            told.append(f"And {len(resolved) - MOST_VERDICTS} more are resolved; the table has them all.")
        rest = {verdict: [each for each in found if each.verdict == verdict] for verdict in Verdict}
        told += [
            f"{verdict.capitalize()}: {', '.join(f'{each.b.system} on {each.b.place}' for each in rest[verdict])}."
            for verdict in Verdict
            if verdict not in SHOWN_BY_SEEDS and rest[verdict]
        ]
    return [*told, *one_model(compared.shared), *not_compared(compared.left_out)]


def count_of(compared: Compared) -> str:
    """How many comparisons there are, how many of them were tested, and what came of it."""
    found = compared.found
    number = {verdict: sum(each.verdict == verdict for each in found) for verdict in Verdict}
    names = dict.fromkeys(each.a.system for each in found)
    against = f" with {next(iter(names))}" if len(names) == 1 else ""
    words = {
        Verdict.RESOLVED: "resolved over seeds and over examples",
        Verdict.OVER_SEEDS: "resolved over seeds (other examples were not tested)",
        Verdict.THESE_EXAMPLES: "resolved over seeds on these examples, but not over examples",
        Verdict.UNRESOLVED: "not resolved",
        Verdict.ONE_SEED: "with a single seed",
        Verdict.SAME: "with the same value in every seed",
        Verdict.NO_SPREAD: "with the same difference in every seed",
    }
    told = [f"{number[verdict]} {text}" for verdict, text in words.items() if number[verdict]]
    tested = sum(number[verdict] for verdict in TESTED)
    none = ["none resolved"] if tested and tested == number[Verdict.UNRESOLVED] else []
    level = ", at 5 % adjusted for their number" if tested > 1 else ""
    left_out = f" {len(compared.left_out)} could not be made." if compared.left_out else ""
    start = f"Of {len(found)} comparisons{against}, {tested or 'none'} could be tested{level}"
    return f"{start}: {', '.join(none + told)}.{left_out}" if told else f"{start}.{left_out}"


def one_model(shared: Sequence[str]) -> list[str]:
    return [f"Trained once, and compared once: {'; '.join(shared)}."] if shared else []


def not_compared(reasons: Sequence[str]) -> list[str]:
    if not reasons:
        return []
    more = f" And {len(reasons) - MOST_VERDICTS} more." if len(reasons) > MOST_VERDICTS else ""
    return [f"Not compared: {'; '.join(reasons[:MOST_VERDICTS])}.{more}"]
