"""The training loop, and what goes in and out of its checkpoints."""

import logging
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from mtdnn.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_latest,
    optimizer_parts,
    restore_optimizer,
    save_checkpoint,
)
from mtdnn.data.batch import Batch, epoch_batches, make_batch
from mtdnn.data.tokenize import TaskSplit
from mtdnn.errors import ConfigError, NonFiniteError
from mtdnn.evaluate import Evaluation, evaluate, first_metrics
from mtdnn.model import MultiTaskModel
from mtdnn.objectives.base import Objective
from mtdnn.optim import Precision, autocast_dtype, clip, make_optimizer, make_schedule
from mtdnn.regularizers.base import Regularizer
from mtdnn.rng import Rng
from mtdnn.samplers.base import Sampler

log = logging.getLogger(__name__)
TERMINAL_PAUSE, HEARTBEAT = 0.2, 60.0  # seconds between two progress lines, on a terminal and in a log file


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How long and how fast.

    :param epochs: passes over the data, at least 1; raised as far as ``min_updates`` optimizer steps need.
    :param batch_size: rows of a micro-batch (in ranking: candidate rows).
    :param accumulate: micro-batches of an optimizer step.
    :param warmup: share of the steps over which the learning rate rises, in [0, 1).
    :param clip_norm: global norm of the gradient, or None for no clipping.
    :param select: ``best`` validation score (mean of the tasks' first metrics), or the ``last`` step.
    :param patience: epochs without a better score after which training stops; None for never.
    :param save_every: optimizer steps between two checkpoints; None for one at the end of each epoch. With ``select:
        best`` there is also one whenever the score is the best so far.
    """

    epochs: int = 3
    min_updates: int = 0
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip_norm: float | None = 1.0
    precision: Precision = "auto"
    buckets: bool = True
    select: Literal["best", "last"] = "best"
    patience: int | None = None
    save_every: int | None = 200
    eval_batch_size: int = 64


@dataclass
class Progress:
    """Where a run stands: everything that the next step depends on, besides the tensors."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    best_score: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def better(self, score: float) -> bool:
        return self.best_score is None or score > self.best_score


@dataclass(frozen=True)
class Plan:
    """Epochs as tasks in order, and batches as units: a pure function of the data's sizes, the options and the seed."""

    data: Mapping[str, TaskSplit]
    sampler: Sampler
    options: TrainOptions
    seed: int

    def passes(self, task: str, epoch: int) -> Iterator[list[int]]:
        """A task's batches, pass after pass, reshuffled each time."""
        turn = 0
        while True:
            yield from self._batches(task, epoch, turn)
            turn += 1

    def _batches(self, task: str, epoch: int, turn: int) -> list[list[int]]:
        seed = f"{self.seed}/{task}/{epoch}/{turn}"
        return epoch_batches(
            self.data[task], batch_size=self.options.batch_size, seed=seed, buckets=self.options.buckets
        )

    def epoch(self, epoch: int) -> list[tuple[str, list[int]]]:
        """(task, units) of each micro-batch of an epoch."""
        counts = {task: len(self._batches(task, epoch, 0)) for task in self.data}
        sources = {task: self.passes(task, epoch) for task in self.data}
        return [(task, next(sources[task])) for task in self.sampler.order(counts, seed=self.seed, epoch=epoch)]

    def steps_in(self, epoch: int) -> int:
        return -(-len(self.epoch(epoch)) // self.options.accumulate)

    def num_epochs(self) -> int:
        return max(self.options.epochs, -(-self.options.min_updates // self.steps_in(0)))

    def num_steps(self) -> int:
        return sum(self.steps_in(epoch) for epoch in range(self.num_epochs()))


@dataclass(frozen=True)
class Step:
    """The micro-batches of one optimizer step, each with its share of the step's loss."""

    batches: Sequence[Batch]

    def shares(self) -> list[float]:
        """Units of the batch over units of its task in the step, over the step's number of tasks."""
        units = Counter[str]()
        for batch in self.batches:
            units[batch.task] += batch.num_units
        return [batch.num_units / units[batch.task] / len(units) for batch in self.batches]


class Trainer:
    """Trains a model on one or more tasks jointly, and goes on where a run that was cut off left its last checkpoint.

    :param train: training split by task; the mapping's order is the turn order.
    :param validation: what selects the checkpoint; may be empty when ``select`` is ``last``.
    :param folder: where checkpoints go; None for none.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        train: Mapping[str, TaskSplit],
        validation: Mapping[str, TaskSplit],
        *,
        objective: Objective,
        regularizers: Mapping[str, Regularizer],
        sampler: Sampler,
        options: TrainOptions,
        seed: int,
        pad_id: int,
        folder: Path | None = None,
        on_step: Callable[[int], None] | None = None,
    ):
        if options.select == "best" and not validation:
            raise ConfigError("select: best needs a validation split; say select: last, or give one")
        self.model, self.validation, self.options = model, validation, options
        self.objective, self.regularizers = objective, regularizers
        self.plan = Plan(train, sampler, options, seed)
        self.num_epochs, self.num_steps = self.plan.num_epochs(), self.plan.num_steps()
        self.seed, self.pad_id, self.folder, self.on_step = seed, pad_id, folder, on_step
        self.progress = Progress()
        self.optimizer = make_optimizer(model, learning_rate=options.learning_rate, weight_decay=options.weight_decay)
        self.schedule = make_schedule(self.optimizer, num_steps=self.num_steps, warmup=options.warmup)
        self.autocast = autocast_dtype(options.precision, model.device)
        self.sites = [site for each in regularizers.values() for site in each.sites]
        self.losses: dict[str, list[float]] = defaultdict(list)

    def run(self) -> Progress:
        """Train to the end (or to the end of patience) and leave the selected weights in the model."""
        for regularizer in self.regularizers.values():
            regularizer.begin(self.model, num_steps=self.num_steps)
        self.resume()
        self.model.train()
        pause = TERMINAL_PAUSE if sys.stderr.isatty() else HEARTBEAT
        with tqdm(total=self.num_steps, initial=self.progress.step, unit="step", mininterval=pause) as bar:
            while self.progress.epoch < self.num_epochs and not self.out_of_patience():
                self.run_epoch(bar)
        self.select()
        return self.progress

    def run_epoch(self, bar: Any) -> None:
        started = time.monotonic()
        for step in self.steps():
            self.run_step(step)
            self.schedule.step()
            self.progress.step += 1
            self.progress.position += len(step.batches)
            for regularizer in self.regularizers.values():
                regularizer.after_step(self.model, step=self.progress.step)
            bar.update()
            bar.set_postfix_str(self.summary(), refresh=False)
            if self.on_step is not None:
                self.on_step(self.progress.step)
            if self.options.save_every and self.progress.step % self.options.save_every == 0:
                self.progress.seconds += time.monotonic() - started
                started = time.monotonic()
                self.save()
        self.end_epoch(time.monotonic() - started)

    def steps(self) -> Iterator[Step]:
        """The rest of the current epoch's optimizer steps."""
        batches = self.plan.epoch(self.progress.epoch)[self.progress.position :]
        for start in range(0, len(batches), self.options.accumulate):
            yield Step([self.batch(*each) for each in batches[start : start + self.options.accumulate]])

    def batch(self, task: str, units: list[int]) -> Batch:
        made = make_batch(self.plan.data[task], units, self.model.head(task), pad_id=self.pad_id)
        return made.to(self.model.device)

    def run_step(self, step: Step) -> None:
        """One optimizer step: SMART's lines 5 to 11 for every micro-batch, then the update."""
        self.optimizer.zero_grad()
        for micro, (batch, share) in enumerate(zip(step.batches, step.shares(), strict=True)):
            rng = Rng(f"{self.seed}/{self.progress.step}/{micro}")
            for loss in self.micro_losses(batch, rng):
                self.check_finite(loss, batch)
                (loss * share).backward()
        norm = clip(self.model.parameters(), max_norm=self.options.clip_norm or math.inf)
        self.check_finite(norm, *step.batches)
        self.optimizer.step()

    def micro_losses(self, batch: Batch, rng: Rng) -> Iterator[Tensor]:
        """The objective's terms, each with the penalties that attach to it."""
        device = self.model.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            for term in self.objective.terms(self.model, batch, rng, sites=self.sites):
                loss = term.loss
                self.losses[batch.task].append(float(loss.detach()))
                if term.clean is not None:
                    for name, regularizer in self.regularizers.items():
                        penalty = regularizer.penalty(self.model, batch, term.clean, rng.at(name))
                        self.losses[f"{name} penalty"].append(float(penalty.detach()))
                        loss = loss + penalty
                yield loss

    def check_finite(self, value: Tensor, *batches: Batch) -> None:
        if not torch.isfinite(value):
            where = "; ".join(f"task '{batch.task}', rows {', '.join(batch.uids)}" for batch in batches)
            raise NonFiniteError(
                f"loss or gradient is {float(value.detach())} at step {self.progress.step + 1}: {where}. "
                "Earlier checkpoints are kept; lower the learning rate or check these rows"
            )

    def summary(self) -> str:
        """Mean of each loss over its last 50 micro-batches."""
        recent = {name: values[-50:] for name, values in self.losses.items()}
        return " ".join(f"{name}={sum(values) / len(values):.3g}" for name, values in recent.items())

    def end_epoch(self, seconds: float) -> None:
        progress = self.progress
        record: dict[str, Any] = {"epoch": progress.epoch + 1, "step": progress.step, "seconds": seconds}
        record["losses"] = {name: sum(values) / len(values) for name, values in self.losses.items()}
        self.losses.clear()
        progress.epoch, progress.position = progress.epoch + 1, 0
        progress.seconds += seconds
        if self.options.select == "best":
            evaluations = self.validate()
            score = first_metrics(evaluations)
            record["validation"] = {task: each.metrics for task, each in evaluations.items()}
            if progress.better(score):
                progress.best_score, progress.best_step, progress.best_epoch = score, progress.step, progress.epoch
            log.info("epoch %d: validation %.4f", progress.epoch, score)
        progress.history.append(record)
        if progress.best_step == progress.step or self.options.save_every is None:
            self.save()

    def validate(self) -> dict[str, Evaluation]:
        size = self.options.eval_batch_size
        return {
            task: evaluate(self.model, data, batch_size=size, pad_id=self.pad_id)
            for task, data in self.validation.items()
        }

    def out_of_patience(self) -> bool:
        best, patience = self.progress.best_epoch, self.options.patience
        return patience is not None and best is not None and self.progress.epoch - best >= patience

    def select(self) -> None:
        """Put the best checkpoint's weights into the model, where ``select`` asks for them."""
        best = self.progress.best_step
        if self.options.select == "best" and self.folder is not None and best not in (None, self.progress.step):
            checkpoint = load_checkpoint(self.folder / f"step-{best:08d}")
            self.model.load_state_dict(checkpoint.parts["model"])

    def save(self) -> None:
        if self.folder is None:
            return
        tensors, groups = optimizer_parts(self.optimizer)
        parts = {"model": self.model.state_dict(), "optimizer": tensors, "random": {"torch": torch.get_rng_state()}}
        for name, regularizer in self.regularizers.items():
            if kept := regularizer.state_dict():
                parts[f"regularizer-{name}"] = kept
        schedule = {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"}
        state = {"progress": vars(self.progress), "groups": groups, "schedule": schedule, "losses": dict(self.losses)}
        save_checkpoint(self.folder, Checkpoint(self.progress.step, state, parts), best=self.progress.best_step)

    def resume(self) -> None:
        """Take up the newest intact checkpoint, if there is one."""
        found = load_latest(self.folder) if self.folder is not None else None
        if found is None:
            return
        self.progress = Progress(**found.state["progress"])
        self.model.load_state_dict(found.parts["model"])
        restore_optimizer(self.optimizer, found.parts["optimizer"], found.state["groups"])
        self.schedule.load_state_dict({**self.schedule.state_dict(), **found.state["schedule"]})
        self.losses.update(found.state["losses"])
        torch.set_rng_state(found.parts["random"]["torch"])
        for name, regularizer in self.regularizers.items():
            regularizer.load_state_dict(found.parts.get(f"regularizer-{name}", {}))
        log.info("going on from step %d of %d", self.progress.step, self.num_steps)
