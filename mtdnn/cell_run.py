"""The work of one cell: its data, its model, its training, and what came of it."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mtdnn.cell_folder import CellFolder
from mtdnn.config import ExperimentConfig, TrainConfig
from mtdnn.data.tokenize import TaskSplit, tokenizer_name
from mtdnn.data_store import DataStore
from mtdnn.distributed import ALONE, Ranks
from mtdnn.evaluate import Evaluation, bootstrap
from mtdnn.files import write_manifest, write_text_atomically, writing
from mtdnn.heads.base import copy_head
from mtdnn.methods import Methods, build_methods
from mtdnn.metrics.base import METRICS
from mtdnn.model import MODEL_FORMAT, MultiTaskModel, check_input, load_model
from mtdnn.model_card import CARD
from mtdnn.plan import Cell, train_config
from mtdnn.pretrained import fresh_model, tokenizer_of, weights_of
from mtdnn.run_card import run_card
from mtdnn.tasks import TaskDef, TaskRegistry
from mtdnn.trackers import TrackedEvents, Trackers, flat_facts
from mtdnn.tracking import Events
from mtdnn.train_plan import Plan, TrainOptions
from mtdnn.trainer import Trainer
from mtdnn.zero_shot import cosine_evaluation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What the cells of an experiment share.

    :param ranks: this process among those that train each model together.
    :param trackers: names of accelerate's trackers that are told what TensorBoard shows.
    :param on_step: called with the cell and the step's number after each step.
    """

    config: ExperimentConfig
    registry: TaskRegistry
    data: DataStore
    device: torch.device
    ranks: Ranks = ALONE
    trackers: Sequence[str] = ()
    on_step: Callable[[Cell, int], None] | None = None


