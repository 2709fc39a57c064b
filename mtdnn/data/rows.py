"""Rows as found in a file, and what is wrong with them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mtdnn.errors import MAX_SHOWN, DataError, listed

BadRows = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row.

    :param column: empty where it is the row as a whole.
    """

    column: str
    message: str

    def __str__(self) -> str:
        return f"column '{self.column}': {self.message}" if self.column else self.message


@dataclass(frozen=True, slots=True)
class Row:
    """One row as found: ``place`` is ``file:line``.

    :param faults: what is wrong with it before anything is known of its columns.
    :param raw: the line itself where it could not be read; it has no values then.
    """

    place: str
    values: dict[str, Any]
    faults: tuple[Fault, ...] = ()
    raw: str | None = None

    def rejection(self, faults: Sequence[Fault]) -> dict[str, Any]:
        """The row with its faults, for a file of what was left out."""
        content = {"values": self.values} if self.raw is None else {"raw": self.raw}
        told = [{"column": fault.column, "message": fault.message} for fault in faults]
        return {"place": self.place, "faults": told, **content}


@dataclass
class Faults:
    """What is wrong with a file; collected, so that one message names everything: the first ones, and how many."""

    messages: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, place: str, *faults: Fault) -> None:
        for fault in faults:
            self.count += 1
            if self.count <= MAX_SHOWN:
                self.messages.append(f"{place}: {fault}")

    def raise_if_any(self, subject: str) -> None:
        if self.count:
            raise DataError(f"{subject}: faults: {self.count}\n{listed(self.messages, count=self.count)}")


def without_faults(rows: Iterable[Row], faults: Faults) -> Iterator[Row]:
    """The rows that could be read; what is wrong with the others is noted."""
    for row in rows:
        if row.faults:
            faults.add(row.place, *row.faults)
        else:
            yield row
