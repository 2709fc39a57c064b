"""The losses and penalties of a training: of the step at hand, of the last steps, of the epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.distributed import ALONE, Ranks

RECENT = 50  # steps


@dataclass(frozen=True)
class Noted:
    """A mean over the units of one batch."""

    name: str
    value: Tensor
    batch: Batch


@dataclass
class Running:
    """A loss over the steps of an epoch, in a space that does not grow with them."""

    total: float = 0.0
    count: int = 0
    recent: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1
        self.recent = [*self.recent[1 - RECENT :], value]


class LossLog:
    """Means over units of every loss by name, a value a step.

    :param names: of the tasks and the penalties.
    """

    def __init__(self, names: Sequence[str], *, ranks: Ranks = ALONE):
        self.names, self.ranks = list(names), ranks
        self.epoch = {name: Running() for name in names}
        self.pending: list[Noted] = []

    def note(self, name: str, value: Tensor, batch: Batch) -> None:
        """A loss of the step at hand; it counts when :meth:`commit` is called."""
        self.pending.append(Noted(name, value.detach(), batch))

    def not_finite(self) -> list[Noted]:
        """Those of the step at hand that are NaN or infinite, in this process."""
        if not self.pending:
            return []
        finite = torch.stack([each.value.isfinite() for each in self.pending]).tolist()
        return [each for each, fine in zip(self.pending, finite, strict=True) if not fine]

    def commit(self) -> None:
        """The step was made: one value for each name that occurred in it, over all processes."""
        totals = torch.zeros(len(self.names), 2, dtype=torch.float64)
        if self.pending:
            values = torch.stack([each.value.double() for each in self.pending]).tolist()
            for value, each in zip(values, self.pending, strict=True):
                units = each.batch.num_units
                totals[self.names.index(each.name)] += torch.tensor([value * units, units], dtype=torch.float64)
        for name, (total, units) in zip(self.names, self.ranks.sum(totals).tolist(), strict=True):
            if units:
                self.epoch[name].add(total / units)
        self.discard()

    def discard(self) -> None:
        """Forget the step at hand."""
        self.pending.clear()

    def recent(self) -> dict[str, float]:
        """Means over the last :data:`RECENT` steps of this epoch."""
        return {name: sum(each.recent) / len(each.recent) for name, each in self.epoch.items() if each.recent}

    def means(self) -> dict[str, float]:
        """Means over the steps of this epoch."""
        return {name: each.total / each.count for name, each in self.epoch.items() if each.count}

    def clear(self) -> None:
        """The epoch is over."""
        self.epoch = {name: Running() for name in self.names}

    def state(self) -> dict[str, Any]:
        return {name: asdict(each) for name, each in self.epoch.items()}

    def take_up(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        self.epoch = {name: Running(**state[name]) for name in self.names}
