"""Rows of a split that say the same thing twice, or two things of the same texts."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from mtdnn.data.units import Texts, Unit, pair_key
from mtdnn.errors import listed
from mtdnn.tasks import TaskDef

MOST_PLACES = 5  # of one text pair
Target = tuple[float, ...] | None


@dataclass(frozen=True)
class Place:
    """One row.

    :param scope: rows are compared within theirs: a ranking group, or the whole split.
    """

    scope: str
    name: str
    texts: Texts
    target: Target


def repeats(task: TaskDef, split: str, units: Sequence[Unit]) -> list[str]:
    """What to say of a split, in up to two messages that name up to 20 text pairs each.

    Case and spacing make no difference. Duplicates have the same target, in either order of the texts; contradictory
    are rows with other targets, in the same order (entailment has a direction).
    """
    rows = list(places(task, units))
    same = alike(rows, lambda row: (pair_key(*row.texts), row.target))
    parted = [each for each in alike(rows, ordered_key) if len(targets(each)) > 1]
    where = f"task '{task.name}', {split}"
    return [
        *message(f"{where}: duplicates, the same texts and target", [told(task, each) for each in same]),
        *message(f"{where}: contradictory targets of the same texts", [told(task, each) for each in parted]),
    ]


def places(task: TaskDef, units: Sequence[Unit]) -> Iterator[Place]:
    for unit in units:
        for number, texts in enumerate(unit.texts):
            if task.groups:
                target = (unit.targets[number],) if unit.targets else None
                yield Place(unit.uid, f"{unit.place} (group {unit.uid}, row {number + 1})", texts, target)
            else:
                yield Place("", unit.place, texts, tuple(unit.targets) or None)


def ordered_key(row: Place) -> Hashable:
    return tuple(text and " ".join(text.casefold().split()) for text in row.texts)


def alike(rows: Sequence[Place], key: Callable[[Place], Hashable]) -> list[list[Place]]:
    """The rows of a scope that share their key, where they are two or more."""
    found: dict[Hashable, list[Place]] = defaultdict(list)
    for row in rows:
        found[row.scope, key(row)].append(row)
    return [each for each in found.values() if len(each) > 1]


def targets(rows: Sequence[Place]) -> set[Target]:
    return {row.target for row in rows}


def message(title: str, found: Sequence[str]) -> list[str]:
    return [f"{title}: {len(found)}\n{listed(found)}"] if found else []


def told(task: TaskDef, rows: Sequence[Place]) -> str:
    """The rows' places, with their targets where these differ."""
    differ = len(targets(rows)) > 1
    shown = [f"{row.name}: {target_name(task, row.target)}" if differ else row.name for row in rows[:MOST_PLACES]]
    rest = f" and {len(rows) - MOST_PLACES} more" if len(rows) > MOST_PLACES else ""
    return f"  {'; '.join(shown)}{rest}"


def target_name(task: TaskDef, target: Target) -> str:
    if target is None:
        return "none"
    return ", ".join(task.label_names[int(each)] if task.labels else f"{each:g}" for each in target)
