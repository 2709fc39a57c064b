"""Plain fine-tuning with transformers: a loop of one's own, and its Trainer."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.contenders.base import Loop, Training
from benchmarks.measure import synchronize
from mtdnn.data.batch import Batch


def classifier(config: PretrainedConfig, device: torch.device) -> Any:
    return AutoModelForSequenceClassification.from_config(config).to(device)


def inputs_of(batch: Batch) -> dict[str, Any]:
    return {**batch.inputs_NT, "labels": batch.targets}


class HfLoop(Loop):
    """A stock classifier in a loop of one's own."""

    def __init__(self, config: PretrainedConfig, device: torch.device, *, precision: str):
        super().__init__(classifier(config, device), precision=precision, fused=precision == "bf16")

    def loss(self, batch: Batch) -> Tensor:
        loss: Tensor = self.model(**inputs_of(batch)).loss
        return loss


class Clock(TrainerCallback):  # type: ignore[misc]
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        synchronize()
        self.ends.append(time.perf_counter())


class InOrder(Trainer):  # type: ignore[misc]
    """The stock Trainer, given its batches in their order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(train_dataset)


class HfTrainer(Training):
    """A stock classifier in transformers' Trainer with its defaults."""

    def __init__(self, config: PretrainedConfig, device: torch.device, *, precision: str):
        self.model, self.bf16, self.on_cpu = classifier(config, device), precision == "bf16", device.type == "cpu"

    def step(self, batch: Batch) -> None:
        self.seconds([batch])

    def seconds(self, batches: Sequence[Batch]) -> float:
        """From the end of a first step, which is not counted, to the end of the last."""
        clock, rows = Clock(), [inputs_of(batch) for batch in [batches[0], *batches]]
        with TemporaryDirectory() as folder:
            trainer = InOrder(
                self.model,
                self.arguments(Path(folder), len(rows)),
                train_dataset=rows,
                data_collator=lambda chosen: chosen[0],
                callbacks=[clock],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return clock.ends[-1] - clock.ends[0]

    def arguments(self, folder: Path, num_steps: int) -> TrainingArguments:
        return TrainingArguments(
            output_dir=str(folder),
            max_steps=num_steps,
            per_device_train_batch_size=1,
            learning_rate=1e-6,
            bf16=self.bf16,
            use_cpu=self.on_cpu,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
