"""Checkpoints: whole or not there, verified, without pickle."""

import json
import os
import stat

import pytest
import torch

from mtdnn.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, load_latest, save_checkpoint
from mtdnn.errors import CheckpointError, StorageError


def checkpoint(step):
    parts = {"model": {"w": torch.full((4,), float(step))}, "optimizer": {"0.step": torch.tensor(float(step))}}
    return Checkpoint(step=step, state={"progress": {"epoch": step}, "rate": 0.1 + 0.2}, parts=parts)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    save_checkpoint(tmp_path, checkpoint(7))
    back = load_latest(tmp_path)
    assert (back.step, back.state) == (7, {"progress": {"epoch": 7}, "rate": 0.1 + 0.2})
    assert torch.equal(back.parts["model"]["w"], torch.full((4,), 7.0))


def test_the_last_two_and_the_best_are_kept(tmp_path):
    for step in range(1, 6):
        save_checkpoint(tmp_path, checkpoint(step), best=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [5, 4, 2]


def test_only_safetensors_and_json_are_written(tmp_path):
    save_checkpoint(tmp_path, checkpoint(1))
    assert {path.suffix for path in (tmp_path / "step-00000001").iterdir()} == {".safetensors", ".json"}


def damage(path, how):
    data = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(data[: len(data) // 2])
        case "bit":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def test_the_files_can_be_read_by_whoever_may_read_the_folder(tmp_path):
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path, checkpoint(1))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "step-00000001").iterdir()}
    assert len(modes) > 2
    assert set(modes.values()) == {0o640}


@pytest.mark.parametrize("how", ["missing", "empty", "half", "bit"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_damage_is_named_and_the_checkpoint_before_is_taken(tmp_path, name, how):
    save_checkpoint(tmp_path, checkpoint(1))
    save_checkpoint(tmp_path, checkpoint(2))
    damage(tmp_path / "step-00000002" / name, how)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(tmp_path / "step-00000002")
    with pytest.warns(UserWarning, match="Going on from .*step-00000001"):
        assert load_latest(tmp_path).step == 1


def test_no_intact_checkpoint_is_an_error(tmp_path):
    save_checkpoint(tmp_path, checkpoint(1))
    damage(tmp_path / "step-00000001" / "state.json", "empty")
    with pytest.raises(CheckpointError, match=r"no intact checkpoint in .*state\.json is damaged"):
        load_latest(tmp_path)


def test_a_staged_folder_that_was_left_behind_is_not_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, checkpoint(1))
    (tmp_path / ".staged-step-00000002").mkdir()
    assert load_latest(tmp_path).step == 1
    save_checkpoint(tmp_path, checkpoint(2))
    assert load_latest(tmp_path).step == 2


def test_another_format_is_refused(tmp_path):
    save_checkpoint(tmp_path, checkpoint(1))
    manifest = tmp_path / "step-00000001" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99; this version reads format 1"):
        load_checkpoint(tmp_path / "step-00000001")


def test_saving_a_step_again_never_leaves_less_than_there_was(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, checkpoint(5))
    with monkeypatch.context() as patch:
        patch.setattr("mtdnn.checkpoint.save_file", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(StorageError, match="No space left; 20 bytes are needed"):
            save_checkpoint(tmp_path, checkpoint(5))
    assert load_latest(tmp_path).step == 5
    save_checkpoint(tmp_path, checkpoint(5))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_a_kill_between_the_two_renames_of_a_replacement_loses_nothing(tmp_path):
    save_checkpoint(tmp_path, checkpoint(5))
    (tmp_path / "step-00000005").rename(tmp_path / ".replaced-step-00000005")
    assert load_latest(tmp_path).step == 5
