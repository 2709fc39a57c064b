"""What ``mtdnn check`` says of tasks and their data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtdnn.data.rows import BadRows
from mtdnn.data.sources import find_source
from mtdnn.data.units import Counts, Unit, read_units
from mtdnn.errors import ConfigError, DataError, MtdnnError
from mtdnn.heads.base import build_head
from mtdnn.repeats import repeats
from mtdnn.task_faults import task_faults
from mtdnn.tasks import TaskDef, TaskRegistry


@dataclass(frozen=True)
class SplitReport:
    """One split's facts."""

    task: str
    split: str
    counts: Counts
    units: int
    words: tuple[int, int]
    duplicates: int
    leaks: int
    targets: str

    def cells(self) -> tuple[str, ...]:
        left_out = self.counts.rows - self.counts.kept
        words = f"{self.words[0]}/{self.words[1]}"
        bad = self.counts.rejected
        numbers = (self.counts.rows, self.units, left_out, bad, words, self.duplicates, self.leaks)
        return (self.task, self.split, *map(str, numbers), self.targets)


@dataclass
class Findings:
    """Reports of what could be read, the faults of what could not, and the tasks without data at hand.

    :param wrong: what is wrong with definitions.
    :param warnings: what is doubtful and no fault: duplicates and contradictory targets inside a split.
    :param keys: the pair keys of each split that could be read, by task and split.
    """

    reports: list[SplitReport] = field(default_factory=list)
    keys: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def shared(self) -> list[str]:
        """In words: training examples of a task that stand in a validation or test split of another."""
        told = []
        for (task, split), keys in self.keys.items():
            for (other, place), held_out in self.keys.items():
                if split == "train" and place != "train" and other != task:
                    count = sum(number for key, number in keys.items() if key in held_out)
                    if count:
                        told.append(
                            f"leak: {count} training rows of '{task}' stand in the {place} split of '{other}'; "
                            "data.drop_leaks leaves them out where both are trained together"
                        )
        return told


def check_tasks(
    registry: TaskRegistry, names: Sequence[str] | None, *, data_dir: Path | None, bad_rows: BadRows = "stop"
) -> Findings:
    """Read every labelled split of the named tasks; without names, of all whose data is at hand."""
    findings = Findings()
    chosen = [registry.find(name, where="check") for name in names] if names else list(registry.values())
    for task in chosen:
        local = task.data.generated or (task.data.files and (data_dir or task.folder not in registry.folders[:1]))
        if not local and not names:
            findings.skipped.append(task.name)
            continue
        if faults := task_faults(task):
            findings.wrong += faults
        else:
            _check_splits(task, findings, data_dir, bad_rows)
    return findings


def _check_splits(task: TaskDef, findings: Findings, data_dir: Path | None, bad_rows: BadRows) -> None:
    layout = task.layout("files" if data_dir and task.data.files else None)
    units: dict[str, tuple[list[Unit], Counts]] = {}
    for split in layout.splits:
        try:
            source = find_source(task, split, layout=None, data_dir=data_dir)
            units[split] = read_units(source, build_head(task), bad_rows=bad_rows)
        except ConfigError as error:
            findings.wrong.append(str(error))
            return
        except DataError as error:
            findings.faults.append(str(error))
        except MtdnnError as error:
            findings.faults.append(f"task '{task.name}': {error}")
    keys = {split: Counter(key for unit in each for key in unit.pair_keys()) for split, (each, _) in units.items()}
    held_out = {key for split, each in keys.items() if split != "train" for key in each}
    for split, (each, counts) in units.items():
        findings.keys[task.name, split] = keys[split]
        findings.warnings += repeats(task, split, each)
        findings.reports.append(
            _report(task, split, each, counts, keys[split], held_out if split == "train" else set())
        )


def _report(
    task: TaskDef, split: str, units: Sequence[Unit], counts: Counts, keys: Counter[str], held_out: set[str]
) -> SplitReport:
    lengths = [sum(len(text.split()) for text in texts if text) for unit in units for texts in unit.texts]
    median, long = np.percentile(lengths, [50, 99])
    return SplitReport(
        task=task.name,
        split=split,
        counts=counts,
        units=len(units),
        words=(int(median), int(long)),
        duplicates=sum(count - 1 for count in keys.values()),
        leaks=sum(count for key, count in keys.items() if key in held_out),
        targets=build_head(task).summary([target for unit in units for target in unit.targets]),
    )
