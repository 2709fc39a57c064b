"""How long and how fast a run trains, and its epochs as optimizer steps of batches."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np

from mtdnn.data.batch import Batch, count_batches, epoch_batches
from mtdnn.data.tokenize import Positions, TaskSplit
from mtdnn.optim import Precision
from mtdnn.rng import Rng
from mtdnn.samplers.base import Sampler

# Values of options with which a result is the same, bit by bit, as if the option were not there; () for any.
UNCOUNTED: Mapping[str, tuple[Any, ...]] = {
    "activation_checkpointing": (),
    "num_workers": (),
    "on_nan": (None, "stop"),
    "max_skipped": (None, 10),
    "eval_precision": (None, "fp32"),
    "eval_splits": (["validation", "test"], ["test", "validation"]),
}


def counted(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a result depends on, at any depth: one that came later does not outdate finished results."""
    return {
        name: counted(value) if isinstance(value, Mapping) else value
        for name, value in options.items()
        if name not in UNCOUNTED or value not in (UNCOUNTED[name] or [value])
    }


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
    :param diagnose_every: optimizer steps of which one is sampled for the methods' diagnostics; None for none.
    :param patience: epochs without a better score after which training stops; None for never.
    :param on_nan: what follows a loss or gradient that is NaN or infinite: ``stop`` with an error, the state before the
        step saved; or ``skip`` that step.
    :param max_skipped: steps that may be skipped, at least 0; one more stops.
    :param num_workers: processes that make batches ahead; 0 for none.
    :param save_every: optimizer steps between two checkpoints; None for one at the end of each epoch. With ``select:
        best`` there is also one whenever the score is the best so far.
    :param precision: of the encoder in training: ``fp32``, ``bf16``, or ``auto`` for bf16 where the hardware multiplies
        it fast. Weights, losses and penalties are in float32.
    :param eval_batch_size: rows of a batch in validation and in the final evaluation.
    :param eval_precision: of the encoder in these, as ``precision``.
    :param activation_checkpointing: layers run again in the backward pass instead of keeping what they computed: less
        memory, more time, the same bits.
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
    eval_precision: Precision = "fp32"
    on_nan: Literal["stop", "skip"] = "stop"
    max_skipped: int = 10
    num_workers: int = 0
    activation_checkpointing: bool = False


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
        return self._order(epoch, of=self.num_epochs())

    def _order(self, epoch: int, *, of: int) -> Sequence[str]:
        num_batches = {
            task: count_batches(data, seed=f"{self.seed}/{task}/{epoch}/0", **self._batching)
            for task, data in self.data.items()
        }
        return self.sampler.order(
            {task: -(-count // self.turn_size) for task, count in num_batches.items()},
            num_examples={task: len(data) for task, data in self.data.items()},
            num_epochs=of,
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
        return self._num_steps(self.order(epoch))

    def _num_steps(self, order: Sequence[str]) -> int:
        return -(-len(order) // (self.options.accumulate // self.turn_size)) * self.updates

    def task_updates(self, epochs: int) -> dict[str, int]:
        """Of the first epochs' optimizer steps, those that each task has a part in."""
        size = self.options.accumulate // self.turn_size
        counts = Counter[str]()
        for order in map(self.order, range(epochs)):
            for start in range(0, len(order), size):
                counts.update(set(order[start : start + size]))
        return {task: counts[task] * self.updates for task in self.data}

    def num_epochs(self) -> int:
        """As many as ``epochs`` and ``min_updates`` ask for, the first one's length taken for all."""
        epochs = -(-self.options.epochs // self.updates)
        if not self.options.min_updates:
            return epochs
        return max(epochs, -(-self.options.min_updates // self._num_steps(self._order(0, of=epochs))))

    def num_steps(self) -> int:
        return sum(self.steps_in(epoch) for epoch in range(self.num_epochs()))


@dataclass(frozen=True)
class Step:
    """The micro-batches of one optimizer step, each with its share of the step's loss.

    :param weights: factors on the tasks' losses; 1 where a task is not named.
    :param places: of each batch in the step; they name its random numbers.
    :param units: of each task in the step, over all processes; by default those of the batches.
    """

    batches: Sequence[Batch]
    weights: Mapping[str, float]
    places: Sequence[int] = ()
    units: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def made(
        cls, planned: Sequence[tuple[str, Positions]], batches: Sequence[Batch | None], weights: Mapping[str, float]
    ) -> "Step":
        """The step that was planned, with this process's batches; None for one that is all the others'."""
        units = Counter[str]()
        for task, indices in planned:
            units[task] += len(indices)
        own = {place: batch for place, batch in enumerate(batches) if batch is not None}
        return cls(list(own.values()), weights, list(own), units)

    def rngs(self, key: str, *, rank: int) -> list[Rng]:
        """The random numbers of each batch."""
        places = self.places or range(len(self.batches))
        return [Rng(f"{key}/{place}", rank) for place in places]

    def shares(self) -> list[float]:
        """Units of the batch over units of its task in the step, over the step's number of tasks, x the weight."""
        units = Counter(self.units)
        if not units:
            for batch in self.batches:
                units[batch.task] += batch.num_units
        return [
            self.weights.get(batch.task, 1.0) * batch.num_units / units[batch.task] / len(units)
            for batch in self.batches
        ]
