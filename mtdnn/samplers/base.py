"""What a sampler is, and the registry of samplers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from mtdnn.registry import Registry


class Sampler(ABC):
    """The order of tasks in an epoch, as a pure function. Options in YAML are the constructor's keyword arguments."""

    @abstractmethod
    def order(
        self,
        num_batches: Mapping[str, int],
        *,
        num_examples: Mapping[str, int],
        num_epochs: int,
        seed: int,
        epoch: int,
    ) -> Sequence[str]:
        """A task's name for each batch of the epoch.

        A task named more often than it has batches starts again, reshuffled.

        :param num_batches: batches in one pass over each task, at least 1 each; the mapping's order is the turn order.
        :param num_examples: training units of the same tasks, at least 1 each.
        :param num_epochs: epochs of the whole run, at least 1.
        :param epoch: which of them this is, from 0.
        """


SAMPLERS: Registry[type[Sampler]] = Registry("sampler", package="mtdnn.samplers")
