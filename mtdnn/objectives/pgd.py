"""Projected gradient descent: training at the worst change that K steps find.

Madry et al., 2018, as Zhu et al., 2020 ("FreeLB", section 3.1) use it for text. https://arxiv.org/abs/1909.11764
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mtdnn.data.batch import Batch
from mtdnn.objectives.base import OBJECTIVES, Term
from mtdnn.objectives.label_seeking import LabelSeeking
from mtdnn.passes import Perturbable
from mtdnn.rng import Rng


@OBJECTIVES.register("pgd")
@dataclass(frozen=True, kw_only=True)
class Pgd(LabelSeeking):
    """min over theta of L(x + delta_K); delta_t = Pi(delta_(t-1) + alpha g / ||g||_F), g the gradient of the loss.

    Only the last loss trains the parameters. All passes of a batch share one dropout mask [choice].

    :param num_steps: K, ascent steps, at least 1.
    :param step_size: alpha, the Frobenius norm of a step; above 0.
    :param init_magnitude: the start is U(-1, 1) x this / sqrt(T_i D), T_i the row's tokens; at least 0.
    :param max_norm: epsilon, the largest Frobenius norm of a row's change; 0 for no ball.
    :param site: ``word``, ``embeddings`` or ``layer:<r>``: where the change is added.
    """

    COST = "1 + num_steps forward and as many backward passes, in place of one of each"

    @property
    def num_climbs(self) -> int:
        return self.num_steps

    def terms(self, model: Perturbable, batch: Batch, rng: Rng, *, sites: Sequence[str]) -> Iterator[Term]:
        masks = rng.at("dropout")
        delta_NTD = self.climbed(model, batch, rng, masks)
        yield Term(self.losses(model, batch, delta_NTD, masks).mean())
