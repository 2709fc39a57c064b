"""What there is to do in an experiment: stages x tasks x fractions x seeds, each after what it starts from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from mtdnn.config import ExperimentConfig, StageConfig, TrainConfig
from mtdnn.errors import ConfigError

NO_FRACTION: Sequence[float | None] = (None,)


@dataclass(frozen=True)
class Cell:
    """One model to train and evaluate.

    :param upstream: the cell whose weights it starts from.
    """

    system: str
    stage: StageConfig
    tasks: tuple[str, ...]
    fraction: float | None
    seed: int
    upstream: "Cell | None" = None

    @property
    def path(self) -> Path:
        """``<system>/<stage>/<task>/<fraction>/<seed>`` below the run's folder."""
        task = "joint" if self.stage.kind == "joint" else self.tasks[0]
        fraction = "full" if self.fraction is None else f"{self.fraction:g}"
        return Path(self.system, self.stage.name, task, fraction, str(self.seed))

    @property
    def heads(self) -> dict[str, str]:
        """Every task that it is evaluated on, and the task whose head answers: the same, or another of its own."""
        others = {asked: task for task in self.tasks for asked in self.stage.also_evaluate.get(task, ())}
        return {**{task: task for task in self.tasks}, **others}

    @property
    def also(self) -> dict[str, str]:
        """Those of them that it is not trained for."""
        return {asked: task for asked, task in self.heads.items() if asked not in self.tasks}

    @property
    def root(self) -> "Cell":
        """Where its weights come from in the end: itself, or the first of the cells before it."""
        return self if self.upstream is None else self.upstream.root

    def __str__(self) -> str:
        return str(self.path)


def choose(
    cells: Sequence[Cell], *, only: str | None = None, seeds: Sequence[int] = (), fractions: Sequence[float] = ()
) -> list[Cell]:
    """The cells that fit every condition given.

    :param only: a pattern of ``<system>/<stage>/<task>/<fraction>/<seed>`` or of its beginning, with ``*``.
    :raises ConfigError: when none does.
    """
    found = [
        cell
        for cell in cells
        if (only is None or fnmatch(str(cell), only) or fnmatch(str(cell), f"{only.rstrip('/')}/*"))
        and (not seeds or cell.seed in seeds)
        and (not fractions or cell.fraction in fractions)
    ]
    if not found:
        given = {"--only": only, "--seeds": list(seeds), "--fractions": list(fractions)}
        told = ", ".join(f"{name} {value}" for name, value in given.items() if value)
        raise ConfigError(f"{told}: no cell fits; there are, for example, {', '.join(map(str, cells[:3]))}")
    return found


def plan_cells(config: ExperimentConfig) -> list[Cell]:
    """Every cell of an experiment, each after the one it starts from."""
    cells: list[Cell] = []
    for system, stages in config.systems.items():
        by_stage: dict[str, list[Cell]] = {}
        for stage in stages:
            earlier = by_stage.get(stage.from_ or "", [])
            made = list(_cells_of(system, stage, stage.seeds or config.seeds, earlier))
            by_stage[stage.name] = made
            cells += made
    return cells


def _cells_of(system: str, stage: StageConfig, seeds: Sequence[int], earlier: Sequence[Cell]) -> Iterator[Cell]:
    groups = [tuple(stage.tasks)] if stage.kind == "joint" else [(task,) for task in stage.tasks]
    for tasks in groups:
        for fraction in stage.fractions or NO_FRACTION:
            for seed in [0] if stage.kind == "cosine" else seeds:
                same = [c for c in earlier if c.seed == seed] or [c for c in earlier if c.seed == earlier[0].seed]
                fitting = [c for c in same if c.stage.kind == "joint" or c.tasks == tasks]
                if stage.from_ is not None and not fitting:
                    raise ConfigError(f"systems.{system}: stage '{stage.name}' has no '{stage.from_}' for {tasks[0]}")
                starts = [c for c in fitting if c.fraction == fraction] or fitting
                if len(starts) > 1:
                    there = ", ".join(f"{c.fraction:g}" for c in starts)
                    raise ConfigError(
                        f"systems.{system}: stage '{stage.name}' could start from any of the fractions {there} of "
                        f"'{stage.from_}': give it fractions that '{stage.from_}' has"
                    )
                yield Cell(system, stage, tasks, fraction, seed, starts[0] if starts else None)


def train_config(config: ExperimentConfig, cell: Cell) -> TrainConfig:
    """The stage's training options over the experiment's; small fractions have their own."""
    chosen = cell.stage.train.over(config.train)
    if cell.fraction is not None and cell.fraction <= cell.stage.few_shot.up_to:
        chosen = cell.stage.few_shot.options.over(chosen)
    return chosen
