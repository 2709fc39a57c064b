"""Two processes that train one model together, under ``torchrun``."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.work import SMALL, saved_step, toy_folder, until
from support import own_process

PATIENCE = 600  # seconds; spent only where something is wrong


def torchrun(*arguments, count=2, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = own_process()
    environment["PYTHONPATH"] += f"{os.pathsep}{environment['PYTHONPATH']}/tests"
    return subprocess.Popen([*command, *map(str, arguments)], env=environment, text=True, **options)


@pytest.mark.fault("P1")
@pytest.mark.parametrize(("dtype", "bar"), [("float64", 1e-9), ("float32", 1e-5)])
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path, dtype, bar, tried):
    results = []
    for count in (1, 2):
        out = tmp_path / f"{count}.json"
        process = torchrun("-m", "faults.ranks", tmp_path / f"data{count}", dtype, out, count=count)
        assert process.wait(PATIENCE) == 0
        results.append(json.loads(out.read_text()))
    one, two = results
    assert len(one["losses"]["nli"]) >= 2
    assert sum(map(len, one["losses"].values())) >= 40  # 20 steps, each with its losses and penalties
    largest = 0.0
    for name, values in one["losses"].items():
        assert values
        for a, b in zip(values, two["losses"][name], strict=True):
            largest = max(largest, abs(a - b) / max(abs(a), 1e-3))
    assert largest < bar
    assert two["metrics"] == pytest.approx(one["metrics"], rel=10 * bar)
    assert two["units"] == one["units"]
    tried(20, f"{dtype}: largest relative difference of a loss {largest:.1e}, same metrics")


@pytest.mark.fault("P1")
def test_processes_end_well_right_after_their_last_exchange(tried, times):
    launches = times(3, full=12)
    for _ in range(launches):
        process = torchrun("-m", "faults.parting", count=4, stderr=subprocess.PIPE)
        _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, told
    tried(4 * launches, "every process ended with 0")


@pytest.mark.fault("P1")
def test_a_killed_rank_ends_the_other_and_the_run_goes_on_from_its_checkpoint(tmp_path, tried):
    folder, out = toy_folder(tmp_path / "toy"), tmp_path / "out"
    arguments = ["-m", "mtdnn", "run", folder / "toy.yaml", "--task-defs", folder / "tasks", "--out", out]
    process = torchrun(*arguments, "--set", "train.epochs=10", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    until(lambda: list(out.glob("smart/joint/joint/full/1/checkpoint/step-*")), timeout=PATIENCE)
    (victim,) = [pid for pid in children(process.pid) if environment_of(pid).get("RANK") == "1"]
    os.kill(victim, signal.SIGKILL)
    started = time.monotonic()
    _, told = process.communicate(timeout=PATIENCE)
    seconds = time.monotonic() - started
    assert process.returncode != 0, told
    assert seconds < 30
    again = torchrun(*arguments, "--set", "train.epochs=10", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    _, told = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, told
    assert (out / "smart/finetune/nli/full/1/results.json").is_file()
    tried(1, f"the other process ended after {seconds:.0f} s; the same command went on to the end")


@pytest.mark.fault("P1")
def test_an_error_in_one_rank_ends_the_other_before_another_cell_is_begun(tmp_path, tried):
    text = SMALL + "  plain: [{name: alone, kind: finetune, tasks: [sts]}]\n"
    folder, out = toy_folder(tmp_path / "toy", text=text), tmp_path / "out"
    process = torchrun("-m", "faults.failing", folder, out, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    told = "".join(process.communicate(timeout=PATIENCE))
    assert process.returncode != 0
    assert "a failure in smart/joint/joint/full/1 after step 1" in told
    assert "1 of 3 cells failed" in " ".join(told.split())
    tried(1, "an error in one process ended both, and no other cell was begun")


@pytest.mark.fault("P1")
def test_a_signal_to_one_rank_ends_both_at_a_saved_step(tmp_path, tried):
    folder, out = toy_folder(tmp_path / "toy"), tmp_path / "out"
    arguments = ["-m", "mtdnn", "run", folder / "toy.yaml", "--task-defs", folder / "tasks", "--out", out]
    often = ["--set", "train.epochs=200", "--set", "train.save_every=20"]
    process = torchrun(*arguments, *often, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    checkpoints = out / "smart/joint/joint/full/1/checkpoint"
    until(lambda: list(checkpoints.glob("step-*")), timeout=PATIENCE)
    (second,) = [pid for pid in children(process.pid) if environment_of(pid).get("RANK") == "1"]
    os.kill(second, signal.SIGTERM)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    (step,) = {int(number) for number in re.findall(r"stopped at step (\d+) of", " ".join(told.split()))}
    assert saved_step(checkpoints) == step
    tried(1, f"a signal to the second process: both stopped at step {step}, which is saved")


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    return [int(each) for each in found.stdout.split()]


def environment_of(pid):
    text = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")
    return dict(each.split("=", 1) for each in text.split("\0") if "=" in each)
