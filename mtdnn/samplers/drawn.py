"""Samplers that draw: each batch's task independently, with probabilities that depend on the tasks' sizes."""

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from mtdnn.samplers.base import Sampler


class Drawn(Sampler):
    """Draws with replacement, as many as the tasks have batches together; a task may be left out of an epoch."""

    @abstractmethod
    def weights(self, num_examples: Mapping[str, int], *, num_epochs: int, epoch: int) -> Mapping[str, float]:
        """What each task's probability is proportional to; at least 0, and not 0 for all. ``epoch`` counts from 0."""

    def order(
        self,
        num_batches: Mapping[str, int],
        *,
        num_examples: Mapping[str, int],
        num_epochs: int,
        seed: int,
        epoch: int,
    ) -> Sequence[str]:
        sizes = {task: num_examples[task] for task in num_batches}
        weights = self.weights(sizes, num_epochs=num_epochs, epoch=epoch)
        source = random.Random(f"{seed}/{epoch}")
        return source.choices(list(weights), weights=list(weights.values()), k=sum(num_batches.values()))


def powers(sizes: Mapping[str, int], exponent: float) -> dict[str, float]:
    """(n / the largest n)^exponent of each task: proportional to n^exponent, and never too large for a float.

    :param exponent: at least 0; at 0 all tasks are equal, at 1 they are as their sizes.
    """
    largest = max(sizes.values())
    return {task: (size / largest) ** exponent for task, size in sizes.items()}
