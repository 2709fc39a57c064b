"""Momentum Bregman proximal point (MBPP, ABPP): stay close, in output space, to an average of the weights.

Jiang et al., 2020, "SMART", sections 3.2 and 3.3, equation 3. https://arxiv.org/abs/1911.03437
"""

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mtdnn.data.batch import Batch
from mtdnn.divergences import Form, divergence
from mtdnn.passes import Pass, Perturbable
from mtdnn.regularizers.base import REGULARIZERS, Regularizer
from mtdnn.rng import Rng

EARLY, LATE = 0.99, 0.999
MEMORY = 0.1  # of the stage's steps: the longest that "auto" averages over
MOST_OF_START = 0.5  # of the initial weights in the teacher when the stage ends; it is warned of more


@REGULARIZERS.register("bregman")
class Bregman(Regularizer):
    """Penalize the divergence from the output of a teacher, the moving average of the weights.

    :param weight: mu, at least 0.
    :param momentum: beta: the teacher becomes (1 - beta) theta + beta teacher. The paper gives no value. A number in
        [0, 1); ``mean_teacher``: 0.99 for the first 10 % of the updates, then 0.999 [choice, after Tarvainen and
        Valpola, 2017]; or ``auto``: the same, but at most 1 - S / (0.1 x steps) [choice], so that the teacher averages
        over at most a tenth of the stage's steps. In some hundred steps 0.999 is a teacher that stays at the start.
    :param every: S, optimizer steps between two updates of the teacher; at least 1.
    :param reference_dropout: ``off``, or ``shared``: the student's masks in the teacher too [choice].
    :param divergence: l_s for distributions; numbers always take the squared difference.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mbpp": {"every": 1},
        "vbpp": {"momentum": 0.0, "every": 100},
    }
    NOTES: ClassVar[Mapping[str, str]] = {
        "mbpp": "Momentum Bregman proximal point: the teacher follows the weights. The paper gives no momentum; 0.99 "
        "and then 0.999 are Tarvainen and Valpola's, bounded so that the teacher averages over a tenth of a short run.",
        "vbpp": "Vanilla Bregman proximal point: the teacher is a copy of the weights, taken anew every S steps. The "
        "paper prints S = 1, with which the penalty and its gradient are zero but for dropout; 100 is ours.",
    }
    COST = "one forward pass of the teacher beside the clean pass, and a copy of the weights"
    keeps_teacher: ClassVar[bool] = True

    def __init__(
        self,
        *,
        weight: float = 1.0,
        momentum: float | Literal["auto", "mean_teacher"] = "auto",
        every: int = 1,
        reference_dropout: Literal["off", "shared"] = "off",
        divergence: Form = "symmetric_kl",
    ):
        if weight < 0 or every < 1:
            raise ValueError(f"weight must be at least 0 and every at least 1, got {weight} and {every}")
        if not isinstance(momentum, str) and not 0 <= momentum < 1:
            raise ValueError(f"momentum must be auto, mean_teacher or in [0, 1), got {momentum}")
        self.weight, self.momentum, self.every = weight, momentum, every
        self.reference_dropout, self.form = reference_dropout, divergence
        self.num_steps = 0
        self.teacher: Perturbable | None = None

    def begin(self, model: Perturbable, *, num_steps: int) -> None:
        self.num_steps = num_steps
        self.teacher = copy.deepcopy(model).requires_grad_(False)

    def doubts(self) -> list[str]:
        if self.beta(self.num_steps) == 0 and self.every == 1 and self.reference_dropout == "shared":
            return ["bregman does nothing: with momentum 0, every 1 and shared dropout the teacher is the student"]
        if (share := self.start_share()) <= MOST_OF_START:
            return []
        remedy = "momentum: auto" if self.every <= self.num_steps else "a smaller every"
        return [
            f"bregman's teacher holds the model at its start: after all {self.num_steps:,} steps it is still "
            f"{100 * share:.0f} % of the weights it began with; {remedy} lets it follow"
        ]

    def penalty(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Tensor:
        assert self.teacher is not None, "begin() makes the teacher"
        shared = self.reference_dropout == "shared"
        self.teacher.train(shared and model.training)
        with torch.no_grad():
            reference = self.teacher.run(batch, replay=clean if shared else None).logits
        values_U = divergence(model.outputs(reference, batch), model.outputs(clean.logits, batch), form=self.form)
        return self.weight * values_U.mean()

    def beta(self, step: int) -> float:
        """The momentum of the update after optimizer step ``step`` (from 1)."""
        if not isinstance(self.momentum, str):
            return self.momentum
        momentum = EARLY if 10 * (step - 1) < self.num_steps else LATE
        if self.momentum == "auto":
            momentum = min(momentum, max(0.0, 1 - self.every / (MEMORY * self.num_steps)))
        return momentum

    def start_share(self) -> float:
        """How much of the stage's initial weights is in the teacher when the stage ends, in [0, 1]."""
        return math.prod(self.beta(step) for step in range(self.every, self.num_steps + 1, self.every))

    @torch.no_grad()
    def after_step(self, model: Perturbable, *, step: int) -> None:
        assert self.teacher is not None, "begin() makes the teacher"
        if step % self.every == 0:
            get_ema_multi_avg_fn(self.beta(step))(
                list(self.teacher.parameters()), [weight.detach() for weight in model.parameters()], None
            )

    def teacher_weights(self) -> Mapping[str, Tensor]:
        return self.state_dict()

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.teacher.state_dict()) if self.teacher is not None else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        assert self.teacher is not None, "begin() makes the teacher"
        self.teacher.load_state_dict(dict(state))
