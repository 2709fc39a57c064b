"""How near training comes to what a GPU multiplies: BERT-base, bf16 with an fp32 inner pass.

python -m benchmarks.gpu

Without a GPU it is a smoke test of itself: a tiny encoder on the CPU, whose figures mean nothing.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import measure
from benchmarks.contenders.ours import METHODS, Ours, trainer_of
from benchmarks.measure import timed
from benchmarks.shapes import LENGTHS, batches_of, model_of, real_tokens, split_of
from mtdnn.memory import forget_peak, peak_bytes, shown_bytes
from mtdnn.optim import Precision
from mtdnn.step_profile import flops_of

SNLI_ROWS = 549_367  # of its training split, with gold labels
HEADER = ("method", "tokens/s", "TFLOP/s", "of the measured product rate", "SNLI epoch, min", "peak")


@dataclass(frozen=True)
class Found:
    """A method's figures; the rate counts products, attention's included."""

    name: str
    tokens_per_second: float
    flops_per_second: float
    ceiling: float
    peak: int

    def cells(self) -> tuple[str, ...]:
        minutes = SNLI_ROWS * LENGTHS["snli"].mean / self.tokens_per_second / 60
        share = self.flops_per_second / self.ceiling
        rates = f"{self.tokens_per_second:,.0f}", f"{self.flops_per_second / 1e12:.1f}"
        return (self.name, *rates, f"{share:.0%}", f"{minutes:.1f}", shown_bytes(self.peak))


def product_rate(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = timed(lambda: a @ b)
    return 2 * size**3 / statistics.median(seconds() for _ in range(measure.REPETITIONS))


def measured(name: str, shape: str, *, rows: int, precision: Precision, ceiling: float, device: torch.device) -> Found:
    data = split_of(LENGTHS["snli"], 100 * rows)
    batches = [each.to(device) for each in batches_of(data, batch_size=rows, buckets=True, count=4)]
    model: Any = model_of(shape)
    training = Ours(trainer_of(model.to(device), [data], METHODS[name], rows=rows, precision=precision))
    training.seconds(batches)
    flops = flops_of(lambda: training.seconds(batches))
    forget_peak(device)
    seconds = statistics.median(training.seconds(batches) for _ in range(measure.REPETITIONS))
    return Found(name, real_tokens(batches) / seconds, flops / seconds, ceiling, peak_bytes(device))


def main(arguments: Sequence[str] | None = None) -> None:
    there = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--shape", default="base" if there else "tiny")
    parser.add_argument("--rows", type=int, default=256 if there else 8)
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    parser.add_argument("--name", default="gpu", help="of the files of results, which are written where there is a GPU")
    given = parser.parse_args(arguments)
    device = torch.device("cuda" if there else "cpu")
    precision: Precision = "bf16" if there else "fp32"
    ceiling = product_rate(8192 if there else 512, device, torch.bfloat16 if there else torch.float32)
    found = [
        measured(name, given.shape, rows=given.rows, precision=precision, ceiling=ceiling, device=device)
        for name in given.methods
    ]
    lines = [HEADER, ("---",) * len(HEADER), *(each.cells() for each in found)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    note = f"`python -m benchmarks.gpu`: {measure.machine()}; {given.shape}, {precision}, batches of {given.rows} rows."
    print(f"{table}\n\n{note}")
    if there:
        rows = [{**vars(each), "shape": given.shape, "precision": precision} for each in found]
        (measure.RESULTS / f"{given.name}.json").write_text(json.dumps(rows, indent=1) + "\n")
        (measure.RESULTS / f"{given.name}.md").write_text(f"{table}\n\n{note}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
