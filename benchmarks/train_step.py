"""How fast a training step is beside what people would run instead.

python -m benchmarks.train_step --shape minilm --lengths mnli
python -m benchmarks.train_step --official ../mt-dnn
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import measure
from benchmarks.contenders.base import Training
from benchmarks.contenders.hf import HfLoop, HfTrainer
from benchmarks.contenders.official import NAME as OFFICIAL
from benchmarks.contenders.official import Official, checkout
from benchmarks.contenders.ours import METHODS, SIGMA, Ours, trainer_of
from benchmarks.contenders.packages import FIRST_ARGUMENT, NOISE, PackageSmart
from benchmarks.measure import Contender, Row
from benchmarks.shapes import LENGTHS, SHAPES, batches_of, config_of, fill, model_of, real_tokens, split_of
from mtdnn.data.batch import Batch
from mtdnn.optim import Precision, has_fast_bf16

POOLS = 4  # of 50 batches: enough rows for the largest pools
EMULATED = "bf16 was not measured: this processor has no bf16 products, and emulates them many times slower."
BATCHINGS = {"random": False, "buckets": True}


def bars(lengths: str, precision: str) -> dict[tuple[str, str], float]:
    """What ``performance.md`` wants of the ratios of tokens a second."""
    fp32 = precision == "fp32"
    smart = {"snli": 2.2, "mnli": 3.0 if fp32 else 2.2}[lengths]
    wanted = {
        ("mtdnn smart", "smart-pytorch, random"): smart,
        ("mtdnn smart", f"{OFFICIAL}, random"): smart,
        ("mtdnn smart", "smart-pytorch, buckets"): 1.3,
        ("mtdnn smart + bregman", "hf loop, random"): 0.7,
        ("mtdnn rapt", "mtdnn plain"): round(1 / 1.4, 2),
    }
    return wanted if fp32 else wanted | {("mtdnn plain", "hf loop, random"): 2.5}


def trainings(
    shape: str, precision: Precision, rows: int, device: torch.device, *, official: Path | None = None
) -> dict[str, Callable[[], Training]]:
    """How each is made. Ours take batches by length, as they do by default; the others take both kinds.

    :param official: folder of the official code, which trains in fp32 only; None: left out.
    """
    config, data = config_of(shape), split_of(LENGTHS["snli"], 2 * rows)

    def ours(method: Mapping[str, Any]) -> Training:
        model: Any = model_of(shape)
        return Ours(trainer_of(model.to(device), [data], method, rows=rows, precision=precision))

    found: dict[str, Callable[[], Training]] = {
        f"mtdnn {name}": partial(ours, method) for name, method in METHODS.items()
    }
    found["hf loop"] = partial(HfLoop, config, device, precision=precision)
    found["hf trainer"] = partial(HfTrainer, config, device, precision=precision)
    for package in FIRST_ARGUMENT:
        found[package] = partial(PackageSmart, package, config, device, precision=precision)
    if official and precision == "fp32":
        found[OFFICIAL] = partial(Official, official, config, device)
    return found


def contenders(
    made: Mapping[str, Training], batches: Mapping[str, Sequence[Batch]], *, precision: str
) -> Iterator[Contender]:
    for name, training in made.items():
        ours = name.startswith("mtdnn ")
        for batching in ["buckets"] if ours else BATCHINGS:
            chosen = batches[batching]
            yield Contender(
                name if ours else f"{name}, {batching}",
                partial(training.seconds, chosen),
                real_tokens(chosen),
                precision,
                SIGMA.get(name.removeprefix("mtdnn "), f"{NOISE:g}" if name in {*FIRST_ARGUMENT, OFFICIAL} else ""),
            )


def rows_of(
    shape: str,
    lengths: str,
    precision: Precision,
    *,
    rows: int,
    count: int,
    repetitions: int,
    only: Sequence[str] = (),
    official: Path | None = None,
) -> tuple[list[Row], str]:
    """A row for each contender over HF's plain loop and for each ratio with a bar; and how full the batches were."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = split_of(LENGTHS[lengths], POOLS * 50 * rows)
    batches = {
        name: [each.to(device) for each in batches_of(data, batch_size=rows, buckets=buckets, count=count)]
        for name, buckets in BATCHINGS.items()
    }
    makers = trainings(shape, precision, rows, device, official=official)
    made = {name: make() for name, make in makers.items() if not only or name in only}
    field = list(contenders(made, batches, precision=precision))
    rounds = measure.rounds_of(field, repetitions=repetitions)
    wanted: dict[tuple[str, str], float | None] = {(each.name, "hf loop, random"): None for each in field}
    wanted.pop(("hf loop, random", "hf loop, random"), None)
    found = list(measure.compared(field, rounds, wanted | bars(lengths, precision), shape=shape, lengths=lengths))
    filled = ", ".join(f"{name} batches are {fill(chosen):.0%} full" for name, chosen in batches.items())
    del made, field
    gc.collect()
    return found, f"{shape}, {lengths}, {precision}: {count} batches of {rows} rows each time; {filled}."


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=["minilm", "base"])
    parser.add_argument("--lengths", choices=LENGTHS, nargs="+", default=list(LENGTHS))
    parser.add_argument("--precision", choices=("fp32", "bf16"), nargs="+", help="default: those the hardware has")
    parser.add_argument("--rows", type=int, default=32, help="of a batch")
    parser.add_argument("--batches", type=int, default=4, help="each time, evenly spaced in size")
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--only", nargs="+", default=[], help="names of trainings, for example 'mtdnn smart'")
    parser.add_argument("--official", type=checkout, metavar="DIR", help="a checkout of GitHub's namisan/mt-dnn")
    parser.add_argument("--name", default="train_step", help="of the files of results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    given = parse(arguments)
    fast = has_fast_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    precisions = given.precision or ["fp32", *(["bf16"] if fast else [])]
    left_out = [] if "bf16" in precisions else [EMULATED]
    command = measure.command("train_step", arguments)
    found: list[Row] = []
    notes: list[str] = []
    for shape in given.shape:
        for lengths in given.lengths:
            for precision in precisions:
                rows, note = rows_of(
                    shape,
                    lengths,
                    precision,
                    rows=given.rows,
                    count=given.batches,
                    repetitions=given.repetitions,
                    only=given.only,
                    official=given.official,
                )
                found, notes = [*found, *rows], [*notes, note]
                measure.write(given.name, found, command=command, notes=[*notes, *left_out])


if __name__ == "__main__":
    main(sys.argv[1:])
