"""R-Drop: two passes with different dropout should agree.

Liang et al., 2021, "R-Drop", equations 2 to 4. https://arxiv.org/abs/2106.14448
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mtdnn.data.batch import Batch
from mtdnn.divergences import divergence
from mtdnn.objectives.base import OBJECTIVES, Objective, Term
from mtdnn.passes import Perturbable
from mtdnn.rng import Rng


@OBJECTIVES.register("r_drop")
@dataclass(frozen=True, kw_only=True)
class RDrop(Objective):
    """c (L_1 + L_2) + alpha / 2 [KL(P_1 || P_2) + KL(P_2 || P_1)], two passes with masks of their own.

    Gradients go through both sides. Numbers: c (L_1 + L_2) + alpha (y_1 - y_2)^2 [choice]. Regularizers attach to the
    first pass.

    :param weight: alpha, at least 0; the paper uses 0.1 to 1 on GLUE.
    :param form: ``repository``: c = 1/2, as the authors' code. ``paper``: c = 1, as equation 4.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"repository": {}, "paper": {"form": "paper"}}
    NOTES: ClassVar[Mapping[str, str]] = {
        "repository": "The authors' code halves the losses, so that a weight means twice what it does in the paper."
    }
    COST = "two forward and two backward passes, in place of one of each"

    weight: float = 1.0
    form: Literal["repository", "paper"] = "repository"

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight must be at least 0, got {self.weight}")

    def terms(self, model: Perturbable, batch: Batch, rng: Rng, *, sites: Sequence[str]) -> Iterator[Term]:
        first = model.run(batch, rng=rng.at("dropout"), sites=sites)
        second = model.run(batch, rng=rng.at("second dropout"))
        loss_U = model.loss(first.logits, batch) + model.loss(second.logits, batch)
        one, other = model.outputs(first.logits, batch), model.outputs(second.logits, batch)
        apart_U = divergence(one, other) * (0.5 if one.values_U is None else 1.0)
        share = 0.5 if self.form == "repository" else 1.0
        yield Term((share * loss_U + self.weight * apart_U).mean(), first)
