"""The batches of a training in their order, made in this process or ahead of it in others."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mtdnn.data.batch import Batch, make_batch
from mtdnn.data.tokenize import TaskSplit


@dataclass(frozen=True)
class StepBatches(Dataset[list[Batch | None]]):
    """The micro-batches of each step.

    :param steps: (task, units) of each micro-batch; None stands for one without units.
    """

    data: Mapping[str, TaskSplit]
    heads: Mapping[str, Any]
    steps: Sequence[Sequence[tuple[str, Sequence[int]]]]
    pad_id: int

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> list[Batch | None]:
        return [
            make_batch(self.data[task], units, self.heads[task], pad_id=self.pad_id) if units else None
            for task, units in self.steps[index]
        ]


def in_order(batches: StepBatches, *, num_workers: int) -> Generator[list[Batch | None]]:
    """Every step's batches, in order; closing it ends the processes.

    :param num_workers: processes that make them ahead; 0 for none.
    """
    own = torch.Generator()  # else the loader draws from torch's own, which is the training's
    yield from DataLoader(batches, batch_size=None, num_workers=num_workers, generator=own, collate_fn=unchanged)


def unchanged(batches: list[Batch | None]) -> list[Batch | None]:
    return batches
