"""``mtdnn.run``: what the command line does, in Python."""

import json

import pytest
from support import write_toy_experiment

import mtdnn
from mtdnn.errors import ConfigError


def test_an_experiment_is_run_once_and_its_results_come_back(tmp_path):
    path = write_toy_experiment(tmp_path, rows=16)
    settings = ["systems={mtdnn: [joint]}", "train.epochs=1"]
    folders = {"task_defs": str(tmp_path / "tasks"), "out": tmp_path / "out"}
    (found,) = mtdnn.run(path, settings=settings, **folders)
    assert set(found["metrics"]) == {"nli", "sts", "rank"}
    assert json.loads((tmp_path / "out/results.json").read_text())[0]["metrics"] == found["metrics"]
    weights = next(tmp_path.glob("out/**/model/model.safetensors"))
    written = weights.stat().st_mtime_ns
    assert mtdnn.run(str(path), settings=settings, **folders) == [found]
    assert weights.stat().st_mtime_ns == written


def test_an_experiment_that_is_not_there_is_told_as_on_the_command_line():
    with pytest.raises(ConfigError, match="Did you mean 'quickstart'"):
        mtdnn.run("quikstart")
