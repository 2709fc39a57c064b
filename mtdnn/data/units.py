"""Raw rows -> checked units. A unit is what one loss value belongs to: an example, or in ranking a group of rows."""

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mtdnn.data.rows import BadRows, Fault, Faults, Row
from mtdnn.data.sources import Source
from mtdnn.errors import ConfigError, listed, unknown
from mtdnn.tasks import LAYOUTS, places

Reject = Callable[[Row, Sequence[Fault]], None]
Texts = tuple[str, str | None]


class TargetRules(Protocol):
    """What a kind of task says about its rows and targets; every head is one."""

    def read_text(self, value: Any) -> str:
        """A text of a row, or ValueError that says what was expected."""

    def parse_targets(self, value: Any, texts: Texts | None) -> list[float]:
        """A row's target in numbers, or ValueError that says what was expected; ``texts`` is None for faulty ones."""

    def admit(self, targets: Sequence[float]) -> bool:
        """Whether a unit is kept; ValueError when it is a fault."""

    def strata(self, targets: Sequence[Sequence[float]]) -> list[Hashable]:
        """The stratum of each unit, for stratified fractions."""


@dataclass(slots=True)
class Unit:
    """One example or group: its rows' texts and targets (none when the split is unlabelled).

    :ivar targets: a number a row of a group; of an example as many numbers as its head wants.
    """

    uid: str
    place: str
    texts: list[Texts] = field(default_factory=list)
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
    rejected: int = 0

    @property
    def available(self) -> int:
        """Good rows of the split that carry gold labels, those of dropped groups included."""
        return self.rows - self.without_gold - self.in_other_splits - self.rejected


def pair_key(text_a: str, text_b: str | None) -> str:
    """The same for two texts in either order, whatever their case and spacing."""
    normal = sorted(" ".join(text.casefold().split()) for text in (text_a, text_b) if text is not None)
    return hashlib.sha256("\x1f".join(normal).encode()).hexdigest()[:16]


def read_units(
    source: Source, rules: TargetRules, *, bad_rows: BadRows = "stop", reject: Reject | None = None
) -> tuple[list[Unit], Counts]:
    """Every unit of a split, checked; see :class:`UnitReader`."""
    reader = UnitReader(source, rules, bad_rows=bad_rows, reject=reject)
    return list(reader), reader.counts


class UnitReader:
    """One pass over a split: its units, checked, as they are read; groups come at the end.

    A row is bad when it cannot be read, a column is missing, a text is empty, a target is unknown, not a number or out
    of range, or a uid stands twice; a group is when it has no right answer and needs one.

    :param bad_rows: ``stop``: the pass ends in a DataError that names every bad row as file:line, column, value.
        ``skip``: they are left out and counted. ConfigError where no row has a column that the definition names.
    :param reject: is given each row that is skipped, with its faults.
    """

    def __init__(self, source: Source, rules: TargetRules, *, bad_rows: BadRows = "stop", reject: Reject | None = None):
        self.source, self.rules, self.skips, self.reject = source, rules, bad_rows == "skip", reject
        self.counts, self.faults = Counts(), Faults()
        self.checker = RowChecker(source, rules)

    def __iter__(self) -> Iterator[Unit]:
        groups: dict[str, tuple[Unit, list[Row]]] = {}
        for row in self.source.rows(self.faults):
            self.counts.rows += 1
            unit = self._unit(row)
            if unit is None:
                continue
            if self.checker.group is None:
                yield from self._admitted(unit, [row])
            else:
                whole, rows = groups.setdefault(unit.uid, (unit, []))
                rows.append(row)
                if whole is not unit:
                    whole.texts += unit.texts
                    whole.targets += unit.targets
        for unit, rows in groups.values():
            yield from self._admitted(unit, rows)
        self.checker.check_columns()
        if not self.counts.kept and not self.faults.count:
            self.faults.add(self.source.parts[0][0], Fault("", "no usable rows"))
        self.faults.raise_if_any(f"task '{self.source.task.name}', {self.source.split}")

    def _unit(self, row: Row) -> Unit | None:
        """A good row as a unit; None where the row is left out."""
        if self.checker.is_ignored(row):
            self.counts.without_gold += 1
            return None
        unit, faults = self.checker.check(row)
        split = self.checker.split_of(unit)
        if split != self.source.split:
            self.counts.in_other_splits += 1
        elif faults:
            self._bad(row, faults)
        else:
            return unit
        return None

    def _admitted(self, unit: Unit, rows: Sequence[Row]) -> Iterator[Unit]:
        try:
            admitted = not self.checker.labelled or self.rules.admit(unit.targets)
        except ValueError as error:
            fault = Fault(self.source.task.target, str(error))
            for row in rows if self.skips else rows[:1]:
                self._bad(row, [fault])
            return
        if admitted:
            self.counts.kept += len(unit.texts)
            yield unit
        else:
            self.counts.in_dropped_groups += len(unit.texts)

    def _bad(self, row: Row, faults: Sequence[Fault]) -> None:
        self.counts.rejected += 1
        if not self.skips:
            self.faults.add(row.place, *faults)
        elif self.reject is not None:
            self.reject(row, faults)


