"""What a run holds does not grow with its steps."""

import json
import subprocess
import sys
from itertools import pairwise
from statistics import median

import pytest
from support import ONE_ARENA, own_process, write_toy_experiment

TEXT = """
name: endless
encoder: {path: tiny, pool: mean, max_length: 16}
train: {epochs: 1, batch_size: 2, learning_rate: 1e-4, select: last, save_every: 100}
systems:
  smart: [{name: tune, kind: finetune, tasks: [nli], regularizers: [{type: smart, preset: default}, {type: bregman}]}]
"""
# Trains through one long epoch, and tells the resident memory after some steps and after many, without what is free.
SCRIPT = """
import ctypes, gc, json, re, sys
from pathlib import Path
from mtdnn.config import load_experiment
from mtdnn.experiment import Experiment
from mtdnn.tasks import load_tasks

folder, marks, seen = Path(sys.argv[1]), json.loads(sys.argv[2]), []

def note(cell, step):
    if step in marks:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        seen.append(1024 * int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
    if step == marks[-1]:
        print(json.dumps(seen), flush=True)
        sys.exit()

Experiment(
    load_experiment(folder / "toy.yaml"), load_tasks(folder / "tasks"), out=folder / "out", on_step=note
).run()
"""
BYTES_A_STEP, INTERVALS = 1024, 5
ONCE = 32_000_000


@pytest.mark.fault("M1")
def test_memory_does_not_grow_with_the_steps(tmp_path, tried, times):
    """In most intervals: libraries take megabytes once and for all, as oneDNN does for its bf16 products."""
    steps = times(1000, full=2000)
    marks = list(range(200, 200 + steps + 1, steps // INTERVALS))
    write_toy_experiment(tmp_path, text=TEXT, rows=2 * marks[-1])
    script = [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(marks)]
    done = subprocess.run(script, env=own_process() | ONE_ARENA, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown = [after - before for before, after in pairwise(json.loads(done.stdout))]
    assert len(grown) == INTERVALS
    growth = median(grown) * INTERVALS / steps
    assert growth <= BYTES_A_STEP
    assert max(grown) <= ONCE
    tried(steps, f"{growth:.0f} bytes a step; at most {max(grown) / 1e6:.1f} MB at once")
