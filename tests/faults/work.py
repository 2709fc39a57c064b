"""Work that faults are done to, in processes of its own: they fork from one that has imported everything."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from support import write_toy_experiment

from mtdnn.checkpoint import load_latest
from mtdnn.config import load_experiment
from mtdnn.experiment import Experiment
from mtdnn.tasks import load_tasks

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["mtdnn.experiment", "mtdnn.cli.main", "mtdnn.cli.run", "mtdnn.cli.show", "toy_training"])

SMALL = """
name: toy
encoder: {path: tiny, pool: mean, max_length: 32}
train: {epochs: 2, batch_size: 8, learning_rate: 1e-3, save_every: 1, select: best}
systems:
  smart:
    - {name: joint, kind: joint, tasks: [nli, sts, rank], regularizers: [{type: smart}, {type: bregman, momentum: 0.9}]}
    - {name: finetune, kind: finetune, from: joint, tasks: [nli]}
"""


def toy_folder(folder: Path, *, text: str = SMALL, rows: int = 16) -> Path:
    """The toy tasks and an experiment over them, which trains for some seconds; the folder."""
    write_toy_experiment(folder, text=text, rows=rows)
    return folder


def toy_job(folder: Path, out: Path, overrides: Sequence[str] = (), **options: Any) -> Experiment:
    config = load_experiment(folder / "toy.yaml", overrides=overrides)
    return Experiment(config, load_tasks(folder / "tasks"), out=out, **options)


def run_toy(folder: Path, out: Path, overrides: Sequence[str] = (), **options: Any) -> None:
    toy_job(folder, out, overrides, **options).run()


class Process:
    """A function at work in a process of its own, which leads a group; it does not outlive the test."""

    begun: ClassVar[list["Process"]] = []

    def __init__(self, function: Callable[..., None], *arguments: Any, output: Path | None = None):
        self.process = SERVER.Process(target=_led, args=(function, arguments, output))
        self.process.start()
        self.begun.append(self)

    def send(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """kill -9, of what it started too."""
        assert self.process.pid is not None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()

    def wait(self, timeout: float = 300) -> int:
        """Its exit code; negative for the signal that ended it."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.kill()
            raise TimeoutError(f"still at work after {timeout} s")
        return self.process.exitcode

    @property
    def running(self) -> bool:
        return self.process.is_alive()


def _led(function: Callable[..., None], arguments: Sequence[Any], output: Path | None) -> None:
    os.setpgid(0, 0)
    if output is not None:
        with output.open("ab") as file:
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    function(*arguments)


def command_line(*arguments: object) -> None:
    """``mtdnn`` with these arguments, to its exit."""
    import sys

    from mtdnn.cli.main import main

    sys.argv = ["mtdnn", *map(str, arguments)]
    main()


def signalled_twice(number: int) -> None:
    """Keep one signal for later, then get a second."""
    from mtdnn.interruptions import interruptions

    with interruptions.caught(), interruptions.later():
        os.kill(os.getpid(), number)
        assert interruptions.received == number
        os.kill(os.getpid(), number)
        time.sleep(60)


def until(condition: Callable[[], Any], *, timeout: float = 300) -> None:
    """Wait for it."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not come to pass")
        time.sleep(0.01)


def saved_step(folder: Path) -> int:
    """The step of the checkpoint that is taken up in a folder; -1 where there is none."""
    found = load_latest(folder)
    return -1 if found is None else found.step
