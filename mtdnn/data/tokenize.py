"""Checked units -> token ids in a memory-mapped Arrow file, made once and found again by content.

The key covers everything that can change the file: the bytes of the source, the task's reading rules, the tokenizer,
the length limit and this module's format version.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from mtdnn.data.cache import UNITS, Entry, SplitFacts, cache_dir
from mtdnn.data.ragged import Ragged, hexadecimal, list_sizes, of_arrow
from mtdnn.data.rows import BadRows
from mtdnn.data.sources import Source
from mtdnn.data.units import TargetRules, Texts, Unit, UnitReader

if TYPE_CHECKING:  # they take a second to import, and what reads batches needs neither
    import datasets
    from transformers import PreTrainedTokenizerBase

FORMAT = 2
A = TypeVar("A")
B = TypeVar("B")
Positions = Sequence[int] | np.ndarray
ROWS_AT_ONCE = 2000
ROW_COLUMNS = ("input_ids", "token_type_ids", "targets")
TEXTS = "texts"
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
class Encoded:
    """Tokenised texts, unpadded.

    :param num_rows: rows of each text or pair, in order: 1, or as many as its windows.
    :param truncated: rows that lost tokens.
    :param pieces: what a fast tokenizer tells of each row's tokens: offsets and whose they are; None of a slow one.
    """

    input_ids: Sequence[Sequence[int]]
    token_type_ids: Sequence[Sequence[int]] | None
    num_rows: np.ndarray
    truncated: int
    pieces: Sequence[Any] | None


class RowRules(TargetRules, Protocol):
    """What a kind of task says about its rows of tokens; every head is one.

    :cvar token_columns: numbers that the head wants of each token, by name.
    :cvar keeps_texts: whether it wants the texts themselves.
    :cvar chooses_rows: whether training may use only some of a unit's rows, each of which has then one target.
    """

    token_columns: ClassVar[tuple[str, ...]]
    keeps_texts: ClassVar[bool]
    chooses_rows: ClassVar[bool]

    def keep_rows(self, targets: Sequence[float], *, key: str) -> list[int]:
        """The rows of a unit that training uses; ``key`` seeds any choice."""

    def encode(self, tokenizer: Any, texts: Sequence[Texts], *, max_length: int) -> Encoded:
        """The rows of some texts."""

    def columns(self, encoded: Encoded, texts: Sequence[Texts]) -> dict[str, list[list[int]]]:
        """The ``token_columns`` of each row, -1 at tokens that have none."""


@dataclass(frozen=True, eq=False)
class TaskSplit:
    """One tokenised split. A unit is an example, or in ranking a group; its rows are token sequences.

    What is asked of all units comes as arrays; only the units of a batch become Python objects.

    :param table: the units as they lie in the cache, mapped and not read.
    :param chosen: which of them, in order; None for all.
    :param kept: positions of the rows of each chosen unit that are used; None for all.
    """

    task: str
    split: str
    table: "datasets.Dataset"
    facts: SplitFacts
    chosen: np.ndarray | None = None
    kept: Ragged | None = None

    def __len__(self) -> int:
        return len(self.table) if self.chosen is None else len(self.chosen)

    def select(self, indices: Positions) -> "TaskSplit":
        indices = np.asarray(indices, np.int64)
        chosen = indices if self.chosen is None else self.chosen[indices]
        return replace(self, chosen=chosen, kept=None if self.kept is None else self.kept.select(indices))

    def for_training(self, rules: RowRules, *, seed: int) -> "TaskSplit":
        """The same units, each with only those rows that training uses; a single row always is."""
        if not rules.chooses_rows or self.num_rows.max() == 1:
            return self
        named = zip(self.names(), self.targets, strict=True)
        kept = (rules.keep_rows(targets, key=f"{seed}/{uid}") for uid, targets in named)
        return replace(self, kept=Ragged.of(kept, dtype=np.int32))

    def units(self, indices: Positions) -> dict[str, list[Any]]:
        """Columns of some units."""
        indices = np.asarray(indices, np.int64)
        units: dict[str, list[Any]] = self.table[(indices if self.chosen is None else self.chosen[indices]).tolist()]
        if self.kept is not None:
            kept = [self.kept[index] for index in indices]
            for name in (*ROW_COLUMNS, *(set(units) - set(SCHEMA.names))):
                units[name] = [
                    [rows[k] for k in keep] if rows else [] for rows, keep in zip(units[name], kept, strict=True)
                ]
            units["num_rows"] = [len(keep) for keep in kept]
        return units

    def _column(self, name: str) -> pa.ChunkedArray:
        """A column of all units, mapped."""
        return self.table.data.column(name)

    def _chosen(self, values: Any) -> Any:
        return values if self.chosen is None else values[self.chosen]

    def _lists(self, name: str, values: Any) -> Ragged:
        lists = of_arrow(self._column(name), values)
        return lists if self.chosen is None else lists.select(self.chosen)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of the longest row of each unit."""
        return np.asarray(self._chosen(self._column("length").to_numpy()))

    @cached_property
    def num_rows(self) -> np.ndarray:
        """Rows of each unit: 1, in ranking the number of candidates, or the windows of a long text."""
        if self.kept is not None:
            return self.kept.sizes_U
        return np.asarray(self._chosen(self._column("num_rows").to_numpy()))

    @cached_property
    def num_examples(self) -> np.ndarray:
        """Rows of the data file that each unit uses: 1, or in ranking the number of candidates."""
        if self.kept is not None:
            return self.kept.sizes_U
        return np.asarray(self._chosen(np.concatenate([list_sizes(c) for c in self._column("pair_keys").chunks])))

    def texts(self) -> Iterator[Sequence[Sequence[str | None]]]:
        """Each unit's texts, where its head keeps them; else nothing of each."""
        if TEXTS not in self.table.column_names:
            return (() for _ in range(len(self)))
        column = self._column(TEXTS)
        chosen = range(len(self.table)) if self.chosen is None else self.chosen
        return (column[int(index)].as_py() for index in chosen)

    def names(self) -> Iterator[str]:
        """The units' uids, a chunk of them at a time."""
        column = self._column("uid")
        if self.chosen is None:
            return (str(uid) for chunk in column.chunks for uid in chunk.to_pylist())
        return (column[int(index)].as_py() for index in self.chosen)

    @property
    def uids(self) -> list[str]:
        return list(self.names())

    @property
    def targets(self) -> Ragged:
        return self._lists("targets", lambda values: values.to_numpy())

    @property
    def pair_keys(self) -> Ragged:
        """:func:`mtdnn.data.units.pair_key` of each row, as a number."""
        return self._lists("pair_keys", hexadecimal)


