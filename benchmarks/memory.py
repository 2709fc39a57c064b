"""The memory of a training step beside what people would run instead: one batch, a process each.

python -m benchmarks.memory
python -m benchmarks.memory --official ../mt-dnn

Counted is what a process has at its peak beyond what it had when its model was made. What the C library keeps back for
later is left out: every block above 1 MB goes back to the system as soon as it is free.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import measure
from benchmarks.contenders.official import NAME as OFFICIAL
from benchmarks.contenders.official import checkout
from benchmarks.contenders.ours import Ours
from benchmarks.measure import Contender
from benchmarks.shapes import LENGTHS, SHAPES, batches_of, split_of
from benchmarks.train_step import trainings
from mtdnn.memory import forget_peak, peak_bytes, shown_bytes

GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "1000000"}
SAVING = "mtdnn smart, activation checkpointing"
NAMES = ("hf loop", "smart-pytorch", "vat-pytorch", "mtdnn plain", "mtdnn smart", SAVING, "mtdnn smart + bregman")
PAIRS = {
    ("mtdnn plain", "hf loop"): None,
    ("mtdnn smart", "smart-pytorch"): 0.5,
    (SAVING, "smart-pytorch"): 0.5,
    ("mtdnn smart", "vat-pytorch"): None,
    ("mtdnn smart + bregman", "smart-pytorch"): None,
    ("mtdnn smart", OFFICIAL): 0.5,
}
STEPS = 2  # the second has the optimizer's state from the beginning


def measured(name: str, shape: str, lengths: str, rows: int, official: str | None) -> None:
    """Train on a random padded batch of middle size, and print the bytes."""
    device = torch.device("cpu")
    data = split_of(LENGTHS[lengths], 200 * rows)
    (batch,) = batches_of(data, batch_size=rows, buckets=False, count=1)
    makers = trainings(shape, "fp32", rows, device, official=Path(official) if official else None)
    training = makers[name.removesuffix(", activation checkpointing")]()
    if name == SAVING:
        assert isinstance(training, Ours)
        training.trainer.model.activation_checkpointing = True
    forget_peak(device)
    before = peak_bytes(device)
    for _ in range(STEPS):
        training.step(batch)
    print(peak_bytes(device) - before)


def bytes_of(name: str, *arguments: object) -> int:
    call = f"from benchmarks.memory import measured; measured({name!r}, {', '.join(map(repr, arguments))})"
    done = subprocess.run(  # noqa: S603 (our own text)
        [sys.executable, "-c", call], check=True, capture_output=True, text=True, env={**os.environ, **GIVE_BACK}
    )
    return int(done.stdout.split()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    parser.add_argument("--lengths", choices=LENGTHS, default="mnli")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--official", type=checkout, metavar="DIR", help="a checkout of GitHub's namisan/mt-dnn")
    parser.add_argument("--name", default="memory", help="of the files of results")
    given = parser.parse_args(arguments)
    what = given.shape, given.lengths, given.rows, str(given.official) if given.official else None
    names = [*NAMES, OFFICIAL] if given.official else NAMES
    rounds = [{name: bytes_of(name, *what) for name in names} for _ in range(given.repetitions)]
    field = [Contender(name, lambda: 0.0, 0) for name in names]
    rows = measure.compared(field, rounds, PAIRS, shape=given.shape, lengths=given.lengths)
    found = [replace(row, tokens_per_second=None, at_most=True) for row in rows]
    medians = [f"{name} {shown_bytes(statistics.median(each[name] for each in rounds))}" for name in names]
    command = measure.command("memory", arguments)
    notes = [f"One random padded batch of {given.rows} rows of middle size. {'; '.join(medians)}."]
    measure.write(given.name, found, command=command, notes=notes)


if __name__ == "__main__":
    main(sys.argv[1:])