class RowChecker:
    """Checks single rows of one source."""

    def __init__(self, source: Source, rules: TargetRules):
        layout, task = source.layout, source.task
        self.inputs = task.columns(layout)
        self.target = layout.target or task.target
        self.group = (layout.group or task.groups.column) if task.groups else None
        self.uid, self.holdout = layout.uid, layout.holdout
        self.labelled = source.split not in layout.unlabelled
        self.ignored = {str(value) for value in layout.ignore_targets}
        self.split, self.rules = source.split, rules
        self.seen: dict[str, str] = {}
        self.task, self.layout = task, layout
        self.present, self.lacking = set[str](), dict[str, Row]()

    def check_columns(self) -> None:
        """ConfigError for columns of the definition that no row has, with the nearest of those that are there."""
        wrong = [(column, row) for column, row in self.lacking.items() if column not in self.present]
        if wrong:
            place = places(self.task)
            raise ConfigError(
                listed([f"{place(*self.key_of(c))}: {unknown('column', c, row.values)}" for c, row in wrong])
            )

    def key_of(self, column: str) -> tuple[str, ...]:
        """Where the definition names a column: in its layout, where that differs from the task's own."""
        layout = self.layout
        own = ("data", *(name for name in LAYOUTS if getattr(self.task.data, name) is layout))
        inputs = (*own, "inputs") if layout.inputs else ("inputs",)
        found = {getattr(self.inputs, name): (*inputs, name) for name in ("text_a", "text_b", "candidates")}
        found[self.target] = (*own, "target") if layout.target else ("target",)
        found[self.group] = (*own, "group") if layout.group else ("groups", "column")
        return {self.uid: (*own, "uid"), **found}[column]

    def is_ignored(self, row: Row) -> bool:
        return self.labelled and bool(self.ignored) and str(row.values.get(self.target)) in self.ignored

    def split_of(self, unit: Unit | None) -> str:
        """The split that a row belongs to where one file holds them all; the train split answers for bad rows."""
        if self.holdout is None:
            return self.split
        if unit is None:
            return "train"
        named = unit.uid if self.group is not None else pair_key(*unit.texts[0])
        place = int(hashlib.sha256(named.encode()).hexdigest()[:8], 16) / 16**8
        return "validation" if place < self.holdout else "test" if place < 2 * self.holdout else "train"

    def check(self, row: Row) -> tuple[Unit | None, list[Fault]]:
        """A good row as a unit; None and what is wrong with a bad one."""
        faults = list(row.faults)
        if row.raw is not None:
            return None, faults
        text_a = self._text(row, self.inputs.text_a, faults)
        text_b = self._text(row, self.inputs.second, faults) if self.inputs.second else None
        texts = None if faults or text_a is None else (text_a, text_b)
        targets = self._targets(row, texts, faults) if self.labelled else []
        key = self._key(row, faults)
        if faults or texts is None:
            return None, faults
        return Unit(uid=key, place=row.place, texts=[texts], targets=targets), faults

    def _text(self, row: Row, column: str, faults: list[Fault]) -> str | None:
        value = self._value(row, column, faults)
        if value is None:
            return None
        try:
            text = self.rules.read_text(value)
        except ValueError as error:
            faults.append(Fault(column, str(error)))
            return str(value)
        if not text.strip():
            faults.append(Fault(column, f"empty text {text[:60]!r}"))
        elif "\x00" in text:
            faults.append(Fault(column, f"holds a NUL character: {text[:60]!r}"))
        else:
            self._encodable(text, column, faults)
        return text

    def _encodable(self, value: str, column: str, faults: list[Fault]) -> None:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            broken = value[max(0, error.start - 20) : error.end + 20]
            faults.append(Fault(column, f"holds half of a character (a lone surrogate): {broken!r}"))

    def _targets(self, row: Row, texts: Texts | None, faults: list[Fault]) -> list[float]:
        value = self._value(row, self.target, faults)
        if value is None:
            return []
        try:
            return self.rules.parse_targets(value, texts)
        except ValueError as error:
            faults.append(Fault(self.target, str(error)))
            return []

    def _value(self, row: Row, column: str, faults: list[Fault]) -> Any:
        if column not in row.values:
            self.lacking.setdefault(column, row)
            here = ", ".join(map(str, row.values)) or "nothing"
            faults.append(Fault(column, f"missing; the row has {here:.200}"))
            return None
        self.present.add(column)
        if row.values[column] is None:
            faults.append(Fault(column, "no value (null)"))
        return row.values[column]

    def _key(self, row: Row, faults: list[Fault]) -> str:
        if self.group is not None:
            return self._name(row, self.group, faults)
        uid = self._name(row, self.uid, faults) if self.uid else f"{self.split}:{row.place.rsplit(':', 1)[-1]}"
        key = uid if uid not in self.seen else f"{uid}@{row.place}"
        if key != uid and self.uid:
            faults.append(Fault(self.uid, f"'{uid:.60}' stands twice, first at {self.seen[uid]}"))
        if not faults or not self.uid:
            self.seen.setdefault(key, row.place)
        return key

    def _name(self, row: Row, column: str, faults: list[Fault]) -> str:
        """A unit's name as text."""
        value = str(self._value(row, column, faults))
        self._encodable(value, column, faults)
        return value
