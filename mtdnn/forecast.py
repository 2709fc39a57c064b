"""What a run will do before it does it: how often every task and example is visited, and how long it may take."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from mtdnn.data.batch import sorted_batches
from mtdnn.data.tokenize import Positions, TaskSplit
from mtdnn.evaluate import predict_batches
from mtdnn.experiment import Experiment
from mtdnn.plan import Cell
from mtdnn.pretrained import fresh_model
from mtdnn.train_plan import Plan, TrainOptions
from mtdnn.trainer import Trainer

PROBE_STEPS = 5  # after one that warms up
PROBE_BATCHES = 3


@dataclass(frozen=True)
class Visits:
    """How often a cell's training comes by a task.

    :param least: how often its least visited example is visited; ``most`` the most visited one.
    """

    task: str
    examples: int
    batches: int
    least: int
    most: int

    def __str__(self) -> str:
        times = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
        return f"{self.task}: {self.batches} batches, each of {self.examples} examples {times} times"


@dataclass(frozen=True)
class Rates:
    """Seconds of a padded token, in training and in prediction."""

    train: float
    predict: float


@dataclass(frozen=True)
class Forecast:
    """A cell's training to its last epoch; patience may end it earlier.

    :param seconds: None where nothing was measured.
    """

    cell: Cell
    steps: int
    visits: Sequence[Visits]
    seconds: float | None = None


def kind_of(cell: Cell) -> tuple[Any, ...]:
    """What cells that are trained alike have in common."""
    return (cell.system, cell.stage.name, cell.tasks)


def forecast(
    job: Experiment,
    cells: Sequence[Cell],
    *,
    probe: bool,
    told: Callable[[str], None] = lambda _: None,
    measured: Mapping[tuple[Any, ...], Rates] = MappingProxyType({}),
) -> list[Forecast]:
    """Steps and visits of each cell, exactly; with ``probe`` also the time, from a few steps of each kind of stage.

    :param told: hears what is being measured.
    :param measured: what is known already, by kind.
    """
    known = dict(measured)
    found = []
    for cell in cells:
        if cell.stage.kind == "cosine":
            found.append(Forecast(cell, 0, []))
            continue
        plan, kind = plan_of(job, cell), kind_of(cell)
        epochs = [plan.epoch(epoch) for epoch in range(plan.num_epochs())]
        if probe and kind not in known:
            told(f"measuring {PROBE_STEPS} steps of {cell}")
            known[kind] = rates_of(probed(job, cell))
        seconds = seconds_of(job, cell, plan, epochs, known[kind]) if probe else None
        steps = sum(len(steps) * plan.updates for steps in epochs)
        found.append(Forecast(cell, steps, visits_of(plan.data, epochs), seconds))
    return found


def plan_of(job: Experiment, cell: Cell) -> Plan:
    train, _ = job.at(cell).training_data()
    return job.at(cell).plan(train)


def visits_of(data: Any, epochs: Sequence[Sequence[Sequence[tuple[str, Positions]]]]) -> list[Visits]:
    counts = {task: np.zeros(len(split), dtype=int) for task, split in data.items()}
    batches = dict.fromkeys(data, 0)
    for task, units in (batch for steps in epochs for step in steps for batch in step):
        counts[task][units] += 1
        batches[task] += 1
    return [Visits(task, len(n), batches[task], int(n.min()), int(n.max())) for task, n in counts.items()]


def seconds_of(job: Experiment, cell: Cell, plan: Plan, epochs: Sequence[Any], rates: Rates) -> float:
    """Training, a validation an epoch where the best checkpoint is kept, and the evaluation at the end."""
    trained = sum(padded_tokens(plan.data[task], units) for steps in epochs for step in steps for task, units in step)
    judged = sum(
        judged_tokens(job, plan.options, task, split) for task in cell.heads for split in job.data.judged(task)
    )
    if plan.options.select == "best":
        labelled = [task for task in cell.tasks if job.data.labelled(task, "validation")]
        judged += len(epochs) * sum(judged_tokens(job, plan.options, task, "validation") for task in labelled)
    return rates.train * trained + rates.predict * judged


def padded_tokens(data: TaskSplit, units: Positions) -> int:
    return int(data.lengths[units].max() * data.num_rows[units].sum())


def judged_tokens(job: Experiment, options: TrainOptions, task: str, split: str) -> int:
    data = job.data.split(task, split)
    return sum(padded_tokens(data, units) for units in sorted_batches(data, batch_size=options.eval_batch_size))


def probed(job: Experiment, cell: Cell) -> Trainer:
    """A trainer to be measured: on a fresh model, leaving nothing behind."""
    train, _ = job.at(cell).training_data()
    tasks = [job.registry[task] for task in cell.tasks]
    trainer = job.at(cell).trainer(fresh_model(job.config.encoder, tasks, seed=cell.seed), train, keep=False)
    trainer.begin()
    return trainer


def rates_of(trainer: Trainer) -> Rates:
    """Measured on steps from all over the first epoch."""
    return Rates(train_rate(trainer), predict_rate(trainer))


def train_rate(trainer: Trainer) -> float:
    steps = trainer.plan.epoch(0)
    places = np.linspace(0, len(steps) - 1, min(len(steps), PROBE_STEPS + 1)).astype(int)
    seconds, tokens = 0.0, 0
    for number, place in enumerate([places[-1], *places[:-1]] if len(places) > 1 else [places[0], places[0]]):
        step = next(trainer.made([steps[place]]))
        started = time.monotonic()
        trainer.run_step(step)
        if number:
            seconds += time.monotonic() - started
            tokens += sum(padded_tokens(trainer.plan.data[task], units) for task, units in steps[place])
    return seconds / tokens


def predict_rate(trainer: Trainer) -> float:
    """Over the first batches of the training data, which are the longest."""
    data = next(iter(trainer.plan.data.values()))
    started, tokens = time.monotonic(), 0
    size, precision = trainer.options.eval_batch_size, trainer.eval_precision
    batches = predict_batches(trainer.model, data, batch_size=size, pad_id=trainer.pad_id, precision=precision)
    for _, (units, _batch, _logits) in zip(range(PROBE_BATCHES), batches, strict=False):
        tokens += padded_tokens(data, units)
    if trainer.model.device.type == "cuda":
        torch.cuda.synchronize(trainer.model.device)
    return (time.monotonic() - started) / tokens
