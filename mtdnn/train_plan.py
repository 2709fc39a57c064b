"""How long and how fast a run trains, and its epochs as optimizer steps of batches."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np

from mtdnn.data.batch import Batch, count_batches, epoch_batches
from mtdnn.data.tokenize import TaskSplit
from mtdnn.optim import Precision
from mtdnn.samplers.base import Sampler


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How long and how fast.

    :param epochs: passes over the data, at least 1; raised as far as ``min_updates`` optimizer steps need.
    :param batch_size: rows of a micro-batch (in ranking: candidate rows).
    :param accumulate: micro-batches of an optimizer step.
    :param accumulation: whose the micro-batches of a step are: ``mixed``, as the sampler orders them, or of the
        ``same_task``, the sampler then ordering steps.
    :param optimizer: ``type`` (adamw, radam, adamax, sgd) and its options.
    :param schedule: ``type`` (linear, cosine, constant, polynomial, slanted_triangular, robert) and its options.
    :param layer_decay: factor on the learning rate from each layer to the one below, in (0, 1]; None for one rate.
    :param freeze: what gets no gradient: everything up to ``embeddings`` or ``layer:<r>``, or the whole ``encoder``.
    :param warmup: share of the steps over which the learning rate rises, in [0, 1).
    :param clip_norm: global norm of the gradient, or None for no clipping.
    :param select: ``best`` validation score (mean of the tasks' first metrics), or the ``last`` step.
    :param evaluate: which weights are validated and kept: the ``student``'s, or the ``teacher``'s that a regularizer
        averages.
    :param diagnose_every: optimizer steps between two samples of the regularizers' diagnostics; None for none.
    :param patience: epochs without a better score after which training stops; None for never.
    :param save_every: optimizer steps between two checkpoints; None for one at the end of each epoch. With ``select:
        best`` there is also one whenever the score is the best so far.
    """

    epochs: int = 3
    min_updates: int = 0
    batch_size: int = 32
    accumulate: int = 1
    accumulation: Literal["mixed", "same_task"] = "mixed"
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"type": "adamw"})
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"type": "linear"})
    layer_decay: float | None = None
    freeze: str | None = None
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip_norm: float | None = 1.0
    precision: Precision = "auto"
    buckets: bool = True
    select: Literal["best", "last"] = "best"
    evaluate: Literal["student", "teacher"] = "student"
    diagnose_every: int | None = 50
    patience: int | None = None
    save_every: int | None = 200
    eval_batch_size: int = 64


@dataclass(frozen=True)
class Plan:
    """Epochs as optimizer steps of tasks and units: a pure function of the data's sizes, the options and the seed.

    :param updates: optimizer steps that a batch is used for; the epochs are divided by it.
    """

    data: Mapping[str, TaskSplit]
    sampler: Sampler
    options: TrainOptions
    seed: int
    updates: int = 1

    def turns(self, task: str, epoch: int) -> Iterator[list[np.ndarray]]:
        """A task's batches, :attr:`turn_size` at a time, pass after pass, reshuffled each time."""
        number = 0
        while True:
            batches = epoch_batches(self.data[task], seed=f"{self.seed}/{task}/{epoch}/{number}", **self._batching)
            yield from (batches[start : start + self.turn_size] for start in range(0, len(batches), self.turn_size))
            number += 1

    @property
    def turn_size(self) -> int:
        """Micro-batches that a task has before it is another's turn."""
        return self.options.accumulate if self.options.accumulation == "same_task" else 1

    @property
    def _batching(self) -> dict[str, Any]:
        return {"batch_size": self.options.batch_size, "buckets": self.options.buckets}

    def order(self, epoch: int) -> Sequence[str]:
        """Whose each turn of an epoch is."""
        num_batches = {
            task: count_batches(data, seed=f"{self.seed}/{task}/{epoch}/0", **self._batching)
            for task, data in self.data.items()
        }
        return self.sampler.order(
            {task: -(-count // self.turn_size) for task, count in num_batches.items()},
            num_examples={task: len(data) for task, data in self.data.items()},
            num_epochs=self.options.epochs,
            seed=self.seed,
            epoch=epoch,
        )

    def epoch(self, epoch: int) -> list[list[tuple[str, np.ndarray]]]:
        """(task, units) of each micro-batch of each step of an epoch."""
        sources = {task: self.turns(task, epoch) for task in self.data}
        turns = [[(task, units) for units in next(sources[task])] for task in self.order(epoch)]
        count = self.options.accumulate // self.turn_size
        return [list(chain(*turns[start : start + count])) for start in range(0, len(turns), count)]

    def steps_in(self, epoch: int) -> int:
        """Optimizer steps."""
        return -(-len(self.order(epoch)) // (self.options.accumulate // self.turn_size)) * self.updates

    def num_epochs(self) -> int:
        return max(-(-self.options.epochs // self.updates), -(-self.options.min_updates // self.steps_in(0)))

    def num_steps(self) -> int:
        return sum(self.steps_in(epoch) for epoch in range(self.num_epochs()))


@dataclass(frozen=True)
class Step:
    """The micro-batches of one optimizer step, each with its share of the step's loss.

    :param weights: factors on the tasks' losses; 1 where a task is not named.
    """

    batches: Sequence[Batch]
    weights: Mapping[str, float]

    def shares(self) -> list[float]:
        """Units of the batch over units of its task in the step, over the step's number of tasks, x the weight."""
        units = Counter[str]()
        for batch in self.batches:
            units[batch.task] += batch.num_units
        return [
            self.weights.get(batch.task, 1.0) * batch.num_units / units[batch.task] / len(units)
            for batch in self.batches
        ]
