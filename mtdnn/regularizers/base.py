"""What a regularizer is, and the registry of regularizers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.model import MultiTaskModel, Pass
from mtdnn.registry import Registry
from mtdnn.rng import Rng


class Regularizer(ABC):
    """A term added to the loss of every micro-batch. Options in YAML are the constructor's keyword arguments."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @property
    def sites(self) -> tuple[str, ...]:
        """What the clean pass must record for :meth:`penalty`."""
        return ()

    def begin(self, model: MultiTaskModel, *, num_steps: int) -> None:
        """Called once, before the first step, with the stage's initial weights and its number of optimizer steps."""

    @abstractmethod
    def penalty(self, model: MultiTaskModel, batch: Batch, clean: Pass, rng: Rng) -> Tensor:
        """The weighted term: a scalar, mean over the batch's units. ``clean`` has its graph."""

    def after_step(self, model: MultiTaskModel, *, step: int) -> None:
        """Called after each optimizer step (from 1), for terms that follow the weights."""

    def state_dict(self) -> dict[str, Tensor]:
        """Whatever a resumed run needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`state_dict` gave."""


REGULARIZERS: Registry[type[Regularizer]] = Registry("regularizer", package="mtdnn.regularizers")
