"""Regularizers on any model of ``transformers``, in one's own loop or in its ``Trainer``.

    model = LogitsModel(AutoModelForSequenceClassification.from_pretrained(...))
    batch = as_batch(inputs)
    clean = model.run(batch, rng=Rng("step 1"), sites=smart.sites)
    loss = model.loss(clean.logits, batch).mean() + smart.penalty(model, batch, clean, Rng("step 1/smart"))

Shape suffixes: U = units (rows), N = rows, T = tokens.
"""

import copy
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from mtdnn.data.batch import Batch
from mtdnn.divergences import Outputs, at_least_float32
from mtdnn.errors import ConfigError
from mtdnn.passes import Perturbable
from mtdnn.regularizers.base import Regularizer
from mtdnn.rng import Rng

log = logging.getLogger(__name__)
UID = "uid"
RUN_AGAIN = ("activation_checkpointing", "gradient_checkpointing")  # transformers' new name, and the old one
Logits = Callable[[PreTrainedModel, Mapping[str, Tensor]], Tensor]


def stock_logits(model: PreTrainedModel, inputs_NT: Mapping[str, Tensor]) -> Tensor:
    """What a stock ``...ForSequenceClassification`` model answers."""
    logits: Tensor = model(**inputs_NT).logits
    return logits


def as_batch(inputs: Mapping[str, Tensor]) -> Batch:
    """A batch of ``input_ids``, ``attention_mask``, perhaps ``token_type_ids``, and ``labels``; padded on the right.

    ``uid``, a whole number for each row, names the row: its noise is then the same in whatever batch it is. Without it
    a row is named by its place in the batch.
    """
    inputs_NT = {name: value for name, value in inputs.items() if name not in ("labels", UID)}
    count = len(inputs_NT["input_ids"])
    names = inputs[UID].tolist() if UID in inputs else range(count)
    if "attention_mask" not in inputs_NT:
        inputs_NT["attention_mask"] = torch.ones_like(inputs_NT["input_ids"])
    return Batch(
        task="",
        uids=tuple(map(str, names)),
        inputs_NT=inputs_NT,
        num_rows_U=torch.ones(count, dtype=torch.long, device=inputs_NT["input_ids"].device),
        targets=inputs.get("labels"),
    )


class LogitsModel(Perturbable):
    """A model with one classification or regression output, as the regularizers take it.

    :param model: its encoder is ``model.base_model``; its weights are shared, not copied.
    :param logits: (model, inputs) to logits: (N, C), or for regression (N,) or (N, 1).
    :param regression: whether the output is a number; by default whether ``model.config.num_labels`` is 1.
    """

    def __init__(self, model: PreTrainedModel, *, logits: Logits = stock_logits, regression: bool | None = None):
        super().__init__()
        self.model, self._logits = model, logits
        self.regression = model.config.num_labels == 1 if regression is None else regression

    @property
    def encoder(self) -> PreTrainedModel:  # type: ignore[override]
        return cast(PreTrainedModel, self.model.base_model)

    def forward(self, batch: Batch) -> Tensor:
        logits = at_least_float32(self._logits(self.model, batch.inputs_NT))
        return logits.reshape(len(logits)) if self.regression else logits

    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        return Outputs.scalar(logits) if self.regression else Outputs.categorical(logits)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if batch.targets is None:
            raise ConfigError("a loss needs 'labels' in the batch")
        if not self.regression:
            return F.cross_entropy(logits, batch.targets, reduction="none")
        return (logits - batch.targets.reshape(len(logits)).to(logits.dtype)).square()


