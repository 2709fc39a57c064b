"""Plain fine-tuning."""

from collections.abc import Iterator, Sequence

from mtdnn.data.batch import Batch
from mtdnn.objectives.base import OBJECTIVES, Objective, Term
from mtdnn.passes import Perturbable
from mtdnn.rng import Rng


@OBJECTIVES.register("standard")
class Standard(Objective):
    """The task's own loss, one pass a batch."""

    def terms(self, model: Perturbable, batch: Batch, rng: Rng, *, sites: Sequence[str]) -> Iterator[Term]:
        clean = model.run(batch, rng=rng.at("dropout"), sites=sites)
        yield Term(loss=model.loss(clean.logits, batch).mean(), clean=clean)
