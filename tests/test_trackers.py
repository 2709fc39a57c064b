"""Trackers: told what TensorBoard shows, once a step; absent ones refused first."""

import logging
import sys
from typing import ClassVar

import pytest
from accelerate import tracking
from support import write_toy_experiment
from test_trainer import scalars_in

from mtdnn.config import load_experiment
from mtdnn.errors import ConfigError
from mtdnn.experiment import Experiment
from mtdnn.tasks import load_tasks
from mtdnn.trackers import Trackers, flat_facts

TOY = """
name: toy
encoder: {path: tiny, pool: mean, max_length: 32}
train: {epochs: 3, batch_size: 8, learning_rate: 1e-3, precision: fp32, save_every: 5}
systems:
  plain: [{name: joint, kind: joint, tasks: [nli, sts]}]
"""
CELL = "plain/joint/joint/full/1"


class Notebook(tracking.GeneralTracker):
    """A tracker that needs no network: it keeps what it is told, over all its runs."""

    name = "notebook"
    requires_logging_directory = False
    told: ClassVar[list] = []
    facts: ClassVar[list] = []
    ends: ClassVar[list] = []

    def __init__(self, run_name):
        super().__init__()
        self.run_name = run_name

    @property
    def tracker(self):
        return self.told

    def store_init_configuration(self, values):
        self.facts.append((self.run_name, values))

    def log(self, values, step):
        self.told.append((step, values))

    def finish(self):
        self.ends.append(self.run_name)


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    for kept in (Notebook.told, Notebook.facts, Notebook.ends):
        kept.clear()
    return Notebook


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_experiment(folder, text=TOY, rows=48)
    return folder


def job(folder, out, *trackers, **options):
    tasks = load_tasks(folder / "tasks")
    return Experiment(load_experiment(folder / "toy.yaml"), tasks, out=out, trackers=trackers, **options)


def by_tag(told):
    found = {}
    for step, values in told:
        for name, value in values.items():
            found.setdefault(name, []).append((step, value))
    return found


def test_a_tracker_is_told_what_tensorboard_shows_and_once_a_step_after_a_resume_too(toy, tmp_path, notebook):
    def stop(cell, step):
        if step == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(toy, tmp_path, "notebook", on_step=stop).run()
    assert notebook.ends == ["toy"]
    job(toy, tmp_path, "notebook").run()
    shown = scalars_in(tmp_path / CELL / "events")
    assert {"train/nli", "train/learning_rate", "validation/nli/accuracy"} <= set(shown)
    told = by_tag(notebook.told)
    assert set(told) == set(shown)
    for name, values in shown.items():
        assert [step for step, _ in told[name]] == [step for step, _ in values]
        assert [value for _, value in told[name]] == pytest.approx([value for _, value in values], rel=1e-6)
    (project, facts), again = notebook.facts
    assert (project, facts) == again
    assert (project, facts["cell"], facts["seed"], facts["train.learning_rate"]) == ("toy", CELL, 1, 1e-3)


def test_accelerates_own_tensorboard_tracker_writes_beside_the_cell(toy, tmp_path):
    job(toy, tmp_path, "tensorboard").run()
    shown = scalars_in(tmp_path / CELL / "events")
    assert {"train/nli", "validation/sts/pearson"} <= set(shown)
    assert {tag: shown[tag] for tag in shown} == {
        tag: values for tag, values in scalars_in(tmp_path / CELL / "tracking/toy").items() if tag in shown
    }


def test_the_results_do_not_depend_on_trackers(toy, tmp_path, notebook):
    (tracked,) = job(toy, tmp_path / "tracked", "notebook").run()
    (plain,) = job(toy, tmp_path / "plain").run()
    assert tracked["inputs"] == plain["inputs"]
    assert tracked["metrics"] == plain["metrics"]


def test_unknown_and_absent_trackers_are_refused_before_anything_is_trained(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_available_trackers", ["tensorboard"])
    with pytest.raises(ConfigError) as caught:
        job(toy, tmp_path, "wandbb", "mlflow")
    assert "--track: unknown tracker 'wandbb'. Did you mean 'wandb'?" in str(caught.value)
    assert "--track mlflow: its package is not installed: pip install mlflow" in str(caught.value)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match=r"pip install 'mtdnn\[track\]'"):
        job(toy, tmp_path, "wandb")


def test_a_tracker_that_cannot_be_started_says_why_and_one_that_fails_later_does_not_end_the_run(
    tmp_path, notebook, monkeypatch, caplog
):
    def fail(self, *arguments, **options):
        raise OSError("no route to host")

    trackers = Trackers(["notebook"], "toy", {}, tmp_path)
    monkeypatch.setattr(notebook, "log", fail)
    with trackers.open(), caplog.at_level(logging.WARNING, logger="mtdnn"):
        trackers.log("train", {"nli": 1.0}, step=10)
        trackers.log("train", {"nli": 1.0}, step=20)
    assert [record.message for record in caplog.records] == ["notebook fails, and is told no more: no route to host"]
    monkeypatch.setattr(notebook, "start", fail)
    with pytest.raises(ConfigError, match="--track notebook: cannot be started: no route to host"), trackers.open():
        pass


def test_names_and_facts_are_what_every_tracker_takes(tmp_path, notebook):
    trackers = Trackers(["notebook"], "toy", {}, tmp_path)
    with trackers.open():
        trackers.log("validation/rank", {"ndcg@10": 0.5, "smart penalty": 1.0}, step=3)
    assert notebook.told == [(3, {"validation/rank/ndcg_10": 0.5, "validation/rank/smart_penalty": 1.0})]
    assert flat_facts({"a": None, "b": [1], "c": True, "d": 0.5, "e": {"type": "adamw"}}) == {
        "b": "[1]",
        "c": True,
        "d": 0.5,
        "e": "{'type': 'adamw'}",
    }
