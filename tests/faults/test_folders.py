"""What a run's folder goes through: damage, a full disk, a second run, another configuration."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from faults.work import SMALL, Process, command_line, run_toy, saved_step, signalled_twice, toy_folder, toy_job, until
from support import own_process

from mtdnn.checkpoint import Checkpoint, load_latest, save_checkpoint
from mtdnn.errors import BusyError, CheckpointError, ConfigError, StorageError
from mtdnn.model import load_model

PARTS = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
DAMAGES = {
    "missing": lambda data: None,
    "0 B": lambda data: b"",
    "8 B": lambda data: data[:8],
    "50 %": lambda data: data[: len(data) // 2],
    "99.9 %": lambda data: data[: min(len(data) - 1, len(data) * 999 // 1000)],
    "a bit of the first byte": lambda data: flipped(data, 0),
    "a bit in the middle": lambda data: flipped(data, len(data) // 2),
    "a bit of the last byte": lambda data: flipped(data, len(data) - 1),
}


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def checkpoint(step, *, size=4):
    tensors = {"w": torch.full((size,), float(step))}
    return Checkpoint(step=step, state={"progress": {"step": step}}, parts={"model": tensors, "optimizer": tensors})


@pytest.mark.fault("R3")
def test_any_damage_to_any_part_is_named_and_the_checkpoint_before_is_taken(tmp_path, tried):
    for number, (part, how) in enumerate((part, how) for part in PARTS for how in DAMAGES):
        folder = tmp_path / str(number)
        save_checkpoint(folder, checkpoint(1))
        save_checkpoint(folder, checkpoint(2))
        harm(folder / "step-00000002" / part, how)
        named = r"(manifest\.json|its SHA-256 is not the manifest's)" if part == "manifest.json" else part
        with pytest.warns(UserWarning, match=rf"{named}.*Going on from .*step-00000001") as warned:
            found = load_latest(folder)
        assert len(warned) == 1
        assert found.step == 1
        assert torch.equal(found.parts["model"]["w"], torch.ones(4))
        shutil.rmtree(folder / "step-00000001")
        with pytest.raises(CheckpointError, match=rf"no intact checkpoint in .*{named}"):
            load_latest(folder)
    tried(len(PARTS) * len(DAMAGES), "each named; the one before taken with one warning; alone: an error")


def harm(path, how):
    data = DAMAGES[how](path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)


@pytest.mark.fault("R3")
def test_a_damaged_model_of_an_earlier_stage_is_refused(tmp_path, tried):
    folder = toy_folder(tmp_path / "toy")
    job = toy_job(folder, tmp_path / "out", ["train.epochs=1", "train.select=last"])
    joint, finetune = job.cells
    job.run(chosen=[joint])
    weights = job.folder(joint).model / "model.safetensors"
    whole = weights.read_bytes()
    for how in DAMAGES:
        harm(weights, how)
        with pytest.raises(CheckpointError, match=r"model\.safetensors is (missing|damaged)"):
            load_model(job.folder(joint).model)
        weights.write_bytes(whole)
    job.run_cell(finetune)
    tried(len(DAMAGES), "a finished model's damage is named where it is taken up")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.fault("R4")
def test_a_full_disk_leaves_the_checkpoint_before_as_it_was(small_disk, tried):
    save_checkpoint(small_disk / "checkpoint", checkpoint(1, size=150_000))
    before = load_latest(small_disk / "checkpoint")
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 300_000))
    with pytest.raises(StorageError, match=r"step-00000002: cannot be written: .*; 1,200,000 bytes are needed") as told:
        save_checkpoint(small_disk / "checkpoint", checkpoint(2, size=150_000))
    assert told.value.exit_code == 10
    after = load_latest(small_disk / "checkpoint")
    assert after.step == 1
    assert torch.equal(after.parts["model"]["w"], before.parts["model"]["w"])
    assert [path.name for path in (small_disk / "checkpoint").iterdir()] == ["step-00000001"]
    (small_disk / "filler").unlink()
    save_checkpoint(small_disk / "checkpoint", checkpoint(2, size=150_000))
    assert saved_step(small_disk / "checkpoint") == 2
    tried(1, "full in the middle of a save: the checkpoint before is intact, bytes are told")


@pytest.mark.fault("R4")
def test_a_run_that_the_disk_has_no_room_for_does_not_begin(small_disk, tmp_path, tried):
    folder = toy_folder(tmp_path / "toy")
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 500_000))
    with pytest.raises(StorageError, match=r"models and up to 4 checkpoints at a time need [\d,]+ bytes, and [\d,]+"):
        run_toy(folder, small_disk / "out")
    assert not list(small_disk.glob("out/smart*"))
    tried(1, "too small a disk: refused before the start, with both numbers")


@pytest.mark.fault("R4")
def test_a_folder_that_cannot_be_written_is_told(tmp_path, tried):
    folder = toy_folder(tmp_path / "toy")
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"out.*cannot be written"):
        run_toy(folder, tmp_path / "out")
    with pytest.raises(StorageError, match=r"/proc/mtdnn/step-00000001: cannot be written: "):
        save_checkpoint(Path("/proc/mtdnn"), checkpoint(1))  # read-only for root too
    tried(2, "a folder that cannot be written: told")


@pytest.mark.fault("R6")
def test_a_second_run_in_the_folder_is_refused_at_once_and_a_stale_lock_does_not_block(tmp_path, tried):
    folder, out = toy_folder(tmp_path / "toy"), tmp_path / "out"
    first = Process(run_toy, folder, out, ["train.epochs=40"])
    until(lambda: (out / ".holder.json").is_file())
    second = toy_job(folder, out, ["train.epochs=40"])
    started = time.monotonic()
    with pytest.raises(BusyError, match=rf"process {first.process.pid} on {os.uname().nodename} is at work") as told:
        second.run()
    seconds = time.monotonic() - started
    assert seconds < 1
    assert told.value.exit_code == 11
    first.kill()
    first.wait()
    run_toy(folder, out, ["train.epochs=1", "train.select=last"], allowed=["train"])
    tried(1, f"refused in {seconds:.2f} s; after kill -9 the next run began")


@pytest.mark.fault("R7")
def test_nothing_is_trained_beside_work_of_another_configuration(tmp_path, tried):
    text = SMALL + "  plain: [{name: alone, kind: finetune, tasks: [sts]}]\n"
    folder, out = toy_folder(tmp_path / "toy", text=text), tmp_path / "out"
    job = toy_job(folder, out, ["train.epochs=1"])
    first, *_, apart = job.cells
    job.run(chosen=[first])
    before = sorted(out.rglob("*"))
    with pytest.raises(ConfigError, match=r"train.epochs: 1 -> 2.*take its result as it is: --allow train.epochs"):
        toy_job(folder, out, ["train.epochs=2"]).run()
    assert sorted(out.rglob("*")) == before
    results = toy_job(folder, out, ["train.epochs=2"]).run(chosen=[apart])
    assert [result["system"] for result in results] == [apart.system] == ["plain"]
    tried(1, "refused before any cell is trained; chosen cells apart from it are trained")


@pytest.mark.fault("R7")
def test_a_result_that_may_differ_is_told_and_an_unknown_key_refused(tmp_path, caplog, tried):
    folder, out = toy_folder(tmp_path / "toy"), tmp_path / "out"
    job = toy_job(folder, out, ["train.epochs=1"])
    job.run(chosen=job.cells[:1])
    changed = ["train.epochs=2"]
    with caplog.at_level("WARNING"):
        toy_job(folder, out, changed, allowed=["train.epochs"]).run(chosen=job.cells[:1])
    assert "was done with another configuration, and stays as it is: train.epochs: 1 -> 2" in caplog.text
    with pytest.raises(ConfigError, match=r"--allow: unknown key 'train.epohcs'. Did you mean 'train.epochs'"):
        toy_job(folder, out, changed, allowed=["train.epohcs"]).run()
    tried(2, "a done cell's difference is told; an unknown key is refused with a suggestion")


@pytest.mark.fault("R7")
@pytest.mark.parametrize(
    ("change", "key", "told"),
    [
        ("train.learning_rate=1e-2", "train.learning_rate", ": .* -> 0.01"),
        ("data.drop_leaks=false", "data.drop_leaks", ": True -> False"),
        (None, "content", r"\.nli/train: not the same any more"),
    ],
)
def test_another_configuration_or_other_data_is_refused_with_the_difference_unless_allowed(
    tmp_path, change, key, told, tried
):
    folder, out = toy_folder(tmp_path / "toy"), tmp_path / "out"
    running = Process(run_toy, folder, out, ["train.epochs=50"])
    until(lambda: list(out.glob("smart/joint/joint/full/1/checkpoint/step-*")))
    running.kill()
    running.wait()
    overrides = ["train.epochs=50", *([change] if change else [])]
    if not change:
        path = folder / "tasks" / "nli-train.jsonl"
        path.write_text(path.read_text().replace('"label": "no"', '"label": "yes"', 1))
    config = json.loads((out / "smart/joint/joint/full/1/config.json").read_text())
    job = toy_job(folder, out, overrides)
    with pytest.raises(ConfigError, match=f"{key}{told}.*--allow {key}"):
        job.run_cell(job.cells[0])
    assert json.loads((out / "smart/joint/joint/full/1/config.json").read_text()) == config
    seen = []
    job = toy_job(folder, out, overrides, allowed=[key], on_step=lambda cell, step: seen.append(step) or stop(step))
    with pytest.raises(StopIteration):
        job.run_cell(job.cells[0])
    assert seen[0] > 1
    assert key in (out / "smart/joint/joint/full/1/changes.json").read_text()
    tried(1, f"{key}: shown and refused; allowed by name, it went on from step {seen[0] - 1}")


@pytest.mark.fault("R7")
def test_what_cannot_change_in_the_middle_is_refused_even_where_it_is_allowed(tmp_path, tried):
    folder, out = toy_folder(tmp_path / "toy"), tmp_path / "out"
    job = toy_job(folder, out, on_step=lambda cell, step: stop(step) if step == 3 else None)
    with pytest.raises(StopIteration):
        job.run_cell(job.cells[0])
    config = out / "smart/joint/joint/full/1/config.json"
    before = config.read_text()
    for allowed in ([], ["train.freeze"], ["train"]):
        job = toy_job(folder, out, ["train.freeze=layer:1"], allowed=allowed)
        with pytest.raises(ConfigError, match=r"half done, .* cannot change .* train\.freeze: None -> layer:1") as told:
            job.run()
        assert "--allow" not in str(told.value)
    assert config.read_text() == before
    tried(3, "freezing in the middle: refused, and not offered")


def stop(step):
    raise StopIteration(step)


@pytest.mark.fault("R5")
def test_a_second_signal_ends_at_once_and_nothing_is_corrupt(tmp_path, tried):
    folder, out = toy_folder(tmp_path / "toy"), tmp_path / "out"
    arguments = ["run", folder / "toy.yaml", "--task-defs", folder / "tasks", "--out", out]
    process = Process(command_line, *arguments, "--set", "train.epochs=20")
    until(lambda: list(out.glob("smart/joint/joint/full/1/checkpoint/step-*")))
    process.send(signal.SIGTERM)
    process.send(signal.SIGTERM)
    status = process.wait()
    assert status in (143, -signal.SIGTERM)
    assert saved_step(out / "smart/joint/joint/full/1/checkpoint") >= 1
    run_toy(folder, out, ["train.epochs=20"])
    for number in (signal.SIGTERM, signal.SIGINT):
        assert Process(signalled_twice, number).wait() == -number
    tried(3, f"two signals: status {status}, the checkpoint is whole, the run went on to its end")


@pytest.mark.fault("R5")
def test_a_signal_ends_runs_side_by_side_too(tmp_path, tried):
    folder, out = toy_folder(tmp_path / "toy"), tmp_path / "out"
    arguments = ["run", folder / "toy.yaml", "--task-defs", folder / "tasks", "--out", out, "--jobs", "2"]
    command = [sys.executable, "-m", "mtdnn", *map(str, arguments), "--set", "train.epochs=500"]
    process = subprocess.Popen(command, env=own_process(), stderr=subprocess.PIPE, text=True)
    until(lambda: list(out.glob("smart/joint/joint/full/1/checkpoint/step-*")))
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 143, told
    until(lambda: not (out / "smart/joint/joint/full/1/.holder.json").exists())
    assert saved_step(out / "smart/joint/joint/full/1/checkpoint") >= 1
    tried(1, "--jobs 2: exit 143, the worker saved and ended")
