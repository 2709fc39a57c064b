"""Runs pieces of work that wait for one another: here, in processes side by side, or on a cluster.

The order comes from :class:`graphlib.TopologicalSorter`, the cluster from ``submitit``; nothing is scheduled here.
"""

import logging
import multiprocessing
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mtdnn.errors import ConfigError, MtdnnError
from mtdnn.interruptions import Interrupted

log = logging.getLogger(__name__)
Key = TypeVar("Key", bound=Hashable)
Work = Callable[[], None]
PAUSE = 0.2  # seconds between two looks at what runs
SERVER = multiprocessing.get_context("forkserver")  # imports once what every process needs


class Handle(Protocol):
    """What ``concurrent.futures`` and ``submitit`` give for a piece of work."""

    def done(self) -> bool: ...

    def result(self) -> Any: ...


class Executor(ABC):
    """Where work is done.

    :ivar alone: the work is done in this process, one piece at a time.
    """

    alone = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """While entered, work can be submitted."""
        yield

    @abstractmethod
    def submit(self, work: Work) -> Handle:
        """Begin a piece of work, which can be pickled."""


class Here(Executor):
    """In this process, at once."""

    alone = True

    def submit(self, work: Work) -> Handle:
        future: Future[None] = Future()
        try:
            work()
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)
        return future


class Processes(Executor):
    """Each piece in a process of its own, some of them side by side on this machine.

    :param jobs: how many side by side, at least 1.
    """

    def __init__(self, jobs: int):
        if jobs < 1:
            raise ConfigError(f"--jobs must be at least 1, got {jobs}")
        self.pool = ThreadPoolExecutor(jobs)
        self.processes: list[Any] = []
        SERVER.set_forkserver_preload(["mtdnn.experiment"])

    @contextmanager
    def open(self) -> Iterator[None]:
        """Ended by a signal, it ends its processes, which save where they are."""
        try:
            yield
        except Interrupted:
            for process in self.processes:
                process.terminate()
            raise
        finally:
            self.pool.shutdown(cancel_futures=True)

    def submit(self, work: Work) -> Handle:
        return self.pool.submit(in_own_process, work, self.processes)


class Cluster(Executor):
    """As jobs of a cluster, through ``submitit``; its logs go to ``folder``.

    :param name: ``slurm``, or ``local`` for processes of this machine.
    :param options: submitit's parameters: ``timeout_min``, ``mem_gb``, ``gpus_per_node``, ``slurm_partition``, ...
    :raises ConfigError: when submitit is not installed, or does not know the cluster or an option.
    """

    def __init__(self, name: str, *, folder: Path, options: Mapping[str, Any]):
        try:
            import submitit
        except ImportError:
            raise ConfigError("--cluster needs submitit: pip install 'mtdnn[cluster]'") from None
        try:
            self.executor = submitit.AutoExecutor(folder=str(folder), cluster=name)
            self.executor.update_parameters(**options)
        except (RuntimeError, ValueError, TypeError, NameError) as error:
            raise ConfigError(f"--cluster {name}: {error}") from error

    def submit(self, work: Work) -> Handle:
        return self.executor.submit(work)  # type: ignore[no-any-return]


class WorkerError(RuntimeError):
    """A process ended before its work did."""

    def __init__(self, status: int):
        super().__init__(ending(status))
        if status > 1:
            self.exit_code = status


def in_own_process(work: Work, running: list[Any] | None = None) -> None:
    """Do the work in a fresh process; WorkerError when it dies.

    :param running: the processes at work, this one among them while it is.
    """
    process = SERVER.Process(target=run_or_exit, args=(work,))
    process.start()
    running = [] if running is None else running
    running.append(process)
    process.join()
    running.remove(process)
    if process.exitcode:
        raise WorkerError(process.exitcode)


def run_or_exit(work: Work) -> None:
    """Do the work of a process; where it ends by an error of the user's or a signal, its status tells which."""
    try:
        work()
    except (Interrupted, MtdnnError) as ended:
        sys.exit(ended.exit_code)


def ending(exitcode: int) -> str:
    """How a process ended, in words."""
    if exitcode > 0:
        return f"its process ended with status {exitcode}"
    name = signal.Signals(-exitcode).name
    hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def run_graph(
    needs: Mapping[Key, Sequence[Key]], work: Callable[[Key], Work], executor: Executor
) -> tuple[dict[Key, Exception], list[Key]]:
    """Do every piece after those that it needs; what fails stops only what needs it.

    :returns: what failed and why, and what was not begun because of that.
    """
    sorter: TopologicalSorter[Key] = TopologicalSorter(needs)
    sorter.prepare()
    running: dict[Key, Handle] = {}
    failed: dict[Key, Exception] = {}
    begun: list[Key] = []
    with executor.open():
        while True:
            for key in sorter.get_ready():
                begun.append(key)
                running[key] = executor.submit(work(key))
            if not running:
                return failed, [key for key in needs if key not in begun]
            for key in ended(running):
                if error := error_of(running.pop(key)):
                    failed[key] = error
                    log.error("failed: %s: %s", key, error)
                else:
                    sorter.done(key)
                    log.info("done: %s (%d of %d)", key, len(begun) - len(running) - len(failed), len(needs))


def ended(running: Mapping[Key, Handle]) -> list[Key]:
    """Those that are done, after waiting for the first."""
    while not (found := [key for key, handle in running.items() if handle.done()]):
        time.sleep(PAUSE)
    return found


def error_of(handle: Handle) -> Exception | None:
    try:
        handle.result()
    except Exception as error:
        return error
    return None
