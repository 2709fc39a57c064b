"""What an experiment's ``encoder`` block stands for: its tokenizer, architecture, weights and a model with heads.

A path may also name a model folder of ours, of a run or imported: its encoder and its pooler are taken, its heads not.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from mtdnn import encoder as enc
from mtdnn.config import EncoderConfig
from mtdnn.model import MultiTaskConfig, MultiTaskModel, load_model, make_config
from mtdnn.tasks import TaskDef
from mtdnn.testing import encoders

TINY = "tiny"


def tokenizer_of(chosen: EncoderConfig) -> Any:
    return encoders.tiny_tokenizer() if chosen.path == TINY else enc.load_tokenizer(chosen.path)


def architecture_of(chosen: EncoderConfig) -> PreTrainedModel:
    """The encoder's modules without weights; EncoderError when it cannot be had."""
    with torch.device("meta"):
        return AutoModel.from_config(config_of(chosen), trust_remote_code=False)  # type: ignore[no-any-return]


def config_of(chosen: EncoderConfig) -> PretrainedConfig:
    """The encoder's configuration in transformers."""
    if chosen.path == TINY:
        return encoders.tiny_config()
    folder = multi_task_folder(chosen.path)
    if folder is None:
        return enc.load_config(chosen.path)
    return AutoConfig.for_model(**MultiTaskConfig.from_pretrained(folder).encoder)  # type: ignore[no-any-return]


def multi_task_folder(path: str) -> Path | None:
    """The folder that a path names, if it is a model folder of ours."""
    folder = Path(enc.encoder_folder(path))
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return folder if isinstance(found, dict) and found.get("model_type") == MultiTaskConfig.model_type else None


def weights_of(chosen: EncoderConfig) -> PreTrainedModel:
    """The encoder alone, as it was pretrained."""
    if chosen.path == TINY:
        return encoders.tiny_model([], max_length=chosen.max_length).encoder
    folder = multi_task_folder(chosen.path)
    return load_model(folder).encoder if folder else enc.load_weights(chosen.path, enc.load_config(chosen.path))


def fresh_model(chosen: EncoderConfig, tasks: Sequence[TaskDef], *, seed: int) -> MultiTaskModel:
    """The encoder with fresh heads."""
    if chosen.path == TINY:
        return encoders.tiny_model(tasks, seed=seed, pool=chosen.pool, max_length=chosen.max_length)
    folder = multi_task_folder(chosen.path)
    if folder is not None:
        saved = load_model(folder)
        config = make_config(config_of(chosen), tasks, pool=chosen.pool, max_length=chosen.max_length)
        return MultiTaskModel.around(saved.encoder, config, pooler=saved.pooler, seed=seed)
    return MultiTaskModel.from_encoder(chosen.path, tasks, pool=chosen.pool, max_length=chosen.max_length, seed=seed)
