"""The one currency of the package, and how an epoch is cut into it.

Shape suffixes: U = units (examples, or groups in ranking), N = rows (token sequences; in ranking more than units),
T = tokens.
"""

import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtdnn.data.tokenize import TEXTS, Positions, TaskSplit

POOL_BATCHES = 50


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Units of one task.

    :param task: the task's name.
    :param uids: the units' names, U of them.
    :param inputs_NT: what the encoder takes: ``input_ids``, ``attention_mask`` (1 at real tokens) and, where the
        tokenizer gives them, ``token_type_ids``; int64, padded on the right.
    :param num_rows_U: rows of each unit, in order; int64.
    :param targets: as the head's ``collate`` makes them; None for unlabelled data.
    :param tokens_NT: the head's ``token_columns``; int64, -1 at padding and at tokens that have none.
    :param texts: of each unit its rows' texts, where the head keeps them; else empty.
    """

    task: str
    uids: tuple[str, ...]
    inputs_NT: dict[str, Tensor]
    num_rows_U: Tensor
    targets: Tensor | None = None
    tokens_NT: dict[str, Tensor] = field(default_factory=dict)
    texts: Sequence[Sequence[Sequence[str | None]]] = ()

    @property
    def num_units(self) -> int:
        return len(self.uids)

    @property
    def mask_NT(self) -> Tensor:
        return self.inputs_NT["attention_mask"]

    @property
    def row_names(self) -> list[str]:
        """A name for each row that does not depend on the batch it is in: it keys the row's noise."""
        counts = self.num_rows_U.tolist()
        return [f"{uid}/{row}" for uid, count in zip(self.uids, counts, strict=True) for row in range(count)]

    def to(self, device: torch.device) -> "Batch":
        return replace(
            self,
            inputs_NT={name: value.to(device, non_blocking=True) for name, value in self.inputs_NT.items()},
            num_rows_U=self.num_rows_U.to(device),
            targets=None if self.targets is None else self.targets.to(device),
            tokens_NT={name: value.to(device, non_blocking=True) for name, value in self.tokens_NT.items()},
        )


def make_batch(data: TaskSplit, indices: Positions, head: Any, *, pad_id: int) -> Batch:
    """The units at ``indices``, padded to their longest row."""
    units = data.units(indices)
    names = ("input_ids", "token_type_ids", *head.token_columns)
    rows, types, *own = ([row for unit in units[name] for row in unit] for name in names)
    labelled = all(len(targets) for targets in units["targets"])
    return Batch(
        task=data.task,
        uids=tuple(units["uid"]),
        inputs_NT=pad_rows(rows, types, pad_id=pad_id),
        num_rows_U=torch.tensor(units["num_rows"], dtype=torch.int64),
        targets=head.collate(units["targets"]) if labelled else None,
        tokens_NT=pad_columns(dict(zip(head.token_columns, own, strict=True))),
        texts=units.get(TEXTS, ()),
    )


def pad_rows(rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]], *, pad_id: int) -> dict[str, Tensor]:
    """Token ids, mask and (if there are any) token types as (N, T) tensors, padded on the right."""
    real_NT = real_tokens(rows)
    inputs = {"input_ids": filled(rows, pad_id, real_NT), "attention_mask": torch.from_numpy(real_NT.astype(np.int64))}
    return inputs | ({"token_type_ids": filled(types, 0, real_NT)} if types else {})


def pad_columns(columns: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, Tensor]:
    """Numbers of each token as (N, T) tensors, -1 at padding."""
    return {name: filled(rows, -1, real_tokens(rows)) for name, rows in columns.items()}


def real_tokens(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """False at padding: (N, T)."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return np.asarray(np.arange(lengths.max()) < lengths[:, None])


def filled(values: Sequence[Sequence[int]], padding: int, real_NT: np.ndarray) -> Tensor:
    """The values at the real tokens: (N, T), int64."""
    padded_NT = np.full(real_NT.shape, padding, np.int64)
    padded_NT[real_NT] = np.fromiter(chain.from_iterable(values), np.int64, int(real_NT.sum()))
    return torch.from_numpy(padded_NT)


def epoch_batches(data: TaskSplit, *, batch_size: int, seed: str, buckets: bool = True) -> list[np.ndarray]:
    """One pass over the units, reshuffled by ``seed``, each exactly once.

    With ``buckets``, units of like length share a batch: the shuffled units are sorted inside pools of
    :data:`POOL_BATCHES` batches (fewer in a small set, so that batches keep changing their members), and the batches
    are shuffled.

    :param batch_size: rows of a batch; a ranking group stays whole, and one larger than this is a batch of its own.
    """
    rng = random.Random(seed)
    shuffled = array("q", range(len(data)))
    rng.shuffle(shuffled)
    order = np.frombuffer(shuffled, np.int64)
    rows = data.num_rows
    if buckets:
        num_batches = max(1, int(rows.sum()) // batch_size)
        pool = max(1, min(POOL_BATCHES, num_batches // 4) * len(order) // num_batches)
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        order = np.concatenate([each[np.argsort(data.lengths[each], kind="stable")] for each in pools])
    batches = pack(order, rows, batch_size)
    rng.shuffle(batches)
    return batches


def count_batches(data: TaskSplit, *, batch_size: int, seed: str, buckets: bool = True) -> int:
    """How many batches :func:`epoch_batches` makes; it need not make them where every unit is one row."""
    if data.num_rows.max() == 1:
        return -(-len(data) // batch_size)
    return len(epoch_batches(data, batch_size=batch_size, seed=seed, buckets=buckets))


def pack(order: np.ndarray, rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut ``order`` into batches of at most ``batch_size`` rows, units whole."""
    if rows.max() == 1:
        cuts = list(range(0, len(order), batch_size))
    else:
        cuts, total = [0], 0
        for place, count in enumerate(rows[order].tolist()):
            if place > cuts[-1] and total + count > batch_size:
                cuts.append(place)
                total = 0
            total += count
    return [order[start:stop] for start, stop in zip(cuts, [*cuts[1:], len(order)], strict=True)]


def sorted_batches(data: TaskSplit, *, batch_size: int) -> list[np.ndarray]:
    """Every unit once, longest first: for evaluation, where order does not matter and padding is waste."""
    return pack(np.argsort(-data.lengths, kind="stable"), data.num_rows, batch_size)
