"""The data of an experiment: every split checked and tokenised once, and what of it each cell trains on."""

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn.config import ExperimentConfig
from mtdnn.data.rows import Fault, Row
from mtdnn.data.sources import Source, find_source
from mtdnn.data.subsample import fraction_size, prefix, seeded_order
from mtdnn.data.tokenize import TaskSplit, load_split, tokenizer_hash
from mtdnn.data.units import Reject, UnitReader
from mtdnn.errors import DataError
from mtdnn.heads.base import Head, build_head
from mtdnn.pretrained import tokenizer_of
from mtdnn.tasks import SPLITS, Split, TaskRegistry

log = logging.getLogger(__name__)
EVALUATED: tuple[Split, ...] = ("validation", "test")


class DataStore:
    """Every split of every task of an experiment, tokenised on demand and kept."""

    def __init__(self, config: ExperimentConfig, registry: TaskRegistry, *, data_dir: Path | None):
        self.config, self.registry, self.data_dir = config, registry, data_dir
        self._splits: dict[tuple[str, str], TaskSplit] = {}

    @cached_property
    def tokenizer(self) -> Any:
        return tokenizer_of(self.config.encoder)

    @cached_property
    def tokenizer_hash(self) -> str:
        return tokenizer_hash(self.tokenizer)

    def head(self, task: str) -> Head:
        return build_head(self.registry[task])

    def source(self, task: str, split: str) -> Source:
        return find_source(self.registry[task], split, layout=self.layout(task), data_dir=self.data_dir)

    def layout(self, task: str) -> str | None:
        wanted = self.config.data.layout
        return wanted if wanted and getattr(self.registry[task].data, wanted) is not None else None

    def split(self, task: str, split: str) -> TaskSplit:
        if (task, split) not in self._splits:
            self._splits[task, split] = load_split(
                self.source(task, split),
                self.head(task),
                self.tokenizer,
                max_length=self.config.encoder.max_length,
                bad_rows=self.config.data.bad_rows,
                known_tokenizer=self.tokenizer_hash,
            )
        return self._splits[task, split]

    def read(self, task: str, split: str, *, reject: Reject | None = None) -> UnitReader:
        """The split's units with their texts, read from the source."""
        return UnitReader(self.source(task, split), self.head(task), bad_rows=self.config.data.bad_rows, reject=reject)

    def write_rejected(self, task: str, split: str, folder: Path) -> None:
        """The bad rows that were skipped, with what is wrong with them: ``<folder>/<task>-<split>.jsonl``."""
        path = folder / f"{task}-{split}.jsonl"
        if not self.split(task, split).facts.counts.rejected:
            path.unlink(missing_ok=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:

            def reject(row: Row, faults: Sequence[Fault]) -> None:
                file.write(json.dumps(row.rejection(faults), ensure_ascii=False, default=repr) + "\n")

            for _ in self.read(task, split, reject=reject):
                pass
        log.warning("task '%s', %s: bad rows are left out; see %s", task, split, path)

    def labelled(self, task: str, split: str) -> bool:
        """Whether the layout at hand declares the split, with labels."""
        wanted = self.layout(task) or ("files" if self.data_dir and self.registry[task].data.files else None)
        layout = self.registry[task].layout(wanted)
        return split in layout.splits and split not in layout.unlabelled

    def splits(self, task: str) -> list[Split]:
        """The labelled splits that the experiment reads: of a task that is only evaluated not the training split."""
        wanted = SPLITS if task in self.config.trained_tasks() else EVALUATED
        return [split for split in wanted if self.labelled(task, split)]

    def judged(self, task: str) -> list[Split]:
        """The splits that a model of the task is evaluated on."""
        return [split for split in EVALUATED if split in self.config.data.eval_splits and self.labelled(task, split)]

    def check(self, names: Sequence[str]) -> None:
        """Read every split of these tasks that is needed, so that all bad rows are named before anything is trained.

        :raises ConfigError: at once, for a definition that does not fit its data.
        """
        faults: list[str] = []
        for task, split in [(name, split) for name in names for split in self.splits(name)]:
            try:
                self.split(task, split)
            except DataError as error:
                faults.append(str(error))
        if faults:
            raise DataError("\n".join(faults))

    @cached_property
    def held_out(self) -> np.ndarray:
        """Keys of the text pairs of the validation and test splits of all tasks of the experiment, sorted: uint64."""
        keys = [
            self.split(task, split).pair_keys.values_V
            for task in self.config.tasks()
            for split in EVALUATED
            if self.labelled(task, split)
        ]
        return np.unique(np.concatenate(keys)) if keys else np.empty(0, np.uint64)

    @cached_property
    def held_out_digest(self) -> str:
        return digest([f"{key:016x}" for key in self.held_out.tolist()])

    def train(
        self, task: str, *, fraction: float | None, max_rows: int | None, seed: int
    ) -> tuple[TaskSplit, dict[str, int]]:
        """The training units of a cell, and how many rows were left out why."""
        data, head = self.split(task, "train"), self.head(task)
        cut = data.for_training(head, seed=seed)
        rows, kept = data.num_examples, cut.num_examples
        allowed = np.fromiter(map(head.trainable, data.targets), bool, len(data))
        counts = {"rows": int(rows.sum()), "truncated": data.facts.truncated}
        if data.facts.counts.rejected:
            counts["rejected"] = data.facts.counts.rejected
        counts["without_loss"] = counts["rows"] - int(rows[allowed].sum())
        order = np.arange(len(data))
        if fraction is not None or max_rows is not None:
            order = seeded_order(data.names(), head.strata(data.targets), seed=seed)
        if fraction is not None:
            full = self.registry[task].data.full_size
            size = fraction_size(fraction, full_size=full, available=data.facts.counts.available, task=task)
            order = prefix(order, rows, size)
        order = order[allowed[order]]
        if self.config.data.drop_leaks:
            keys = data.pair_keys
            leaked = keys.any(np.isin(keys.values_V, self.held_out))
            clean = order[~leaked[order]]
            counts["leaks_dropped"] = int(rows[order].sum() - rows[clean].sum())
            order = clean
        if max_rows is not None and len(order):
            order = prefix(order, kept, max_rows)
        if not len(order):
            raise DataError(f"task '{task}': nothing is left to train on ({counts})")
        counts["candidates_cut"] = int(rows[order].sum() - kept[order].sum())
        counts["trained_on"] = int(kept[order].sum())
        return (cut if len(order) == len(data) else cut.select(np.sort(order))), counts


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
