"""The paper's own figures beside ours."""

from collections.abc import Iterator, Sequence
from statistics import mean

from mtdnn.errors import ConfigError
from mtdnn.published import TRAIN_MINUTES, Figure, Published, load_published, read_published
from mtdnn.report.comparison import shown
from mtdnn.report.study import Group, Section, Study
from mtdnn.report.table import Table
from mtdnn.report.tables import shown_mean
from mtdnn.runs import Run, share
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
    "95 % of ours",
    "inside",
    "ours - published",
)
NOT_RUN = "not run"
OTHER = "other encoder"


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
    own = [group for group in study.last if run.holds(group.cells[0])]
    return Table(
        name=f"published-{name}",
        title="Published, and ours",
        header=HEADER,
        rows=list(rows_of(figures, own)),
        note="Times 100. 'inside' says whether the published figure lies in the 95 % interval of our mean over seeds, "
        f"or '{OTHER}' where ours is not the one of the figure. Ours may have fewer rows, too (see the configuration); "
        "then a difference says nothing about the method.",
    )


def rows_of(figures: Sequence[Figure], groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    for figure in figures:
        fraction = "" if figure.fraction is None else f"{100 * figure.fraction:g} %"
        start = (figure.system, figure.task, fraction, figure.split, figure.metric)
        yield (*start, f"{figure.value:g}", figure.encoder, *compared(figure, ours(figure, groups)))


def ours(figure: Figure, groups: Sequence[Group]) -> Group | None:
    """What we have for it; of the same fraction, however all of the data was said, rather than another way."""
    same = [
        group
        for group in groups
        if (group.own_system, *group.setting) == (figure.system, figure.task, share(figure.fraction))
    ]
    return next((each for each in same if each.fraction == figure.fraction), same[0] if same else None)


def values_of(figure: Figure, group: Group) -> list[float]:
    """In the unit of the metric."""
    if figure.metric == TRAIN_MINUTES:
        seconds = [cell.result.get("train_seconds") for cell in group.cells]
        return [each / 60 / 100 for each in seconds if each is not None]
    return list(group.values(figure.split, figure.metric).values())


def compared(figure: Figure, group: Group | None) -> tuple[str, ...]:
    values = values_of(figure, group) if group else []
    if not group or not values:
        return (NOT_RUN, "", "", "", "")
    found = paired_difference([0.0] * len(values), values)
    ends = "-" if found.low is None or found.high is None else f"{100 * found.low:.1f} to {100 * found.high:.1f}"
    difference = shown(mean(values) - figure.value / 100)
    return (shown_mean(values), str(len(values)), ends, inside(found, figure, group), difference)


def inside(found: Difference, figure: Figure, group: Group) -> str:
    if str(group.encoder).rpartition("/")[2] != figure.encoder.rpartition("/")[2]:
        return OTHER
    if found.low is None or found.high is None:
        return "-"
    return "yes" if found.low <= figure.value / 100 <= found.high else "no"
