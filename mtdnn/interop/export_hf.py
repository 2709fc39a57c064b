"""One task of a model as a stock sequence classifier of transformers.

With the pool ``native`` the pooler is the dense layer of the family's own classifier, so that exporting is renaming.
"""

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from mtdnn.errors import ConfigError
from mtdnn.families import STOCK, StockClassifier
from mtdnn.files import new_folder, require_new
from mtdnn.heads.base import StockHead
from mtdnn.interop.exported import Trained, difference
from mtdnn.model import MultiTaskModel
from mtdnn.tasks import TaskDef

TOLERANCE = 1e-5  # of logits; beyond it the head is another function
REMEDY = "--to onnx takes any pool"


def export_hf(model: Path, out: Path, *, tasks: list[str]) -> None:
    """Write a folder that ``AutoModelForSequenceClassification`` and ``pipeline`` load.

    :param model: a model folder of ours.
    :param out: the folder to write; whole or not there.
    :param tasks: one name; empty for the only task of a model that has one.
    :raises ConfigError: when the model, or the task's head, has no stock counterpart, with the reason.
    """
    require_new(out)
    trained = Trained.load(model)
    named = trained.tasks(tasks)
    if len(named) > 1:
        raise ConfigError(f"--task: a stock classifier has one task; say which of {', '.join(t.name for t in named)}")
    stock = stock_model(trained.model, named[0])
    check_same(trained, stock, named[0])
    with new_folder(out) as staged:
        stock.save_pretrained(staged)
        trained.tokenizer.save_pretrained(staged)


def stock_model(model: MultiTaskModel, task: TaskDef) -> PreTrainedModel:
    """The family's stock classifier with our weights under its names.

    :raises ConfigError: when there is none, with the reason.
    """
    kind, pool = model.encoder.config.model_type, model.config.pool
    if pool != "native":
        raise ConfigError(
            f"--to hf: the model was trained with encoder.pool: {pool}, and stock classifiers read the first token "
            f"through a dense layer of their own; train with encoder.pool: native, or {REMEDY}"
        )
    try:
        head = model.head(task.name).as_stock()
    except ValueError as error:
        raise ConfigError(f"--to hf: task '{task.name}': {error}; {REMEDY}") from error
    stock: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        stock_config(model, head, STOCK[kind]), dtype=torch.float32, trust_remote_code=False
    )
    expected = stock.state_dict()
    weights = stock_weights(model, head, STOCK[kind], prefix=stock.base_model_prefix)
    if (bias := f"{STOCK[kind].norm}.bias") in expected:
        weights[bias] = torch.zeros_like(expected[bias])
    stock.load_state_dict(weights, strict=True)
    stock.eval()
    return stock


def stock_config(model: MultiTaskModel, head: StockHead, layout: StockClassifier) -> PretrainedConfig:
    """The encoder's configuration, with the names of the head's outputs."""
    names = dict(enumerate(head.labels))
    ours = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    given = {**model.config.encoder, **layout.options, **ours, "problem_type": head.problem_type}
    return AutoConfig.for_model(**given)  # type: ignore[no-any-return]


def stock_weights(model: MultiTaskModel, head: StockHead, layout: StockClassifier, *, prefix: str) -> dict[str, Tensor]:
    """Every weight under its name in the stock classifier."""
    moved = [(prefix, model.encoder), (layout.dense, model.pooler.dense), (layout.output, head.output)]
    if layout.norm is not None:
        moved.append((layout.norm, model.pooler.norm))
    return {f"{name}.{inner}": value for name, part in moved for inner, value in part.state_dict().items()}


def check_same(trained: Trained, stock: PreTrainedModel, task: TaskDef) -> None:
    """That both say the same on rows of random tokens; ConfigError when the head computes something else."""
    rows = trained.rows(count=4, length=min(16, trained.model.config.encoder_max_length))
    ours = trained.logits(task, rows)
    with torch.inference_mode():
        theirs = stock(**rows).logits.reshape(ours.shape)
    if (found := difference(ours, theirs)) > TOLERANCE:
        head = type(trained.model.head(task.name)).__name__
        raise ConfigError(
            f"--to hf: task '{task.name}': its {head} is not what the stock classifier computes (logits differ by "
            f"{found:.1e}); {REMEDY}"
        )
