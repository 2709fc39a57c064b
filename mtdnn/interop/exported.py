"""What every export shares: the trained model and its tokenizer, and rows on which to compare it with the export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtdnn import encoder as enc
from mtdnn.data.batch import Batch
from mtdnn.errors import ConfigError, listed, unknown
from mtdnn.model import MultiTaskModel, check_input, load_model
from mtdnn.tasks import TaskDef

TYPES = "token_type_ids"


@dataclass(frozen=True)
class Trained:
    """A model folder's content, in evaluation mode on the CPU.

    :param tokenizer: set up to make what the model reads, no longer than it was trained with.
    """

    model: MultiTaskModel
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> "Trained":
        """:raises CheckpointError: when it is damaged, or its tokenizer is not the one it was trained with."""
        model, tokenizer = load_model(folder).eval(), enc.load_tokenizer(str(folder))
        check_input(model, tokenizer, max_length=model.config.encoder_max_length, where=str(folder))
        return cls(model, fitted(tokenizer, model))

    @property
    def inputs(self) -> list[str]:
        """What the encoder takes, by name."""
        names = ["input_ids", "attention_mask"]
        return [*names, TYPES] if enc.reads_types(self.model.encoder) else names

    def tasks(self, names: list[str]) -> list[TaskDef]:
        """The named tasks, all of them when none is named; ConfigError for every unknown name."""
        known = self.model.task_defs
        if strange := [name for name in names if name not in known]:
            raise ConfigError(listed([f"--task: {unknown('task of this model', name, known)}" for name in strange]))
        found = [known[name] for name in dict.fromkeys(names or known)]
        if not found:
            raise ConfigError("the model has no tasks, so there is no head to export")
        return found

    def rows(self, *, count: int, length: int) -> dict[str, Tensor]:
        """Seeded rows of random tokens, every second one padded: int64, (count, length)."""
        generator = torch.Generator().manual_seed(count * 1000 + length)
        pad = int(self.tokenizer.pad_token_id)
        size = int(self.model.config.encoder["vocab_size"])
        ids = torch.randint(size - 1, (count, length), generator=generator)
        ids += (ids >= pad).long()  # any token but padding
        mask, types = torch.ones_like(ids), torch.zeros_like(ids)
        types[:, length // 2 :] = 1
        for tensor, padding in ((ids, pad), (mask, 0), (types, 0)):
            tensor[1::2, length - length // 4 :] = padding
        made = {"input_ids": ids, "attention_mask": mask, TYPES: types}
        return {name: made[name] for name in self.inputs}

    def logits(self, task: TaskDef, inputs_NT: dict[str, Tensor]) -> Tensor:
        """What the model itself says."""
        ones = torch.ones(len(inputs_NT["input_ids"]), dtype=torch.int64)
        with torch.inference_mode():
            return self.model(Batch(task=task.name, uids=(), inputs_NT=inputs_NT, num_rows_U=ones))  # type: ignore[no-any-return]


def fitted(tokenizer: Any, model: MultiTaskModel) -> Any:
    """The tokenizer, set to the model's length, to padding on the right, and to the inputs that the encoder takes."""
    names = [name for name in tokenizer.model_input_names if name != TYPES or enc.reads_types(model.encoder)]
    tokenizer.model_max_length = model.config.encoder_max_length
    tokenizer.padding_side = "right"
    tokenizer.model_input_names = names
    tokenizer.init_kwargs |= {"model_input_names": names, "padding_side": "right"}
    return tokenizer


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two logits, in units of the largest of ours where that is above 1."""
    return float((ours - theirs).abs().max()) / max(1.0, float(ours.abs().max()))
