"""A trainer over the toy tasks, as small as it can be with every kind of task in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import TASKS, write_toy_data

from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import TaskSplit, load_split
from mtdnn.heads.base import build_head
from mtdnn.objectives.standard import Standard
from mtdnn.regularizers.base import Attached
from mtdnn.regularizers.bregman import Bregman
from mtdnn.regularizers.smart import Smart
from mtdnn.samplers.round_robin import RoundRobin
from mtdnn.tasks import TaskDef, load_tasks
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer
from mtdnn.train_plan import TrainOptions
from mtdnn.trainer import Trainer

NAMES = [task.name for task in TASKS]
Toy = tuple[list[TaskDef], dict[str, dict[str, TaskSplit]]]


def toy_data(folder: Path, **sizes: Any) -> Toy:
    """(task definitions, splits by task) of the toy data."""
    write_toy_data(folder, **sizes)
    registry, tokenizer = load_tasks(folder), tiny_tokenizer()
    splits = {
        split: {
            name: load_split(find_source(registry[name], split), build_head(registry[name]), tokenizer, max_length=32)
            for name in NAMES
        }
        for split in ("train", "validation")
    }
    return [registry[name] for name in NAMES], splits


def both() -> dict[str, Attached]:
    return {"smart": Attached(regularizer=Smart()), "bregman": Attached(regularizer=Bregman(momentum=0.9))}


def trainer_for(
    toy: Toy,
    folder: Path | None = None,
    *,
    tasks: list[str] = NAMES,
    regularizers: Mapping[str, Attached] | None = None,
    objective: Any = None,
    **options: Any,
) -> Trainer:
    """:param regularizers: SMART and Bregman by default."""
    definitions, splits = toy
    passed = {name: options.pop(name) for name in ("on_step", "events", "ranks") if name in options}
    return Trainer(
        tiny_model(definitions, seed=1),
        {name: splits["train"][name] for name in tasks},
        {name: splits["validation"][name] for name in tasks},
        objective=objective or Standard(),
        regularizers=both() if regularizers is None else regularizers,
        sampler=RoundRobin(),
        options=TrainOptions(**{"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **options}),
        seed=1,
        pad_id=0,
        folder=folder,
        **passed,
    )