def tokenizer_hash(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of what decides the token ids, whatever the tokenizer was used for before."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    for passing in ("truncation", "padding"):  # as the last call left them
        content.pop(passing, None)
    return hashlib.sha256(f"{type(tokenizer).__name__}{json.dumps(content, sort_keys=True)}".encode()).hexdigest()


def tokenizer_name(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A tokenizer in words, the same for equal ones alone."""
    return f"{type(tokenizer).__name__} of {len(tokenizer)} tokens ({tokenizer_hash(tokenizer)[:16]})"


def load_split(
    source: Source,
    rules: RowRules,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    bad_rows: BadRows = "stop",
    known_tokenizer: str | None = None,
) -> TaskSplit:
    """The tokenised split, from the cache when it is there.

    :param max_length: tokens of a row, special tokens included; longer pairs lose the end of their longer text.
    :param bad_rows: ``skip`` leaves bad rows out, counted.
    :param known_tokenizer: the tokenizer's :func:`tokenizer_hash`, where it was taken already.
    :raises DataError: naming every bad row of the split, unless they are skipped.
    """
    content_hash = source.content_hash()
    known_tokenizer = known_tokenizer or tokenizer_hash(tokenizer)
    key = cache_key(source, known_tokenizer, max_length=max_length, content_hash=content_hash)
    entry = Entry(cache_dir() / f"{source.task.name}-{source.split}-{key[:24]}", skips=bad_rows == "skip")

    def build(staged: Path) -> SplitFacts:
        reader = UnitReader(source, rules, bad_rows=bad_rows)
        truncated = 0
        work = partial(_tokenised, rules=rules, tokenizer=tokenizer, max_length=max_length)
        with pa.OSFile(str(staged / UNITS), "wb") as file, pa.ipc.new_stream(file, schema_of(rules)) as writer:
            for made, cut in ahead(work, _chunks(reader)):
                writer.write_batch(made)
                truncated += cut
        return SplitFacts(counts=reader.counts, truncated=truncated, content_hash=content_hash)

    folder, facts = entry.get(build)
    import datasets

    return TaskSplit(source.task.name, source.split, datasets.Dataset.from_file(str(folder / UNITS)), facts)


def cache_key(source: Source, tokenizer: str, *, max_length: int, content_hash: str) -> str:
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
    parts = [FORMAT, content_hash, rules, tokenizer, max_length]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def ahead(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """``work`` of each item, in order: done in a thread while the next item is fetched."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: Future[B] | None = None
        for item in items:
            begun = pool.submit(work, item)
            if waiting is not None:
                yield waiting.result()
            waiting = begun
        if waiting is not None:
            yield waiting.result()


def _chunks(units: Iterable[Unit]) -> Iterator[list[Unit]]:
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


def schema_of(rules: RowRules) -> pa.Schema:
    """The columns of a cached split: those of every kind of task, and what this one wants beside them."""
    own = [(name, pa.list_(pa.list_(pa.int32()))) for name in rules.token_columns]
    texts = [(TEXTS, pa.list_(pa.list_(pa.string())))] if rules.keeps_texts else []
    return pa.schema([*SCHEMA, *own, *texts])


def _tokenised(units: Sequence[Unit], rules: RowRules, tokenizer: Any, max_length: int) -> tuple[pa.RecordBatch, int]:
    """Units as they lie in the cache, and how many of their rows were cut."""
    texts = [texts for unit in units for texts in unit.texts]
    encoded = rules.encode(tokenizer, texts, max_length=max_length)
    ids, types = encoded.input_ids, encoded.token_type_ids
    examples, lengths = np.array([len(unit.texts) for unit in units]), np.array([len(row) for row in ids])
    sizes = np.add.reduceat(encoded.num_rows, _offsets(examples)[:-1])
    rows, tokens = _offsets(sizes), _offsets(lengths)

    def nested(values: Sequence[Sequence[int]], kind: type) -> pa.Array:
        flat = pa.array(np.fromiter(chain.from_iterable(values), kind))
        return pa.ListArray.from_arrays(rows, pa.ListArray.from_arrays(tokens, flat))

    columns: dict[str, Any] = {
        "uid": [unit.uid for unit in units],
        "input_ids": nested(ids, np.int32),
        "token_type_ids": [[] for _ in units] if types is None else nested(types, np.int8),
        "targets": [unit.targets for unit in units],
        "pair_keys": [unit.pair_keys() for unit in units],
        "num_rows": sizes.astype(np.int32),
        "length": np.maximum.reduceat(lengths, rows[:-1]).astype(np.int32),
        **{name: nested(values, np.int32) for name, values in rules.columns(encoded, texts).items()},
        **({TEXTS: [unit.texts for unit in units]} if rules.keeps_texts else {}),
    }
    return pa.RecordBatch.from_pydict(columns, schema=schema_of(rules)), encoded.truncated


def _offsets(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], sizes.cumsum()]).astype(np.int32)


def encode_texts(tokenizer: Any, rows: Sequence[Texts], *, max_length: int) -> Any:
    """Token ids of single texts or pairs, unpadded."""
    first = [a for a, _ in rows]
    second = [b or "" for _, b in rows] if rows[0][1] is not None else None
    return tokenizer(first, second, truncation=True, max_length=max_length, padding=False)


def encode_whole(tokenizer: Any, rows: Sequence[Texts], *, max_length: int) -> Encoded:
    """Each text or pair as one row; a longer one loses the end of its longer text."""
    found = encode_texts(tokenizer, rows, max_length=max_length)
    return Encoded(
        input_ids=found["input_ids"],
        token_type_ids=found.get("token_type_ids"),
        num_rows=np.ones(len(rows), np.int64),
        truncated=_truncated(found, max_length),
        pieces=found.encodings,
    )


def _truncated(encoded: Any, max_length: int) -> int:
    if encoded.encodings is not None:
        return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    return sum(len(row) >= max_length for row in encoded["input_ids"])
