"""What a run's folder holds: every finished cell with its results and predictions, and the texts of its examples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mtdnn.errors import DataError

CELLS = "*/*/*/*/*/results.json"  # system / stage / task / fraction / seed, as in mtdnn.plan
OVERVIEW = "results.json"
Setting = tuple[str, float | None]
"""A task, and of how much of its training data; see :func:`share`."""


def share(fraction: float | None) -> float | None:
    """The fraction; None for all of the data, however it was said."""
    return None if fraction == 1.0 else fraction


@dataclass(frozen=True)
class Planned:
    """A task that a stage of a system is to be trained for, or evaluated on after training."""

    system: str
    stage: str
    task: str
    fraction: float | None

    @property
    def setting(self) -> Setting:
        return self.task, share(self.fraction)


@dataclass(frozen=True)
class FinishedCell:
    """A cell of a run, or one that shares another cell's folder because its inputs are the same.

    :param system: as in the experiment; with the run's name in front where several runs are read.
    """

    folder: Path
    system: str
    result: Mapping[str, Any]

    @property
    def identity(self) -> tuple[Any, ...]:
        """What it is in its experiment, wherever it lies."""
        names = ("system", "stage", "tasks", "fraction", "seed")
        return tuple(str(self.result[name]) for name in names)

    @property
    def stage(self) -> str:
        return str(self.result["stage"])

    @property
    def kind(self) -> str:
        return str(self.result["inputs"]["stage"]["kind"])

    @property
    def from_start(self) -> bool:
        """Whether it starts from the encoder and not from another stage."""
        return self.result["inputs"]["upstream"] is None

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it was trained on."""
        return tuple(self.result["tasks"])

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Every task that it has metrics of: its own, and those that one of its heads answered besides."""
        return tuple(self.result["metrics"])

    @property
    def model(self) -> Path:
        """Where its model is, when it was kept."""
        return self.folder / "model"

    @property
    def fraction(self) -> float | None:
        return self.result["fraction"]  # type: ignore[no-any-return]

    @property
    def seed(self) -> int:
        return int(self.result["seed"])

    def value(self, task: str, split: str, metric: str) -> float | None:
        entry = self.result["metrics"].get(task, {}).get(split)
        return None if entry is None else entry["values"].get(metric)

    def predictions(self, task: str, split: str) -> list[dict[str, Any]]:
        """One mapping per unit: ``uid``, ``prediction``, where it is known ``target``; none without a file."""
        return _read_lines(self.folder / f"predictions-{task}-{split}.jsonl")


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path
    cells: Sequence[FinishedCell]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def results(self) -> list[dict[str, Any]]:
        """Every cell's result, its system called as here."""
        return [{**cell.result, "system": cell.system} for cell in self.cells]

    @cached_property
    def experiment(self) -> Mapping[str, Any]:
        """``experiment.json``: the name and description of the experiment; empty for a folder without one."""
        path = self.folder / "experiment.json"
        return _read(path) if path.is_file() else {}

    @cached_property
    def planned(self) -> list[Planned]:
        """What the experiment trains, in its order; empty where that is not known."""
        return [Planned(*each) for each in self.experiment.get("planned") or []]

    @cached_property
    def _ids(self) -> frozenset[int]:
        return frozenset(map(id, self.cells))

    def holds(self, cell: FinishedCell) -> bool:
        """Whether it is one of this run's cells."""
        return id(cell) in self._ids

    def start_of(self, cell: FinishedCell) -> FinishedCell | None:
        """The cell whose weights a cell started from, as :func:`mtdnn.plan.plan_cells` chose it.

        None where it started from the encoder, and where that cell is not there.
        """
        stage = cell.result["inputs"]["stage"].get("from_")
        earlier = [each for each in self.cells if (each.system, each.stage) == (cell.system, stage)]
        fitting = [each for each in earlier if each.kind == "joint" or each.tasks == cell.tasks]
        fitting = [each for each in fitting if each.seed == cell.seed] or fitting
        fitting = [each for each in fitting if each.fraction == cell.fraction] or fitting
        return next(iter(fitting), None)

    def texts(self, task: str, split: str) -> dict[str, list[list[str]]]:
        """The texts of each unit by uid; empty without a file."""
        return {row["uid"]: row["texts"] for row in _read_lines(self.folder / "examples" / f"{task}-{split}.jsonl")}


def read_run(folder: Path, *, prefix: str = "") -> Run:
    """Every finished cell below a run's folder, in the experiment's order of systems and stages where that is known.

    :raises DataError: when there is none.
    """
    overview = _read(folder / OVERVIEW) if (folder / OVERVIEW).is_file() else []
    read = [FinishedCell(path.parent, "", _read(path)) for path in sorted(folder.glob(CELLS))]
    read += [FinishedCell(folder / each["same_as"], "", each) for each in overview if "same_as" in each]
    cells = {cell.identity: replace(cell, system=prefix + cell.result["system"]) for cell in read}
    if not cells:
        raise DataError(f"{folder}: no finished cells there; give the folder that mtdnn run --out wrote")
    about = Run(folder, []).experiment.get("places", [])
    places = [*map(tuple, about), *((each["system"], each["stage"]) for each in overview)]
    order = {place: number for number, place in enumerate(dict.fromkeys(places))}
    systems = {system for system, _ in order}

    def rank(cell: FinishedCell) -> tuple[int, bool]:
        unknown = -1 if cell.result["system"] in systems else len(order)  # a stage that the system had once comes first
        return order.get((cell.result["system"], cell.stage), unknown), not cell.from_start

    return Run(folder, sorted(cells.values(), key=rank))


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Several runs; then each system is called ``<run>/<system>``."""
    if len(folders) == 1:
        return [read_run(folders[0])]
    names = [folder.resolve().name for folder in folders]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(
            f"two runs are called {', '.join(sorted(twice))}; rename a folder, so that they can be told apart"
        )
    return [read_run(folder, prefix=f"{name}/") for folder, name in zip(folders, names, strict=True)]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); delete it, and the same run makes it again") from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); delete its folder, and the same run makes it again") from error
