"""Runs the cells of an experiment that are not done yet, and keeps the results of all."""

import logging
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from mtdnn.baseline import Constant, flat
from mtdnn.cell_folder import CellFolder, keys_of
from mtdnn.config import ExperimentConfig, TrainConfig
from mtdnn.data.tokenize import TaskSplit, tokenizer_name
from mtdnn.data_store import EVALUATED, DataStore, digest
from mtdnn.distributed import ALONE, Ranks, own_device
from mtdnn.encoder import Pool
from mtdnn.errors import (
    ConfigError,
    DataError,
    EncoderError,
    NonFiniteError,
    RunError,
    faults_of,
    listed,
    unknown,
)
from mtdnn.evaluate import Evaluation, bootstrap, evaluate
from mtdnn.files import alone, write_json_atomically, write_lines, write_manifest, write_text_atomically, writing
from mtdnn.heads.base import copy_head
from mtdnn.interruptions import interruptions
from mtdnn.methods import Methods, build_methods
from mtdnn.metrics.base import METRICS
from mtdnn.model import MODEL_FORMAT, MultiTaskModel, check_input, load_model
from mtdnn.model_card import CARD
from mtdnn.plan import Cell, plan_cells, train_config
from mtdnn.preflight import check_cells, check_space
from mtdnn.pretrained import architecture_of, fresh_model, tokenizer_of, weights_of
from mtdnn.run_card import run_card
from mtdnn.runner import Executor, Here, Work, run_graph
from mtdnn.task_faults import task_faults
from mtdnn.tasks import SPLITS, TaskRegistry, check_names
from mtdnn.trackers import TrackedEvents, Trackers, check_trackers, flat_facts
from mtdnn.tracking import Events
from mtdnn.train_plan import Plan, TrainOptions, counted
from mtdnn.trainer import Trainer
from mtdnn.zero_shot import cosine_evaluation

log = logging.getLogger(__name__)
AGAIN = "\nThe same command tries these again"
LASTING = {each.exit_code for each in (ConfigError, DataError, EncoderError, NonFiniteError)}  # come again
# By pool; raised when the same configuration would give other numbers, as since the last layer is shortened.
NUMERICS_VERSION: Mapping[Pool, int] = {"mean": 1, "native": 2, "first": 2}


