"""How much memory the longest batch of a stage takes with the whole method, measured in a process of its own.

It goes from few rows to many, so that what would not fit is not begun: memory is linear in the rows of a batch. A
process that the kernel ends all the same has told what it measured before.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging as hf_logging

from mtdnn.config import ExperimentConfig
from mtdnn.data.batch import pack
from mtdnn.errors import MemoryExceededError
from mtdnn.experiment import Experiment
from mtdnn.forecast import Rates, probed, rates_of
from mtdnn.memory import forget_peak, free_bytes, memory_for, peak_bytes
from mtdnn.optim import settled
from mtdnn.runner import SERVER, Children, WorkerError
from mtdnn.step_profile import StepProfile, profile_of, typical_step
from mtdnn.tasks import TaskRegistry
from mtdnn.train_plan import Step
from mtdnn.trainer import Trainer

Options = Mapping[str, Any]
Micro = tuple[str, np.ndarray]  # a task, and units of its training data
SMALL = (8, 4)  # the first two measurements take the batch size over these
SPARE = 0.95  # of what is free: less may be free when the run begins


@dataclass(frozen=True)
class Measurement:
    """Training on one batch.

    :param peak: bytes of the whole process.
    :param seconds: of a step.
    """

    batch_size: int
    peak: int
    seconds: float


@dataclass(frozen=True)
class Findings:
    """What the process of a probe has told.

    :param limit: bytes that it may have; ``free``: bytes that it can have.
    :param loading: bytes that it had at most before the first step.
    :param ending: how it ended, where that was not by itself.
    """

    limit: float = 0.0
    free: int = 0
    loading: int = 0
    precision: str = ""
    measured: Sequence[Measurement] = ()
    rates: Rates | None = None
    profile: StepProfile | None = None
    ending: str = ""

    def at(self, batch_size: int) -> Measurement | None:
        return next((each for each in self.measured if each.batch_size == batch_size), None)

    def expected(self, batch_size: int) -> float:
        """The peak at a batch size: as measured, else on the line through the two largest batches measured."""
        if found := self.at(batch_size):
            return found.peak
        peaks = sorted((each.batch_size, each.peak) for each in self.measured)
        if len(peaks) < 2:
            return max([self.loading, *(peak for _, peak in peaks)])
        (few, small), (more, large) = peaks[-2:]
        return max(self.loading, large + (batch_size - more) * max(0.0, (large - small) / (more - few)))

    def largest(self, *, room: float = 0.0) -> Measurement | None:
        """The largest batch that was measured and fits.

        :param room: share of the limit that stays free.
        """
        limit = (1 - room) * self.limit
        fitting = [each for each in self.measured if max(each.peak, self.loading) <= limit]
        return max(fitting, key=lambda each: each.batch_size, default=None)

    def fits(self, batch_size: int) -> bool:
        best = self.largest()
        return best is not None and best.batch_size >= batch_size


@dataclass(frozen=True)
class Probe:
    """Work for another process, which tells through ``sender`` as it goes on.

    :param batch: its units with the longest first.
    :param limit: bytes; None for nearly all that is free.
    :param changes: options laid over the cell's own: ``activation_checkpointing``, ``precision``.
    :param profile: profile a typical step too, where the longest batch fits.
    """

    config: ExperimentConfig
    registry: TaskRegistry
    out: Path
    data_dir: Path | None
    path: Path
    batch: Micro
    limit: int | None
    changes: Options = field(default_factory=dict)
    profile: bool = False
    sender: Connection | None = None

    def findings(self) -> Findings:
        """What the process told before it ended."""
        receiver, sender = SERVER.Pipe(duplex=False)
        found, ending = Findings(), ""
        try:
            Children().do(replace(self, sender=sender))
        except WorkerError as error:
            ending = str(error)
        while receiver.poll():
            found = receiver.recv()
        return replace(found, ending=ending)

    def __call__(self) -> None:
        hf_logging.disable_progress_bar()
        job = Experiment(self.config, self.registry, out=self.out, data_dir=self.data_dir)
        (cell,) = (cell for cell in job.cells if cell.path == self.path)
        free = free_bytes(job.device)
        trainer = changed(probed(job, cell), self.changes)
        found = Findings(self.limit or SPARE * free, free, peak_bytes(job.device), trainer.precision)
        self.measure(trainer, found)

    def measure(self, trainer: Trainer, found: Findings) -> None:
        """Few rows first; then all of them, or the most that fit by what was measured."""
        whole = trainer.options.batch_size
        small = sorted({max(1, whole // share) for share in SMALL})
        train_on(trainer, self.step(trainer, small[0]))  # the optimizer's state is there from now on
        for size in small:
            found = self.tell(measured(trainer, found, size, self.step(trainer, size)))
        for size in (size for size in range(whole, small[-1], -1) if whole % size == 0):
            if found.expected(size) <= found.limit:
                with suppress(MemoryExceededError):
                    found = self.tell(measured(trainer, found, size, self.step(trainer, size)))
                if found.fits(size):
                    break
        if found.fits(whole):
            found = self.tell(replace(found, rates=rates_of(trainer)))
            if self.profile:
                self.tell(replace(found, profile=profile_of(trainer, typical_step(trainer.plan))))

    def tell(self, found: Findings) -> Findings:
        assert self.sender is not None
        self.sender.send(found)
        return found

    def step(self, trainer: Trainer, batch_size: int) -> Step:
        """The batch's longest units, as many as a batch of that size has."""
        task, units = self.batch
        return next(trainer.made([[(task, pack(units, trainer.plan.data[task].num_rows, batch_size)[0])]]))


def changed(trainer: Trainer, options: Options) -> Trainer:
    """The trainer with other options of memory."""
    trainer.model.activation_checkpointing |= options.get("activation_checkpointing", False)
    if "precision" in options:
        trainer.precision = settled(options["precision"], trainer.model.device)
    return trainer


def measured(trainer: Trainer, found: Findings, batch_size: int, step: Step) -> Findings:
    """A step that also asks the regularizers about themselves, for the peak, and one for the time."""
    device = trainer.model.device
    forget_peak(device)
    train_on(trainer, step)
    peak, started = peak_bytes(device), time.monotonic()
    trainer.run_step(step)
    measurement = Measurement(batch_size, peak, time.monotonic() - started)
    return replace(found, measured=[*found.measured, measurement])


def train_on(trainer: Trainer, step: Step) -> None:
    trainer.progress.step = 0  # a step at which diagnostics are due
    with memory_for(step.batches, doing="training on"):
        trainer.run_step(step)
