"""Does training a task with others help it or harm it?"""

from mtdnn.report.comparison import compare, interval, shown
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
    "against alone",
    "95 %",
    "n",
    "updates",
)
COLUMNS = {"alone": 0, "joint": 1, "after another stage": 2}


def transfer(study: Study) -> Section | None:
    """Alone, jointly, and after another stage; only where a task was trained in two of these ways."""
    rows = []
    for task, fraction in dict.fromkeys((group.task, group.fraction) for group in study.groups):
        groups = [g for g in study.groups if (g.task, g.fraction) == (task, fraction) and g.kind != "cosine"]
        if len({way(group) for group in groups}) > 1:
            rows += table_rows(study, sorted(groups, key=lambda group: COLUMNS[way(group)]))
    if not rows:
        return None
    table = Table(
        name="transfer",
        title="The same task trained alone, jointly, and after another stage",
        header=HEADER,
        rows=rows,
        note="Times 100, against the first system that trains the task alone; where its method differs too, so does "
        "what the difference is of. A negative one is negative transfer. Updates are optimizer steps of the stage "
        "itself, all tasks together in a joint one: where they differ, so does the training's length.",
    )
    return Section(name="transfer", title="Joint training: help or harm", tables=[table])


def way(group: Group) -> str:
    if group.kind == "joint":
        return "joint"
    return "alone" if group.cells[0].from_start else "after another stage"


def table_rows(study: Study, groups: list[Group]) -> list[tuple[str, ...]]:
    alone = next((group for group in groups if way(group) == "alone"), None)
    return [row_of(group, alone, split=study.best_split(group)) for group in groups]


def row_of(group: Group, alone: Group | None, *, split: str) -> tuple[str, ...]:
    found = compare(alone, group, split=split) if alone is not None and alone is not group else None
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
        shown(found.seeds.mean) if found else "",
        interval(found.seeds) if found else "",
        str(len(values)),
        ", ".join(sorted(map(str, steps))),
    )
