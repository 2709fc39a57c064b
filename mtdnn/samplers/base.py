"""What a sampler is, and the registry of samplers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from mtdnn.registry import Registry


class Sampler(ABC):
    """The order of tasks in an epoch, as a pure function. Options in YAML are the constructor's keyword arguments."""

    @abstractmethod
    def order(self, num_batches: Mapping[str, int], *, seed: int, epoch: int) -> Sequence[str]:
        """A task's name for each batch of the epoch.

        A task named more often than it has batches starts again, reshuffled.

        :param num_batches: batches in one pass over each task, at least 1 each; the mapping's order is the turn order.
        """


SAMPLERS: Registry[type[Sampler]] = Registry("sampler", package="mtdnn.samplers")
