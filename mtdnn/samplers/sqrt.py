"""Square-root sampling.

Stickland and Murray, 2019, "BERT and PALs". https://arxiv.org/abs/1902.02671
"""

from collections.abc import Mapping

from mtdnn.samplers.base import SAMPLERS
from mtdnn.samplers.drawn import Drawn, powers


@SAMPLERS.register("sqrt")
class Sqrt(Drawn):
    """Draw a task with probability proportional to the square root of its training units: temperature 2."""

    def weights(self, num_examples: Mapping[str, int], *, num_epochs: int, epoch: int) -> Mapping[str, float]:
        return powers(num_examples, 0.5)
