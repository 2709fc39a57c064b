"""The training loop."""

import logging
import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mtdnn.checkpoint import Parts, load_checkpoint, load_latest, save_checkpoint
from mtdnn.data.batch import Batch
from mtdnn.data.loading import StepBatches, in_order
from mtdnn.data.tokenize import Positions, TaskSplit
from mtdnn.diagnostics import Diagnostics
from mtdnn.distributed import ALONE, Ranks
from mtdnn.errors import ConfigError, NonFiniteError
from mtdnn.evaluate import Evaluation, evaluate, first_metrics
from mtdnn.interruptions import Interrupted, interruptions
from mtdnn.loss_log import LossLog
from mtdnn.memory import memory_for
from mtdnn.model import MultiTaskModel
from mtdnn.objectives.base import OBJECTIVES, Objective, Term
from mtdnn.optim import PRECISIONS, clip, freeze, in_precision, make_optimizer, make_schedule, settled
from mtdnn.passes import Pass
from mtdnn.regularizers.base import Attached
from mtdnn.rng import Rng
from mtdnn.samplers.base import Sampler
from mtdnn.tracking import Events
from mtdnn.train_plan import Plan, Step, TrainOptions
from mtdnn.training_state import Progress, TrainingState, copied

log = logging.getLogger(__name__)
TERMINAL_PAUSE, HEARTBEAT = 0.2, 60.0  # seconds between two progress lines, on a terminal and in a log file
EVENT_EVERY = 10  # optimizer steps


