"""Annealed sampling: by size at first, nearly evenly at the end.

Stickland and Murray, 2019, "BERT and PALs". https://arxiv.org/abs/1902.02671
"""

from collections.abc import Mapping

from mtdnn.samplers.base import SAMPLERS
from mtdnn.samplers.drawn import Drawn, powers


@SAMPLERS.register("annealed")
class Annealed(Drawn):
    """Draw a task with probability proportional to n^alpha; alpha falls from 1 to 0.2 over the epochs."""

    def weights(self, num_examples: Mapping[str, int], *, num_epochs: int, epoch: int) -> Mapping[str, float]:
        return powers(num_examples, alpha(num_epochs=num_epochs, epoch=epoch))


def alpha(*, num_epochs: int, epoch: int) -> float:
    """1 - 0.8 (e - 1) / (E - 1), where the paper's e is ``epoch`` + 1; 1 in a run of one epoch."""
    return 1 - 0.8 * epoch / max(num_epochs - 1, 1)