class RegularizedTrainer(Trainer):
    """``transformers.Trainer`` with our regularizers beside the task's loss; a column ``uid`` goes to :func:`as_batch`.

    ``bf16`` and ``fp16`` leave the passes that ask for float32 in float32; ``activation_checkpointing`` runs layers
    again with the dropout masks of their first run; a teacher's weights are in the checkpoints.

    :param regularizers: by name; the loss is the mean over the batch plus their penalties.
    :param logits: as for :class:`LogitsModel`.
    :raises ConfigError: where the Trainer would use several processes or GPUs, or another loss.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *args: Any,
        regularizers: Mapping[str, Regularizer],
        logits: Logits = stock_logits,
        **kwargs: Any,
    ):
        super().__init__(model, *args, **kwargs)
        self._check_arguments()
        self.model_accepts_loss_kwargs = False  # so that the Trainer divides by the accumulated batches itself
        self._micro = (-1, 0)
        self.regularizers = regularizers
        self.passes = LogitsModel(model, logits=logits)
        self.args = copy.copy(self.args)
        for name in RUN_AGAIN:
            self.passes.activation_checkpointing |= bool(getattr(self.args, name, False))
            setattr(self.args, name, False)
        self.resumed_from: Path | None = None
        wrapped = "_original_forward" in vars(model)  # by a Trainer before this one
        self._forward = MethodType(type(model).forward, model) if wrapped else model.forward
        self.add_callback(_Follow(self))

    def _check_arguments(self) -> None:
        if self.args.world_size > 1:
            raise ConfigError(f"RegularizedTrainer runs in one process, here there are {self.args.world_size}")
        if self.args.n_gpu > 1:
            raise ConfigError(
                f"RegularizedTrainer uses one GPU, here there are {self.args.n_gpu}: CUDA_VISIBLE_DEVICES=0"
            )
        if self.args.label_smoothing_factor or self.compute_loss_func is not None:
            raise ConfigError(
                "RegularizedTrainer's loss is the task's own: no label_smoothing_factor, compute_loss_func"
            )
        options = [getattr(self.args, f"{name}_kwargs", None) or {} for name in RUN_AGAIN]
        if unknown := sorted({key for each in options for key in each} - {"use_reentrant"}):
            raise ConfigError(f"RegularizedTrainer runs every layer again, or none: no {', '.join(unknown)}")

    def train(
        self, resume_from_checkpoint: str | os.PathLike[str] | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As the Trainer's own."""
        if isinstance(resume_from_checkpoint, os.PathLike):
            resume_from_checkpoint = os.fspath(resume_from_checkpoint)
        found = get_last_checkpoint(str(self.args.output_dir)) if resume_from_checkpoint is True else None
        where = found or resume_from_checkpoint
        self.resumed_from = Path(where) if isinstance(where, str) else None
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """What is needed to go on, a teacher's weights among it."""
        super()._save_optimizer_and_scheduler(output_dir)
        for name, each in self.regularizers.items():
            if tensors := each.state_dict():
                copies = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
                file = kept(Path(output_dir), name)
                staged = file.with_name(f".staged-{file.name}")
                save_file(copies, staged)
                staged.replace(file)

    @contextmanager
    def _own_precision(self) -> Iterator[None]:
        """While entered, autocast is around the computation; the Trainer's is inside ``forward``, whatever is asked."""
        model = self.passes.model
        wrapped = vars(model).get("forward")
        model.forward = self._forward  # type: ignore[method-assign]
        try:
            with self.accelerator.autocast():
                yield
        finally:
            del model.forward
            if wrapped is not None:
                model.forward = wrapped

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        batch = as_batch(inputs)
        rng = self._rng()
        sites = [site for each in self.regularizers.values() for site in each.sites] if model.training else []
        with self._own_precision():
            clean = self.passes.run(batch, rng=rng, sites=sites)
            loss = self.passes.loss(clean.logits, batch).mean()
            if model.training:
                loss = loss + sum(
                    each.penalty(self.passes, batch, clean, rng.at(name)) for name, each in self.regularizers.items()
                )
        return (loss, {"loss": loss, "logits": clean.logits}) if return_outputs else loss

    def _set_signature_columns_if_needed(self) -> None:
        """The model's columns, and the one that names rows."""
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*(self._signature_columns or []), UID]))  # type: ignore[assignment]

    def _rng(self) -> Rng:
        """The source of randomness of this micro-batch."""
        step, micro = self._micro
        self._micro = (self.state.global_step, micro + 1 if step == self.state.global_step else 0)
        return Rng(f"{self.args.seed}/{self._micro[0]}/{self._micro[1]}")


class _Follow(TrainerCallback):
    """Tells the regularizers when training begins and when a step was made, and gives them back what they had."""

    def __init__(self, trainer: RegularizedTrainer):
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for each in self._trainer.regularizers.values():
            each.begin(self._trainer.passes, num_steps=state.max_steps)
            for text in each.doubts():
                log.warning("%s", text)
        if self._trainer.resumed_from is not None:
            self._take_up(self._trainer.resumed_from)

    def _take_up(self, folder: Path) -> None:
        for name, each in self._trainer.regularizers.items():
            file = kept(folder, name)
            if file.is_file():
                each.load_state_dict(load_file(file))
            elif each.state_dict():
                log.warning("%s is not there: '%s' begins anew, from the weights of this checkpoint", file, name)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for each in self._trainer.regularizers.values():
            each.after_step(self._trainer.passes, step=state.global_step)


def kept(folder: Path, name: str) -> Path:
    """Where a checkpoint of the Trainer holds what the regularizer ``name`` needs to go on."""
    return folder / f"regularizer-{name}.safetensors"
