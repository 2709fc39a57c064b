"""Every batch of every task once, in random order."""

import random
from collections.abc import Mapping, Sequence

from mtdnn.samplers.base import SAMPLERS, Sampler


@SAMPLERS.register("proportional")
class Proportional(Sampler):
    """MT-DNN's order: the batches of all tasks, shuffled together (Liu et al., 2019, Algorithm 1)."""

    def order(
        self,
        num_batches: Mapping[str, int],
        *,
        num_examples: Mapping[str, int],
        num_epochs: int,
        seed: int,
        epoch: int,
    ) -> Sequence[str]:
        names = [task for task, count in num_batches.items() for _ in range(count)]
        random.Random(f"{seed}/{epoch}").shuffle(names)
        return names