class Trainer:
    """Trains a model on one or more tasks jointly, and goes on where a run that was cut off left its last checkpoint.

    :param train: training split by task; the mapping's order is the turn order.
    :param validation: what selects the checkpoint; may be empty when ``select`` is ``last``.
    :param folder: where checkpoints go; None for none, and the best weights are then kept in memory.
    :param events: where losses, diagnostics and validation metrics are shown while it trains.
    :param ranks: this process among those that train the model together.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        train: Mapping[str, TaskSplit],
        validation: Mapping[str, TaskSplit],
        *,
        objective: Objective,
        regularizers: Mapping[str, Attached],
        sampler: Sampler,
        options: TrainOptions,
        seed: int,
        pad_id: int,
        task_weights: Mapping[str, float] | None = None,
        folder: Path | None = None,
        events: Events | None = None,
        on_step: Callable[[int], None] | None = None,
        ranks: Ranks = ALONE,
    ):
        if options.select == "best" and not validation:
            raise ConfigError("select: best needs a validation split; say select: last, or give one")
        self.model, self.validation, self.options = model, validation, options
        self.objective, self.regularizers = objective, regularizers
        self.task_weights, self.events = task_weights or {}, events or Events(None)
        self.plan = Plan(train, sampler, options, seed, objective.num_updates)
        self.num_epochs, self.num_steps = self.plan.num_epochs(), self.plan.num_steps()
        self.seed, self.pad_id, self.folder, self.on_step, self.ranks = seed, pad_id, folder, on_step, ranks
        self.best: Parts = {}
        model.activation_checkpointing = options.activation_checkpointing
        if options.freeze is not None:
            freeze(model, options.freeze)
        self.optimizer = make_optimizer(
            model,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            optimizer=options.optimizer,
            layer_decay=options.layer_decay,
        )
        self.schedule = make_schedule(
            self.optimizer, num_steps=self.num_steps, warmup=options.warmup, schedule=options.schedule
        )
        self.precision = settled(options.precision, model.device)
        self.eval_precision = settled(options.eval_precision, model.device)
        self.sites = list(dict.fromkeys(site for each in regularizers.values() for site in each.regularizer.sites))
        self.losses = LossLog([*train, *(f"{name} penalty" for name in regularizers)], ranks=ranks)
        self.diagnostics = Diagnostics(every=options.diagnose_every, dtype=self.dtype)
        self.state = TrainingState(model, regularizers, self.optimizer, self.schedule, self.losses, self.diagnostics)

    @property
    def progress(self) -> Progress:
        """Where it stands."""
        return self.state.progress

    @property
    def dtype(self) -> torch.dtype:
        """Of the products of the training pass."""
        return PRECISIONS[self.precision] or torch.float32

    def run(self) -> Progress:
        """Train to the end (or to the end of patience) and leave the selected weights in the model.

        :raises Interrupted: after a signal, when the step at hand is done and saved.
        """
        self.begin()
        self.resume()
        self.warn([text for attached in self.regularizers.values() for text in attached.regularizer.doubts()])
        pause = TERMINAL_PAUSE if sys.stderr.isatty() else HEARTBEAT
        line = tqdm(
            total=self.num_steps,
            initial=self.progress.step,
            unit="step",
            mininterval=pause,
            disable=None if self.ranks.first else True,
        )
        with interruptions.later(), self.events.open(step=self.progress.step), line as bar:
            self.tell_again()
            while self.progress.epoch < self.num_epochs and not self.out_of_patience():
                self.run_epoch(bar)
        self.select()
        return self.progress

    def begin(self) -> None:
        """What comes before the first step."""
        for attached in self.regularizers.values():
            attached.regularizer.begin(self.model, num_steps=self.num_steps)
        self.model.train()

    def run_epoch(self, bar: Any) -> None:
        began = started = time.monotonic()
        with closing(self.steps()) as steps:
            for step in steps:
                before = self.progress.step
                with memory_for(step.batches, doing="training on"):
                    self.take(step)
                self.progress.position += 1
                bar.update(self.progress.step - before)
                self.show(bar)
                self.tell(since=before)
                if self.on_step is not None:
                    self.on_step(self.progress.step)
                stopped = self.ranks.any(interruptions.received is not None)
                if stopped or self.passed(self.options.save_every or math.inf, since=before):
                    self.progress.seconds += time.monotonic() - started
                    started = time.monotonic()
                    self.save()
                if stopped:
                    raise Interrupted(interruptions.received or signal.SIGTERM, self.stopped())
        self.progress.seconds += time.monotonic() - started
        self.end_epoch(time.monotonic() - began)

    def stopped(self) -> str:
        return f"stopped at step {self.progress.step} of {self.num_steps}; the same command goes on from there"

    def sampled(self, step: int) -> bool:
        """Whether diagnostics are of the batch that is used for the steps from ``step`` on."""
        return self.diagnostics.due(step, updates=self.plan.updates)

    def passed(self, every: float, *, since: int) -> bool:
        """Whether a multiple of ``every`` lies in the steps after ``since``."""
        return since // every < self.progress.step // every

    def steps(self) -> Generator[Step]:
        """The rest of the current epoch's optimizer steps."""
        return self.made(self.plan.epoch(self.progress.epoch)[self.progress.position :])

    def made(self, planned: Sequence[Sequence[tuple[str, Positions]]]) -> Generator[Step]:
        """Steps that were planned, with this process's units of each batch."""
        own = [[(task, self.ranks.share(np.asarray(units).tolist())) for task, units in step] for step in planned]
        heads = {task: self.model.head(task) for task in self.plan.data}
        batches = StepBatches(self.plan.data, heads, own, self.pad_id)
        with closing(in_order(batches, num_workers=self.options.num_workers)) as made:
            for step, found in zip(planned, made, strict=True):
                here = [None if batch is None else batch.to(self.model.device) for batch in found]
                yield Step.made(step, here, self.task_weights)

    def take(self, step: Step) -> None:
        """One step, or what ``on_nan`` says where it cannot be made."""
        target = self.progress.step + self.plan.updates
        try:
            self.run_step(step)
        except NonFiniteError as error:
            self.optimizer.zero_grad()
            self.losses.discard()
            self.diagnostics.discard()
            if self.options.on_nan == "stop" or len(self.progress.skipped) >= self.options.max_skipped:
                if self.progress.step == target - self.plan.updates:
                    self.save()
                raise
            log.warning("skipped: %s", error)
            self.progress.skipped.append({"step": self.progress.step + 1, "reason": str(error)})
            while self.progress.step < target:
                self.count_step()
        self.losses.commit()
        self.diagnostics.commit()

    def run_step(self, step: Step) -> None:
        """SMART's lines 5 to 11 for every micro-batch; an update after the objective's last term, or after each."""
        rngs = step.rngs(f"{self.seed}/{self.progress.step}", rank=self.ranks.rank)
        terms = [
            self.objective.terms(self.model, batch, rng, sites=self.sites)
            for batch, rng in zip(step.batches, rngs, strict=True)
        ]
        if self.sampled(self.progress.step):
            self.ask_objective(step.batches, rngs)
        for turn in range(1, self.objective.num_terms + 1):
            for batch, share, rng, source in zip(step.batches, step.shares(), rngs, terms, strict=True):
                (self.next_loss(source, batch, rng) * share).backward()
            if self.objective.updates_each_term or turn == self.objective.num_terms:
                self.update(step)

    def ask_objective(self, batches: Sequence[Batch], rngs: Sequence[Rng]) -> None:
        """What the objective says of its perturbation of each micro-batch."""
        name = OBJECTIVES.name_of(type(self.objective))
        for batch, rng in zip(batches, rngs, strict=True):
            with self.in_precision():
                found = self.objective.diagnose(self.model, batch, rng)
            self.diagnostics.note(name, found, step=self.progress.step, task=batch.task)

    def in_precision(self) -> AbstractContextManager[Any]:
        """While entered, passes run in the training's precision."""
        return in_precision(self.precision, self.model.device)

    def next_loss(self, terms: Iterator[Term], batch: Batch, rng: Rng) -> Tensor:
        """The objective's next term, with the penalties that attach to it."""
        with self.in_precision():
            term = next(terms)
            self.losses.note(batch.task, term.loss, batch)
            if term.clean is None:
                return term.loss * term.share
            return term.loss * term.share + sum(self.penalties(batch, term, term.clean, rng))

    def penalties(self, batch: Batch, term: Term, clean: Pass, rng: Rng) -> Iterator[Tensor]:
        """The terms of the regularizers that apply to this batch at this step."""
        for name, attached in self.regularizers.items():
            factor = attached.factor(batch.task, step=self.progress.step)
            if not factor:
                continue
            source = rng.at(name)
            penalty = factor * attached.regularizer.penalty(self.model, batch, clean, source)
            self.losses.note(f"{name} penalty", penalty, batch)
            if self.sampled(self.progress.step):
                found = attached.regularizer.diagnose(self.model, batch, clean, source)
                self.diagnostics.note(
                    name, found, step=self.progress.step, task=batch.task, loss=float(term.loss.detach())
                )
            yield penalty

    def update(self, step: Step) -> None:
        """One optimizer step."""
        self.ranks.sum_gradients(self.model.parameters())
        norm = clip(self.model.parameters(), max_norm=self.options.clip_norm or math.inf)
        self.check_finite(norm, step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.count_step()
        for attached in self.regularizers.values():
            attached.regularizer.after_step(self.model, step=self.progress.step)

    def count_step(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # where the first is skipped
            self.schedule.step()
        self.progress.step += 1

    def check_finite(self, norm: Tensor, step: Step) -> None:
        """NonFiniteError that names the batches whose loss is not finite; all of the step's where only the norm is."""
        if torch.isfinite(norm):
            return
        found = self.ranks.gather(
            [(f"{each.name} is {float(each.value)}", told(each.batch)) for each in self.losses.not_finite()]
        )
        values = [value for value, _ in found] or [f"the gradient's norm is {float(norm)}"]
        rows = [batch for _, batch in found] or self.ranks.gather([told(batch) for batch in step.batches])
        raise NonFiniteError(
            f"step {self.progress.step + 1}: {'; '.join(dict.fromkeys(values))}: {'; '.join(dict.fromkeys(rows))}. "
            "Earlier checkpoints are kept; lower the learning rate, check these rows, or say train.on_nan: skip"
        )

    def show(self, bar: Any) -> None:
        """The means of the last steps in the progress line."""
        shown = self.losses.recent() | self.diagnostics.gains()
        bar.set_postfix_str(" ".join(f"{name}={value:.3g}" for name, value in shown.items()), refresh=False)

    def tell(self, *, since: int) -> None:
        """Events of the step that was made from ``since`` on: losses now and then, diagnostics where sampled."""
        if self.passed(EVENT_EVERY, since=since):
            rates = {"learning_rate": max(map(float, self.schedule.get_last_lr()))}
            self.events.scalars("train", self.losses.recent() | rates, step=self.progress.step)
        if self.sampled(since):
            for name, values in self.diagnostics.means(since=since).items():
                self.events.scalars(name, values, step=self.progress.step)

    def tell_validation(self, record: Mapping[str, Any]) -> None:
        for task, metrics in record.get("validation", {}).items():
            self.events.scalars(f"validation/{task}", metrics, step=record["step"])

    def tell_again(self) -> None:
        """The events of the last step that counts: those from it on were dropped when the events were opened."""
        if self.progress.step == 0:
            return
        self.tell(since=self.progress.step - self.plan.updates)
        for record in self.progress.history[-1:]:
            if record["step"] == self.progress.step:
                self.tell_validation(record)

    def warn(self, texts: Sequence[str]) -> None:
        """Tell what was not told before; the results keep it."""
        for text in self.diagnostics.unsaid(texts):
            log.warning("%s", text)

    def end_epoch(self, seconds: float) -> None:
        progress = self.progress
        evaluations = self.validate_or_stop() if self.options.select == "best" else {}
        record: dict[str, Any] = {"epoch": progress.epoch + 1, "step": progress.step, "seconds": seconds}
        record["losses"] = self.losses.means()
        if found := self.diagnostics.means(since=progress.epoch_start):
            record["diagnostics"] = found
        self.warn(self.diagnostics.doubts(since=progress.epoch_start))
        self.losses.clear()
        progress.epoch_start = progress.step
        progress.epoch, progress.position = progress.epoch + 1, 0
        if evaluations:
            score = first_metrics(evaluations)
            record["validation"] = {task: each.metrics for task, each in evaluations.items()}
            self.tell_validation(record)
            if progress.better(score):
                progress.best_score, progress.best_step, progress.best_epoch = score, progress.step, progress.epoch
                if self.folder is None:
                    self.best = {name: copied(tensors) for name, tensors in self.state.weights().items()}
            log.info("epoch %d: validation %.4f", progress.epoch, score)
        progress.history.append(record)
        if progress.best_step == progress.step or self.options.save_every is None:
            self.save()

    def validate_or_stop(self) -> dict[str, Evaluation]:
        """Validation, which a signal ends at once; the steps before it are saved."""
        try:
            with interruptions.at_once() if self.ranks.alone else nullcontext():
                return self.validate()
        except Interrupted as error:
            self.save()
            raise Interrupted(error.number, self.stopped()) from None

    def validate(self) -> dict[str, Evaluation]:
        with self.judged():
            return {task: self.evaluate(data) for task, data in self.validation.items()}

    def evaluate(self, data: TaskSplit, *, metrics: Sequence[str] = ()) -> Evaluation:
        """What the model, as it is, says of a split.

        :param metrics: by default those of its task.
        """
        size, precision = self.options.eval_batch_size, self.eval_precision
        return evaluate(
            self.model,
            data,
            batch_size=size,
            pad_id=self.pad_id,
            precision=precision,
            ranks=self.ranks,
            metrics=metrics,
        )

    @contextmanager
    def judged(self) -> Iterator[None]:
        """While entered, the model has the weights that are evaluated."""
        teacher = self.teacher_weights()
        if teacher is None:
            yield
            return
        own = copied(self.model.state_dict())
        try:
            self.model.load_state_dict(teacher)
            yield
        finally:
            with interruptions.later():
                self.model.load_state_dict(own)

    def teacher_weights(self) -> Mapping[str, Tensor] | None:
        """The average that ``evaluate: teacher`` asks for; None where the student is evaluated."""
        if self.options.evaluate == "student":
            return None
        weights = [attached.regularizer.teacher_weights() for attached in self.regularizers.values()]
        return next(each for each in weights if each is not None)

    def out_of_patience(self) -> bool:
        best, patience = self.progress.best_epoch, self.options.patience
        return patience is not None and best is not None and self.progress.epoch - best >= patience

    def select(self) -> None:
        """Put the weights into the model that ``select`` and ``evaluate`` ask for."""
        best = self.progress.best_step
        if self.options.select == "best" and best not in (None, self.progress.step):
            kept = self.best if self.folder is None else load_checkpoint(self.folder / f"step-{best:08d}").parts
            self.state.put_back(kept)
        if (teacher := self.teacher_weights()) is not None:
            self.model.load_state_dict(teacher)

    def save(self) -> None:
        if self.folder is not None and self.ranks.first:
            found = self.state.checkpoint(precision=self.precision, eval_precision=self.eval_precision)
            save_checkpoint(self.folder, found, best=self.progress.best_step)

    def resume(self) -> None:
        """Take up the newest intact checkpoint, if there is one.

        :raises CheckpointError: when it is of another model, optimizer, freezing or regularizers.
        """
        if self.folder is None or (found := load_latest(self.folder)) is None:
            return
        self.state.take_up(found, where=self.folder)
        if self.options.precision == "auto":
            self.precision = found.state.get("precision", self.precision)
            self.diagnostics.dtype = self.dtype
        if self.options.eval_precision == "auto":
            self.eval_precision = found.state.get("eval_precision", self.eval_precision)
        log.info("going on from step %d of %d", self.progress.step, self.num_steps)


def told(batch: Batch) -> str:
    """Its task and its rows, for a message."""
    return f"task '{batch.task}', rows {', '.join(batch.uids)}"
