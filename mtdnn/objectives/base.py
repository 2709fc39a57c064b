"""What an objective is, and the registry of objectives."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.model import MultiTaskModel, Pass
from mtdnn.registry import Registry
from mtdnn.rng import Rng


@dataclass(frozen=True)
class Term:
    """One loss to back-propagate.

    :param loss: mean over the batch's units; a scalar.
    :param clean: the clean pass that penalties attach to, in the one term that has it.
    """

    loss: Tensor
    clean: Pass | None = None


class Objective(ABC):
    """The task losses of a micro-batch. Its options in YAML are its constructor's keyword arguments."""

    @abstractmethod
    def terms(self, model: MultiTaskModel, batch: Batch, rng: Rng, *, sites: Sequence[str]) -> Iterator[Term]:
        """Yield losses; each is back-propagated before the next is asked for, so that memory stays flat.

        :param sites: what regularizers want recorded in the clean pass.
        """


OBJECTIVES: Registry[type[Objective]] = Registry("objective", package="mtdnn.objectives")
