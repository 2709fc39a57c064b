"""Regularizers on any model of ``transformers``, in one's own loop or in its ``Trainer``.

    model = LogitsModel(AutoModelForSequenceClassification.from_pretrained(...))
    batch = as_batch(inputs)
    clean = model.run(batch, rng=Rng("step 1"), sites=smart.sites)
    loss = model.loss(clean.logits, batch).mean() + smart.penalty(model, batch, clean, Rng("step 1/smart"))

Shape suffixes: U = units (rows), N = rows, T = tokens.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mtdnn.data.batch import Batch
from mtdnn.divergences import Outputs, at_least_float32
from mtdnn.errors import ConfigError
from mtdnn.passes import Perturbable
from mtdnn.regularizers.base import Regularizer
from mtdnn.rng import Rng

UID = "uid"
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

    :param regularizers: by name; the loss is the mean over the batch plus their penalties.
    :param logits: as for :class:`LogitsModel`.
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
        if self.args.world_size > 1:
            raise ConfigError(f"RegularizedTrainer runs in one process, here there are {self.args.world_size}")
        self.model_accepts_loss_kwargs = False  # so that the Trainer divides by the accumulated batches itself
        self._micro = (-1, 0)
        self.regularizers = regularizers
        self.passes = LogitsModel(model, logits=logits)
        self.add_callback(_Follow(self))

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
    """Tells the regularizers when training begins and when a step was made."""

    def __init__(self, trainer: RegularizedTrainer):
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for each in self._trainer.regularizers.values():
            each.begin(self._trainer.passes, num_steps=state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for each in self._trainer.regularizers.values():
            each.after_step(self._trainer.passes, step=state.global_step)
