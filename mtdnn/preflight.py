"""Everything about the cells of an experiment that can be known before the first one is trained."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from mtdnn.config import ExperimentConfig, HeadStart
from mtdnn.data_store import DataStore
from mtdnn.encoder import layers, modules_up_to
from mtdnn.errors import ConfigError, faults_of, listed, unknown
from mtdnn.files import require_space
from mtdnn.heads.base import copy_head
from mtdnn.methods import build_methods
from mtdnn.plan import Cell, train_config
from mtdnn.pretrained import architecture_of
from mtdnn.regularizers.base import Attached

FLOAT32 = 4  # bytes
ADAM = 3  # the weights and two moments of each
CHECKPOINTS = 4  # the last two, the best, and the one that is being written


def check_cells(config: ExperimentConfig, cells: Sequence[Cell], data: DataStore) -> None:
    """ConfigError with all that would end a later cell: no data, nothing to start from, a site that is not there."""
    faults: dict[str, None] = {}
    for cell in cells:
        where = f"{config.place('systems', cell.system)}, stage '{cell.stage.name}'"
        for fault in _faults_of(config, cell, data):
            faults[f"{where}: {fault}"] = None
    if faults:
        raise ConfigError(listed(list(faults)))


def _faults_of(config: ExperimentConfig, cell: Cell, data: DataStore) -> Iterator[str]:
    yield from _start_faults(cell, data)
    if cell.stage.kind == "cosine":
        return
    for task in cell.tasks:
        if data.labelled(task, "train"):
            rows = cell.stage.max_train_rows or config.data.max_train_rows
            yield from faults_of(partial(data.train, task, fraction=cell.fraction, max_rows=rows, seed=cell.seed))
        else:
            yield f"task '{task}' has no labelled train split here"
    if train_config(config, cell).select != "last" and not any(data.labelled(t, "validation") for t in cell.tasks):
        yield f"no validation split of {', '.join(cell.tasks)} to select the best checkpoint by; say train.select: last"
    for task in cell.also:
        if not data.judged(task):
            splits = " and ".join(config.data.eval_splits)
            yield f"also_evaluate: task '{task}' has no labels here in {splits}, which data.eval_splits asks for"
    encoder = architecture_of(config.encoder)
    methods = build_methods(cell.stage, where=cell.stage.name)
    for name, attached in methods.regularizers.items():
        tasks = [data.registry[task] for task in cell.tasks if attached.tasks is None or task in attached.tasks]
        check = partial(attached.regularizer.check, tasks, data.tokenizer, max_length=config.encoder.max_length)
        yield from (f"{name}: {fault}" for fault in faults_of(check))
    sites = {name: attached.regularizer.sites for name, attached in methods.regularizers.items()}
    sites["objective"] = methods.objective.sites
    frozen = train_config(config, cell).freeze
    sites["train.freeze"] = (frozen,) if frozen not in (None, "encoder") else ()
    for name, wanted in sites.items():
        for site in wanted:
            for fault in faults_of(partial(modules_up_to, encoder, site)):
                yield f"{name}: {fault}"
    if train_config(config, cell).activation_checkpointing:
        yield from faults_of(partial(layers, encoder))
    if train_config(config, cell).evaluate == "teacher" and not any(
        attached.regularizer.keeps_teacher for attached in methods.regularizers.values()
    ):
        yield "train.evaluate: teacher needs a regularizer that keeps one, such as bregman"


def check_space(config: ExperimentConfig, cells: Sequence[Cell], folder: Path) -> None:
    """StorageError when the disk has no room for the models that are kept and the checkpoints of one training."""
    trained = [cell for cell in cells if cell.stage.kind != "cosine"]
    if trained:
        weights = sum(FLOAT32 * weight.numel() for weight in architecture_of(config.encoder).parameters())
        copies = max(ADAM + sum(each.regularizer.keeps_teacher for each in attached_of(cell)) for cell in trained)
        kept = sum(cell.stage.keeps_model for cell in trained)
        needed = weights * (kept + CHECKPOINTS * copies)
        require_space(folder, needed, purpose=f"{kept} models and up to {CHECKPOINTS} checkpoints at a time")


def attached_of(cell: Cell) -> Iterable[Attached]:
    return build_methods(cell.stage, where=cell.stage.name).regularizers.values()


def _start_faults(cell: Cell, data: DataStore) -> Iterator[str]:
    start, upstream = cell.stage.head, cell.upstream
    if upstream is not None and not upstream.stage.keeps_model:
        yield f"starts from '{upstream.stage.name}', which keeps no model; say save_model: true there"
    if not isinstance(start, HeadStart):
        return
    if upstream is None:
        yield f"head.from: {start.from_}: the stage starts from no other; say from: STAGE"
        return
    if start.from_ not in upstream.tasks:
        yield f"head.from: {unknown('task of the checkpoint', start.from_, upstream.tasks)}"
        return
    for task in cell.tasks:
        copy = partial(copy_head, data.head(start.from_), data.head(task), start.map, task=task, source=start.from_)
        yield from faults_of(copy)