class CellRun:
    """Trains and evaluates one cell.

    :param upstream: the cell whose weights are the start.
    :param folder_of: a cell's folder, with its checkpoints, model and results.
    """

    def __init__(self, setting: Setting, cell: Cell, upstream: Cell | None, folder_of: Callable[[Cell], CellFolder]):
        self.setting, self.cell, self.upstream = setting, cell, upstream
        self.folder = folder_of(cell)
        self.source = folder_of(upstream).model if upstream else None
        self.config, self.data, self.ranks = setting.config, setting.data, setting.ranks
        self.stage, self.tasks, self.seed = cell.stage, cell.tasks, cell.seed
        self.methods, self.options = methods_of(cell), options_of(setting.config, cell)

    @property
    def definitions(self) -> list[TaskDef]:
        return [self.setting.registry[task] for task in self.tasks]

    def run(self) -> None:
        """Train and evaluate one cell; its last checkpoint is taken up where there is one."""
        log.info("%s", self.cell)
        started = time.monotonic()
        with self.folder.work() if self.ranks.first else nullcontext():
            evaluations, facts = self._cosine() if self.stage.kind == "cosine" else self._train()
            doubts = [text for each in evaluations for text in each.doubts()]
            for text in doubts:
                log.warning("%s", text)
            result = {
                "system": self.cell.system,
                "stage": self.stage.name,
                "tasks": list(self.tasks),
                "fraction": self.cell.fraction,
                "seed": self.seed,
                "root": str(self.cell.root) if self.cell.upstream else None,
                "metrics": self._metrics(evaluations),
                **facts,
                "warnings": [*facts.get("warnings", []), *doubts],
                "wall_seconds": time.monotonic() - started,
            }
            if self.ranks.first:
                if self.stage.keeps_model and self.folder.model.is_dir():
                    self.write_card({**result, **self.folder.facts()})
                self.folder.finish(result, evaluations)
        self.ranks.wait()

    def training_data(self) -> tuple[dict[str, TaskSplit], dict[str, dict[str, int]]]:
        """What the cell trains on, and how many rows were left out why, by task."""
        limit = self.stage.max_train_rows or self.config.data.max_train_rows
        fraction, train, counts = self.cell.fraction, {}, {}
        for task in self.tasks:
            train[task], counts[task] = self.data.train(task, fraction=fraction, max_rows=limit, seed=self.seed)
        return train, counts

    def plan(self, train: Mapping[str, TaskSplit]) -> Plan:
        """The steps of the cell's training."""
        return Plan(train, self.methods.sampler, self.options, self.seed, self.methods.objective.num_updates)

    def trainer(self, model: MultiTaskModel, train: Mapping[str, TaskSplit], *, keep: bool = True) -> Trainer:
        """The cell's trainer.

        :param keep: write checkpoints and events, and take up the last checkpoint.
        """
        labelled = [task for task in self.tasks if self.data.labelled(task, "validation")]
        return Trainer(
            model.to(self.setting.device),  # type: ignore[arg-type]
            train,
            {task: self.data.split(task, "validation") for task in labelled},
            objective=self.methods.objective,
            regularizers=self.methods.regularizers,
            sampler=self.methods.sampler,
            options=self.options,
            seed=self.seed,
            pad_id=self.data.tokenizer.pad_token_id,
            task_weights=self.stage.task_weights,
            folder=self.folder.checkpoint if keep else None,
            events=self._events() if keep and self.ranks.first else None,
            on_step=partial(self.setting.on_step, self.cell) if self.setting.on_step else None,
            ranks=self.ranks,
        )

    def _events(self) -> Events:
        """Where the cell's training is shown."""
        folder = self.folder
        if not self.setting.trackers:
            return Events(folder.events)
        facts = {
            "cell": str(self.cell),
            "tasks": ", ".join(self.tasks),
            "fraction": self.cell.fraction,
            "seed": self.seed,
        }
        options = {f"train.{name}": value for name, value in asdict(self.options).items()}
        told = flat_facts({**facts, "encoder": self.config.encoder.path, **options})
        return TrackedEvents(folder.events, Trackers(self.setting.trackers, self.config.name, told, folder.path))

    def _train(self) -> tuple[list[Evaluation], dict[str, Any]]:
        train, counts = self.training_data()
        model = self.start()
        trainer = self.trainer(model, train)
        progress = trainer.run()
        if self.stage.keeps_model and self.ranks.first:
            self.save_model(model, self.folder.model)
        evaluations = [
            self.evaluate(trainer, self.data.split(task, split), head=head)
            for task, head in self.cell.heads.items()
            for split in self.data.judged(task)
        ]
        facts = {
            "train_seconds": progress.seconds,
            "steps": progress.step,
            "task_updates": trainer.plan.task_updates(progress.epoch),
            "selected_step": progress.best_step or progress.step,
            "data": counts,
            "history": progress.history,
            "skipped": progress.skipped,
            "diagnostics": trainer.diagnostics.samples,
            "warnings": trainer.diagnostics.warned,
            "precision": trainer.precision,
            "eval_precision": trainer.eval_precision,
        }
        return evaluations, facts

    def evaluate(self, trainer: Trainer, data: TaskSplit, *, head: str) -> Evaluation:
        """What the model says of a split, by the head of its task or of another."""
        metrics = self.setting.registry[data.task].metrics
        return replace(trainer.evaluate(replace(data, task=head), metrics=metrics), task=data.task)

    def start(self) -> MultiTaskModel:
        """The weights a cell starts from: its upstream's, or the encoder's with fresh heads."""
        if self.source is None:
            return fresh_model(self.config.encoder, self.definitions, seed=self.seed)
        source, length = load_model(self.source), self.config.encoder.max_length
        check_input(source, self.data.tokenizer, max_length=length, where=str(self.source))
        model = source.with_tasks(self.definitions, seed=self.seed)
        start = self.stage.head
        if start == "fresh":
            model.reset_heads(self.tasks, seed=self.seed)
        elif start is not None:
            for task in self.tasks:
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

    def write_card(self, result: Mapping[str, Any]) -> None:
        """The model's card, which tells its results; the manifest leaves it out, so that a person may edit it."""
        text = run_card(
            result,
            self.definitions,
            also=[self.setting.registry[task] for task in self.cell.also],
            name=f"{self.config.name}: {self.cell}",
            start=str(self.upstream) if self.upstream else None,
            device=self.setting.device,
        )
        write_text_atomically(self.folder.model / CARD, text)

    def _cosine(self) -> tuple[list[Evaluation], dict[str, Any]]:
        (task,) = self.tasks
        evaluations = [
            cosine_evaluation(
                weights_of(self.config.encoder),
                self.data.tokenizer,
                self.data.source(task, split),
                self.data.head(task),
                max_length=self.config.encoder.max_length,
                bad_rows=self.config.data.bad_rows,
            )
            for split in self.data.judged(task)
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


def methods_of(cell: Cell) -> Methods:
    return build_methods(cell.stage, where=f"systems.{cell.system}.{cell.stage.name}")


def options_of(config: ExperimentConfig, cell: Cell) -> TrainOptions:
    return train_options(train_config(config, cell))


def train_options(config: TrainConfig) -> TrainOptions:
    known = {field.name for field in fields(TrainOptions)}
    return TrainOptions(**{name: value for name, value in config.given().items() if name in known})
