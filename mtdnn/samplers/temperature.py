"""Temperature-scaled mixing: between the sizes of the tasks and none of them.

Raffel et al., 2020, "Exploring the limits of transfer learning", section 3.5.2. https://arxiv.org/abs/1910.10683
"""

from collections.abc import Mapping

from mtdnn.samplers.base import SAMPLERS
from mtdnn.samplers.drawn import Drawn, powers


@SAMPLERS.register("temperature")
class Temperature(Drawn):
    """Draw a task with probability proportional to min(n, cap)^(1/T), n being its training units.

    :param temperature: T, above 0. 1 draws by size, the larger the more evenly; below 1 large tasks gain further.
    :param cap: units above which a task's size does not count (K, "artificial data set size limit"), at least 1;
        None for none.
    """

    def __init__(self, *, temperature: float = 2.0, cap: int | None = None):
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if cap is not None and cap < 1:
            raise ValueError(f"cap must be at least 1, got {cap}")
        self.temperature, self.cap = temperature, cap

    def weights(self, num_examples: Mapping[str, int], *, num_epochs: int, epoch: int) -> Mapping[str, float]:
        capped = {task: size if self.cap is None else min(size, self.cap) for task, size in num_examples.items()}
        return powers(capped, 1 / self.temperature)
