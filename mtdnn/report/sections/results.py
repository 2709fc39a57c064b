"""Means over seeds, and what separates the systems."""

from mtdnn.report.comparison import Comparison, against_first, comparison_table
from mtdnn.report.study import Section, Study
from mtdnn.report.table import Table
from mtdnn.report.tables import HEADER, lines

MOST_VERDICTS = 12


def results(study: Study) -> Section:
    table = lines([{**cell.result, "system": cell.system} for cell in study.cells], all_metrics=True)
    return Section(
        name="results",
        title="Results",
        tables=[
            Table(
                name="results",
                title="Mean ± standard deviation over n seeds, times 100",
                header=HEADER,
                rows=[line.cells() for line in table],
                note="Every cell that was trained is in it; none is the best of several.",
            )
        ],
        open=True,
    )


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
