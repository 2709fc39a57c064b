"""The program that each process of a torchrun test executes: train, and tell the losses."""

import json
import sys
from pathlib import Path

import torch
from toy_training import toy_data, trainer_for

from mtdnn.distributed import Ranks, joined_ranks


def train(ranks: Ranks, folder: Path, dtype: torch.dtype, out: Path) -> None:
    """Train without dropout on SMART and Bregman; the first process writes every step's losses and the metrics."""
    own = folder / f"of-{ranks.rank}"
    own.mkdir(parents=True)
    toy = toy_data(own, rows=16)
    options = {"epochs": 1, "batch_size": 6, "save_every": None, "precision": "fp32"}
    trainer = trainer_for(toy, ranks=ranks, folder=folder / "checkpoint", **options)
    trainer.model.to(dtype)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trainer.model.encoder.config.attention_probs_dropout_prob = 0.0
    kept: dict[str, list[float]] = {}
    trainer.losses.clear = lambda: kept.update({name: each.recent for name, each in trainer.losses.epoch.items()})
    trainer.run()
    evaluations = trainer.validate()
    if ranks.first:
        found = {
            "losses": kept,
            "metrics": {f"{task}/{k}": v for task, each in evaluations.items() for k, v in each.metrics.items()},
            "units": {task: len(each.uids) for task, each in evaluations.items()},
        }
        out.write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined_ranks() as joined:
        train(joined, Path(sys.argv[1]), getattr(torch, sys.argv[2]), Path(sys.argv[3]))
