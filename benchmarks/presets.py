"""How large SMART's penalty and its gradient are beside the task loss, for each preset, on one batch.

python -m benchmarks.presets runs/quickstart/mtdnn/joint/joint/full/1/model everyday_nli
"""

import sys
from pathlib import Path

import torch

from mtdnn.data.batch import make_batch
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split
from mtdnn.predictor import Predictor
from mtdnn.registry import build
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.smart import Smart
from mtdnn.rng import Rng
from mtdnn.tasks import load_tasks

ROWS = 32


def gradient_norm(value: torch.Tensor, model: torch.nn.Module) -> float:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    return float(torch.cat([each.flatten() for each in found if each is not None]).norm())


def main(folder: str, task: str) -> None:
    predictor = Predictor.load(Path(folder))
    model = predictor.model.train()
    source = find_source(load_tasks()[task], "train")
    data = load_split(source, model.head(task), predictor.tokenizer, max_length=model.config.encoder_max_length)
    batch = make_batch(data, range(ROWS), model.head(task), pad_id=predictor.tokenizer.pad_token_id).to(model.device)
    rng = Rng("benchmark")
    clean = model.run(batch, rng=rng, sites=["embeddings", "embeddings_twice"])
    loss = model.loss(clean.logits, batch).mean()
    print(f"{ROWS} rows of {task}: task loss {float(loss.detach()):.3g}")
    print("| preset | penalty | its gradient over the task loss's |\n|---|---|---|")
    for preset in Smart.PRESETS:
        smart = build(REGULARIZERS, {"type": "smart", "preset": preset}, where="benchmark")
        penalty = smart.penalty(model, batch, clean, rng)
        ratio = gradient_norm(penalty, model) / gradient_norm(loss, model)
        print(f"| {preset} | {float(penalty.detach()):.2g} | {ratio:.2g} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
