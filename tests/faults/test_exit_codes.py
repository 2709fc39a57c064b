"""What a person sees of a fault: one message with its remedy, and an exit code of its own."""

import json

import pytest
from faults.work import toy_folder

from mtdnn import errors
from mtdnn.crash import OWN_FAULT
from mtdnn.experiment import Experiment

SECRET = "the words of a private letter"


@pytest.mark.fault("Q1")
def test_every_class_of_error_has_an_exit_code_of_its_own(tried):
    classes = errors.MtdnnError.__subclasses__()
    codes = {each.exit_code: each.__name__ for each in classes}
    assert len(codes) == len(classes)
    assert not set(codes) & {0, 1, 2, OWN_FAULT, 130, 143}
    tried(len(classes), "codes are distinct")


@pytest.mark.fault("Q1")
def test_a_fault_in_a_run_is_one_message_with_its_code_and_no_traceback(mtdnn, tmp_path, tried):
    folder = toy_folder(tmp_path / "toy")
    run = ("run", folder / "toy.yaml", "--task-defs", folder / "tasks")
    train = folder / "tasks" / "nli-train.jsonl"
    whole = train.read_text()

    def ended(*arguments, text=whole):
        train.write_text(text)
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        code, _, told = mtdnn(*run, "--out", out, *arguments)
        assert "Traceback" not in told
        assert "error: " in told
        return code, " ".join(told.split())

    code, told = ended("--set", "train.epochs=many")
    assert (code, "epochs" in told) == (errors.ConfigError.exit_code, True)
    code, told = ended(text=whole.replace('"label": "no"', '"label": "on"'))
    assert (code, "nli-train.jsonl:" in told) == (errors.DataError.exit_code, True)
    code, told = ended("--set", "encoder.path=no/such")
    assert (code, "Give a hub id" in told) == (errors.EncoderError.exit_code, True)
    code, told = ended("--set", "train.learning_rate=1e30", "--set", "train.clip_norm=null", "--set", "train.epochs=9")
    assert (code, "lower the learning rate" in told) == (errors.NonFiniteError.exit_code, True)
    tried(4, "config, data, encoder, NaN: one message with the remedy")


@pytest.mark.fault("Q1")
def test_a_fault_of_our_own_leaves_a_report_without_data(mtdnn, tmp_path, monkeypatch, tried):
    def broken(self, *_):
        raise LookupError(SECRET)

    folder = toy_folder(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Experiment, "check", broken)
    code, _, told = mtdnn("run", folder / "toy.yaml", "--task-defs", folder / "tasks", "--out", tmp_path / "out")
    assert code == OWN_FAULT
    assert "Traceback" not in told
    (path,) = tmp_path.glob("mtdnn-crash-*.json")
    report = json.loads(path.read_text())
    assert report["error"] == "LookupError"
    assert SECRET not in path.read_text()
    assert report["versions"]["torch"]
    assert "epochs: 2" in report["configuration"][str(folder / "toy.yaml")]
    assert any("experiment.py" in place for place in report["places"])
    tried(1, f"exit {OWN_FAULT}, a report with versions, configuration and places")
