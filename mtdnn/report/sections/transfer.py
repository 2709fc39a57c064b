"""Does training a task with others help it or harm it?"""

from collections.abc import Sequence
from typing import Any

from mtdnn.report.comparison import Comparison, NoPairsError, compare, interval, shown
from mtdnn.report.study import Group, Section, Study
from mtdnn.report.table import Table
from mtdnn.report.tables import shown_mean

HEADER = (
    "task",
    "fraction",
    "trained",
    "system",
    "split",
    "metric",
    "mean ± sd",
    "n",
    "alone",
    "against alone",
    "95 %",
    "pairs",
    "updates",
)
OTHER = "another method"
COLUMNS = {"alone": 0, "joint": 1, "after another stage": 2}


def transfer(study: Study) -> Section | None:
    """Alone, jointly, and after another stage; only where a task was trained in two of these ways."""
    rows = []
    for setting in dict.fromkeys(group.setting for group in study.groups):
        groups = [group for group in study.groups if group.setting == setting and group.kind != "cosine"]
        if len({way(group) for group in groups}) > 1:
            rows += table_rows(study, sorted(groups, key=lambda group: COLUMNS[way(group)]))
    if not rows:
        return None
    table = Table(
        name="transfer",
        title="The same task trained alone, jointly, and after another stage",
        header=HEADER,
        rows=rows,
        note="Times 100, against the system named under 'alone': the one that trains the task alone by the same method "
        f"where the run has it, else the first that trains it alone, with the words '{OTHER}'; such a difference is of "
        "the method too. A negative one is negative transfer. Intervals are over the seeds in pairs, by themselves, "
        "not adjusted for their number. Updates are optimizer steps of the stage itself, all tasks together in a joint "
        "one: where they differ, so does the training's length.",
    )
    return Section(name="transfer", title="Joint training: help or harm", tables=[table])


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
    """Who trains the task alone: in its own run where that has it, by the group's method where there is one."""
    alone = [each for each in groups if way(each) == "alone"]
    alone = [each for each in alone if study.run_of(each) is study.run_of(group)] or alone
    return next((each for each in alone if method(each) == method(group)), alone[0] if alone else None)


def table_rows(study: Study, groups: Sequence[Group]) -> list[tuple[str, ...]]:
    return [row_of(group, baseline(study, group, groups), split=study.best_split(group)) for group in groups]


def row_of(group: Group, alone: Group | None, *, split: str) -> tuple[str, ...]:
    found = against(alone, group, split=split)
    values = tuple(group.values(split).values())
    steps = {cell.result.get("steps") for cell in group.cells}
    return (
        group.task,
        group.shown_fraction(),
        way(group),
        group.name,
        split,
        group.metric,
        shown_mean(values),
        str(len(values)),
        named(alone, group) if alone is not None and found else "",
        shown(found.seeds.mean) if found else "",
        interval(found.seeds) if found else "",
        str(found.seeds.num) if found else "",
        ", ".join(sorted(map(str, steps))),
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
