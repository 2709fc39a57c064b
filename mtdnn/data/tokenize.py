"""Checked units -> token ids in a memory-mapped Arrow file, made once and found again by content.

The key covers everything that can change the file: the bytes of the source, the task's reading rules, the tokenizer,
the length limit and this module's format version. A file is written under a temporary name and renamed when complete.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from mtdnn.data.sources import Source
from mtdnn.data.units import Counts, TargetRules, Unit, read_units

FORMAT = 1
ROWS_AT_ONCE = 2000
ROW_COLUMNS = ("input_ids", "token_type_ids", "targets")
SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("input_ids", pa.list_(pa.list_(pa.int32()))),
        ("token_type_ids", pa.list_(pa.list_(pa.int8()))),
        ("targets", pa.list_(pa.float64())),
        ("pair_keys", pa.list_(pa.string())),
        ("num_rows", pa.int32()),
        ("length", pa.int32()),
    ]
)


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one tokenised split, kept beside it.

    :param truncated: rows that were longer than the limit and lost tokens.
    """

    counts: Counts
    truncated: int
    content_hash: str


@dataclass(frozen=True)
class TaskSplit:
    """One tokenised split. A unit is an example, or in ranking a group; its rows are token sequences.

    :param kept: positions of the rows of each unit that are used; None for all.
    """

    task: str
    split: str
    table: datasets.Dataset
    facts: SplitFacts
    kept: Sequence[Sequence[int]] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def select(self, indices: Sequence[int]) -> "TaskSplit":
        kept = None if self.kept is None else [self.kept[index] for index in indices]
        return replace(self, table=self.table.select(indices), kept=kept)

    def for_training(self, rules: TargetRules, *, seed: int) -> "TaskSplit":
        """The same units, each with only those rows that training uses."""
        named = zip(self.uids, self.targets, strict=True)
        return replace(self, kept=[rules.keep_rows(targets, key=f"{seed}/{uid}") for uid, targets in named])

    def units(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """Columns of some units."""
        units: dict[str, list[Any]] = self.table[list(indices)]
        if self.kept is not None:
            kept = [self.kept[index] for index in indices]
            for name in ROW_COLUMNS:
                units[name] = [
                    [rows[k] for k in keep] if rows else [] for rows, keep in zip(units[name], kept, strict=True)
                ]
            units["num_rows"] = [len(keep) for keep in kept]
        return units

    def column(self, name: str) -> Any:
        return self.table.with_format("arrow")[:][name]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of the longest row of each unit."""
        return np.asarray(self.column("length"))

    @cached_property
    def num_rows(self) -> np.ndarray:
        """Rows of each unit: 1, or in ranking the number of candidates."""
        if self.kept is not None:
            return np.asarray([len(keep) for keep in self.kept])
        return np.asarray(self.column("num_rows"))

    @cached_property
    def uids(self) -> list[str]:
        return [str(uid) for uid in self.column("uid").to_pylist()]

    @cached_property
    def targets(self) -> list[list[float]]:
        return list(self.column("targets").to_pylist())

    @cached_property
    def pair_keys(self) -> list[list[str]]:
        return list(self.column("pair_keys").to_pylist())


def cache_dir() -> Path:
    """Where tokenised data lies: ``MTDNN_CACHE``, or ``~/.cache/mtdnn``."""
    return Path(os.environ.get("MTDNN_CACHE", "~/.cache/mtdnn")).expanduser()


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what decides the token ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(f"{type(tokenizer).__name__}{text}".encode()).hexdigest()


def load_split(source: Source, rules: TargetRules, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> TaskSplit:
    """The tokenised split, from the cache when it is there.

    :param max_length: tokens of a row, special tokens included; longer pairs lose the end of their longer text.
    :raises DataError: naming every bad row of the split.
    """
    content_hash = source.content_hash()
    key = cache_key(source, tokenizer, max_length=max_length, content_hash=content_hash)
    folder = cache_dir() / f"{source.task.name}-{source.split}-{key[:24]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _build(folder, source, rules, tokenizer, max_length, content_hash)
    facts = json.loads((folder / "facts.json").read_text())
    table = datasets.Dataset.from_file(str(folder / "units.arrow"))
    counts = Counts(**facts.pop("counts"))
    return TaskSplit(source.task.name, source.split, table, SplitFacts(counts=counts, **facts))


def cache_key(source: Source, tokenizer: PreTrainedTokenizerBase, *, max_length: int, content_hash: str) -> str:
    task = source.task
    rules = {
        "kind": task.kind,
        "inputs": task.columns(source.layout).model_dump(),
        "layout": source.layout.model_dump(),
        "target": task.target,
        "labels": task.label_words,
        "range": task.range,
        "groups": task.groups.model_dump() if task.groups else None,
        "head": task.head,
        "split": source.split,
    }
    parts = [FORMAT, content_hash, rules, tokenizer_hash(tokenizer), max_length]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _build(
    folder: Path, source: Source, rules: TargetRules, tokenizer: Any, max_length: int, content_hash: str
) -> None:
    units, counts = read_units(source, rules)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        truncated = 0
        with pa.OSFile(str(staged / "units.arrow"), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
            for some in _chunks(units):
                columns, cut = _tokenised(some, tokenizer, max_length)
                truncated += cut
                writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=SCHEMA))
        facts = SplitFacts(counts=counts, truncated=truncated, content_hash=content_hash)
        (staged / "facts.json").write_text(json.dumps(asdict(facts)))
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _chunks(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    chunk: list[Unit] = []
    rows = 0
    for unit in units:
        chunk.append(unit)
        rows += len(unit.texts)
        if rows >= ROWS_AT_ONCE:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


def _tokenised(units: Sequence[Unit], tokenizer: Any, max_length: int) -> tuple[dict[str, list[Any]], int]:
    rows = [texts for unit in units for texts in unit.texts]
    encoded = encode_texts(tokenizer, rows, max_length=max_length)
    ids, types = encoded["input_ids"], encoded.get("token_type_ids")
    columns: dict[str, list[Any]] = {field.name: [] for field in SCHEMA}
    start = 0
    for unit in units:
        stop = start + len(unit.texts)
        columns["uid"].append(unit.uid)
        columns["input_ids"].append(ids[start:stop])
        columns["token_type_ids"].append(types[start:stop] if types is not None else [])
        columns["targets"].append(unit.targets)
        columns["pair_keys"].append(unit.pair_keys())
        columns["num_rows"].append(stop - start)
        columns["length"].append(max(len(row) for row in ids[start:stop]))
        start = stop
    return columns, _truncated(encoded, max_length)


def encode_texts(tokenizer: Any, rows: Sequence[tuple[str, str | None]], *, max_length: int) -> Any:
    """Token ids of single texts or pairs, unpadded."""
    first = [a for a, _ in rows]
    second = [b or "" for _, b in rows] if rows[0][1] is not None else None
    return tokenizer(first, second, truncation=True, max_length=max_length, padding=False)


def _truncated(encoded: Any, max_length: int) -> int:
    if encoded.encodings is not None:
        return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    return sum(len(row) >= max_length for row in encoded["input_ids"])
