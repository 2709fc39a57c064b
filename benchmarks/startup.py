"""How long a command takes before it does what was asked, beside ``import torch``.

python -m benchmarks.startup

``mtdnn check`` looks at the shipped tasks whose data it can make or find, and names the others. The first training step
is that of a system of the quickstart in a new folder, its texts tokenised by the run before; whoever trains a model of
transformers waits for the import of PreTrainedModel.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Contender, timed

TORCH, MODEL = "import torch", "from transformers import PreTrainedModel"
SYSTEM = "single/*"
HELP, CHECK, FIRST_STEP = "mtdnn --help", "mtdnn check", f"first step of mtdnn run quickstart --only '{SYSTEM}'"
BARS = {HELP: 0.4, CHECK: 4.0, FIRST_STEP: 6.0}  # seconds
UNTIL_FIRST_STEP = """
import os
from torch.optim.optimizer import register_optimizer_step_post_hook

register_optimizer_step_post_hook(lambda *unused: os._exit(0))
from mtdnn.cli.main import main

main()
raise SystemExit("no step was made")
"""


def until_first_step() -> None:
    """Ends with the process's first step, from within."""
    with tempfile.TemporaryDirectory() as out:
        call("-c", UNTIL_FIRST_STEP, "run", "quickstart", "--only", SYSTEM, "--out", str(Path(out) / "run"))


def call(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)  # noqa: S603


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--name", default="startup", help="of the files of results")
    given = parser.parse_args(arguments)
    field = [
        Contender(TORCH, timed(lambda: call("-c", TORCH)), 1, ""),
        Contender(MODEL, timed(lambda: call("-c", MODEL)), 1, ""),
        Contender(HELP, timed(lambda: call("-m", "mtdnn", "--help")), 1, ""),
        Contender(CHECK, timed(lambda: call("-m", "mtdnn", "check")), 1, ""),
        Contender(FIRST_STEP, timed(until_first_step), 1, ""),
    ]
    rounds = measure.rounds_of(field, repetitions=given.repetitions)
    pairs = {(name, TORCH): None for name in (MODEL, *BARS)}
    rows = [replace(row, tokens_per_second=None) for row in measure.compared(field, rounds, pairs, of_time=True)]
    seconds = {each.name: statistics.median(1 / rates[each.name] for rates in rounds) for each in field}
    told = [f"{name} {value:.2f} s{bar(name, value)}" for name, value in seconds.items()]
    command = measure.command("startup", arguments)
    measure.write(given.name, rows, command=command, notes=[f"Seconds by the clock, medians: {'; '.join(told)}."])


def bar(name: str, seconds: float) -> str:
    if name not in BARS:
        return ""
    return f" (bar {BARS[name]:g}, {'met' if seconds <= BARS[name] else 'missed'})"


if __name__ == "__main__":
    main(sys.argv[1:])
