"""What an objective is, and the registry of objectives."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.passes import Pass, Perturbable
from mtdnn.registry import Registry
from mtdnn.rng import Rng


@dataclass(frozen=True)
class Term:
    """One loss to back-propagate.

    :param loss: mean over the batch's units; a scalar.
    :param clean: the clean pass that penalties attach to, in the one term that has it.
    :param share: what the loss is multiplied with: terms that are averaged have 1 / their number.
    """

    loss: Tensor
    clean: Pass | None = None
    share: float = 1.0


class Objective(ABC):
    """The task losses of a micro-batch. Its options in YAML are its constructor's keyword arguments.

    ``unattachable``: why no regularizer can be attached; empty where one can.
    ``updates_each_term``: an optimizer step follows each term, not only the last; the epochs are divided accordingly.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    unattachable: ClassVar[str] = ""
    updates_each_term: ClassVar[bool] = False

    @property
    def sites(self) -> tuple[str, ...]:
        """Where the objective itself perturbs."""
        return ()

    @property
    def num_terms(self) -> int:
        """How many terms a micro-batch has."""
        return 1

    @property
    def num_updates(self) -> int:
        """Optimizer steps that a batch is used for."""
        return self.num_terms if self.updates_each_term else 1

    @abstractmethod
    def terms(self, model: Perturbable, batch: Batch, rng: Rng, *, sites: Sequence[str]) -> Iterator[Term]:
        """Yield losses; each is back-propagated before the next is asked for, so that memory stays flat.

        :param sites: what regularizers want recorded in the clean pass.
        """

    def diagnose(self, model: Perturbable, batch: Batch, rng: Rng) -> dict[str, float]:
        """What the objective says of its perturbation of a batch; nothing where it has none.

        :param rng: the one that its terms are drawn from.
        """
        return {}


OBJECTIVES: Registry[type[Objective]] = Registry("objective", package="mtdnn.objectives")
