"""The data of an experiment: every split checked and tokenised once, and what of it each cell trains on."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from mtdnn.config import ExperimentConfig
from mtdnn.data.sources import Source, find_source
from mtdnn.data.subsample import fraction_size, prefix, seeded_order
from mtdnn.data.tokenize import TaskSplit, load_split
from mtdnn.errors import DataError, faults_of
from mtdnn.heads.base import Head, build_head
from mtdnn.pretrained import tokenizer_of
from mtdnn.tasks import SPLITS, Split, TaskRegistry

EVALUATED: tuple[Split, ...] = ("validation", "test")


class DataStore:
    """Every split of every task of an experiment, tokenised on demand and kept."""

    def __init__(self, config: ExperimentConfig, registry: TaskRegistry, *, data_dir: Path | None):
        self.config, self.registry, self.data_dir = config, registry, data_dir
        self._splits: dict[tuple[str, str], TaskSplit] = {}

    @cached_property
    def tokenizer(self) -> Any:
        return tokenizer_of(self.config.encoder)

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
                self.source(task, split), self.head(task), self.tokenizer, max_length=self.config.encoder.max_length
            )
        return self._splits[task, split]

    def labelled(self, task: str, split: str) -> bool:
        """Whether the layout at hand declares the split, with labels."""
        wanted = self.layout(task) or ("files" if self.data_dir and self.registry[task].data.files else None)
        layout = self.registry[task].layout(wanted)
        return split in layout.splits and split not in layout.unlabelled

    def check(self, names: Sequence[str]) -> None:
        """Read every split of these tasks, so that all bad rows are named before anything is trained."""
        faults: list[str] = []
        for task in names:
            for split in SPLITS:
                if self.labelled(task, split):
                    faults += faults_of(partial(self.split, task, split))
        if faults:
            raise DataError("\n".join(faults))

    @cached_property
    def held_out(self) -> set[str]:
        """Text pairs of the validation and test splits of all tasks of the experiment."""
        return {
            key
            for task in self.config.tasks()
            for split in EVALUATED
            if self.labelled(task, split)
            for keys in self.split(task, split).pair_keys
            for key in keys
        }

    @cached_property
    def held_out_digest(self) -> str:
        return digest(sorted(self.held_out))

    def train(
        self, task: str, *, fraction: float | None, max_rows: int | None, seed: int
    ) -> tuple[TaskSplit, dict[str, int]]:
        """The training units of a cell, and how many rows were left out why."""
        data, head = self.split(task, "train"), self.head(task)
        cut = data.for_training(head, seed=seed)
        rows, kept = data.num_rows, cut.num_rows
        chosen = [i for i, targets in enumerate(data.targets) if head.trainable(targets)]
        counts = {"rows": int(rows.sum()), "truncated": data.facts.truncated}
        counts["without_loss"] = counts["rows"] - int(rows[chosen].sum())
        order = seeded_order(data.uids, head.strata(data.targets), seed=seed)
        if fraction is not None:
            full = self.registry[task].data.full_size
            size = fraction_size(fraction, full_size=full, available=data.facts.counts.available, task=task)
            chosen = _among(prefix(order, rows.tolist(), size), chosen)
        if self.config.data.drop_leaks:
            clean = [i for i in chosen if not self.held_out.intersection(data.pair_keys[i])]
            counts["leaks_dropped"] = int(rows[chosen].sum() - rows[clean].sum())
            chosen = clean
        if max_rows is not None:
            chosen = prefix(_among(order, chosen), kept.tolist(), max_rows)
        if not chosen:
            raise DataError(f"task '{task}': nothing is left to train on ({counts})")
        counts["candidates_cut"] = int(rows[chosen].sum() - kept[chosen].sum())
        counts["trained_on"] = int(kept[chosen].sum())
        return cut.select(sorted(chosen)), counts


def _among(order: Sequence[int], allowed: Sequence[int]) -> list[int]:
    keep = set(allowed)
    return [index for index in order if index in keep]


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
