"""Runs pieces of work that wait for one another: here, in processes side by side, or on a cluster.

The order comes from :class:`graphlib.TopologicalSorter`, the cluster from ``submitit``; nothing is scheduled here.
"""

import logging
import multiprocessing
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from graphlib import TopologicalSorter
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mtdnn.errors import ConfigError, MtdnnError, NonFiniteError
from mtdnn.interruptions import Interrupted, interruptions

log = logging.getLogger(__name__)
Key = TypeVar("Key", bound=Hashable)
Work = Callable[[], None]
PAUSE = 0.2  # seconds between two looks at what runs
LAST_PAUSE, PATIENCE = 1.0, 60.0  # seconds between two looks at cancelled jobs, and until they are left to the cluster
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

    def goes_on_after(self, error: Exception) -> bool:
        """Whether what does not need the failed work is done all the same."""
        return True

    @contextmanager
    def open(self) -> Iterator[None]:
        """While entered, work can be submitted."""
        yield

    @abstractmethod
    def submit(self, work: Work) -> Handle:
        """Begin a piece of work, which can be pickled."""


class Here(Executor):
    """In this process, at once.

    :param together: other processes do the same work, and wait for this one's part of it: an error ends all, unless all
        have it.
    """

    alone = True

    def __init__(self, *, together: bool = False):
        self.together = together

    def goes_on_after(self, error: Exception) -> bool:
        return not self.together or isinstance(error, NonFiniteError)  # which all find in the same sum

    def submit(self, work: Work) -> Handle:
        future: Future[None] = Future()
        try:
            work()
            future.set_result(None)
        except Exception as error:
            forget_work(error)
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
        self.processes = Children()
        SERVER.set_forkserver_preload(["mtdnn.experiment"])

    @contextmanager
    def open(self) -> Iterator[None]:
        """Ended by a signal, it ends its processes, which save where they are."""
        try:
            yield
        except Interrupted:
            self.processes.end()
            raise
        finally:
            self.pool.shutdown(cancel_futures=True)

    def submit(self, work: Work) -> Handle:
        return self.pool.submit(self.processes.do, work)


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
        self.jobs: list[Any] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Left by a signal or an error, it cancels its jobs, which the same command would find at work."""
        try:
            yield
        except BaseException:
            self._cancel()
            raise

    def submit(self, work: Work) -> Handle:
        with interruptions.later():  # else a job could be begun that is not known here
            job = self.executor.submit(work)
            self.jobs.append(job)
        interruptions.check()
        return job  # type: ignore[no-any-return]

    def _cancel(self) -> None:
        left = [job for job in self.jobs if not job.done()]
        log.warning("cancelled: jobs %s", told_ids(left))
        for job in left:
            job.cancel(check=False)
        deadline = time.monotonic() + PATIENCE
        while left := [job for job in left if not job.done(force_check=True)]:
            if time.monotonic() > deadline:
                log.warning("still there: jobs %s; the same command goes on when they have ended", told_ids(left))
                return
            time.sleep(LAST_PAUSE)


def told_ids(jobs: Sequence[Any]) -> str:
    return ", ".join(job.job_id for job in jobs)


class WorkerError(RuntimeError):
    """A process ended before its work did."""

    def __init__(self, status: int):
        super().__init__(ending(status))
        if status > 1:
            self.exit_code = status


class Children:
    """Processes that several threads begin and wait for.

    multiprocessing asks after all children when it begins one; of two threads that read one child's status at the same
    time, one would see it end with 255.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[Any] = []
        self._ended = False

    def do(self, work: Work) -> None:
        """Do the work in a fresh process; WorkerError when it dies."""
        process = SERVER.Process(target=run_or_exit, args=(work,))
        with self._lock:
            if self._ended:
                return
            process.start()
            self._running.append(process)
        wait([process.sentinel])
        with self._lock:
            process.join()
            self._running.remove(process)
        if process.exitcode:
            raise WorkerError(process.exitcode)

    def end(self) -> None:
        """Tell those at work to save and end; no more are begun."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


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

    :returns: what failed and why, and what was not begun because of that: all the rest where the executor ends at once.
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
                    if not executor.goes_on_after(error):
                        return failed, [key for key in needs if key not in begun]
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


def forget_work(error: BaseException) -> None:
    """Let go of what the failed work held: its frames' variables, among them a model and its gradients."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            traceback.clear_frames(each.__traceback__)
            waiting += [each.__cause__, each.__context__]
