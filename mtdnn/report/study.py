"""The runs of a report, and how their cells are grouped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtdnn.report.figures import Panel
from mtdnn.report.table import Table
from mtdnn.runs import FinishedCell, Run, Setting, share

SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Group:
    """One system's runs of one task at one stage and fraction, over seeds."""

    system: str
    stage: str
    task: str
    fraction: float | None
    cells: Sequence[FinishedCell]

    @property
    def metric(self) -> str:
        """The task's first metric."""
        splits = self.cells[0].result["metrics"][self.task]
        return str(next(iter(next(iter(splits.values()))["values"])))

    @property
    def kind(self) -> str:
        return self.cells[0].kind

    @property
    def name(self) -> str:
        return f"{self.system} · {self.stage}"

    @property
    def own_system(self) -> str:
        """As the experiment calls it, where several runs are read."""
        return str(self.cells[0].result["system"])

    @property
    def encoder(self) -> str | None:
        """A hub's name or a path; None where the results do not tell."""
        found: str | None = self.cells[0].result["inputs"].get("encoder", {}).get("path")
        return found

    @property
    def setting(self) -> Setting:
        return self.task, share(self.fraction)

    @property
    def place(self) -> str:
        """The task, and the fraction where there is one."""
        return " at ".join(filter(None, [self.task, self.shown_fraction()]))

    @property
    def one_start(self) -> bool:
        """Whether several seeds come from one model of an earlier stage, be it by way of others."""
        starts = [cell.result.get("root") or cell.result["inputs"].get("upstream") for cell in self.cells]
        return len(starts) > 1 and None not in starts and len(set(starts)) == 1

    @property
    def chose_on_validation(self) -> bool:
        return any(cell.result["inputs"].get("train", {}).get("select") == "best" for cell in self.cells)

    def metrics(self, split: str) -> list[str]:
        """All of the task's metrics."""
        entry = self.cells[0].result["metrics"][self.task].get(split)
        return list(entry["values"]) if entry else []

    def num_examples(self, split: str) -> int | None:
        """Units of the split; None where the results do not tell."""
        found: int | None = self.cells[0].result["metrics"][self.task].get(split, {}).get("units")
        return found

    def contents(self, split: str) -> set[str]:
        """Hashes of what it was evaluated on; one, when all is well."""
        found = (cell.result["inputs"].get("content", {}).get(f"{self.task}/{split}") for cell in self.cells)
        return {each for each in found if each}

    def values(self, split: str, metric: str | None = None) -> dict[int, float]:
        """The metric by seed."""
        found = {cell.seed: cell.value(self.task, split, metric or self.metric) for cell in self.cells}
        return {seed: value for seed, value in found.items() if value is not None}

    @cached_property
    def models(self) -> dict[int, Path]:
        """Where each seed's model is; systems whose inputs are the same share it."""
        return {cell.seed: cell.folder.resolve() for cell in self.cells}

    def shown_fraction(self) -> str:
        return "" if self.fraction is None else f"{100 * self.fraction:g} %"


@dataclass(frozen=True)
class Study:
    """Everything that a report is made of.

    :param texts: whether examples are shown with their texts.
    """

    runs: Sequence[Run]
    texts: bool = True

    @property
    def cells(self) -> list[FinishedCell]:
        return [cell for run in self.runs for cell in run.cells]

    @cached_property
    def groups(self) -> list[Group]:
        found: dict[tuple[Any, ...], list[FinishedCell]] = {}
        for cell in self.cells:
            for task in cell.evaluated:
                found.setdefault((cell.system, cell.stage, task, cell.fraction, cell.kind), []).append(cell)
        return [
            Group(system, stage, task, fraction, sorted(cells, key=lambda cell: cell.seed))
            for (system, stage, task, fraction, _), cells in found.items()
        ]

    @cached_property
    def last(self) -> list[Group]:
        """Of each system, task and fraction the last stage: what the system comes to."""
        return list({(group.system, group.task, group.fraction): group for group in self.groups}.values())

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(cell.system for cell in self.cells))

    def run_of(self, group: Group) -> Run:
        return next(run for run in self.runs if run.holds(group.cells[0]))

    def settings(self) -> Iterator[tuple[Setting, list[Group]]]:
        """The last groups of each task and fraction, in the systems' order."""
        found: dict[Setting, list[Group]] = {}
        for group in self.last:
            found.setdefault(group.setting, []).append(group)
        yield from found.items()

    def best_split(self, group: Group) -> str:
        """The split that decides: test where it has labels."""
        return "test" if group.values("test") else "validation"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report.

    :param text: paragraphs, plain text.
    :param open: whether the page shows it unfolded.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    panels: Sequence[Panel] = ()
    open: bool = False
