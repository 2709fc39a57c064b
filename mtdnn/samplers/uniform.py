"""All tasks alike, whatever their sizes."""

from collections.abc import Mapping

from mtdnn.samplers.base import SAMPLERS
from mtdnn.samplers.drawn import Drawn


@SAMPLERS.register("uniform")
class Uniform(Drawn):
    """Draw every task with the same probability: the limit of a large temperature."""

    def weights(self, num_examples: Mapping[str, int], *, num_epochs: int, epoch: int) -> Mapping[str, float]:
        return dict.fromkeys(num_examples, 1.0)
