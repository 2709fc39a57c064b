"""A data file -> raw rows, each with the line it stands on.

JSON lines, CSV and TSV are read with the standard library, because the readers of ``datasets`` merge rows at stray
quotes, turn "NA" into None and cannot name a line. Parquet is read from the file itself, because ``datasets`` keeps a
copy, which it finds again by the file's name and time.
"""

import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow.parquet as pq
import zstandard

from mtdnn.data.rows import Fault, Faults, Row
from mtdnn.errors import ConfigError, unknown

if TYPE_CHECKING:  # takes a second to import, and few formats need it
    import datasets

DECOMPRESS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": lambda path: zstandard.open(path, "rb"),
}
STDIN = Path("-")
MTDNN_COLUMNS = ("uid", "label", "premise", "hypothesis")
LINES_OF_A_RECORD = 10_000  # of CSV; a quote that is open for longer was never closed
ROWS_AT_ONCE = 1000
MAX_FOOTER = 50_000_000  # bytes and entries of Parquet's own description of itself
CSV_FIELD = 2**31 - 1
CONTROL = frozenset(map(chr, range(32))) - set("\t\r\n")  # characters that no table's header has


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its number, from 1, its end as it is.

    :param faults: that it is not UTF-8; the text has a replacement character for what cannot be read.
    """

    number: int
    text: str
    faults: tuple[Fault, ...] = ()


def open_bytes(path: Path) -> io.BufferedIOBase:
    """The file's bytes, decompressed by its suffix; those of standard input for ``-``."""
    if path == STDIN:
        return cast(io.BufferedIOBase, sys.stdin.buffer)
    opened: Any = DECOMPRESS.get(path.suffix, lambda path: path.open("rb"))(path)
    return opened if isinstance(opened, io.BufferedIOBase) else io.BufferedReader(opened)


def suffix_format(
    path: Path, known: Collection[str] | None = None, *, remedy: str = "name it with data.files.format"
) -> str:
    """The file format that a file's name says, compression aside; ConfigError when it is not one of the known ones."""
    known = READERS if known is None else known
    suffixes = [suffix for suffix in path.suffixes if suffix not in DECOMPRESS]
    found = suffixes[-1].removeprefix(".") if suffixes else ""
    found = {"json": "jsonl", "ndjson": "jsonl"}.get(found, found)
    if found not in known:
        raise ConfigError(f"{path}: {unknown('file format', found, known)}; {remedy}")
    return found


def numbered_lines(path: Path, faults: Faults) -> Iterator[Line]:
    """The file's lines, a byte-order mark dropped. A damaged archive is a fault of the file, and the end."""
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                yield decoded(number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        faults.add(f"{path}:{number + 1}", Fault("", f"the archive is damaged or cut off: {error}"))
    except OSError as error:
        faults.add(str(path), Fault("", f"cannot be read: {error.strerror}"))


def decoded(number: int, line: bytes) -> Line:
    try:
        return Line(number, line.decode())
    except UnicodeDecodeError as error:
        around = line[max(0, error.start - 20) : error.start + 20]
        fault = Fault("", f"not UTF-8: {around!r}; save the file as UTF-8")
        return Line(number, line.decode(errors="replace"), (fault,))


def read_jsonl(path: Path, faults: Faults) -> Iterator[Row]:
    for line in numbered_lines(path, faults):
        if not line.text.strip():
            continue
        place, raw = f"{path}:{line.number}", line.text.rstrip("\r\n")
        try:
            values = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            yield Row(place, {}, (*line.faults, Fault("", f"not valid JSON: {error}")), raw)
            continue
        if isinstance(values, dict):
            yield Row(place, values, line.faults)
        else:
            yield Row(place, {}, (*line.faults, Fault("", f"expected a JSON object, got {raw.strip()[:60]!r}")), raw)


def read_tsv(path: Path, faults: Faults) -> Iterator[Row]:
    """Tab-separated, one row a line, quotes are text."""
    header: list[str] | None = None
    for line in numbered_lines(path, faults):
        cells = line.text.rstrip("\r\n").split("\t")
        if header is None:
            header = _header(path, cells, faults, line.faults)
            if not header:
                return
        elif cells != [""]:
            yield _table_row(f"{path}:{line.number}", header, cells, line.faults, line.text)


@dataclass
class Records:
    """Lines for a CSV reader, which takes as many as a record has; those that turned out to be no record go back.

    :param taken: the lines of the record that is being read.
    """

    lines: Iterator[Line]
    taken: list[Line] = field(default_factory=list)
    waiting: deque[Line] = field(default_factory=deque)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) == LINES_OF_A_RECORD:
            raise StopIteration
        self.taken.append(self.waiting.popleft() if self.waiting else next(self.lines))
        return self.taken[-1].text

    def keep_first(self) -> None:
        """Only the first line was of the record: the quote that it opened should not have been there."""
        self.waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def read_csv(path: Path, faults: Faults) -> Iterator[Row]:
    """Comma-separated as in RFC 4180; a quote in the wrong place is a fault of its line, never a merged row."""
    csv.field_size_limit(CSV_FIELD)
    records = Records(numbered_lines(path, faults))
    reader = csv.reader(records, strict=True)
    header: list[str] | None = None
    while True:
        records.taken.clear()
        wrong: tuple[Fault, ...] = ()
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            records.keep_first()
            wrong = (Fault("", f"not valid CSV: {error}; double the quotes inside a quoted field"),)
        place, raw = f"{path}:{records.taken[0].number}", "".join(line.text for line in records.taken)
        found = (*(fault for line in records.taken for fault in line.faults), *wrong)
        if header is None:
            header = _header(path, cells, faults, found)
            if not header:
                return
        elif wrong:
            yield Row(place, {}, found, raw.rstrip("\r\n"))
        elif cells:
            yield _table_row(place, header, cells, found, raw)


