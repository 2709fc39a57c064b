"""TaskDef -> raw rows, each with the file and line it stands on.

JSON lines, CSV and TSV are read with the standard library, because the readers of ``datasets`` merge rows at stray
quotes, turn "NA" into None and cannot name a line; Parquet and the hub are read through ``datasets``.
"""

import csv
import gzip
import hashlib
import io
import json
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import zstandard

from mtdnn.errors import ConfigError, DataError, listed, unknown
from mtdnn.hub import hub_or_cache
from mtdnn.tasks import FilesLayout, GeneratedLayout, HubLayout, Layout, TaskDef
from mtdnn.testing import corpus

DECOMPRESS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": lambda path: zstandard.open(path, "rb"),
}
MTDNN_COLUMNS = ("uid", "label", "premise", "hypothesis")
PART = re.compile(r"(?P<name>[^\[\]+]+)(\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as found: ``place`` is ``file:line``."""

    place: str
    values: dict[str, Any]


@dataclass
class Faults:
    """What is wrong with a file; collected, so that one message names everything."""

    messages: list[str] = field(default_factory=list)

    def add(self, place: str, column: str, message: str) -> None:
        self.messages.append(f"{place}: column '{column}': {message}" if column else f"{place}: {message}")

    def raise_if_any(self, subject: str) -> None:
        if self.messages:
            raise DataError(f"{subject}: faults: {len(self.messages)}\n{listed(self.messages)}")


@dataclass(frozen=True)
class Source:
    """Where one split's rows come from: files with the slice to take of each, a hub data set, or a generated corpus."""

    task: TaskDef
    layout: Layout
    split: str
    parts: tuple[tuple[str, slice], ...]
    data_dir: Path | None = None

    def rows(self, faults: Faults) -> Iterator[Row]:
        for name, part in self.parts:
            yield from _sliced(self._read(name, faults), part)

    def content_hash(self) -> str:
        """SHA-256 of the bytes that the rows are made from: same bytes, same rows."""
        digest = hashlib.sha256()
        for name, part in self.parts:
            digest.update(f"{part.start}:{part.stop}:".encode())
            if isinstance(self.layout, FilesLayout):
                with self._file(name).open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            elif isinstance(self.layout, HubLayout):
                digest.update(load_hub(self.layout, name)._fingerprint.encode())
            else:
                rows = [row.values for row in self._read(name, Faults())]
                digest.update(json.dumps(rows, sort_keys=True).encode())
        return digest.hexdigest()

    def _read(self, name: str, faults: Faults) -> Iterator[Row]:
        if isinstance(self.layout, FilesLayout):
            path = self._file(name)
            return READERS[self.layout.format or suffix_format(path)](path, faults)
        if isinstance(self.layout, HubLayout):
            return _dataset_rows(load_hub(self.layout, name), f"{self.layout.path}/{name}")
        assert isinstance(self.layout, GeneratedLayout)
        made = corpus.rows(self.layout.corpus, name, size=self.layout.sizes.get(self.split))
        return (Row(f"{self.layout.corpus}/{name}:{line}", row) for line, row in enumerate(made, 1))

    def _file(self, name: str) -> Path:
        assert isinstance(self.layout, FilesLayout)
        return data_file(self.task, self.layout, name, self.data_dir)


def find_source(task: TaskDef, split: str, *, layout: str | None = None, data_dir: Path | None = None) -> Source:
    """The source of one split, its files checked to be there.

    :param layout: ``hub``, ``files`` or ``generated``; by default ``files`` when there is a ``data_dir``, else the hub.
    :raises DataError: a split that the layout does not declare, or a file that is not there.
    """
    wanted = layout or ("files" if data_dir and task.data.files else None)
    chosen = task.layout(wanted)
    if split not in chosen.splits:
        raise DataError(f"task '{task.name}': {unknown('split', split, chosen.splits)}")
    parts = tuple(_parts(chosen.splits[split], where=f"task '{task.name}': splits.{split}"))
    source = Source(task=task, layout=chosen, split=split, parts=parts, data_dir=data_dir)
    if isinstance(chosen, FilesLayout):
        for name, _ in parts:
            data_file(task, chosen, name, data_dir)
    return source


def data_file(task: TaskDef, layout: FilesLayout, name: str, data_dir: Path | None) -> Path:
    """The file of one of the source's splits; it may not lie outside the data folder."""
    root = (data_dir or task.folder).resolve()
    path = (root / layout.path.format(split=name)).resolve()
    if data_dir is not None and not path.is_relative_to(root):
        raise ConfigError(f"task '{task.name}': data.files.path '{layout.path}' leaves the data folder {root}")
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        hint = f"{path.parent} holds {', '.join(there)}" if there else f"{path.parent} is not there; --data-dir {root}"
        raise DataError(f"task '{task.name}': no file {path}; {hint}")
    return path


def _parts(spec: str, *, where: str) -> Iterator[tuple[str, slice]]:
    for piece in spec.split("+"):
        match = PART.fullmatch(piece.strip())
        if match is None:
            raise ConfigError(f"{where}: cannot read '{spec}'; write name, name[:100], name[-100:] or a + b")
        start, stop = (int(match[key]) if match[key] else None for key in ("start", "stop"))
        yield match["name"].strip(), slice(start, stop)


def _sliced(rows: Iterator[Row], part: slice) -> Iterator[Row]:
    if part == slice(None, None):
        return rows
    return iter(list(rows)[part])


def open_bytes(path: Path) -> io.BufferedIOBase:
    """The file's bytes, decompressed by its suffix."""
    opened = DECOMPRESS.get(path.suffix, lambda p: p.open("rb"))(path)
    return opened if isinstance(opened, io.BufferedIOBase) else io.BufferedReader(opened)


def suffix_format(path: Path) -> str:
    """The file format that a file's name says, compression aside."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in DECOMPRESS]
    found = suffixes[-1].removeprefix(".") if suffixes else ""
    found = {"json": "jsonl", "ndjson": "jsonl"}.get(found, found)
    if found not in READERS:
        raise ConfigError(f"{path}: {unknown('file format', found, READERS)}; name it with data.files.format")
    return found


def numbered_lines(path: Path, faults: Faults) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1, line ends as they are and a byte-order mark dropped.

    A line that is not UTF-8 is a fault, with a replacement character for what cannot be read; a damaged archive is a
    fault and the end.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    around = line[max(0, error.start - 20) : error.start + 20]
                    faults.add(f"{path}:{number}", "", f"not UTF-8: {around!r}; save the file as UTF-8")
                    text = line.decode(errors="replace")
                yield number, text.removeprefix("\ufeff") if number == 1 else text
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zstandard.ZstdError) as error:
        faults.add(f"{path}:{number + 1}", "", f"the archive is damaged or cut off: {error}")


def read_jsonl(path: Path, faults: Faults) -> Iterator[Row]:
    for number, line in numbered_lines(path, faults):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.add(place, "", f"not valid JSON: {error}")
            continue
        if isinstance(values, dict):
            yield Row(place, values)
        else:
            faults.add(place, "", f"expected a JSON object, got {line.strip()[:60]!r}")


def read_tsv(path: Path, faults: Faults) -> Iterator[Row]:
    """Tab-separated, one row a line, quotes are text."""
    header: list[str] | None = None
    for number, line in numbered_lines(path, faults):
        cells = line.rstrip("\r\n").split("\t")
        if header is None:
            header = _header(path, cells, faults)
        elif cells != [""]:
            yield from _table_row(f"{path}:{number}", header, cells, faults)


def read_csv(path: Path, faults: Faults) -> Iterator[Row]:
    """Comma-separated as in RFC 4180; a quote in the wrong place is a fault, never a merged row."""
    lines = (line.removesuffix("\n").removesuffix("\r") + "\n" for _, line in numbered_lines(path, faults))
    reader = csv.reader(lines, strict=True)
    csv.field_size_limit(2**31 - 1)
    header: list[str] | None = None
    start = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(f"{path}:{start}", "", f"not valid CSV: {error}; double the quotes inside a quoted field")
            cells = []
        place, start = f"{path}:{start}", reader.line_num + 1
        if header is None:
            header = _header(path, cells, faults)
        elif cells:
            yield from _table_row(place, header, cells, faults)


def _header(path: Path, cells: list[str], faults: Faults) -> list[str]:
    for twice in sorted({cell for cell in cells if cells.count(cell) > 1}):
        faults.add(f"{path}:1", twice, "stands twice in the header; give each column a name of its own")
    return cells


def _table_row(place: str, header: list[str], cells: list[str], faults: Faults) -> Iterator[Row]:
    if len(cells) != len(header):
        faults.add(place, "", f"{len(cells)} columns where the header has {len(header)}: {cells!r:.120}")
    else:
        yield Row(place, dict(zip(header, cells, strict=True)))


def read_parquet(path: Path, faults: Faults) -> Iterator[Row]:
    try:
        table = datasets.Dataset.from_parquet(str(path), keep_in_memory=True)
    except Exception as error:  # pyarrow and datasets raise many kinds for a damaged file
        faults.add(str(path), "", f"not a readable Parquet file: {error}")
        return iter(())
    return _dataset_rows(table, str(path))


def read_mtdnn(path: Path, faults: Faults) -> Iterator[Row]:
    """The official MT-DNN code's prepared files: tab-separated, no header, quotes are text.

    A line is ``uid, label, premise[, hypothesis]``, or ``uid, ids, labels, premise, hypothesis, hypothesis, ...`` with
    commas between ids and between labels: then every candidate is a row, and ``group`` is the line's uid.
    """
    for number, line in numbered_lines(path, faults):
        place, cells = f"{path}:{number}", line.rstrip("\r\n").split("\t")
        if len(cells) in (3, 4):
            yield Row(place, dict(zip(MTDNN_COLUMNS, cells, strict=False)))
        elif len(cells) >= 6:
            yield from _candidates(place, cells, faults)
        elif cells != [""]:
            faults.add(place, "", f"{len(cells)} columns; uid, label, premise and hypotheses are 3, 4, or 6 and more")


def _candidates(place: str, cells: list[str], faults: Faults) -> Iterator[Row]:
    group, ids, labels, premise, *hypotheses = cells
    counts = [len(ids.split(",")), len(labels.split(",")), len(hypotheses)]
    if len(set(counts)) > 1:
        faults.add(place, "", f"{counts[0]} ids and {counts[1]} labels for {counts[2]} hypotheses")
        return
    for uid, label, hypothesis in zip(ids.split(","), labels.split(","), hypotheses, strict=True):
        yield Row(place, dict(zip(MTDNN_COLUMNS, (uid, label, premise, hypothesis), strict=True)) | {"group": group})


READERS: dict[str, Callable[[Path, Faults], Iterator[Row]]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "mtdnn": read_mtdnn,
}


def _dataset_rows(table: datasets.Dataset, place: str) -> Iterator[Row]:
    names = {key: f for key, f in table.features.items() if isinstance(f, datasets.ClassLabel)}
    for number, values in enumerate(table, 1):
        decoded = {k: f.int2str(values[k]) for k, f in names.items() if values[k] is not None and values[k] >= 0}
        yield Row(f"{place}:{number}", {**values, **decoded})


def load_hub(layout: HubLayout, split: str) -> datasets.Dataset:
    """One split from the hub, or from the hub's cache on this machine."""
    try:
        with hub_or_cache():
            return datasets.load_dataset(layout.path, layout.name, split=split, revision=layout.revision)
    except Exception as error:  # datasets raises many kinds; all mean that the data is not to be had
        raise DataError(
            f"hub data set '{layout.path}' ({layout.name or 'default'}, split {split}) cannot be loaded: "
            f"{str(error).splitlines()[0][:200]}. With no network, give --data-dir with the task's files"
        ) from error
