"""Runs the cells of an experiment that are not done yet, and keeps the results of all."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from mtdnn.baseline import Constant, flat
from mtdnn.cell_folder import RESOLVED, CellFolder, keys_of, without_resolved
from mtdnn.cell_run import CellRun, Setting, methods_of, options_of
from mtdnn.config import ExperimentConfig
from mtdnn.data_store import DataStore, digest
from mtdnn.distributed import ALONE, Ranks, own_device
from mtdnn.encoder import Pool
from mtdnn.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    EncoderError,
    NonFiniteError,
    RunError,
    faults_of,
    listed,
    unknown,
)
from mtdnn.files import alone, write_json_atomically, write_lines
from mtdnn.interruptions import interruptions
from mtdnn.methods import build_methods, full_methods
from mtdnn.optim import full_optimization
from mtdnn.plan import Cell, plan_cells
from mtdnn.preflight import check_cells, check_space
from mtdnn.pretrained import architecture_of, content_of
from mtdnn.published import kept_published
from mtdnn.runner import Executor, Here, Work, run_graph
from mtdnn.task_faults import check_answers, task_faults
from mtdnn.tasks import SPLITS, TaskRegistry, check_names
from mtdnn.trackers import check_trackers
from mtdnn.train_plan import TrainOptions, counted

log = logging.getLogger(__name__)
AGAIN = "\nThe same command tries these again"
COME_AGAIN = (ConfigError, DataError, EncoderError, CheckpointError, NonFiniteError)
LASTING = {each.exit_code for each in COME_AGAIN}
APART = {"seeds", "fractions", "name", "save_model", "also_evaluate"}  # of a stage: counted by cell, or not at all
# By pool; raised when the same configuration would give other numbers, as since the last layer is shortened.
NUMERICS_VERSION: Mapping[Pool, int] = {"mean": 1, "native": 2, "first": 2}


def check_experiment(config: ExperimentConfig, registry: TaskRegistry) -> None:
    """Everything that can be wrong before any data is read, all at once."""
    faults: list[str] = []
    for system, stages in config.systems.items():
        for index, stage in enumerate(stages):
            place = partial(config.place, "systems", system, index)
            faults += faults_of(partial(check_names, stage.tasks, registry, where=place("tasks")))
            for task, others in stage.also_evaluate.items():
                where = place("also_evaluate", task)
                faults += faults_of(partial(check_answers, task, others, registry, where=where))
            faults += faults_of(partial(build_methods, stage, where=place()))
    for name in config.tasks():
        if name in registry:
            faults += task_faults(registry[name])
    if faults:
        raise ConfigError(listed(list(dict.fromkeys(faults))))


@dataclass(frozen=True)
class CellWork:
    """A cell as work for another process: the experiment is built again there, and its log goes to ``log.txt``.

    :param threads: of torch; None for its own choice.
    """

    config: ExperimentConfig
    registry: TaskRegistry
    out: Path
    data_dir: Path | None
    path: Path
    threads: int | None
    allowed: Sequence[str] = ()
    trackers: Sequence[str] = ()

    def __call__(self) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        job = Experiment(
            self.config,
            self.registry,
            out=self.out,
            data_dir=self.data_dir,
            allowed=self.allowed,
            trackers=self.trackers,
        )
        (cell,) = (cell for cell in job.cells if cell.path == self.path)
        folder = job.folder(cell).path
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("a", encoding="utf-8") as file, redirect_stderr(file):
            logging.basicConfig(stream=file, format="%(asctime)s %(message)s", level=logging.WARNING)
            logging.getLogger("mtdnn").setLevel(logging.INFO)
            with interruptions.caught(ignored=(signal.SIGINT,)):
                job.run_cell(cell)


class Experiment:
    """Runs what is missing of an experiment and writes each result as it comes.

    Cells whose inputs are the same are trained once; they share the folder of the first.

    :param out: the run's folder, ``runs/<name>`` by default.
    :param ranks: this process among those that train each model together.
    :param allowed: keys in which work that is there may differ from the configuration (:class:`CellFolder`).
    :param trackers: names of accelerate's trackers that are told what TensorBoard shows.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        registry: TaskRegistry,
        *,
        out: Path,
        data_dir: Path | None = None,
        device: torch.device | None = None,
        on_step: Callable[[Cell, int], None] | None = None,
        ranks: Ranks = ALONE,
        allowed: Sequence[str] = (),
        trackers: Sequence[str] = (),
    ):
        check_experiment(config, registry)
        check_trackers(trackers)
        self.config, self.registry, self.out = config, registry, out
        self.cells = plan_cells(config)
        self.data = DataStore(config, registry, data_dir=data_dir)
        self.device = device or own_device()
        self.ranks, self.allowed, self.trackers = ranks, tuple(allowed), tuple(trackers)
        self.setting = Setting(config, registry, self.data, self.device, ranks, self.trackers, on_step)
        self.worked_on: list[Cell] | None = None
        self._inputs: dict[Path, dict[str, Any]] = {}
        self._reads: dict[str, dict[str, dict[str, str]]] = {}

    def run(
        self, *, executor: Executor | None = None, chosen: Sequence[Cell] | None = None, threads: int | None = None
    ) -> list[dict[str, Any]]:
        """Train every chosen cell that is not done, and what it starts from; the results of all cells.

        :param chosen: every cell by default.
        :param threads: of each process that is not this one.
        :raises RunError: after all that could be done, when a cell failed.
        """
        with alone(self.out) if self.ranks.first else nullcontext():
            return self._run(executor or Here(together=not self.ranks.alone), chosen, threads)

    def _run(self, place: Executor, chosen: Sequence[Cell] | None, threads: int | None) -> list[dict[str, Any]]:
        self.worked_on = pending = self.ready(chosen)
        check_space(self.config, pending, self.out)
        self.ranks.wait()
        if self.ranks.first:
            self.write_about()
            self.tidy()
        needs = {cell.path: [up.path] if (up := self.upstream(cell)) in pending else [] for cell in pending}
        by_path = {cell.path: cell for cell in pending}

        def work(path: Path) -> Work:
            if place.alone:
                return partial(self.run_cell, by_path[path])
            own = (self.config, self.registry, self.out, self.data.data_dir)
            return CellWork(*own, path, threads, self.allowed, self.trackers)

        failed, waiting = run_graph(needs, work, place)
        if failed:
            raise RunError(self.told(failed, waiting, of=len(pending)), failed.values())
        return self.results()

    def check(self) -> None:
        """That the encoder is there, and every row of the data in order."""
        architecture_of(self.config.encoder)
        self.data.check(self.config.tasks())

    def ready(self, chosen: Sequence[Cell] | None = None) -> list[Cell]:
        """The cells that are to be done, after everything is checked that would end one of them."""
        self.check()
        pending = self.pending(chosen)
        check_cells(self.config, pending, self.data)
        return pending

    def tidy(self) -> None:
        """Delete what a kill left in cells that are done."""
        for cell in self.cells:
            if self.folder(cell).done:
                self.folder(cell).tidy()

    def write_about(self) -> None:
        """What the report needs besides results: its stages, its tasks' targets, published figures, the texts."""
        about = {
            "name": self.config.name,
            "description": self.config.description,
            "places": [[system, stage.name] for system, stages in self.config.systems.items() for stage in stages],
            "planned": self.planned(),
            "training": self.training_targets(),
            "published": kept_published(self.config, self.registry),
        }
        folder = self.out / "examples"
        folder.mkdir(parents=True, exist_ok=True)
        write_json_atomically(self.out / "experiment.json", about)
        for task in self.config.tasks():
            for split in self.data.judged(task):
                path = folder / f"{task}-{split}.jsonl"
                if not path.is_file():
                    units = self.data.read(task, split)
                    write_lines(path, ({"uid": unit.uid, "texts": unit.texts} for unit in units))
        for task in self.config.tasks():
            for split in self.data.splits(task):
                self.data.write_rejected(task, split, self.out / "rejected")

    def planned(self) -> list[tuple[str, str, str, float | None]]:
        """System, stage, task and fraction of all that comes of training."""
        trained = [cell for cell in self.cells if cell.stage.kind != "cosine"]
        found = [(cell.system, cell.stage.name, task, cell.fraction) for cell in trained for task in cell.heads]
        return list(dict.fromkeys(found))

    def training_targets(self) -> dict[str, dict[str, float]]:
        """Each task's most frequent and mean target, of all its training rows."""
        tasks = [task for task in self.config.trained_tasks() if self.data.head(task).constant_answer]
        labelled = [task for task in tasks if self.data.labelled(task, "train")]
        return {task: Constant.of(flat(self.data.split(task, "train").targets)).facts() for task in labelled}

    def told(self, failed: Mapping[Path, Exception], waiting: Sequence[Path], *, of: int) -> str:
        by_path = {cell.path: cell for cell in self.cells}
        texts = [f"{path}: {error}{self.folder(by_path[path]).hint()}" for path, error in failed.items()]
        why = "what it starts from failed" if self.ranks.alone else "the processes end together; --only begins it"
        texts += [f"{path}: not begun, for {why}" for path in waiting]
        again = "" if all(getattr(error, "exit_code", 0) in LASTING for error in failed.values()) else AGAIN
        return f"{len(failed)} of {of} cells failed:\n{listed(texts)}{again}"

    def check_folders(self, chosen: Sequence[Cell] | None) -> None:
        """That work which is there is this configuration's, before anything is trained beside it.

        :raises ConfigError: for each chosen cell whose is not, and for allowed keys that nothing depends on.
        """
        wanted = self.wanted(chosen)
        keys = {key for cell in wanted for key in keys_of(self.inputs(cell))}
        keys |= {f"train.{option.name}" for option in fields(TrainOptions)}
        faults = [f"--allow: {unknown('key', key, sorted(keys))}" for key in self.allowed if key not in keys]
        faults += [fault for cell in wanted for fault in faults_of(self.folder(cell).check)]
        if faults:
            raise ConfigError(listed(faults))

    def wanted(self, chosen: Sequence[Cell] | None = None) -> list[Cell]:
        """The chosen cells and those that they start from; same inputs once."""
        wanted: dict[Path, None] = {}
        for cell in self.cells if chosen is None else chosen:
            each: Cell | None = self.owner(cell)
            while each is not None:
                wanted[each.path] = None
                each = self.upstream(each)
        return [cell for cell in self.cells if cell.path in wanted]

    def pending(self, chosen: Sequence[Cell] | None = None) -> list[Cell]:
        """Those of them that are not done; ConfigError where work of another configuration is in the way."""
        self.check_folders(chosen)
        return [cell for cell in self.wanted(chosen) if self.result(cell) is None]

    def results(self) -> list[dict[str, Any]]:
        """Those of all cells that are done with this configuration."""
        return [result for cell in self.cells if (result := self.result(cell)) is not None]

    def owner(self, cell: Cell) -> Cell:
        """The first cell with the same inputs, which is trained for all of them."""
        return self._owners[cell.path]

    def upstream(self, cell: Cell) -> Cell | None:
        """The cell whose weights are the start."""
        return None if cell.upstream is None else self.owner(cell.upstream)

    @cached_property
    def _owners(self) -> dict[Path, Cell]:
        first: dict[str, Cell] = {}
        keys = {cell.path: digest([self.inputs(cell), cell.stage.keeps_model]) for cell in self.cells}
        return {cell.path: first.setdefault(keys[cell.path], cell) for cell in self.cells}

    def folder(self, cell: Cell) -> CellFolder:
        return CellFolder(self.out / self.owner(cell).path, self.inputs(cell), self.allowed)

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """A cell's result when it is done with this configuration."""
        found = self.folder(cell).result()
        shared = {} if self.owner(cell) is cell else {"same_as": str(self.owner(cell))}
        return found and {**found, "system": cell.system, "stage": cell.stage.name, **shared}

    def inputs(self, cell: Cell) -> dict[str, Any]:
        """Everything that can change a cell's result.

        What becomes of bad rows does not: where there are any in the content, only skipping them has a result.
        """
        if cell.path not in self._inputs:
            self._inputs[cell.path] = self._all_inputs(cell)
        return self._inputs[cell.path]

    def _all_inputs(self, cell: Cell) -> dict[str, Any]:
        own = [(task, split) for task in cell.tasks for split in SPLITS if self.data.labelled(task, split)]
        read = [*own, *((task, split) for task in cell.also for split in self.data.judged(task))]
        train = counted(asdict(options_of(self.config, cell)))
        said = {
            "numerics": NUMERICS_VERSION[self.config.encoder.pool],
            "encoder": self.config.encoder.model_dump(),
            "data": {
                **counted(self.config.data.model_dump(exclude={"bad_rows"})),
                "held_out": self.data.held_out_digest,
            },
            "stage": counted(cell.stage.model_dump(exclude=APART)),
            "train": train,
            "tasks": {task: digest(self.registry[task].model_dump(mode="json")) for task in cell.heads},
            "content": {f"{task}/{split}": self.data.split(task, split).facts.content_hash for task, split in read},
            "fraction": cell.fraction,
            "seed": cell.seed,
            "upstream": digest(without_resolved(self.inputs(cell.upstream))) if cell.upstream else None,
            **({"also_evaluate": cell.also} if cell.also else {}),
            **({"reads": reads} if (reads := self._reads_of(cell)) else {}),
        }
        return {**said, RESOLVED: self._resolved(cell, train)}

    def _resolved(self, cell: Cell, train: Mapping[str, Any]) -> dict[str, Any]:
        """What the configuration's values stand for in this version and on this machine, each at its value's place."""
        found = {
            "stage": full_methods(cell.stage, where=cell.stage.name),
            "train": full_optimization(train),
            "encoder": self._encoder_content,
            "upstream": digest(self.inputs(cell.upstream)[RESOLVED]) if cell.upstream else None,
        }
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def _encoder_content(self) -> str | None:
        return content_of(self.config.encoder)

    def _reads_of(self, cell: Cell) -> dict[str, dict[str, str]]:
        """The hash of what each regularizer reads besides its options, such as a teacher's weights."""
        key = digest(cell.stage.regularizers)
        if key not in self._reads:
            found = {name: each.regularizer.content() for name, each in methods_of(cell).regularizers.items()}
            self._reads[key] = {name: content for name, content in found.items() if content}
        return self._reads[key]

    def at(self, cell: Cell) -> CellRun:
        """The work of one cell."""
        return CellRun(self.setting, cell, self.upstream(cell), self.folder)

    def run_cell(self, cell: Cell) -> None:
        self.at(cell).run()
