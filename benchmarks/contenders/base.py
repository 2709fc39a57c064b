"""What every contender is: a model, its optimizer, and a step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from benchmarks.measure import timed
from mtdnn.data.batch import Batch

LEARNING_RATE, MAX_NORM = 1e-6, 1.0


class Training(ABC):
    """Optimizer steps on given batches."""

    def seconds(self, batches: Sequence[Batch]) -> float:
        return timed(lambda: [self.step(batch) for batch in batches])()

    @abstractmethod
    def step(self, batch: Batch) -> None:
        """One optimizer step."""


class Loop(Training):
    """A fine-tuning loop as it is commonly written: loss, backward, clipping, AdamW.

    :param precision: ``fp32``, or ``bf16`` by autocast.
    :param fused: the optimizer's fused form, which is not torch's default on every device.
    """

    def __init__(self, model: nn.Module, *, precision: str, fused: bool = False):
        self.model = model.train()
        self.autocast = precision == "bf16"
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=fused or None)

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """What is back-propagated."""

    def step(self, batch: Batch) -> None:
        with self.lower_precision(batch):
            loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def lower_precision(self, batch: Batch) -> AbstractContextManager[None]:
        return torch.autocast(batch.mask_NT.device.type, dtype=torch.bfloat16, enabled=self.autocast)