def _header(path: Path, cells: list[str], faults: Faults, wrong: tuple[Fault, ...]) -> list[str]:
    """The columns' names; none where the first line cannot be read, and then no row can be."""
    if not wrong and CONTROL.intersection("".join(cells)):
        wrong = (
            Fault("", f"no header but binary data: {' '.join(cells)[:60]!r}; name the format with data.files.format"),
        )
    faults.add(f"{path}:1", *wrong)
    if wrong:
        return []
    for twice in sorted({cell for cell in cells if cells.count(cell) > 1}):
        faults.add(f"{path}:1", Fault(twice, "stands twice in the header; give each column a name of its own"))
    return cells


def _table_row(place: str, header: list[str], cells: list[str], wrong: tuple[Fault, ...], raw: str) -> Row:
    if len(cells) == len(header):
        return Row(place, dict(zip(header, cells, strict=True)), wrong)
    fault = Fault("", f"{len(cells)} columns where the header has {len(header)}: {cells!r:.120}")
    return Row(place, {}, (*wrong, fault), raw.rstrip("\r\n"))


def read_parquet(path: Path, faults: Faults) -> Iterator[Row]:
    import datasets

    limits = {"thrift_string_size_limit": MAX_FOOTER, "thrift_container_size_limit": MAX_FOOTER}
    try:
        with pq.ParquetFile(path, **limits) as file:
            schema = file.schema_arrow
            described = b"huggingface" in (schema.metadata or {})  # columns of ours, with the names of classes
            features = datasets.Features.from_arrow_schema(schema) if described else datasets.Features()
            batches = file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False)
            yield from dataset_rows((row for batch in batches for row in batch.to_pylist()), features, str(path))
    except Exception as error:  # pyarrow and datasets raise many kinds for a damaged file
        faults.add(str(path), Fault("", f"not a readable Parquet file: {str(error)[:200]}"))


def dataset_rows(rows: Iterator[dict[str, Any]], features: "datasets.Features", place: str) -> Iterator[Row]:
    """Rows with the names of their classes for the numbers."""
    import datasets

    names = {key: f for key, f in features.items() if isinstance(f, datasets.ClassLabel)}
    for number, values in enumerate(rows, 1):
        decoded = {k: f.int2str(values[k]) for k, f in names.items() if values[k] is not None and values[k] >= 0}
        yield Row(f"{place}:{number}", {**values, **decoded})


def read_mtdnn(path: Path, faults: Faults) -> Iterator[Row]:
    """The official MT-DNN code's prepared files: tab-separated, no header, quotes are text.

    A line is ``uid, label, premise[, hypothesis]``, or ``uid, ids, labels, premise, hypothesis, hypothesis, ...`` with
    commas between ids and between labels: then every candidate is a row, and ``group`` is the line's uid.
    """
    for line in numbered_lines(path, faults):
        place, raw = f"{path}:{line.number}", line.text.rstrip("\r\n")
        cells = raw.split("\t")
        if len(cells) in (3, 4):
            yield Row(place, dict(zip(MTDNN_COLUMNS, cells, strict=False)), line.faults)
        elif len(cells) >= 6:
            yield from _candidates(place, cells, line.faults, raw)
        elif cells != [""]:
            told = f"{len(cells)} columns; uid, label, premise and hypotheses are 3, 4, or 6 and more"
            yield Row(place, {}, (*line.faults, Fault("", told)), raw)


def _candidates(place: str, cells: list[str], wrong: tuple[Fault, ...], raw: str) -> Iterator[Row]:
    group, ids, labels, premise, *hypotheses = cells
    counts = [len(ids.split(",")), len(labels.split(",")), len(hypotheses)]
    if len(set(counts)) > 1:
        fault = Fault("", f"{counts[0]} ids and {counts[1]} labels for {counts[2]} hypotheses")
        yield Row(place, {}, (*wrong, fault), raw)
        return
    for uid, label, hypothesis in zip(ids.split(","), labels.split(","), hypotheses, strict=True):
        values = dict(zip(MTDNN_COLUMNS, (uid, label, premise, hypothesis), strict=True))
        yield Row(place, values | {"group": group}, wrong)


READERS: dict[str, Callable[[Path, Faults], Iterator[Row]]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "mtdnn": read_mtdnn,
}
