"""What an optimizer step of each method costs over a step of plain fine-tuning; interleaved, medians of 7.

python -m benchmarks.method_cost runs/quickstart/mtdnn/joint/joint/full/1/model everyday_nli
"""

import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from mtdnn.config import StageConfig
from mtdnn.data.batch import Batch, make_batch
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import TaskSplit, load_split
from mtdnn.methods import build_methods
from mtdnn.model import MultiTaskModel
from mtdnn.predictor import Predictor
from mtdnn.tasks import load_tasks
from mtdnn.train_plan import Step, TrainOptions
from mtdnn.trainer import Trainer

ROWS, REPETITIONS = 16, 7
RESULTS = Path(__file__).parent / "results" / "method_cost.json"
SMART = {"type": "smart", "preset": "default"}
METHODS: Mapping[str, Mapping[str, object]] = {
    "standard": {},
    "bregman": {"regularizers": [{"type": "bregman"}]},
    "rapt": {"regularizers": [{"type": "rapt"}]},
    "r3f": {"regularizers": [{"type": "r3f"}]},
    "r_drop": {"objective": {"type": "r_drop"}},
    "smart": {"regularizers": [SMART]},
    "smart + bregman": {"regularizers": [SMART, {"type": "bregman"}]},
    "smart option B": {"regularizers": [{**SMART, "option": "B"}]},
    "vat": {"regularizers": [{"type": "vat"}]},
    "pgd, K = 3": {"objective": {"type": "pgd"}},
    "freelb, K = 3": {"objective": {"type": "freelb"}},
}
PUBLISHED = {"rapt": "1.25; from its columns 1.34", "smart": "1.59; from its columns 1.71"}  # RAPT's table 3, A100


def trainer_of(model: MultiTaskModel, data: TaskSplit, task: str, options: Mapping[str, object]) -> Trainer:
    stage = StageConfig.model_validate({"name": "cost", "kind": "finetune", "tasks": [task], **options})
    methods = build_methods(stage, where="benchmark")
    trainer = Trainer(
        copy.deepcopy(model).train(),
        {task: data},
        {},
        objective=methods.objective,
        regularizers=methods.regularizers,
        sampler=methods.sampler,
        options=TrainOptions(batch_size=ROWS, select="last", diagnose_every=None, learning_rate=1e-6),
        seed=1,
        pad_id=0,
    )
    for attached in trainer.regularizers.values():
        attached.regularizer.begin(trainer.model, num_steps=trainer.num_steps)
    return trainer


def seconds(trainer: Trainer, batch: Batch) -> float:
    started = time.perf_counter()
    trainer.run_step(Step([batch], {}))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(trainers: Mapping[str, Trainer], batch: Batch) -> list[dict[str, object]]:
    """A row a method: its step over the standard step of the same round."""
    for trainer in trainers.values():
        seconds(trainer, batch)
    rounds = [{name: seconds(trainer, batch) for name, trainer in trainers.items()} for _ in range(REPETITIONS)]
    rows = []
    for name in trainers:
        ratios = [each[name] / each["standard"] for each in rounds]
        found = {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
        median = statistics.median(each[name] for each in rounds)
        rows.append({"name": name, "ratio_to": "standard", "seconds": median, **found, "repetitions": REPETITIONS})
    return rows


def main(folder: str, task: str) -> None:
    predictor = Predictor.load(Path(folder))
    model = predictor.model
    source = find_source(load_tasks()[task], "train")
    data = load_split(source, model.head(task), predictor.tokenizer, max_length=model.config.encoder_max_length)
    batch = make_batch(data, range(ROWS), model.head(task), pad_id=predictor.tokenizer.pad_token_id).to(model.device)
    rows = measure({name: trainer_of(model, data, task, options) for name, options in METHODS.items()}, batch)
    shape = list(batch.mask_NT.shape)
    print(f"{shape[0]} rows x {shape[1]} tokens, {torch.get_num_threads()} threads, {platform.machine()}, fp32")
    print("| method | step over standard | min - max | published (RAPT, table 3) |\n|---|---|---|---|")
    for row in rows:
        spread = f"{row['ratio_min']:.2f} - {row['ratio_max']:.2f}"
        print(f"| {row['name']} | {row['ratio']:.2f} | {spread} | {PUBLISHED.get(str(row['name']), '')} |")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([{**row, "shape": shape, "precision": "fp32"} for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
