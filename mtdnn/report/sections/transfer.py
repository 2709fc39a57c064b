"""Does training a task with others help it or harm it?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mtdnn.report.comparison import Comparison, NoPairsError, compare, interval, shown
from mtdnn.report.study import Group, Section, Study
from mtdnn.report.table import Table
from mtdnn.report.tables import shown_mean
from mtdnn.report.updates import ABOUT_EQUAL, Updates, updates_of

HEADER = (
    "task",
    "fraction",
    "trained",
    "system",
    "metric",
    "mean ± sd",
    "n",
    "against alone",
    "95 %",
    "pairs",
    "alone",
    "updates",
    "its updates",
    "of other tasks",
    "split",
)
OTHER = "another method"
UNKNOWN = "not known"
COLUMNS = {"alone": 0, "joint": 1, "after another stage": 2}


def transfer(study: Study) -> Section | None:
    """Alone, jointly, and after another stage; only where a task was trained in two of these ways."""
    rows: list[Row] = []
    for setting in dict.fromkeys(group.setting for group in study.groups):
        groups = distinct(group for group in study.groups if group.setting == setting and group.kind != "cosine")
        if len({way(group) for group in groups}) > 1:
            rows += rows_of(study, sorted(groups, key=lambda group: COLUMNS[way(group)]))
    if not rows:
        return None
    table = Table(
        name="transfer",
        title="The same task trained alone, jointly, and after another stage",
        header=HEADER,
        rows=[row.cells() for row in rows],
        note="Times 100, against the system named under 'alone': of those that train the task alone by the same method "
        "the one whose number of updates is nearest; where the run has none, of all that train it alone, with the "
        f"words '{OTHER}': such a difference is of the method too. A negative one is negative transfer. Intervals are "
        "over the seeds in pairs, by themselves, not adjusted for their number. Updates are optimizer steps with the "
        "task in them, of all stages that the model went through, the earlier ones first; 'of other tasks' are those "
        f"without it, which trained the encoder too. Within {100 * ABOUT_EQUAL - 100:.0f} % they are called about "
        "equal; 'about' before a number: worked out from an older run's sampler.",
    )
    text = [told] if (told := lengths(rows)) else []
    return Section(name="transfer", title="Joint training: help or harm", text=text, tables=[table])


def distinct(groups: Iterable[Group]) -> list[Group]:
    """Models that systems share, under the first one's name."""
    first: dict[Any, Group] = {}
    for group in groups:
        first.setdefault(tuple(group.models.items()), group)
    return list(first.values())


@dataclass(frozen=True, kw_only=True)
class Row:
    """A group, and the one that trains its task alone.

    :param found: the difference; None where the group itself trains it alone, and without a pair.
    """

    group: Group
    split: str
    updates: Updates | None
    alone: Group | None
    alone_updates: Updates | None
    found: Comparison | None

    def cells(self) -> tuple[str, ...]:
        group, values, found = self.group, self.group.values(self.split).values(), self.found
        updates, others = (self.updates.shown(), f"{self.updates.others:.0f}") if self.updates else ("-", "-")
        start = (group.task, group.shown_fraction(), way(group), group.name, group.metric)
        own = (*start, shown_mean(tuple(values)), str(len(values)))
        if found is None or self.alone is None:
            return (*own, "", "", "", "", updates, "", others, self.split)
        against = (shown(found.seeds.mean), interval(found.seeds), str(found.seeds.num))
        return (*own, *against, named(self.alone, group), updates, self.length(), others, self.split)

    def length(self) -> str:
        """The updates of the one alone, and how they compare."""
        shown_updates = self.alone_updates.shown() if self.alone_updates else "-"
        return f"{shown_updates}, {self.equality()}"

    def equality(self) -> str:
        if self.updates is None or self.alone_updates is None:
            return UNKNOWN
        return self.updates.against(self.alone_updates)


def lengths(rows: Sequence[Row]) -> str:
    """How many of the differences are of trainings of one length; empty where there is no difference."""
    found = [row.equality() for row in rows if row.found]
    if not found:
        return ""
    equal = sum(each in ("equal", "about equal") for each in found)
    verb = "is" if equal == 1 else "are"
    rest = "; in the others one training is longer, or its length is not known" if equal < len(found) else ""
    told = f"Of {len(found)} differences {equal or 'none'} {verb} at (about) equal updates of the task"
    return f"{told}, those of other tasks aside{rest}."


def way(group: Group) -> str:
    if group.kind == "joint":
        return "joint"
    return "alone" if group.cells[0].from_start else "after another stage"


def method(group: Group) -> tuple[Any, list[Any]]:
    """The objective and the regularizers that a task was trained with at this stage."""
    stage = group.cells[0].result["inputs"]["stage"]
    applied = [options for options in stage["regularizers"] if group.task in (options.get("tasks") or [group.task])]
    own = [{name: value for name, value in options.items() if name != "tasks"} for options in applied]
    return stage["objective"], own


def baseline(study: Study, group: Group, groups: Sequence[Group]) -> Group | None:
    """Who trains the task alone: in its own run where that has it, by its method where one does, about as long."""
    alone = [each for each in groups if way(each) == "alone"]
    alone = [each for each in alone if study.run_of(each) is study.run_of(group)] or alone
    alone = [each for each in alone if method(each) == method(group)] or alone
    return min(alone, key=lambda each: longer(study, group, each), default=None)


def longer(study: Study, a: Group, b: Group) -> float:
    """How many times as many updates the one with more has; 1 where that is not known."""
    one, two = (updates_of(study.run_of(each), each) for each in (a, b))
    return one.times(two) if one and two else 1.0


def rows_of(study: Study, groups: Sequence[Group]) -> Iterator[Row]:
    for group in groups:
        split, alone = study.best_split(group), baseline(study, group, groups)
        yield Row(
            group=group,
            split=split,
            updates=updates_of(study.run_of(group), group),
            alone=alone,
            alone_updates=updates_of(study.run_of(alone), alone) if alone else None,
            found=against(alone, group, split=split),
        )


def against(alone: Group | None, group: Group, *, split: str) -> Comparison | None:
    """None where the group itself trains the task alone, and where there is nothing to pair it with."""
    if alone is None or way(group) == "alone":
        return None
    try:
        return compare(alone, group, split=split)
    except NoPairsError:
        return None


def named(alone: Group, group: Group) -> str:
    return alone.name if method(alone) == method(group) else f"{alone.name} ({OTHER})"
