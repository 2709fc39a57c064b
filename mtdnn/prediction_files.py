"""Predictions as lines: JSON, or CSV with a column for everything that a head says."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mtdnn.errors import ConfigError, DataError, unknown
from mtdnn.files import write_text

Prediction = Mapping[str, Any]


def json_lines(rows: Iterable[Prediction]) -> Iterator[str]:
    """A JSON object a row."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"


def csv_lines(rows: Iterable[Prediction]) -> Iterator[str]:
    """A header, then a line a row; columns are named ``task.label``, ``task.probabilities.entails``.

    :raises DataError: when a row has a column that the first one has not.
    """
    columns: list[str] = []
    for number, row in enumerate(rows, 1):
        cells = flat(row)
        if number == 1:
            columns = list(cells)
            yield record(columns)
        if added := [column for column in cells if column not in columns]:
            raise DataError(f"row {number}: {added} are not in the first row; write JSON lines (--out NAME.jsonl)")
        yield record([cells.get(column, "") for column in columns])


def flat(row: Prediction, prefix: str = "") -> dict[str, Any]:
    """The values by their paths with dots; a list is one value, as JSON."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
    return found


def record(cells: Iterable[Any]) -> str:
    """One record as in RFC 4180, its line ended as everywhere else on the machine."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


FORMATS: dict[str, Callable[[Iterable[Prediction]], Iterator[str]]] = {".jsonl": json_lines, ".csv": csv_lines}


def check_name(path: Path) -> None:
    """ConfigError when the name of a file says no format that predictions are written in."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"--out {path}: {unknown('format', path.suffix, FORMATS)}")


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    """A file in the format that its name says, whole or not at all; StorageError when it cannot be written."""
    write_text(path, FORMATS[path.suffix](rows))
