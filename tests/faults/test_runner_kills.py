"""``mtdnn run`` with its whole process group killed, again and again, and started again: it ends as if never cut."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from faults.work import Process, command_line
from support import MTDNN, own_process, untimed, write_toy_experiment

from mtdnn.model_card import CARD

EXPERIMENT = """
name: toy
encoder: {path: tiny, pool: mean, max_length: 32}
seeds: [1]
train: {epochs: 2, batch_size: 8, learning_rate: 1e-3, save_every: 2}
stages:
  joint: {kind: joint, tasks: [nli, sts], regularizers: &both [{type: smart}, {type: bregman, momentum: 0.9}]}
  finetune: {kind: finetune, from: joint, tasks: [nli, sts], regularizers: *both}
systems:
  mtdnn: [joint, finetune]
"""
CELL = "*/*/*/*/*"
BEGUN = (f"{CELL}/checkpoint/step-*", f"{CELL}/model", f"{CELL}/results.json", f"{CELL}/config.json")
SPAN = 0.3  # seconds after one of these is new, at most, to the kill
PATIENCE = 200  # seconds


def command(folder: Path, out: Path, *, jobs: int) -> list[str]:
    options = ["--task-defs", str(folder / "tasks"), "--out", str(out), "--jobs", str(jobs)]
    return ["run", str(folder / "toy.yaml"), *options]


class Forked(Process):
    """A start that takes no time for imports."""

    def __init__(self, arguments: list[str], log: Path):
        super().__init__(command_line, *arguments, output=log)
        self.pid = self.process.pid

    def status(self) -> int | None:
        return self.process.exitcode


class Typed:
    """A start as from a shell."""

    def __init__(self, arguments: list[str], log: Path):
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [*MTDNN, *arguments], env=own_process(), stdout=output, stderr=output, start_new_session=True
            )
        self.pid = self.process.pid

    def status(self) -> int | None:
        return self.process.poll()

    def wait(self) -> int | None:
        return self.process.wait(PATIENCE)


@contextmanager
def started(start: Callable[[], Forked | Typed]) -> Iterator[Forked | Typed]:
    """A start whose group does not outlive the test."""
    process = start()
    try:
        yield process
    finally:
        if process.status() is None:
            kill(process)


def kill(process: Forked | Typed) -> None:
    while os.getpgid(process.pid) != process.pid:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def killed(start: Callable[[], Forked | Typed], out: Path, pattern: str, delay: float) -> bool:
    """Kill a start some time after something new is there; False when it ends before that."""
    before, deadline = set(out.glob(pattern)), time.monotonic() + PATIENCE
    with started(start) as process:
        while not set(out.glob(pattern)) - before:
            assert time.monotonic() < deadline
            if process.status() is not None:
                return False
            time.sleep(0.001)
        time.sleep(delay)
        if process.status() is not None:
            return False
        kill(process)
    return True


def phase(out: Path) -> str:
    """What the kill came into."""
    open_cells = [
        path.parent for path in out.glob(f"{CELL}/config.json") if not (path.parent / "results.json").exists()
    ]
    if not open_cells:
        return "between cells"
    if any(path for cell in open_cells for path in cell.rglob(".staged-*")):
        return "saving"
    return "evaluating" if any((cell / "model").exists() for cell in open_cells) else "training"


def outcome(out: Path) -> dict[str, object]:
    """Everything that a run leaves, results and cards without times: every byte of predictions, texts and models."""
    found: dict[str, object] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        if path.name == "results.json":
            found[name] = untimed(json.loads(path.read_text()))
        elif path.name == CARD:
            found[name] = [line for line in path.read_text().splitlines() if not line.startswith("- time: ")]
        elif not path.name.startswith(".") and not {"events", "log.txt"} & set(path.relative_to(out).parts):
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The toy experiment's folder, and what a run that nothing cuts leaves."""
    folder = tmp_path_factory.mktemp("whole")
    write_toy_experiment(folder, text=EXPERIMENT, rows=24)
    with started(lambda: Forked(command(folder, folder / "out", jobs=1), folder / "log")) as process:
        assert process.wait() == 0, (folder / "log").read_text()
    return folder, outcome(folder / "out")


@pytest.mark.fault("R1")
@pytest.mark.parametrize(("kind", "jobs"), [(Forked, 1), (Typed, 2)], ids=["one-process", "two-jobs"])
def test_a_run_that_is_killed_again_and_again_ends_as_the_one_that_is_not(whole, tmp_path, times, tried, kind, jobs):
    folder, expected = whole
    rng, phases, runs, count = (
        random.Random(jobs),
        Counter(),
        1,
        times(25, full=190) if jobs == 1 else times(1, full=10),
    )

    def start(out):
        return partial(kind, command(folder, out, jobs=jobs), tmp_path / "log")

    out = tmp_path / "1"
    while phases.total() < count:
        if killed(start(out), out, BEGUN[phases.total() % len(BEGUN)], rng.uniform(0, SPAN)):
            phases[phase(out)] += 1
            continue
        assert outcome(out) == expected
        runs += 1
        out = tmp_path / str(runs)
    with started(start(out)) as process:
        assert process.wait() == 0, (tmp_path / "log").read_text()
    assert outcome(out) == expected
    told = ", ".join(f"{number} {name}" for name, number in sorted(phases.items()))
    tried(count, f"{count} kills with --jobs {jobs} ({told}) over {runs} runs: bit-identical")
