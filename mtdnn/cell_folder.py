"""What the folder of a cell holds: whose work it is, its result and predictions, and what went wrong."""

import json
import platform
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock, Timeout

import mtdnn
from mtdnn.errors import ConfigError, RunError
from mtdnn.evaluate import Evaluation
from mtdnn.files import write_json_atomically, write_lines

LOGS = ("log.txt", "error.txt")  # the last that is there is told


@dataclass(frozen=True)
class CellFolder:
    """One cell's work.

    :param inputs: everything that can change its result, as JSON has it.
    """

    path: Path
    inputs: Mapping[str, Any]

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def result(self) -> dict[str, Any] | None:
        """The result of a cell that is done.

        :raises ConfigError: when the folder holds another configuration's.
        """
        path = self.path / "results.json"
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._same_configuration(found["inputs"])
        return found

    @contextmanager
    def work(self) -> Iterator[None]:
        """While entered, the folder is this process's; half-done work of another configuration is refused.

        What goes wrong stands in ``error.txt`` too.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        trouble = self.path / "error.txt"
        with alone(self.path):
            try:
                self._claim()
                yield
            except Exception:
                trouble.write_text(traceback.format_exc(), encoding="utf-8")
                raise
            trouble.unlink(missing_ok=True)

    def finish(self, result: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> None:
        """Write predictions and result."""
        for each in evaluations:
            write_lines(self.path / f"predictions-{each.task}-{each.split}.jsonl", each.rows())
        write_json_atomically(self.path / "results.json", {**result, "versions": versions(), "inputs": self.inputs})
        self.tidy()

    def tidy(self) -> None:
        """Delete what a cell that is done no longer needs; a kill may have left it."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)

    def hint(self) -> str:
        """Where to read what went wrong; nothing where there is no log."""
        logs = [self.path / name for name in LOGS if (self.path / name).is_file()]
        return f" (see {logs[-1]})" if logs else ""

    def _claim(self) -> None:
        path = self.path / "config.json"
        if path.is_file():
            self._same_configuration(json.loads(path.read_text(encoding="utf-8")))
        write_json_atomically(path, self.inputs)

    def _same_configuration(self, found: Mapping[str, Any]) -> None:
        if changed := differences(found, json.loads(json.dumps(self.inputs))):
            raise ConfigError(
                f"{self.path} holds work of another configuration: {'; '.join(changed)}. Give another --out, restore "
                "the configuration, or delete that folder to do it again"
            )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While entered, no other process works in the folder; RunError when one does."""
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(f"{folder}: another process is at work there; wait for it, or end it") from error
    try:
        yield
    finally:
        lock.release()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, key: str = "") -> list[str]:
    """``key: old -> new`` for everything that is not the same."""
    found = []
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, key=f"{key}{name}.")
        elif a != b:
            found.append(f"{key}{name}: {a} -> {b}")
    return found


def versions() -> dict[str, str]:
    return {
        "mtdnn": mtdnn.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }
