"""Free adversarial training: every pass serves the change and the parameters at once.

Shafahi et al., 2019, "Adversarial Training for Free!", Algorithm 1, as Zhu et al., 2020 use it for text.
https://arxiv.org/abs/1904.12843
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mtdnn.data.batch import Batch
from mtdnn.objectives.base import OBJECTIVES, Term
from mtdnn.objectives.label_seeking import LabelSeeking, gradient_at
from mtdnn.passes import Perturbable
from mtdnn.rng import Rng


@OBJECTIVES.register("free_at")
@dataclass(frozen=True, kw_only=True)
class FreeAt(LabelSeeking):
    """Every mini-batch is replayed K times with an optimizer step after each; the epochs are divided by K.

    The change is carried over the replays of a batch and starts anew with the next. Each replay has its own dropout
    masks, as passes of their own [choice].

    :param num_steps: K, replays of a batch, at least 1.
    :param step_size: alpha, the Frobenius norm of a step; above 0.
    :param init_magnitude: the start is U(-1, 1) x this / sqrt(T_i D), T_i the row's tokens; at least 0.
    :param max_norm: epsilon, the largest Frobenius norm of a row's change; 0 for no ball.
    :param site: ``word``, ``embeddings`` or ``layer:<r>``: where the change is added.
    """

    COST = "as standard training: K passes a batch over 1 / K of the epochs"
    updates_each_term: ClassVar[bool] = True

    @property
    def num_terms(self) -> int:
        return self.num_steps

    def terms(self, model: Perturbable, batch: Batch, rng: Rng, *, sites: Sequence[str]) -> Iterator[Term]:
        delta_NTD = self.start(model, batch, rng)
        for replay in range(self.num_steps):
            delta_NTD.requires_grad_()
            yield Term(self.losses(model, batch, delta_NTD, rng.at("dropout", replay)).mean())
            delta_NTD = self.ascended(delta_NTD, gradient_at(delta_NTD), batch)