def check_experiment(config: ExperimentConfig, registry: TaskRegistry) -> None:
    """Everything that can be wrong before any data is read, all at once."""
    faults: list[str] = []
    for system, stages in config.systems.items():
        for index, stage in enumerate(stages):
            where = f"systems.{system}[{index}]"
            faults += faults_of(partial(check_names, stage.tasks, registry, where=f"{where}.tasks"))
            faults += faults_of(partial(build_methods, stage, where=where))
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
        self.on_step, self.ranks, self.allowed, self.trackers = on_step, ranks, tuple(allowed), tuple(trackers)
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
            return self._run(executor or Here(), chosen, threads)

    def _run(self, place: Executor, chosen: Sequence[Cell] | None, threads: int | None) -> list[dict[str, Any]]:
        self.check()
        self.worked_on = pending = self.pending(chosen)
        check_cells(self.config, pending, self.data)
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

    def tidy(self) -> None:
        """Delete what a kill left in cells that are done."""
        for cell in self.cells:
            if self.folder(cell).done:
                self.folder(cell).tidy()

    def write_about(self) -> None:
        """What the report needs besides results: its name, the order of its stages, its tasks' targets, the texts."""
        about = {
            "name": self.config.name,
            "description": self.config.description,
            "places": [[system, stage.name] for system, stages in self.config.systems.items() for stage in stages],
            "training": self.training_targets(),
        }
        folder = self.out / "examples"
        folder.mkdir(parents=True, exist_ok=True)
        write_json_atomically(self.out / "experiment.json", about)
        for task in self.config.tasks():
            for split in EVALUATED:
                path = folder / f"{task}-{split}.jsonl"
                if self.data.labelled(task, split) and not path.is_file():
                    units = self.data.read(task, split)
                    write_lines(path, ({"uid": unit.uid, "texts": unit.texts} for unit in units))
        for task in self.config.tasks():
            for split in SPLITS:
                if self.data.labelled(task, split):
                    self.data.write_rejected(task, split, self.out / "rejected")

    def training_targets(self) -> dict[str, dict[str, float]]:
        """Each task's most frequent and mean target, of all its training rows."""
        tasks = [task for task in self.config.tasks() if self.data.head(task).constant_answer]
        labelled = [task for task in tasks if self.data.labelled(task, "train")]
        return {task: Constant.of(flat(self.data.split(task, "train").targets)).facts() for task in labelled}

    def told(self, failed: Mapping[Path, Exception], waiting: Sequence[Path], *, of: int) -> str:
        by_path = {cell.path: cell for cell in self.cells}
        texts = [f"{path}: {error}{self.folder(by_path[path]).hint()}" for path, error in failed.items()]
        texts += [f"{path}: not begun, for what it starts from failed" for path in waiting]
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
        splits = {
            f"{task}/{split}": self.data.split(task, split).facts.content_hash
            for task in cell.tasks
            for split in SPLITS
            if self.data.labelled(task, split)
        }
        return {
            "numerics": NUMERICS_VERSION[self.config.encoder.pool],
            "encoder": self.config.encoder.model_dump(),
            "data": {**self.config.data.model_dump(exclude={"bad_rows"}), "held_out": self.data.held_out_digest},
            "stage": counted(cell.stage.model_dump(exclude={"seeds", "fractions", "name", "save_model"})),
            "train": counted(asdict(self.options(cell))),
            "tasks": {task: digest(self.registry[task].model_dump(mode="json")) for task in cell.tasks},
            "content": splits,
            "fraction": cell.fraction,
            "seed": cell.seed,
            "upstream": digest(self.inputs(cell.upstream)) if cell.upstream else None,
            **({"reads": reads} if (reads := self._reads_of(cell)) else {}),
        }

    def _reads_of(self, cell: Cell) -> dict[str, dict[str, str]]:
        """The hash of what each regularizer reads besides its options, such as a teacher's weights."""
        key = digest(cell.stage.regularizers)
        if key not in self._reads:
            found = {name: each.regularizer.content() for name, each in self.methods(cell).regularizers.items()}
            self._reads[key] = {name: content for name, content in found.items() if content}
        return self._reads[key]

    def options(self, cell: Cell) -> TrainOptions:
        return train_options(train_config(self.config, cell))

    def run_cell(self, cell: Cell) -> None:
        """Train and evaluate one cell; its last checkpoint is taken up where there is one."""
        log.info("%s", cell)
        started = time.monotonic()
        folder = self.folder(cell)
        with folder.work() if self.ranks.first else nullcontext():
            evaluations, facts = self._cosine(cell) if cell.stage.kind == "cosine" else self._train(cell)
            result = {
                "system": cell.system,
                "stage": cell.stage.name,
                "tasks": list(cell.tasks),
                "fraction": cell.fraction,
                "seed": cell.seed,
                "metrics": self._metrics(evaluations),
                **facts,
                "wall_seconds": time.monotonic() - started,
            }
            if self.ranks.first:
                if cell.stage.keeps_model and folder.model.is_dir():
                    self.write_card(cell, {**result, **folder.facts()})
                folder.finish(result, evaluations)
        self.ranks.wait()

    def training_data(self, cell: Cell) -> tuple[dict[str, TaskSplit], dict[str, dict[str, int]]]:
        """What the cell trains on, and how many rows were left out why, by task."""
        limit = cell.stage.max_train_rows or self.config.data.max_train_rows
        train, counts = {}, {}
        for task in cell.tasks:
            train[task], counts[task] = self.data.train(task, fraction=cell.fraction, max_rows=limit, seed=cell.seed)
        return train, counts

    def methods(self, cell: Cell) -> Methods:
        return build_methods(cell.stage, where=f"systems.{cell.system}.{cell.stage.name}")

    def plan(self, cell: Cell, train: Mapping[str, TaskSplit]) -> Plan:
        """The steps of the cell's training."""
        methods = self.methods(cell)
        return Plan(train, methods.sampler, self.options(cell), cell.seed, methods.objective.num_updates)

    def trainer(
        self, cell: Cell, model: MultiTaskModel, train: Mapping[str, TaskSplit], *, keep: bool = True
    ) -> Trainer:
        """The cell's trainer.

        :param keep: write checkpoints and events, and take up the last checkpoint.
        """
        methods = self.methods(cell)
        labelled = [task for task in cell.tasks if self.data.labelled(task, "validation")]
        return Trainer(
            model.to(self.device),  # type: ignore[arg-type]
            train,
            {task: self.data.split(task, "validation") for task in labelled},
            objective=methods.objective,
            regularizers=methods.regularizers,
            sampler=methods.sampler,
            options=self.options(cell),
            seed=cell.seed,
            pad_id=self.data.tokenizer.pad_token_id,
            task_weights=cell.stage.task_weights,
            folder=self.folder(cell).checkpoint if keep else None,
            events=self._events(cell) if keep and self.ranks.first else None,
            on_step=partial(self.on_step, cell) if self.on_step else None,
            ranks=self.ranks,
        )

    def _events(self, cell: Cell) -> Events:
        """Where the cell's training is shown."""
        folder = self.folder(cell)
        if not self.trackers:
            return Events(folder.events)
        facts = {"cell": str(cell), "tasks": ", ".join(cell.tasks), "fraction": cell.fraction, "seed": cell.seed}
        options = {f"train.{name}": value for name, value in asdict(self.options(cell)).items()}
        told = flat_facts({**facts, "encoder": self.config.encoder.path, **options})
        return TrackedEvents(folder.events, Trackers(self.trackers, self.config.name, told, folder.path))

    def _train(self, cell: Cell) -> tuple[list[Evaluation], dict[str, Any]]:
        train, counts = self.training_data(cell)
        model = self.start(cell)
        trainer = self.trainer(cell, model, train)
        progress = trainer.run()
        if cell.stage.keeps_model and self.ranks.first:
            self.save_model(model, self.folder(cell).model)
        evaluations = [
            evaluate(model, self.data.split(task, split), pad_id=self.data.tokenizer.pad_token_id, ranks=self.ranks)
            for task in cell.tasks
            for split in EVALUATED
            if self.data.labelled(task, split)
        ]
        facts = {
            "train_seconds": progress.seconds,
            "steps": progress.step,
            "selected_step": progress.best_step or progress.step,
            "data": counts,
            "history": progress.history,
            "skipped": progress.skipped,
            "diagnostics": trainer.diagnostics.samples,
            "warnings": trainer.diagnostics.warned,
        }
        return evaluations, facts

    def start(self, cell: Cell) -> MultiTaskModel:
        """The weights a cell starts from: its upstream's, or the encoder's with fresh heads."""
        tasks = [self.registry[task] for task in cell.tasks]
        upstream = self.upstream(cell)
        if upstream is None:
            return fresh_model(self.config.encoder, tasks, seed=cell.seed)
        source = load_model(self.folder(upstream).model)
        where, length = str(self.folder(upstream).model), self.config.encoder.max_length
        check_input(source, self.data.tokenizer, max_length=length, where=where)
        model = source.with_tasks(tasks, seed=cell.seed)
        start = cell.stage.head
        if start == "fresh":
            model.reset_heads(cell.tasks, seed=cell.seed)
        elif start is not None:
            for task in cell.tasks:
                copy_head(source.head(start.from_), model.head(task), start.map, task=task, source=start.from_)
        return model

    def save_model(self, model: MultiTaskModel, folder: Path) -> None:
        staged = folder.with_name(".staged-model")
        with writing(folder):
            shutil.rmtree(staged, ignore_errors=True)
            model.config.tokenizer = tokenizer_name(self.data.tokenizer)
            model.save_pretrained(staged)
            tokenizer_of(self.config.encoder).save_pretrained(staged)  # ours may bear what it last tokenised with
            write_manifest(staged, format=MODEL_FORMAT)
            shutil.rmtree(folder, ignore_errors=True)
            staged.rename(folder)

    def write_card(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """The model's card, which tells its results; the manifest leaves it out, so that a person may edit it."""
        text = run_card(
            result,
            [self.registry[task] for task in cell.tasks],
            name=f"{self.config.name}: {cell}",
            start=str(start) if (start := self.upstream(cell)) else None,
            device=self.device,
        )
        write_text_atomically(self.folder(cell).model / CARD, text)

    def _cosine(self, cell: Cell) -> tuple[list[Evaluation], dict[str, Any]]:
        (task,) = cell.tasks
        evaluations = [
            cosine_evaluation(
                weights_of(self.config.encoder),
                self.data.tokenizer,
                self.data.source(task, split),
                self.data.head(task),
                max_length=self.config.encoder.max_length,
                bad_rows=self.config.data.bad_rows,
            )
            for split in EVALUATED
            if self.data.labelled(task, split)
        ]
        return evaluations, {}

    def _metrics(self, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
        """By task and split: every metric, and the first one's bootstrap interval."""
        found: dict[str, Any] = {}
        for each in evaluations:
            first = next(iter(each.metrics))
            interval = bootstrap(METRICS.get(first, where="metrics"), each)
            units = {"units": len(each.uids), "units_that_count": each.num_counted}
            entry = {"values": each.metrics, "interval_95": interval, **units}
            found.setdefault(each.task, {})[each.split] = entry
        return found


def train_options(config: TrainConfig) -> TrainOptions:
    known = {field.name for field in fields(TrainOptions)}
    return TrainOptions(**{name: value for name, value in config.given().items() if name in known})
