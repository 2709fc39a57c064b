"""Does an experiment fit into memory, and what would? Found out before it is trained."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtdnn.errors import MemoryExceededError
from mtdnn.experiment import Experiment
from mtdnn.forecast import forecast, kind_of, padded_tokens, plan_of
from mtdnn.memory import shown_bytes
from mtdnn.memory_probe import Findings, Measurement, Micro, Options, Probe
from mtdnn.optim import autocast_dtype
from mtdnn.plan import Cell
from mtdnn.train_plan import Plan

ROOM = 0.1  # of the limit, left free by what is proposed: peaks of the same run differ by up to 8 % on a CPU


@dataclass(frozen=True)
class Proposal:
    """Training options with which a kind of stage fits, and what was measured with them."""

    options: Options
    measured: Measurement

    def __str__(self) -> str:
        settings = " ".join(f"--set train.{name}={str(value).lower()}" for name, value in self.options.items())
        return f"{settings}  ({shown_bytes(self.measured.peak)}, {self.measured.seconds:.2f} s a batch)"


@dataclass(frozen=True)
class Diagnosis:
    """A kind of stage: its longest batch, what was found, and what would fit where that does not.

    :param cell: the one of its kind with the longest batch.
    """

    cell: Cell
    task: str
    rows: int
    tokens: int
    batch_size: int
    findings: Findings
    proposals: Sequence[Proposal]

    @property
    def fits(self) -> bool:
        return self.findings.rates is not None

    @property
    def peak(self) -> float:
        """Bytes, as measured, or else as the smaller batches let expect."""
        return max(self.findings.loading, self.findings.expected(self.batch_size))

    def told(self) -> str:
        """Why it does not fit, and what does."""
        found = self.findings
        first = (
            f"{self.cell} does not fit: a batch of {self.rows} rows x {self.tokens} tokens of task '{self.task}' takes "
            f"about {shown_bytes(self.peak)}, and it may have {shown_bytes(found.limit)}"
        )
        ending = [f"  measuring it, {found.ending}"] if found.ending else []
        if not self.proposals:
            return "\n".join([first, *ending, "  nothing else that was measured fits: take a smaller encoder"])
        own = sorted({name for each in self.proposals for name in each.options} & set(self.cell.stage.train.given()))
        note = [f"  (the stage sets {', '.join(own)} itself: change it there)"] if own else []
        return "\n".join([f"{first}. What fits:", *ending, *(f"  {each}" for each in self.proposals), *note])


def examine(
    job: Experiment,
    cells: Sequence[Cell],
    *,
    limit: int | None = None,
    profile: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> Iterator[Diagnosis]:
    """A diagnosis of each kind of stage that trains.

    :param limit: bytes that a process may have; None for nearly all that is free.
    :param profile: also find where the time of a typical step goes.
    :param told: hears what is being measured.
    """
    kinds: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        if cell.stage.kind != "cosine":
            kinds.setdefault(kind_of(cell), []).append(cell)
    for alike in kinds.values():
        cell, plan, batch = longest_of(job, alike)
        told(f"measuring {cell}")
        yield diagnosis(job, cell, plan, batch, limit=limit, profile=profile)


def longest_of(job: Experiment, cells: Sequence[Cell]) -> tuple[Cell, Plan, Micro]:
    """The cell with the most padded tokens in a batch, and that batch with its longest units first."""
    found: dict[int, tuple[Cell, Plan, Micro]] = {}
    for cell in cells:
        plan = plan_of(job, cell)
        batches = (batch for epoch in range(plan.num_epochs()) for step in plan.epoch(epoch) for batch in step)
        for task, units in batches:
            found.setdefault(padded_tokens(plan.data[task], units), (cell, plan, (task, units)))
    cell, plan, (task, units) = found[max(found)]
    lengths = plan.data[task].lengths
    return cell, plan, (task, units[np.argsort(-lengths[units], kind="stable")])


def diagnosis(
    job: Experiment, cell: Cell, plan: Plan, batch: Micro, *, limit: int | None, profile: bool = False
) -> Diagnosis:
    """Measure the batch as it is; if it does not fit, also with what saves memory."""
    probe = Probe(job.config, job.registry, job.out, job.data.data_dir, cell.path, batch, limit, profile=profile)
    found = probe.findings()
    tried: list[tuple[Options, Findings]] = [({}, found)]
    if found.rates is None:
        tried += [(each, replace(probe, changes=each, profile=False).findings()) for each in savings(job, cell)]
    task, units = batch
    data, options = plan.data[task], plan.options
    proposals = []
    for changes, findings in tried if found.rates is None else ():
        if best := findings.largest(room=ROOM):
            shares = options.batch_size // best.batch_size
            split = {"batch_size": best.batch_size, "accumulate": options.accumulate * shares} if shares > 1 else {}
            proposals.append(Proposal({**changes, **split}, best))
    rows, tokens = int(data.num_rows[units].sum()), int(data.lengths[units].max())
    return Diagnosis(cell, task, rows, tokens, options.batch_size, found, proposals)


def savings(job: Experiment, cell: Cell) -> list[Options]:
    """Options that are not taken and may save memory."""
    options = job.at(cell).options
    found: list[Options] = [] if options.activation_checkpointing else [{"activation_checkpointing": True}]
    fast = autocast_dtype("auto", job.device)
    return found if options.precision != "fp32" or fast is None else [*found, {"precision": "bf16"}]


def total_seconds(job: Experiment, cells: Sequence[Cell], found: Sequence[Diagnosis]) -> float:
    """Of all cells of the kinds that fit, one after another."""
    rates = {kind_of(each.cell): each.findings.rates for each in found}
    known = {kind: rate for kind, rate in rates.items() if rate is not None}
    fitting = [cell for cell in cells if kind_of(cell) in known]
    return sum(each.seconds or 0.0 for each in forecast(job, fitting, probe=True, measured=known))


def require_fit(found: Sequence[Diagnosis]) -> None:
    """MemoryExceededError with every kind of stage that does not fit, and what does."""
    if large := [each.told() for each in found if not each.fits]:
        raise MemoryExceededError("\n".join(large))
