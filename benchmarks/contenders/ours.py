"""Our own trainer with a method of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contenders.base import LEARNING_RATE, Training
from mtdnn.config import StageConfig
from mtdnn.data.batch import Batch
from mtdnn.data.tokenize import TaskSplit
from mtdnn.distributed import ALONE, Ranks
from mtdnn.methods import build_methods
from mtdnn.model import MultiTaskModel
from mtdnn.optim import Precision
from mtdnn.train_plan import Step, TrainOptions
from mtdnn.trainer import Trainer

METHODS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "smart": {"regularizers": [{"type": "smart"}]},
    "smart + bregman": {"regularizers": [{"type": "smart"}, {"type": "bregman"}]},
    "rapt": {"regularizers": [{"type": "rapt"}]},
    "freelb": {"objective": {"type": "freelb"}},
}
SIGMA = {"smart": "0.1 rms", "smart + bregman": "0.1 rms"}


def trainer_of(
    model: MultiTaskModel,
    splits: Sequence[TaskSplit],
    method: Mapping[str, Any],
    *,
    rows: int,
    precision: Precision = "fp32",
    ranks: Ranks = ALONE,
) -> Trainer:
    """A trainer whose steps can be taken one by one.

    :param method: options of a stage: its objective and regularizers.
    """
    names = [split.task for split in splits]
    stage = StageConfig.model_validate({"name": "cost", "kind": "joint", "tasks": names, **method})
    methods = build_methods(stage, where="benchmark")
    trainer = Trainer(
        model,
        {split.task: split for split in splits},
        {},
        objective=methods.objective,
        regularizers=methods.regularizers,
        sampler=methods.sampler,
        options=TrainOptions(
            batch_size=rows,
            select="last",
            diagnose_every=None,
            learning_rate=LEARNING_RATE,
            precision=precision,
        ),
        seed=1,
        pad_id=0,
        ranks=ranks,
    )
    trainer.begin()
    return trainer


class Ours(Training):
    """Steps of :class:`~mtdnn.trainer.Trainer`, its checks and its log of losses included."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def step(self, batch: Batch) -> None:
        self.trainer.take(Step([batch], {}))
