"""What an experiment's ``encoder`` block stands for: its tokenizer, architecture, weights and a model with heads.

A path may also name a model folder of ours, of a run or imported: its encoder and its pooler are taken, its heads not.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from mtdnn import encoder as enc
from mtdnn.config import EncoderConfig
from mtdnn.errors import EncoderError
from mtdnn.files import content_hash
from mtdnn.model import MultiTaskConfig, MultiTaskModel, load_model, make_config
from mtdnn.tasks import TaskDef
from mtdnn.testing import encoders

TINY = "tiny"
TOKENIZERS = ("tokenizer*.json", "special_tokens_map.json", "vocab.*", "merges.txt", "*.model")
WEIGHTS = ("*.safetensors", "*.bin")  # the first that is there is read


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


def content_of(chosen: EncoderConfig) -> str | None:
    """What tells an encoder from another one at the same path; None where it cannot be told.

    :return: the commit of a hub's model in the cache; SHA-256 over a folder's configuration, tokenizer and weights.
    """
    if chosen.path == TINY:
        return None
    try:
        folder = Path(enc.encoder_folder(chosen.path))
    except EncoderError:
        return None
    if folder.is_dir():
        return content_of_folder(folder)
    try:
        enc.load_config(chosen.path)  # which brings it into the cache
        cached = try_to_load_from_cache(chosen.path, "config.json")
    except (EncoderError, HFValidationError):
        return None
    return Path(cached).parent.name if isinstance(cached, str) else None


def content_of_folder(folder: Path) -> str:
    weights = next((files for pattern in WEIGHTS if (files := sorted(folder.glob(pattern)))), [])
    others = [file for pattern in TOKENIZERS for file in sorted(folder.glob(pattern))]
    files = [file for file in (folder / "config.json", *others, *weights) if file.is_file()]
    return _content(tuple((file, (found := file.stat()).st_size, found.st_mtime_ns) for file in files))


@lru_cache(maxsize=8)
def _content(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Sizes and times of change tell whether files are the same as when they were last read."""
    return content_hash(file for file, _, _ in files)


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
