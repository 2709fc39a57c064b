"""New texts to predict, of a file, a stream or in memory: rows with their place, and what is wrong with them."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mtdnn.data.formats import READERS, STDIN, numbered_lines, suffix_format
from mtdnn.data.rows import BadRows, Fault, Faults, Row
from mtdnn.data.units import Texts
from mtdnn.errors import ConfigError, DataError, listed, unknown
from mtdnn.heads.base import HEADS
from mtdnn.tasks import Inputs, TaskDef

WINDOW = 4096  # rows that are sorted by length together
TEXT_FORMAT = "txt"
STREAMED = (TEXT_FORMAT, "csv", "tsv", "jsonl")  # formats that are read once from beginning to end
PLACE = "place"

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NewTexts:
    """Rows in which some tasks find their texts.

    :param name: what messages call all of them.
    :param read: begins at the first row; what is wrong with the file as a whole it adds to the faults that it is given.
    :param bad_rows: ``stop`` ends with all faults at once; ``skip`` leaves bad rows out, says which, and gives the
        others their ``place``.
    """

    name: str
    read: Callable[[Faults], Iterator[Row]]
    tasks: Sequence[TaskDef]
    bad_rows: BadRows = "stop"

    @classmethod
    def of_file(
        cls, path: Path, tasks: Sequence[TaskDef], *, format: str | None = None, bad_rows: BadRows = "stop"
    ) -> "NewTexts":
        """Of a data file, or of standard input where the path is ``-``.

        :param format: ``txt`` (a ``text_a`` a line) or one of :data:`mtdnn.data.formats.READERS`; by default what the
            file's name says, and JSON lines for standard input.
        """
        reader = file_reader(path, format)
        return cls("standard input" if path == STDIN else str(path), reader, tasks, bad_rows)

    @classmethod
    def of_memory(cls, rows: Iterable[Any], tasks: Sequence[TaskDef]) -> "NewTexts":
        """Of texts, pairs of texts, or mappings from a column's name to its text; read once.

        A pair is a tuple or a list; where no task reads pairs, a list is one text's words.

        :raises DataError: when the rows are a single text or mapping.
        """
        if isinstance(rows, str | Mapping):
            raise DataError(f"rows: expected a list of rows, got {rows!r:.100}; write [row]")
        is_pair = any(task.inputs.second for task in tasks)
        read = (memory_row(number, row, is_pair=is_pair) for number, row in enumerate(rows, 1))
        return cls("rows", lambda _: read, tasks)

    def count(self) -> int:
        """How many rows there are to predict; looks at all of them, for what can be read twice.

        :raises DataError: naming every bad row, unless they are skipped.
        """
        faults = Faults()
        number = sum(1 for _ in self._readable(faults, Faults() if self._skips else faults))
        faults.raise_if_any(self.name)
        return number

    def windows(self) -> Iterator[list[Row]]:
        """The rows, :data:`WINDOW` at a time.

        :raises DataError: naming every bad row up to the window's end, unless they are skipped.
        """
        faults = Faults()
        left_out = Faults() if self._skips else faults
        for window in windows(self._readable(faults, left_out)):
            faults.raise_if_any(self.name)
            yield window
        faults.raise_if_any(self.name)
        if left_out.count:
            told = listed(left_out.messages, count=left_out.count)
            log.warning("%s: bad rows are left out; faults: %s\n%s", self.name, left_out.count, told)

    @property
    def _skips(self) -> bool:
        return self.bad_rows == "skip"

    def _readable(self, faults: Faults, left_out: Faults) -> Iterator[Row]:
        for row in self.read(faults):
            if found := row.faults or text_faults(row.values, self.tasks):
                left_out.add(row.place, *found)
            else:
                yield row


def windows(rows: Iterable[T]) -> Iterator[list[T]]:
    """:data:`WINDOW` at a time."""
    waiting = iter(rows)
    while window := list(islice(waiting, WINDOW)):
        yield window


def file_reader(path: Path, format: str | None = None) -> Callable[[Faults], Iterator[Row]]:
    """What reads a file's rows, from its beginning each time that it is called.

    :raises DataError: when there is no such file.
    :raises ConfigError: when its format is not known, or cannot be read from standard input.
    """
    if path == STDIN:
        format = format or "jsonl"
        if format not in STREAMED:
            raise ConfigError(f"--format {format}: standard input is read as one of {', '.join(STREAMED)}")
    elif not path.is_file():
        raise DataError(f"{path}: no such file")
    readers = {**READERS, TEXT_FORMAT: text_lines}
    name = format or suffix_format(path, readers, remedy="name it with --format")
    if name not in readers:
        raise ConfigError(f"--format {name}: {unknown('file format', name, readers)}")
    reader = readers[name]
    return lambda faults: reader(path, faults)


def text_lines(path: Path, faults: Faults) -> Iterator[Row]:
    """A ``text_a`` a line."""
    for line in numbered_lines(path, faults):
        yield Row(f"{path}:{line.number}", {"text_a": line.text.rstrip("\r\n")}, line.faults)


def memory_row(number: int, row: Any, *, is_pair: bool) -> Row:
    """A text, a pair of texts or a mapping as a row.

    :param is_pair: whether a task reads pairs; else a list is the words of one text.
    """
    place = f"row {number}"
    if isinstance(row, Mapping):
        return Row(place, dict(row))
    if isinstance(row, str) or (isinstance(row, list) and not is_pair):
        return Row(place, {"text_a": row})
    if is_pair and isinstance(row, list | tuple) and len(row) in (1, 2):
        return Row(place, dict(zip(("text_a", "text_b"), row, strict=False)))
    wanted = "a text, a pair of texts or a mapping" if is_pair else "a text or a mapping"
    return Row(place, {}, (Fault("", f"expected {wanted}, got {row!r:.100}"),))


def names_in(row: Mapping[str, Any], task: TaskDef) -> Inputs | None:
    """The names by which a row has the task's texts: the task's own, or ``text_a`` and ``text_b``."""
    for names in [*own_names(task), Inputs(text_a="text_a", text_b="text_b" if task.inputs.second else None)]:
        if all(row.get(column) is not None for column in names.columns()):
            return names
    return None


def own_names(task: TaskDef) -> list[Inputs]:
    return [task.inputs, *(layout.inputs for layout in task.layouts() if layout.inputs)]


def text_faults(row: Mapping[str, Any], tasks: Sequence[TaskDef]) -> tuple[Fault, ...]:
    """What keeps the tasks from their texts in a row: columns that are missing, no text or empty, each once."""
    found: dict[Fault, None] = {}
    for task in tasks:
        names = names_in(row, task)
        if names is None:
            wanted = " or ".join(str(names.columns()) for names in own_names(task))
            found[Fault("", f"task '{task.name}' reads {wanted}; the row has {list(row)}")] = None
            continue
        for column in names.columns():
            try:
                if not text_in(row, column, task).strip():
                    found[Fault(column, f"empty text {row[column]!r}")] = None
            except ValueError as error:
                found[Fault(column, str(error))] = None
    return tuple(found)


def text_in(row: Mapping[str, Any], column: str, task: TaskDef) -> str:
    """A column's text as the task's kind reads it; ValueError where it is none."""
    return HEADS.get(task.head_type, where=f"task '{task.name}': kind").read_text(row[column])


def texts_of(row: Mapping[str, Any], task: TaskDef, *, place: str) -> Texts:
    """A row's text or pair, by the task's own column names or by ``text_a`` and ``text_b``.

    :param place: what messages call the row.
    :raises DataError: naming what is missing or empty.
    """
    names = names_in(row, task)
    faults = text_faults(row, [task])
    if names is None or faults:
        raise DataError(listed([f"{place}: {fault}" for fault in faults]))
    first, *second = (text_in(row, column, task) for column in names.columns())
    return first, second[0] if second else None
