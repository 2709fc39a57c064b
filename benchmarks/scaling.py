"""Does a token cost the same with more data, with more tasks, and in two processes? And how much memory do they take?

python -m benchmarks.scaling
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import numpy as np
import torch

from benchmarks import measure
from benchmarks.contenders.ours import METHODS, trainer_of
from benchmarks.measure import Contender, Row, timed
from benchmarks.shapes import FACTS, LENGTHS, model_of, real_tokens, split_of, task
from mtdnn.data.tokenize import TaskSplit
from mtdnn.distributed import Ranks, joined_ranks
from mtdnn.memory import peak_bytes, shown_bytes
from mtdnn.train_plan import Step
from mtdnn.trainer import Trainer

LAW = LENGTHS["snli"]
ROWS = 32
STEPS = 10  # each time
FLAT = 0.9  # within 10 %
TWICE = 1.8  # what two processes are to reach over one


def with_examples(count: int, shape: str) -> Trainer:
    return training([split_of(LAW, count)], shape)


def with_tasks(count: int, shape: str) -> Trainer:
    return training(splits_of_tasks(count), shape)


def splits_of_tasks(count: int) -> list[TaskSplit]:
    """So many tasks, which share 20,000 rows."""
    return [split_of(LAW, 20_000 // count, name=f"task{number}", seed=number) for number in range(count)]


def training(splits: Sequence[TaskSplit], shape: str) -> Trainer:
    tasks = [task().model_copy(update={"name": split.task}) for split in splits]
    return trainer_of(model_of(shape, tasks), splits, METHODS["smart"], rows=ROWS)


def steps_of(trainer: Trainer) -> list[list[tuple[str, np.ndarray]]]:
    """Steps of the first epoch, evenly spaced by their tokens: a step's own cost weighs the same beside any data."""
    data, steps = trainer.plan.data, trainer.plan.epoch(0)
    sizes = [sum(int(data[name].lengths[units].sum()) for name, units in step) for step in steps]
    ranked = sorted(range(len(steps)), key=sizes.__getitem__)
    return [steps[ranked[(2 * place + 1) * len(steps) // (2 * STEPS)]] for place in range(STEPS)]


def contender(name: str, trainer: Trainer) -> Contender:
    """Those steps, batches made from the table each time."""
    planned = steps_of(trainer)
    tokens = sum(real_tokens(step.batches) for step in trainer.made(planned))

    def work() -> None:
        for step in trainer.made(planned):
            trainer.take(step)

    return Contender(name, timed(work), tokens)


def growth(trainers: Mapping[str, Trainer], *, shape: str, repetitions: int) -> list[Row]:
    """Each over the first."""
    field = [contender(name, trainer) for name, trainer in trainers.items()]
    rounds = measure.rounds_of(field, repetitions=repetitions)
    pairs = {(each.name, field[0].name): FLAT for each in field[1:]}
    return list(measure.compared(field, rounds, pairs, shape=shape, lengths="snli"))


@dataclass(frozen=True)
class Held:
    """Resident bytes of a process at its peak.

    :param own: those that are its alone; the others are pages of files, which the kernel drops where it needs room.
    """

    peak: int
    own: int

    def __str__(self) -> str:
        return f"{shown_bytes(self.peak)} ({shown_bytes(self.own)} without what is mapped from files)"


def held_by(splits: Sequence[TaskSplit], shape: str) -> Held:
    """What a process has had which trains on them, mapped from the disk, for some steps."""
    with TemporaryDirectory() as folder:
        for split in splits:
            split.table.save_to_disk(f"{folder}/{split.task}")
        return Held(*map(int, printed("-m", "benchmarks.scaling", "--holder", folder, shape).split(",")))


def hold(folder: Path, shape: str) -> None:
    """Train on the tables in a folder, and print what was held."""
    splits = [
        TaskSplit(path.name, "train", datasets.load_from_disk(str(path)), FACTS) for path in sorted(folder.iterdir())
    ]
    trainer = training(splits, shape)
    own = 0
    for step in trainer.made(trainer.plan.epoch(0)[:STEPS]):
        trainer.take(step)
        own = max(own, own_bytes())
    print(f"{peak_bytes(torch.device('cpu'))},{own}")


def own_bytes() -> int:
    """Resident now, but for pages of files."""
    (kilobytes,) = re.findall(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    return 1024 * int(kilobytes)


def planning(counts: Sequence[int], shape: str) -> str:
    """What an epoch's plan takes beside its training."""
    told = []
    for count in counts:
        plan = with_examples(count, shape).plan
        started = time.process_time()
        plan.epoch(1)
        told.append(f"{count:,} rows {time.process_time() - started:.2f} s")
    return ", ".join(told)


def by_processes(shape: str, *, repetitions: int, rows: int) -> Row:
    """Two processes over one, the same batches; each has one thread."""
    rounds = [{str(count): rate_of(count, shape, rows) for count in (1, 2)} for _ in range(repetitions)]
    names = {"1": "1 process", "2": "2 processes"}
    found = [{names[count]: rate for count, rate in each.items()} for each in rounds]
    field = [Contender(name, lambda: 0.0, 0) for name in names.values()]
    (row,) = measure.compared(field, found, {("2 processes", "1 process"): TWICE}, shape=shape, lengths="snli")
    return row


def rate_of(count: int, shape: str, rows: int) -> float:
    """Tokens a second of so many processes."""
    call = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m")
    return float(printed(*call, "benchmarks.scaling", "--worker", shape, str(rows)))


def printed(*call: str) -> str:
    """The last word that a process with one thread prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 (our own words)
        [sys.executable, *call], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.split()[-1]


def work_as_rank(shape: str, rows: int) -> None:
    """Take the same steps as one of the processes; the first prints the rate of all."""
    torch.set_num_threads(1)
    with joined_ranks() as ranks:
        tokens_per_second = measured_rate(shape, rows, ranks)
    if ranks.first:
        print(tokens_per_second)


def measured_rate(shape: str, rows: int, ranks: Ranks) -> float:
    """Tokens a second of all processes together."""
    trainer = trainer_of(model_of(shape), [split_of(LAW, 50 * rows)], METHODS["smart"], rows=rows, ranks=ranks)
    planned = trainer.plan.epoch(0)[:STEPS]
    steps: list[Step] = list(trainer.made(planned))
    trainer.take(steps[0])
    ranks.wait()
    started = time.perf_counter()
    for step in steps[1:]:
        trainer.take(step)
    ranks.wait()
    seconds = time.perf_counter() - started
    tokens = sum(int(trainer.plan.data[name].lengths[units].sum()) for each in planned[1:] for name, units in each)
    return tokens / seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--shape", default="tiny", help="a small one shows best what is not the encoder")
    parser.add_argument("--process-shape", default="minilm")
    parser.add_argument("--examples", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--process-rows", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--name", default="scaling", help="of the files of results")
    parser.add_argument("--worker", nargs=2, metavar=("SHAPE", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--holder", nargs=2, metavar=("FOLDER", "SHAPE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.holder:
        hold(Path(given.holder[0]), given.holder[1])
        return
    if given.worker:
        work_as_rank(given.worker[0], int(given.worker[1]))
        return
    grown = partial(growth, shape=given.shape, repetitions=given.repetitions)
    found = grown({f"{count:,} examples": with_examples(count, given.shape) for count in given.examples})
    found += grown({f"{count} tasks": with_tasks(count, given.shape) for count in given.tasks})
    found.append(by_processes(given.process_shape, repetitions=given.repetitions, rows=given.process_rows))
    few, many = min(given.examples), max(given.examples)
    held = {f"{count:,} examples": held_by([split_of(LAW, count)], given.shape) for count in (few, many)}
    few, many = min(given.tasks), max(given.tasks)
    held |= {f"{count} tasks": held_by(splits_of_tasks(count), given.shape) for count in (few, many)}
    notes = [
        f"Batches of {ROWS} rows are made from the table each time. A ratio of 1 means that a token costs the same.",
        f"Peak resident memory of a process that takes {STEPS} steps, its tables mapped from the disk: "
        f"{'; '.join(f'{name} {each}' for name, each in held.items())}.",
        f"Processor seconds of an epoch's plan: {planning(given.examples, given.shape)}.",
    ]
    command = measure.command("scaling", arguments)
    measure.write(given.name, found, command=command, notes=notes)


if __name__ == "__main__":
    main(sys.argv[1:])
