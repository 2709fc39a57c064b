"""Raw rows -> checked units. A unit is what one loss value belongs to: an example, or in ranking a group of rows."""

import hashlib
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mtdnn.data.sources import Faults, Row, Source


class TargetRules(Protocol):
    """What a kind of task says about its targets; every head is one."""

    def parse(self, value: Any) -> float:
        """A row's target, or ValueError that says what was expected."""

    def admit(self, targets: Sequence[float]) -> bool:
        """Whether a unit is kept; ValueError when it is a fault."""

    def strata(self, targets: Sequence[Sequence[float]]) -> list[Hashable]:
        """The stratum of each unit, for stratified fractions."""

    def keep_rows(self, targets: Sequence[float], *, key: str) -> list[int]:
        """The rows of a unit that training uses; ``key`` seeds any choice."""


@dataclass(slots=True)
class Unit:
    """One example or group: its rows' texts and targets (none when the split is unlabelled)."""

    uid: str
    place: str
    texts: list[tuple[str, str | None]] = field(default_factory=list)
    targets: list[float] = field(default_factory=list)

    def pair_keys(self) -> list[str]:
        return [pair_key(*texts) for texts in self.texts]


@dataclass
class Counts:
    """Rows in = rows kept + rows left out, by reason."""

    rows: int = 0
    kept: int = 0
    without_gold: int = 0
    in_dropped_groups: int = 0
    in_other_splits: int = 0

    @property
    def available(self) -> int:
        """Rows of the split that carry gold labels, those of dropped groups included."""
        return self.rows - self.without_gold - self.in_other_splits


def pair_key(text_a: str, text_b: str | None) -> str:
    """The same for two texts in either order, whatever their case and spacing."""
    normal = sorted(" ".join(text.casefold().split()) for text in (text_a, text_b) if text is not None)
    return hashlib.sha256("\x1f".join(normal).encode()).hexdigest()[:16]


def read_units(source: Source, rules: TargetRules) -> tuple[list[Unit], Counts]:
    """Every unit of a split, checked. DataError names every bad row as file:line, column, value.

    A row is bad when a column is missing, a text is empty, a target is unknown, not a number or out of range, or a
    uid stands twice.
    """
    faults, counts = Faults(), Counts()
    checker = RowChecker(source, rules, faults)
    units: dict[str, Unit] = {}
    for row in source.rows(faults):
        counts.rows += 1
        if checker.is_ignored(row):
            counts.without_gold += 1
            continue
        checked = checker.check(row)
        if checked is not None:
            key, texts, target = checked
            if checker.split_of(key, texts) != source.split:
                counts.in_other_splits += 1
                continue
            unit = units.setdefault(key, Unit(uid=key, place=row.place))
            unit.texts.append(texts)
            unit.targets.extend(target)
    kept = list(_admitted(units, source, rules, faults, counts))
    if not kept and not faults.messages:
        faults.add(source.parts[0][0], "", "no usable rows")
    faults.raise_if_any(f"task '{source.task.name}', {source.split}")
    counts.kept = sum(len(unit.texts) for unit in kept)
    return kept, counts


def _admitted(
    units: dict[str, Unit], source: Source, rules: TargetRules, faults: Faults, counts: Counts
) -> Iterator[Unit]:
    labelled = source.split not in source.layout.unlabelled
    for unit in units.values():
        try:
            if not labelled or rules.admit(unit.targets):
                yield unit
            else:
                counts.in_dropped_groups += len(unit.texts)
        except ValueError as error:
            faults.add(unit.place, source.task.target, str(error))


class RowChecker:
    """Checks single rows of one source and collects what is wrong with them."""

    def __init__(self, source: Source, rules: TargetRules, faults: Faults):
        layout, task = source.layout, source.task
        self.inputs = task.columns(layout)
        self.target = layout.target or task.target
        self.group = (layout.group or task.groups.column) if task.groups else None
        self.uid, self.holdout = layout.uid, layout.holdout
        self.labelled = source.split not in layout.unlabelled
        self.ignored = {str(value) for value in layout.ignore_targets}
        self.split, self.rules, self.faults = source.split, rules, faults
        self.seen: dict[str, str] = {}

    def is_ignored(self, row: Row) -> bool:
        return self.labelled and bool(self.ignored) and str(row.values.get(self.target)) in self.ignored

    def split_of(self, key: str, texts: tuple[str, str | None]) -> str:
        """The split that a row belongs to where one file holds them all."""
        if self.holdout is None:
            return self.split
        named = key if self.group is not None else pair_key(*texts)
        place = int(hashlib.sha256(named.encode()).hexdigest()[:8], 16) / 16**8
        return "validation" if place < self.holdout else "test" if place < 2 * self.holdout else "train"

    def check(self, row: Row) -> tuple[str, tuple[str, str | None], list[float]] | None:
        """(unit key, texts, targets) of a good row; None after noting the faults of a bad one."""
        before = len(self.faults.messages)
        text_a, text_b = self._text(row, self.inputs.text_a), None
        if self.inputs.second:
            text_b = self._text(row, self.inputs.second)
        target = [self._target(row)] if self.labelled else []
        key = self._key(row)
        if len(self.faults.messages) > before or text_a is None:
            if self.holdout is not None and self.split != "train":
                del self.faults.messages[before:]  # the train split reads the same file, and tells
            return None
        return key, (text_a, text_b), target

    def _text(self, row: Row, column: str) -> str | None:
        value = self._value(row, column)
        if value is None:
            return None
        if not isinstance(value, str):
            self.faults.add(row.place, column, f"expected text, got {value!r}")
        elif not value.strip():
            self.faults.add(row.place, column, f"empty text {value!r}")
        elif "\x00" in value:
            self.faults.add(row.place, column, f"holds a NUL character: {value[:60]!r}")
        return str(value)

    def _target(self, row: Row) -> float:
        value = self._value(row, self.target)
        if value is None:
            return math.nan
        try:
            return self.rules.parse(value)
        except ValueError as error:
            self.faults.add(row.place, self.target, str(error))
            return math.nan

    def _value(self, row: Row, column: str) -> Any:
        if column not in row.values:
            here = ", ".join(map(str, row.values)) or "nothing"
            self.faults.add(row.place, column, f"missing; the row has {here}")
        elif row.values[column] is None:
            self.faults.add(row.place, column, "no value (null)")
        return row.values.get(column)

    def _key(self, row: Row) -> str:
        if self.group is not None:
            return f"{self._value(row, self.group)}"
        uid = str(self._value(row, self.uid)) if self.uid else f"{self.split}:{row.place.rsplit(':', 1)[-1]}"
        key = uid if uid not in self.seen else f"{uid}@{row.place}"
        if key != uid and self.uid:
            self.faults.add(row.place, self.uid, f"'{uid}' stands twice, first at {self.seen[uid]}")
        self.seen.setdefault(key, row.place)
        return key
