"""The paper's own figures beside ours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from pydantic import ValidationError

from mtdnn.errors import DataError
from mtdnn.published import TRAIN_MINUTES, Figure, Published, figures_of, shipped_published
from mtdnn.report.comparison import shown
from mtdnn.report.study import Group, Section, Study
from mtdnn.report.table import Table
from mtdnn.report.tables import shown_interval, shown_mean
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


@dataclass(frozen=True)
class Beside:
    """An experiment's figures, and the runs of it."""

    name: str
    known: Published
    runs: list[Run]


def published(study: Study) -> Section | None:
    """None where no run belongs to an experiment with published figures."""
    found = experiments(study.runs)
    if not found:
        return None
    notes = dict.fromkeys(text for each in found for text in (each.known.source, *each.known.notes))
    tables = [table_of(study, each) for each in found]
    return Section(name="published", title="Beside the paper", text=list(notes), tables=tables, open=True)


def experiments(runs: Sequence[Run]) -> list[Beside]:
    """Those that have figures, each with all of its runs."""
    found: list[Beside] = []
    for run in runs:
        name, known = str(run.experiment.get("name", run.name)), figures_beside(run)
        if known is None:
            continue
        same = next((each for each in found if (each.name, each.known) == (name, known)), None)
        if same is None:
            found.append(Beside(name, known, [run]))
        else:
            same.runs.append(run)
    return found


def figures_beside(run: Run) -> Published | None:
    """What the run keeps of its experiment's; of the shipped experiment of its name where it is older than that.

    :raises DataError: when what it keeps is damaged.
    """
    if "published" not in run.experiment:
        return shipped_published(str(run.experiment.get("name", run.name)))
    kept = run.experiment["published"]
    try:
        return None if kept is None else Published.model_validate(kept)
    except ValidationError as error:
        path = run.folder / "experiment.json"
        raise DataError(f"{path}: published is damaged ({error}); the same run makes it again") from error


def table_of(study: Study, beside: Beside) -> Table:
    groups = [[group for group in study.last if run.holds(group.cells[0])] for run in beside.runs]
    return Table(
        name=f"published-{beside.name.replace('-', '_')}",
        title="Published, and ours",
        header=HEADER,
        rows=list(rows_of(figures_of(beside.known), groups)),
        note="Times 100. 'inside' says whether the published figure lies in the 95 % interval of our mean over seeds, "
        f"or '{OTHER}' where ours is not the one of the figure. Ours may have fewer rows, too (see the configuration); "
        "then a difference says nothing about the method.",
    )


def rows_of(figures: Sequence[Figure], runs: Sequence[Sequence[Group]]) -> Iterator[tuple[str, ...]]:
    """A row a figure and run that has it; one for a figure that none has."""
    for figure in figures:
        fraction = "" if figure.fraction is None else f"{100 * figure.fraction:g} %"
        start = (figure.task, fraction, figure.split, figure.metric, f"{figure.value:g}", figure.encoder)
        known = [group for groups in runs if (group := ours(figure, groups)) and values_of(figure, group)]
        yield from ((group.system, *start, *compared(figure, group)) for group in known)
        if not known:
            yield (figure.system, *start, NOT_RUN, "", "", "", "")


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


def compared(figure: Figure, group: Group) -> tuple[str, ...]:
    values = values_of(figure, group)
    found = paired_difference([0.0] * len(values), values)
    ends = "-" if found.low is None or found.high is None else shown_interval(found.low, found.high)
    difference = shown(mean(values) - figure.value / 100)
    return (shown_mean(values), str(len(values)), ends, inside(found, figure, group), difference)


def inside(found: Difference, figure: Figure, group: Group) -> str:
    if str(group.encoder).rpartition("/")[2] != figure.encoder.rpartition("/")[2]:
        return OTHER
    if found.low is None or found.high is None:
        return "-"
    return "yes" if found.low <= figure.value / 100 <= found.high else "no"
