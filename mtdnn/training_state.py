"""What the next step of a training depends on, and how it goes into a checkpoint and comes out again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mtdnn.checkpoint import Checkpoint, Parts, optimizer_parts, restore_optimizer, restore_schedule
from mtdnn.diagnostics import Diagnostics
from mtdnn.errors import CheckpointError
from mtdnn.loss_log import LossLog
from mtdnn.memory import is_out_of_memory
from mtdnn.model import MultiTaskModel
from mtdnn.optim import Precision
from mtdnn.regularizers.base import Attached


@dataclass
class Progress:
    """Where a run stands: everything that the next step depends on, besides the tensors."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    epoch_start: int = 0
    best_score: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def better(self, score: float) -> bool:
        return self.best_score is None or score > self.best_score


@dataclass
class TrainingState:
    """All that changes while a model is trained.

    :param losses: of the current epoch.
    """

    model: MultiTaskModel
    regularizers: Mapping[str, Attached]
    optimizer: Optimizer
    schedule: LambdaLR
    losses: LossLog
    diagnostics: Diagnostics
    progress: Progress = field(default_factory=Progress)

    def weights(self) -> Parts:
        """The model's and the regularizers' tensors."""
        kept = {f"regularizer-{name}": each.regularizer.state_dict() for name, each in self.regularizers.items()}
        return {"model": self.model.state_dict(), **{name: tensors for name, tensors in kept.items() if tensors}}

    def put_back(self, parts: Parts) -> None:
        """What :meth:`weights` gave."""
        self.model.load_state_dict(parts["model"])
        for name, attached in self.regularizers.items():
            attached.regularizer.load_state_dict(parts.get(f"regularizer-{name}", {}))

    def checkpoint(self, *, precision: Precision, eval_precision: Precision) -> Checkpoint:
        """All of it.

        :param precision: of the training pass; ``eval_precision`` of evaluation.
        """
        tensors, groups = optimizer_parts(self.optimizer)
        parts = {**self.weights(), "optimizer": tensors, "random": {"torch": torch.get_rng_state()}}
        state = {
            "progress": vars(self.progress),
            "groups": groups,
            "schedule": {key: value for key, value in self.schedule.state_dict().items() if key != "lr_lambdas"},
            "losses": self.losses.state(),
            "diagnostics": self.diagnostics.state(),
            "precision": precision,
            "eval_precision": eval_precision,
            "optimizer": type(self.optimizer).__name__,
        }
        return Checkpoint(self.progress.step, state, parts)

    def take_up(self, found: Checkpoint, *, where: Path) -> None:
        """What :meth:`checkpoint` gave.

        :param where: it was read, for messages.
        :raises CheckpointError: when it is of another model, optimizer, freezing or regularizers.
        """
        kind = type(self.optimizer).__name__
        saved = found.state.get("optimizer", kind)
        try:
            if saved != kind:
                raise ValueError(f"{saved} -> {kind}")
            self.put_back(found.parts)
            restore_optimizer(self.optimizer, found.parts["optimizer"], found.state["groups"])
            self.losses.take_up(found.state["losses"])
        except (KeyError, RuntimeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise CheckpointError(
                f"{where}: step {found.step} cannot be gone on from with another model, optimizer, freezing or "
                f"regularizers ({str(error)[:300]}): restore the configuration, or delete that folder to begin anew"
            ) from error
        restore_schedule(self.schedule, found.state["schedule"])
        torch.set_rng_state(found.parts["random"]["torch"])
        self.diagnostics.take_up(found.state["diagnostics"])
        self.progress = Progress(**found.state["progress"])


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in tensors.items()}
