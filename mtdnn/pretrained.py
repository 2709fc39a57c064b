"""What an experiment's ``encoder`` block stands for: its tokenizer, architecture, weights and a model with heads."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from mtdnn import encoder as enc
from mtdnn.config import EncoderConfig
from mtdnn.model import MultiTaskModel
from mtdnn.tasks import TaskDef
from mtdnn.testing import encoders

TINY = "tiny"


def tokenizer_of(chosen: EncoderConfig) -> Any:
    return encoders.tiny_tokenizer() if chosen.path == TINY else enc.load_tokenizer(chosen.path)


def architecture_of(chosen: EncoderConfig) -> PreTrainedModel:
    """The encoder's modules without weights; EncoderError when it cannot be had."""
    config = encoders.tiny_config() if chosen.path == TINY else enc.load_config(chosen.path)
    with torch.device("meta"):
        return AutoModel.from_config(config)  # type: ignore[no-any-return]


def weights_of(chosen: EncoderConfig) -> PreTrainedModel:
    """The encoder alone, as it was pretrained."""
    if chosen.path == TINY:
        return encoders.tiny_model([], max_length=chosen.max_length).encoder
    return enc.load_weights(chosen.path, enc.load_config(chosen.path))


def fresh_model(chosen: EncoderConfig, tasks: Sequence[TaskDef], *, seed: int) -> MultiTaskModel:
    """The encoder with fresh heads."""
    if chosen.path == TINY:
        return encoders.tiny_model(tasks, seed=seed, pool=chosen.pool, max_length=chosen.max_length)
    return MultiTaskModel.from_encoder(chosen.path, tasks, pool=chosen.pool, max_length=chosen.max_length, seed=seed)
