"""The program that each process of a torchrun test executes: an experiment in which the second process fails."""

import sys
from pathlib import Path

import torch
from faults.work import toy_job

from mtdnn.distributed import joined_ranks


def main(folder: Path, out: Path) -> None:
    """The second process fails in the first cell, after its first step."""
    with joined_ranks() as ranks:

        def fail(cell: object, step: int) -> None:
            if not ranks.first:
                raise ValueError(f"a failure in {cell} after step {step}")

        toy_job(folder, out, ranks=ranks, on_step=fail).run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
