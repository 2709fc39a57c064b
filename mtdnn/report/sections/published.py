"""The paper's own figures beside ours."""

from collections.abc import Iterator, Sequence
from statistics import mean

from mtdnn.errors import ConfigError
from mtdnn.published import TRAIN_MINUTES, Figure, Published, load_published, read_published
from mtdnn.report.comparison import interval, shown
from mtdnn.report.study import Group, Section, Study
from mtdnn.report.table import Table
from mtdnn.report.tables import shown_mean
from mtdnn.runs import Run
from mtdnn.statistics import Difference, paired_difference

HEADER = (
    "system",
    "task",
    "fraction",
    "split",
    "metric",
    "published",
    "encoder",
    "ours",
    "n",
    "ours - published",
    "95 %",
    "inside",
)
NOT_RUN = "not run"


def published(study: Study) -> Section | None:
    """None where no run belongs to an experiment with published figures."""
    found = [(run, known) for run in study.runs if (known := of_run(run))]
    if not found:
        return None
    tables = [table_of(study, run, name, figures) for run, (name, figures, _) in found]
    notes = [text for _, (_, _, about) in found for text in (about.source, *about.notes)]
    return Section(name="published", title="Beside the paper", text=notes, tables=tables, open=True)


def of_run(run: Run) -> tuple[str, Sequence[Figure], Published] | None:
    """The figures beside the experiment that a run belongs to."""
    name = str(run.experiment.get("name", run.name)).replace("-", "_")
    try:
        known = read_published(name)
    except ConfigError:
        return None
    return None if known is None else (name, load_published(name), known)


def table_of(study: Study, run: Run, name: str, figures: Sequence[Figure]) -> Table:
    own = [group for group in study.last if group.cells[0] in run.cells]
    return Table(
        name=f"published-{name}",
        title="Published, and ours",
        header=HEADER,
        rows=list(rows_of(figures, own)),
        note="Times 100. 'inside' says whether the published figure lies in the 95 % interval of our mean over seeds. "
        "Ours may have another encoder and fewer rows (see the configuration); then a difference says nothing about "
        "the method.",
    )


def rows_of(figures: Sequence[Figure], groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    for figure in figures:
        values = ours(figure, groups)
        fraction = "" if figure.fraction is None else f"{100 * figure.fraction:g} %"
        start = (figure.system, figure.task, fraction, figure.split, figure.metric)
        yield (*start, f"{figure.value:g}", figure.encoder, *compared(figure, values))


def ours(figure: Figure, groups: Sequence[Group]) -> list[float]:
    """Our values, in the unit of the metric."""
    for group in sorted(groups, key=lambda group: group.fraction != figure.fraction):
        same = group.fraction == figure.fraction or {group.fraction, figure.fraction} == {None, 1.0}
        if group.cells[0].result["system"] == figure.system and group.task == figure.task and same:
            if figure.metric == TRAIN_MINUTES:
                return [cell.result.get("train_seconds", 0.0) / 60 / 100 for cell in group.cells]
            return list(group.values(figure.split, figure.metric).values())
    return []


def compared(figure: Figure, values: Sequence[float]) -> tuple[str, ...]:
    if not values:
        return (NOT_RUN, "", "", "", "")
    found = paired_difference([0.0] * len(values), values)
    difference = shown(mean(values) - figure.value / 100)
    return (shown_mean(values), str(len(values)), difference, interval(found), inside(found, figure.value / 100))


def inside(found: Difference, value: float) -> str:
    if found.low is None or found.high is None:
        return "-"
    return "yes" if found.low <= value <= found.high else "no"
