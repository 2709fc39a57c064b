"""Every task in turn."""

from collections.abc import Mapping, Sequence
from typing import Literal

from mtdnn.samplers.base import SAMPLERS, Sampler


@SAMPLERS.register("round_robin")
class RoundRobin(Sampler):
    """Rounds that give every live task its turn.

    :param end: ``cycle``: small tasks start again, reshuffled, until the largest is done. ``stop_first``: the epoch
        ends with the smallest task. ``until_all_seen``: a finished task drops out of the rounds.
    """

    def __init__(self, *, end: Literal["cycle", "stop_first", "until_all_seen"] = "cycle"):
        self.end = end

    def order(
        self,
        num_batches: Mapping[str, int],
        *,
        num_examples: Mapping[str, int],
        num_epochs: int,
        seed: int,
        epoch: int,
    ) -> Sequence[str]:
        counts = num_batches.values()
        rounds = min(counts) if self.end == "stop_first" else max(counts)
        drops_out = self.end == "until_all_seen"
        return [task for turn in range(rounds) for task, count in num_batches.items() if not drops_out or turn < count]
