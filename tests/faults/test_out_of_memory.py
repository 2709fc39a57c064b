"""Runs that run out of memory, and what the doctor says beforehand."""

import json
import re
import subprocess
import sys

import pytest
from support import MTDNN, WORDS, own_process, write_toy_experiment

from mtdnn.checkpoint import list_checkpoints, load_checkpoint

LONG = """
name: long
encoder: {path: tiny, pool: mean, max_length: 256}
train: {epochs: 3, batch_size: 32, learning_rate: 1e-3, select: last, save_every: 2}
systems:
  smart: [{name: tune, kind: finetune, tasks: [nli], regularizers: [{type: smart, preset: default}, {type: bregman}]}]
"""
CELL = "smart/tune/nli/full/1"
EXCEEDED = 9
# The command line, whose process may have 32 MB more from step 5 on: less than the activations of one batch, which
# GIVE_BACK lets the C library return to the system after every step instead of keeping them for the next.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
LIMITED = """
import re, resource
from functools import partialmethod
from pathlib import Path
from mtdnn.cli.main import main
from mtdnn.experiment import Experiment

def limit(cell, step):
    if step == 5:
        size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size + 32 * 2**20, resource.RLIM_INFINITY))

Experiment.__init__ = partialmethod(Experiment.__init__, on_step=limit)
main()
"""
# The command line, which tells its peak of resident memory at the end.
TOLD = """
import atexit
from pathlib import Path
atexit.register(lambda: print(Path("/proc/self/status").read_text()))
from mtdnn.cli.main import main
main()
"""


def write_long_texts(folder):
    """The toy data with texts of 250 words, so that a batch's attention takes tens of megabytes."""
    write_toy_experiment(folder, text=LONG, rows=64)
    path = folder / "tasks/nli-train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["a"] += " " + " ".join(WORDS[(number + place) % len(WORDS)] for place in range(250))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def arguments(folder, verb, *more):
    return [verb, str(folder / "toy.yaml"), "--task-defs", str(folder / "tasks"), *more]


def done(command, **environment):
    return subprocess.run(command, env={**own_process(), **environment}, capture_output=True, text=True, check=False)


@pytest.mark.fault("M2")
def test_a_run_that_gets_no_more_memory_ends_with_its_own_error_and_goes_on_with_less(tmp_path, tried):
    write_long_texts(tmp_path)
    out, whole = tmp_path / "out", tmp_path / "whole"
    ended = done([sys.executable, "-c", LIMITED, *arguments(tmp_path, "run", "--out", str(out))], **GIVE_BACK)
    assert ended.returncode == EXCEEDED, ended.stderr
    assert "Traceback" not in ended.stderr
    told = " ".join(ended.stderr.split())
    assert re.search(r"out of memory while training on task 'nli', \d+ rows x 256 tokens", told)
    assert "mtdnn doctor" in told
    assert "activation_checkpointing" in told
    kept = list_checkpoints(out / CELL / "checkpoint")
    assert [step for step, _ in kept] == [4, 2]
    for _, path in kept:
        load_checkpoint(path)
    saving = ("--set", "train.activation_checkpointing=true")
    resumed = done([*MTDNN, *arguments(tmp_path, "run", "--out", str(out), *saving)])
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step 4" in resumed.stderr
    assert done([*MTDNN, *arguments(tmp_path, "run", "--out", str(whole))]).returncode == 0
    name = f"{CELL}/model/model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()
    tried(1, "own error and exit code, the checkpoint intact; resumed with checkpointed activations, bit-identical")


def peak_of_run(folder, out, settings=()):
    ended = done([sys.executable, "-c", TOLD, *arguments(folder, "run", "--out", str(out), *settings)], **GIVE_BACK)
    assert ended.returncode == 0, ended.stderr
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", ended.stdout)[1])


@pytest.mark.fault("M2")
def test_the_doctor_says_beforehand_what_does_not_fit_and_its_proposals_do(tmp_path, tried):
    write_long_texts(tmp_path)
    short = ("--set", "train.epochs=1", "--set", "train.batch_size=64")  # whose peak is far above what always fits
    peak = peak_of_run(tmp_path, tmp_path / "as-it-is", short)
    limit = peak - 120_000_000
    refused = done([*MTDNN, *arguments(tmp_path, "doctor", "--memory-limit", f"{limit}B", *short)], **GIVE_BACK)
    assert refused.returncode == EXCEEDED, refused.stderr
    assert "Traceback" not in refused.stderr
    told = re.search(r"64 rows x 256 tokens of task 'nli' takes about ([\d.]+) GB", refused.stderr)
    assert float(told[1]) * 1e9 == pytest.approx(peak, rel=0.15)
    proposals = re.findall(r"^ +(--set .*?)  \(", refused.stderr, flags=re.MULTILINE)
    settings = [dict(re.findall(r"train\.(\S+)=(\S+)", text)) for text in proposals]
    assert list(settings[0]) == ["batch_size", "accumulate"]
    assert "activation_checkpointing" in settings[1]
    assert {int(each["batch_size"]) * int(each["accumulate"]) for each in settings if "batch_size" in each} == {64}
    peaks = [
        peak_of_run(tmp_path, tmp_path / f"{number}", [*short, *text.split()]) for number, text in enumerate(proposals)
    ]
    assert max(peaks) <= limit
    measured = f"{float(told[1]) * 1e9 / peak:.2f} of the peak"
    tried(1 + len(peaks), f"{measured} told before training; what was proposed was run, and stayed below the limit")
