"""What huge pages of memory save of a training step: MiniLM's shapes, a process each, one thread.

python -m benchmarks.huge_pages

A step touches every weight, its gradient and its moments once, 0.4 GB of MiniLM's, and gets a part of that anew from
the C library. With ``glibc.malloc.hugetlb=1`` it comes in pages of 2 MB in place of 4 KB, where the kernel's
``/sys/kernel/mm/transparent_hugepage/enabled`` says ``madvise``. The bits are the same.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import torch

from benchmarks import measure
from benchmarks.measure import Contender
from benchmarks.shapes import LENGTHS, SHAPES, batches_of, real_tokens, split_of
from benchmarks.train_step import trainings
from mtdnn.optim import Precision, has_fast_bf16

PAGES: Mapping[str, Mapping[str, str]] = {"": {}, ", huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}}
NAMES, ROWS = ("mtdnn plain", "mtdnn smart"), (8, 32)
WARM, STEPS = 2, 20


def measured(name: str, shape: str, lengths: str, rows: int, precision: Precision) -> None:
    """Train on batches by length, and print the tokens a second."""
    torch.set_num_threads(1)
    batches = batches_of(split_of(LENGTHS[lengths], 200 * rows), batch_size=rows, buckets=True, count=WARM + STEPS)
    training = trainings(shape, precision, rows, torch.device("cpu"))[name]()
    training.seconds(batches[:WARM])
    print(real_tokens(batches[WARM:]) / training.seconds(batches[WARM:]))


def tokens_per_second(name: str, pages: str, *arguments: object) -> float:
    call = f"from benchmarks.huge_pages import measured; measured({name!r}, {', '.join(map(repr, arguments))})"
    done = subprocess.run(  # noqa: S603 (our own text)
        [sys.executable, "-c", call], check=True, capture_output=True, text=True, env={**os.environ, **PAGES[pages]}
    )
    return float(done.stdout.split()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.huge_pages", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    parser.add_argument("--lengths", choices=LENGTHS, default="snli")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="of a batch")
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--name", default="huge_pages", help="of the files of results")
    given = parser.parse_args(arguments)
    precision: Precision = "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32"
    names = {f"{name}, {rows} rows": (name, rows) for name in NAMES for rows in given.rows}
    rounds = [
        {
            f"{shown}{pages}": tokens_per_second(name, pages, given.shape, given.lengths, rows, precision)
            for shown, (name, rows) in names.items()
            for pages in PAGES
        }
        for _ in range(given.repetitions)
    ]
    field = [Contender(f"{shown}{pages}", lambda: 0.0, 0, precision) for shown in names for pages in PAGES]
    pairs = {(f"{shown}, huge pages", shown): None for shown in names}
    rows = list(measure.compared(field, rounds, pairs, shape=given.shape, lengths=given.lengths))
    measure.write(given.name, rows, command=measure.command("huge_pages", arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
