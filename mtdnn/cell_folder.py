"""What the folder of a cell holds: whose work it is, its result and predictions, and what went wrong."""

import json
import logging
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

import mtdnn
from mtdnn.errors import ConfigError
from mtdnn.evaluate import Evaluation
from mtdnn.files import alone, write_json_atomically, write_lines

log = logging.getLogger(__name__)
CHANGES = "changes.json"
LOGS = ("log.txt", "error.txt")  # the last that is there is told


@dataclass(frozen=True)
class CellFolder:
    """One cell's work.

    :param inputs: everything that can change its result, as JSON has it.
    :param allowed: keys of ``inputs`` in which half-done or finished work may differ.
    """

    path: Path
    inputs: Mapping[str, Any]
    allowed: Sequence[str] = ()

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
        facts = {"versions": versions(), "inputs": self.inputs, "changed": self._changes()}
        write_json_atomically(self.path / "results.json", {**result, **facts})
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
            for change in self._same_configuration(json.loads(path.read_text(encoding="utf-8"))):
                log.warning("%s goes on with another configuration: %s", self.path, change)
                write_json_atomically(self.path / CHANGES, [*self._changes(), str(change)])
        write_json_atomically(path, self.inputs)

    def _changes(self) -> list[str]:
        """What was allowed to change while the cell was trained."""
        path = self.path / CHANGES
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    def _same_configuration(self, found: Mapping[str, Any]) -> list["Difference"]:
        """The differences that are allowed; ConfigError with those that are not."""
        changed = differences(found, json.loads(json.dumps(self.inputs)))
        refused = [each for each in changed if not each.is_one_of(self.allowed)]
        if refused:
            keys = " ".join(f"--allow {each.key}" for each in refused)
            raise ConfigError(
                f"{self.path} holds work of another configuration: {'; '.join(map(str, refused))}. Give another "
                f"--out, restore the configuration, delete that folder to do it again, or go on all the same: {keys}"
            )
        return changed


@dataclass(frozen=True)
class Difference:
    """A value that is not the same in two configurations.

    :param key: names, joined with points.
    """

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"

    def is_one_of(self, keys: Sequence[str]) -> bool:
        """Whether the key, or one above it, is named."""
        return any(f"{self.key}.".startswith(f"{key}.") for key in keys)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, above: str = "") -> list[Difference]:
    """Everything that is not the same; None stands for what is not there."""
    found = []
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, above=f"{above}{name}.")
        elif a != b:
            found.append(Difference(f"{above}{name}", a, b))
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
