"""What a regularizer is, and the registry of regularizers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.passes import Pass, Perturbable
from mtdnn.registry import Registry
from mtdnn.rng import Rng
from mtdnn.tasks import TaskDef


class Regularizer(ABC):
    """A term added to the loss of every micro-batch. Options in YAML are the constructor's keyword arguments."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    keeps_teacher: ClassVar[bool] = False

    @property
    def sites(self) -> tuple[str, ...]:
        """What the clean pass must record for :meth:`penalty`."""
        return ()

    def content(self) -> dict[str, str]:
        """A hash of everything that is read besides the options, by its place: with another one it is other work."""
        return {}

    def check(self, tasks: Sequence[TaskDef], tokenizer: Any, *, max_length: int) -> None:
        """Called before anything is trained, with the tasks that the term is used for.

        :raises MtdnnError: when it cannot be used with them or with this tokenizer.
        """

    def begin(self, model: Perturbable, *, num_steps: int) -> None:
        """Called once, before the first step, with the stage's initial weights and its number of optimizer steps."""

    def doubts(self) -> list[str]:
        """What the user should know of the term as :meth:`begin` found it; ``name: details``, each told once."""
        return []

    @abstractmethod
    def penalty(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Tensor:
        """The weighted term: a scalar, mean over the batch's units. ``clean`` has its graph."""

    def after_step(self, model: Perturbable, *, step: int) -> None:
        """Called after each optimizer step (from 1), for terms that follow the weights."""

    def diagnose(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> dict[str, float]:
        """What is worth knowing about the term on this batch; ``penalty`` is the weighted term itself."""
        return {}

    def teacher_weights(self) -> Mapping[str, Tensor] | None:
        """An average of the weights that a run may evaluate instead of them; where ``keeps_teacher``."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Whatever a resumed run needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`state_dict` gave."""


@dataclass(frozen=True, kw_only=True)
class Attached:
    """A regularizer as a stage uses it.

    :param tasks: the tasks that it is used for; None for all.
    :param task_weights: factors on its weight, by task; 1 where a task is not named.
    :param after_steps: optimizer steps before it begins.
    """

    regularizer: Regularizer
    tasks: list[str] | None = None
    task_weights: dict[str, float] = field(default_factory=dict)
    after_steps: int = 0

    def factor(self, task: str, *, step: int) -> float:
        """What the term is multiplied with in the optimizer step after ``step`` steps; at 0 it is not computed."""
        if step < self.after_steps or (self.tasks is not None and task not in self.tasks):
            return 0.0
        return self.task_weights.get(task, 1.0)


REGULARIZERS: Registry[type[Regularizer]] = Registry("regularizer", package="mtdnn.regularizers")
