"""What the folder of a cell holds: whose work it is, its result and predictions, and what went wrong."""

import json
import logging
import platform
import re
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
from mtdnn.checkpoint import has_checkpoint
from mtdnn.errors import ConfigError
from mtdnn.evaluate import Evaluation
from mtdnn.files import alone, write_json_atomically, write_lines

log = logging.getLogger(__name__)
CHANGES = "changes.json"
FIXED = ("stage.tasks", "train.freeze", "train.layer_decay", "train.optimizer.type")  # what half-done work depends on
DIGEST = re.compile(r"[0-9a-f]{16,}")  # of what is too long to be told
RESOLVED = "resolved"  # what a configuration stands for without saying so
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

    @property
    def done(self) -> bool:
        return self._result.is_file()

    @property
    def fits(self) -> bool:
        """Whether there is no work of another configuration, or in allowed keys alone."""
        return all(each.is_one_of(self.allowed) for each in self.changed())

    def changed(self) -> list["Difference"]:
        """In what the configuration differs from that of the work that is there."""
        if self.done:
            found = json.loads(self._result.read_text(encoding="utf-8"))["inputs"]
        elif self._config.is_file():
            found = json.loads(self._config.read_text(encoding="utf-8"))
        else:
            return []
        all_of_them = differences(found, json.loads(json.dumps(self.inputs)))
        said = [each for each in all_of_them if not each.is_one_of([RESOLVED])]
        resolved = [each for each in all_of_them if each.is_one_of([RESOLVED])]
        return [*said, *(each for each in resolved if not any(each.follows_from(other) for other in said))]

    def check(self) -> None:
        """That work which is there fits; a result that is allowed to differ is told.

        :raises ConfigError: when the folder holds another configuration's.
        """
        changed = self.changed()
        fixed = [each for each in changed if each.is_one_of(FIXED)]
        if fixed and not self.done and has_checkpoint(self.checkpoint):
            raise ConfigError(
                f"{self.path} is half done, and this cannot change in the middle of a training: "
                f"{'; '.join(map(str, fixed))}. Give another --out, restore the configuration, or delete that folder"
            )
        if refused := [each for each in changed if not each.is_one_of(self.allowed)]:
            keys = " ".join(f"--allow {each.key}" for each in refused)
            allow = "take its result as it is" if self.done else "go on all the same"
            raise ConfigError(
                f"{self.path} holds work of another configuration: {'; '.join(map(str, refused))}. Give another "
                f"--out, restore the configuration, delete that folder to do it again, or {allow}: {keys}"
            )
        if changed and self.done:
            told = "; ".join(map(str, changed))
            log.warning("%s was done with another configuration, and stays as it is: %s", self.path, told)

    @property
    def _result(self) -> Path:
        return self.path / "results.json"

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    def result(self) -> dict[str, Any] | None:
        """The result of a cell that is done, with this configuration but for allowed keys; else None."""
        if not self.done or not self.fits:
            return None
        found: dict[str, Any] = json.loads(self._result.read_text(encoding="utf-8"))
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
        write_json_atomically(self._result, {**result, **self.facts()})
        self.tidy()

    def facts(self) -> dict[str, Any]:
        """What a result keeps beside what was measured."""
        return {"versions": versions(), "inputs": self.inputs, "changed": self._changes()}

    def tidy(self) -> None:
        """Delete what a cell that is done no longer needs; a kill may have left it."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)

    def hint(self) -> str:
        """Where to read what went wrong; nothing where there is no log."""
        logs = [self.path / name for name in LOGS if (self.path / name).is_file()]
        return f" (see {logs[-1]})" if logs else ""

    def _claim(self) -> None:
        self.check()
        for change in self.changed():
            log.warning("%s goes on with another configuration: %s", self.path, change)
            write_json_atomically(self.path / CHANGES, [*self._changes(), str(change)])
        write_json_atomically(self._config, self.inputs)

    def _changes(self) -> list[str]:
        """What was allowed to change while the cell was trained."""
        path = self.path / CHANGES
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


@dataclass(frozen=True)
class Difference:
    """A value that is not the same in two configurations.

    :param key: names, joined with points.
    """

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        if all(DIGEST.fullmatch(str(value)) for value in (self.old, self.new)):
            return f"{self.key}: not the same any more"
        return f"{self.key}: {self.old} -> {self.new}"

    def follows_from(self, said: "Difference") -> bool:
        """Whether what is resolved differs because of what is said at the same place."""
        place, section = said.key.split("."), self.key.split(".")[1:3]
        return all(a == b for a, b in zip(place, section, strict=False))

    def is_one_of(self, keys: Sequence[str]) -> bool:
        """Whether the key, or one above it, is named."""
        return any(f"{self.key}.".startswith(f"{key}.") for key in keys)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, above: str = "") -> list[Difference]:
    """Everything that is not the same; None stands for what is not there.

    Of what is ``resolved``, only what both record is compared.
    """
    found = []
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if name == RESOLVED:
            a, b = recorded(a or {}, beside=b or {}), recorded(b or {}, beside=a or {})
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, above=f"{above}{name}.")
        elif a != b:
            found.append(Difference(f"{above}{name}", a, b))
    return found


def without_resolved(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says."""
    return {name: value for name, value in inputs.items() if name != RESOLVED}


def recorded(found: Mapping[str, Any], *, beside: Mapping[str, Any]) -> dict[str, Any]:
    """What both have: an option that came later, or weights that cannot be told, outdate nothing."""
    return {
        name: recorded(value, beside=beside[name])
        if isinstance(value, dict) and isinstance(beside[name], dict)
        else value
        for name, value in found.items()
        if name in beside
    }


def keys_of(inputs: Mapping[str, Any], *, above: str = "") -> Iterator[str]:
    """Every key, as :class:`Difference` names it."""
    for name, value in inputs.items():
        yield f"{above}{name}"
        if isinstance(value, Mapping):
            yield from keys_of(value, above=f"{above}{name}.")


def versions() -> dict[str, str]:
    return {
        "mtdnn": mtdnn.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }
