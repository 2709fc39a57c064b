"""Several processes that train one model (``torchrun``): each takes a share of every batch's units.

accelerate starts the processes' group and knows their devices; gradients are summed here, once a step, because an
objective may back-propagate several passes through one batch and a task's head may have no gradient on some of them.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtdnn.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    :param rank: from 0; the first one writes what is written.
    """

    rank: int = 0
    count: int = 1

    @property
    def alone(self) -> bool:
        return self.count == 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of a batch's units: every ``count``-th."""
        return list(items[self.rank :: self.count])

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Give every process the sum of all; a weight without a gradient anywhere stays without."""
        if self.alone:
            return
        weights = [weight for weight in weights if weight.requires_grad]
        there = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.uint8)
        used = [weight for weight, count in zip(weights, self._summed(there).tolist(), strict=True) if count]
        for weight in used:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        flat = self._summed(torch.cat([weight.grad.reshape(-1) for weight in used if weight.grad is not None]))
        for weight, total in zip(used, flat.split([weight.numel() for weight in used]), strict=True):
            weight.grad = total.view_as(weight)

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over the processes."""
        return values if self.alone else self._summed(values)

    def gather(self, items: Sequence[T]) -> list[T]:
        """All processes' items, the first one's first. They go through pickle, between processes of one run."""
        if self.alone:
            return list(items)
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, list(items))
        return [item for part in parts for item in part]

    def any(self, flag: bool) -> bool:
        """Whether it is set in some process."""
        return flag if self.alone else bool(self._summed(torch.tensor(float(flag))))

    def wait(self) -> None:
        """Until every process is here."""
        if not self.alone:
            dist.barrier()

    def _summed(self, values: Tensor) -> Tensor:
        summed = values.to(own_device())
        dist.all_reduce(summed)
        return summed


ALONE = Ranks()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """The processes that ``torchrun`` started, or this one alone; they part when the block ends well.

    gloo's threads may hold a tensor of the last exchange while Python goes down, which aborts a process that had ended
    well, and with it the others. After an exception the group is left as it is: to part could wait for the others.

    :raises ConfigError: when accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    try:
        from accelerate import PartialState
    except ImportError:
        raise ConfigError("several processes need accelerate: pip install 'mtdnn[distributed]'") from None
    state = PartialState(cpu=not torch.cuda.is_available())
    yield Ranks(state.process_index, state.num_processes)
    state.destroy_process_group()


def own_device() -> torch.device:
    """The GPU of this process where there are GPUs, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
