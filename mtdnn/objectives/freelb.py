"""FreeLB: the average of the parameter gradients along an ascent.

Zhu et al., 2020, "FreeLB", Algorithm 1; settings from its table 7. https://arxiv.org/abs/1909.11764
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mtdnn.data.batch import Batch
from mtdnn.objectives.base import OBJECTIVES, Term
from mtdnn.objectives.label_seeking import LabelSeeking, gradient_at
from mtdnn.passes import Perturbable
from mtdnn.rng import Rng


def published(step_size: float, num_steps: int, init_magnitude: float, max_norm: float) -> Mapping[str, Any]:
    return {"step_size": step_size, "num_steps": num_steps, "init_magnitude": init_magnitude, "max_norm": max_norm}


@OBJECTIVES.register("freelb")
@dataclass(frozen=True, kw_only=True)
class FreeLb(LabelSeeking):
    """1/K sum over t < K of grad_theta L(x + delta_t); delta_(t+1) = Pi(delta_t + alpha g_t / ||g_t||_F).

    Each pass is back-propagated at once, so that memory does not grow with K; all share one dropout mask.

    :param num_steps: K, ascent steps, at least 1.
    :param step_size: alpha, the Frobenius norm of a step; above 0.
    :param init_magnitude: the start is U(-1, 1) x this / sqrt(T_i D), T_i the row's tokens; at least 0.
    :param max_norm: epsilon, the largest Frobenius norm of a row's change; 0 for no ball.
    :param site: ``word``, ``embeddings`` or ``layer:<r>``: where the change is added.
    :param num_passes: ``K``: the losses at delta_0 to delta_(K-1), as Algorithm 1 says. ``1+K``: also at delta_K, each
        divided by 1 + K, as the authors' fairseq code does.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fairseq": {"num_passes": "1+K"},
        "cola": published(5e-2, 3, 0.4, 0.3),
        "mnli": published(0.1, 2, 0.1, 0.3),
        "mrpc": published(4e-2, 3, 0.64, 0.4),
        "qnli": published(0.1, 2, 0.2, 0.2),
        "qqp": published(0.2, 2, 0.32, 0.7),
        "rte": published(6e-2, 3, 0.16, 0.14),
        "sst2": published(0.1, 2, 1.0, 0.6),
        "stsb": published(0.1, 3, 0.16, 0.28),
    }
    NOTES: ClassVar[Mapping[str, str]] = {
        "fairseq": "The authors' code makes 1 + K passes where Algorithm 1 has K.",
        "cola": "The presets by task are the paper's for RoBERTa-large. With them went weight decay 0.1, Adam (0.9, "
        "0.999, 1e-6), polynomial decay, no clipping, and these learning rates and batches x accumulation: CoLA 1e-5 "
        "8x2, MNLI 1e-5 3x11, MRPC 5e-6 2x8, QNLI 1e-5 2x16, QQP 1e-5 32, RTE 1e-5 2x8, SST-2 1e-5 8x4, "
        "STS-B 2e-5 8x2.",
    }
    COST = "num_passes forward and as many backward passes, in place of one of each"

    num_passes: Literal["K", "1+K"] = "K"

    @property
    def num_terms(self) -> int:
        return self.num_steps + (self.num_passes == "1+K")

    def terms(self, model: Perturbable, batch: Batch, rng: Rng, *, sites: Sequence[str]) -> Iterator[Term]:
        delta_NTD = self.start(model, batch, rng)
        for _ in range(self.num_terms):
            delta_NTD.requires_grad_()
            loss_U = self.losses(model, batch, delta_NTD, rng.at("dropout"))
            yield Term(loss_U.mean(), share=1.0 / self.num_terms)
            delta_NTD = self.ascended(delta_NTD, gradient_at(delta_NTD), batch)
