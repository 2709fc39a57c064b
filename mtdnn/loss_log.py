"""The losses and penalties of a training: of the step at hand, of the last steps, of the epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


class LossLog:
    """Means over units of every loss by name, a value a step.

    :param names: of the tasks and the penalties.
    """

    def __init__(self, names: Sequence[str], *, ranks: Ranks = ALONE):
        self.names, self.ranks = list(names), ranks
        self.steps: dict[str, list[float]] = {name: [] for name in names}
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
                self.steps[name].append(total / units)
        self.discard()

    def discard(self) -> None:
        """Forget the step at hand."""
        self.pending.clear()

    def recent(self) -> dict[str, float]:
        """Means over the last :data:`RECENT` steps of this epoch."""
        return {name: mean(values[-RECENT:]) for name, values in self.steps.items() if values}

    def means(self) -> dict[str, float]:
        """Means over the steps of this epoch."""
        return {name: mean(values) for name, values in self.steps.items() if values}

    def clear(self) -> None:
        """The epoch is over."""
        for values in self.steps.values():
            values.clear()

    def state(self) -> dict[str, Any]:
        return {name: list(values) for name, values in self.steps.items()}

    def take_up(self, state: Mapping[str, Sequence[float]]) -> None:
        self.steps = {name: list(state.get(name, [])) for name in self.names}


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
