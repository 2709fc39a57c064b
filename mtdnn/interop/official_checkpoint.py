"""A checkpoint of the official MT-DNN code (namisan/mt-dnn), read without running anything that it holds.

The official code saves ``{"state": tensors, "config": options, "optimizer": ...}`` with ``torch.save``. It is read with
``weights_only=True``, which builds tensors and plain values and refuses the name of any other function or class. The
options of a run hold objects of the official code itself (task definitions, enumerations, label vocabularies), which
are harmless but would be refused too. For those names alone, :data:`STAND_INS`, a stand-in of ours is built: it keeps
what the original was made of and does nothing. No module that the file names is imported, not even
``argparse``; every name that is not in the list is refused. Tensors are checked by torch as in any such load.
"""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtdnn.errors import CheckpointError, ConfigError

WRAPPERS = ("module.", "mnetwork.", "network.")  # DataParallel's and the official model class's own
FAMILIES = {1: "bert", 2: "roberta", 5: "xlm-roberta"}  # EncoderModelType; the others pool otherwise than ours


class Inert:
    """In place of an object: ``args`` it was made with, ``state`` it was given."""

    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any) -> "Inert":
        self = super().__new__(cls)
        self.args, self.state = args, {}
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class InertMapping:
    """In place of a subclass of dict: an OrderedDict, whose ``__dict__`` holds the attributes."""

    def __new__(cls, *args: Any) -> Any:
        return OrderedDict()


STAND_INS: dict[str, type] = {
    "experiments.exp_def.TaskDef": InertMapping,
    "data_utils.task_def.TaskType": Inert,
    "data_utils.task_def.DataFormat": Inert,
    "data_utils.task_def.EncoderModelType": Inert,
    "data_utils.metrics.Metric": Inert,
    "data_utils.vocab.Vocabulary": Inert,
    "mt_dnn.loss.LossCriterion": Inert,
    "argparse.Namespace": Inert,
    "numpy.core.multiarray.scalar": Inert,
    "numpy._core.multiarray.scalar": Inert,
    "numpy.dtype": Inert,
}


@dataclass(frozen=True)
class OfficialCheckpoint:
    """The tensors and the options of one file."""

    file: Path
    state: Mapping[str, Tensor]
    options: Mapping[str, Any]

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The tensors by their names in the network, wrappers off and layer norms' old names replaced.

        :raises CheckpointError: when two tensors have the same name then.
        """
        found: dict[str, Tensor] = {}
        for name, value in self.state.items():
            if plain_name(name) in found:
                raise CheckpointError(f"{self.file}: '{plain_name(name)}' stands twice, once as '{name}'; keep one")
            found[plain_name(name)] = value
        return found

    @property
    def family(self) -> str:
        """The encoder's ``model_type`` in transformers, BERT where the options say nothing.

        :raises ConfigError: for a family that the official code pools otherwise than :class:`mtdnn.encoder.Pooler`.
        """
        code = self.options.get("encoder_type", 1)
        code = code.args[0] if isinstance(code, Inert) and code.args else code
        family = self.options.get("model_type") or FAMILIES.get(code) or f"encoder_type {code}"
        if family not in FAMILIES.values():
            known = ", ".join(FAMILIES.values())
            raise ConfigError(f"{self.file}: config: {family} encoders cannot be imported; these can: {known}")
        return str(family)

    @property
    def task_names(self) -> list[str]:
        """What the official run called its tasks, in the heads' order; empty where the options do not tell."""
        given = self.options.get("train_datasets")
        names = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else []
        return list(dict.fromkeys(str(name).split("_")[0] for name in names))

    def label_words(self, head: int) -> list[str]:
        """The label words of a head's rows; empty where the options do not tell."""
        tasks = self.options.get("task_def_list")
        task = tasks[head] if isinstance(tasks, list) and head < len(tasks) else None
        vocabulary = getattr(task, "label_vocab", None)
        words = vocabulary.state.get("tok2ind") if isinstance(vocabulary, Inert) else None
        return sorted(words, key=lambda word: int(words[word])) if isinstance(words, dict) else []


def read_official(file: Path) -> OfficialCheckpoint:
    """Read ``state`` and ``config`` of an official checkpoint, in either of ``torch.save``'s formats.

    :raises CheckpointError: when the file is missing or damaged, holds anything but tensors, plain values and the
        options of the official code, or has no ``state``.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    found = _load(file)
    state = found.get("state") if isinstance(found, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        here = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise CheckpointError(
            f"{file}: no 'state' that holds tensors by name, as the official code saves it; got {here}"
        )
    options = found.get("config")
    return OfficialCheckpoint(file, state, options if isinstance(options, dict) else {})


def _load(file: Path) -> Any:
    names: list[Any] = [(stand_in, name) for name, stand_in in STAND_INS.items()]
    try:
        with torch.serialization.safe_globals(names), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of other pickle protocols; an error says what to do
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(file, str(error))) from error
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(_damage(file, str(error))) from error


def plain_name(name: str) -> str:
    """A tensor's name without the wrappers' prefixes, its layer norm's ``gamma`` and ``beta`` as weight and bias."""
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _refusal(file: Path, message: str) -> str:
    named = re.search(r"GLOBAL (\S+)", message)
    if named is None:
        return _damage(file, message)
    return (
        f"{file}: holds '{named[1]}', which is neither a tensor nor a plain value. Reading it could run code of the "
        "file's, so it was not read. Where it was written, and if you trust it, save the plain part alone: "
        "torch.save({'state': checkpoint['state'], 'config': {numbers and words of checkpoint['config']}}, 'plain.pt')"
    )


def _damage(file: Path, message: str) -> str:
    reason = next(iter(message.strip().splitlines()), "it ends too early")[:200]
    return f"{file}: not a whole file of torch.save ({reason}); copy or download it again"
