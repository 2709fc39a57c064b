"""A sweep: what it refuses, what it tries, and that one which is killed ends as one which is not."""

import json
import signal
import subprocess
import sys
from statistics import fmean

import pytest
from support import MTDNN, own_process, write_toy_experiment

from mtdnn.cell_run import CellRun
from mtdnn.config import load_experiment
from mtdnn.errors import ConfigError, DataError, RunError
from mtdnn.experiment import Experiment
from mtdnn.search_space import load_space, overrides_of
from mtdnn.sweep import Sweep
from mtdnn.tasks import load_tasks

TOY = """
name: toy
encoder: {path: tiny, pool: mean, max_length: 32}
seeds: [1, 2]
train: {epochs: 1, batch_size: 8, learning_rate: 1e-3, precision: fp32}
systems:
  plain: [{name: joint, kind: joint, tasks: [nli, sts], save_model: false}]
"""
SPACE = """
trials: 3
space:
  train.learning_rate: {low: 1e-4, high: 1e-2, log: true}
  train.batch_size: {values: [8, 16]}
"""
# The command line, which kills itself in the second trial, at a step of its second seed.
KILLED = """
import os, signal
from functools import partialmethod
from mtdnn.cli.main import main
from mtdnn.experiment import Experiment

seen = []

def kill(cell, step):
    if (cell.seed, step) == (2, 2):
        seen.append(cell)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

Experiment.__init__ = partialmethod(Experiment.__init__, on_step=kill)
main()
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_experiment(folder, text=TOY, rows=24)
    (folder / "sweep.yaml").write_text(SPACE)
    return folder


def sweep(folder, out, *, space=SPACE, **options):
    path = folder / "space.yaml"
    path.write_text(space)
    return Sweep(folder / "toy.yaml", *load_space(path), registry=load_tasks(folder / "tasks"), out=out, **options)


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """A sweep's folder, and what it found."""
    out = tmp_path_factory.mktemp("whole")
    return out, sweep(toy, out).run()


def test_a_trial_is_an_ordinary_run_judged_by_the_mean_over_seeds_of_the_mean_over_tasks_on_validation(toy, whole):
    out, found = whole
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2]
    assert found == json.loads((out / "results.json").read_text())
    for trial in found["trials"]:
        config = load_experiment(toy / "toy.yaml", overrides=trial["overrides"])
        results = Experiment(config, load_tasks(toy / "tasks"), out=out / trial["folder"]).results()
        assert len(results) == 2
        score = {
            (each["seed"], task): metrics["validation"]["values"][{"nli": "accuracy", "sts": "pearson"}[task]]
            for each in results
            for task, metrics in each["metrics"].items()
        }
        by_seed = {str(seed): fmean([score[seed, "nli"], score[seed, "sts"]]) for seed in (1, 2)}
        assert trial["scores"] == pytest.approx(by_seed)
        assert trial["value"] == pytest.approx(fmean(by_seed.values()))
    assert found["best"]["value"] == max(trial["value"] for trial in found["trials"])


def test_what_is_tried_lies_in_the_space_and_depends_on_the_seed(toy, whole):
    rates = [
        float(dict(each.split("=") for each in trial["overrides"])["train.learning_rate"])
        for trial in whole[1]["trials"]
    ]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert len(set(rates)) == 3
    first, again, other = (sweep(toy, toy / "unused", space=f"seed: {seed}\n{SPACE}") for seed in (1, 1, 2))
    memory = first.optuna.create_study()
    assert first.suggest(memory, 0) == again.suggest(memory, 0) != other.suggest(memory, 0)
    assert overrides_of(first.suggest(memory, 0)) == whole[1]["trials"][0]["overrides"]


def test_more_trials_go_on_where_the_others_ended_and_nothing_is_trained_twice(toy, whole, monkeypatch):
    out, found = whole
    trained = []
    train = CellRun._train
    monkeypatch.setattr(CellRun, "_train", lambda self: trained.append(self.cell) or train(self))
    again = sweep(toy, out, space=SPACE.replace("trials: 3", "trials: 4")).run()
    assert again["trials"][:3] == found["trials"]
    assert len(again["trials"]) == 4
    assert len(trained) == 2


@pytest.mark.slow
def test_a_sweep_that_is_killed_in_a_trial_ends_with_the_trials_of_one_that_is_not(toy, whole, tmp_path):
    verb = ["sweep", "toy.yaml", "--space", "sweep.yaml", "--task-defs", "tasks", "--out", str(tmp_path / "out")]

    def ended(command):
        return subprocess.run(
            [*command, *verb], cwd=toy, env=own_process(), capture_output=True, text=True, check=False, timeout=300
        )

    killed = ended([sys.executable, "-c", KILLED])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.glob("out/trials/*/plain/joint/joint/full/2/config.json"))) == 2
    assert len(json.loads((tmp_path / "out/results.json").read_text())["trials"]) == 1
    again = ended(MTDNN)
    assert again.returncode == 0, again.stderr
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["trials"] == whole[1]["trials"]
    assert f"--set {found['best']['overrides'][0]}" in again.stdout.replace("\n", "")


def test_a_trial_that_fails_is_kept_with_its_reason_and_the_rest_goes_on(toy, tmp_path):
    space = "trials: 4\nspace: {train.learning_rate: {values: [1e-3, 1e30]}}"
    found = sweep(toy, tmp_path, space=space).run()
    failed = [trial for trial in found["trials"] if trial["error"]]
    assert 0 < len(failed) < 4
    assert {trial["overrides"][0] for trial in failed} == {"train.learning_rate=1e+30"}
    assert all("step " in trial["error"] and trial["value"] is None for trial in failed)
    assert found["best"]["overrides"] == ["train.learning_rate=0.001"]


def test_values_that_are_refused_together_make_a_failed_trial(toy, tmp_path):
    space = """
space:
  systems.plain.0.objective: {values: [{type: standard}, {type: freelb}]}
  systems.plain.0.regularizers: {values: [[], [{type: smart}]]}
"""
    search = sweep(toy, tmp_path, space=space)
    (objective, regularizers) = (search.space.space[key].texts[1] for key in search.space.space)
    trial = search.trial(dict(zip(search.space.space, (objective, regularizers), strict=True)))
    assert (trial.state.name, trial.value) == ("FAIL", None)
    assert "smart cannot be combined with the objective freelb" in trial.user_attrs["error"]


def test_a_sweep_without_any_score_and_one_that_no_trial_can_mend_end_with_the_reason(toy, tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"(?s)none of 1 trials has a score: .*step "):
        sweep(toy, tmp_path / "nan", space="trials: 1\nspace: {train.learning_rate: {values: [1e30]}}").run()

    def fail(self):
        raise DataError("the file is gone")

    monkeypatch.setattr(CellRun, "_train", fail)
    with pytest.raises(RunError, match="the file is gone"):
        sweep(toy, tmp_path / "gone").run()
    assert not (tmp_path / "gone/results.json").exists()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            "space: {train.learning_rat: {low: 1.0, high: 2.0}}",
            r"space.yaml:1: space.train.learning_rat=1.0: .*unknown key 'learning_rat'. Did you mean 'learning_rate'\?",
        ),
        (
            "\nspace:\n  systems.plain.0.regularizers: {values: [[{type: smrt}]]}",
            r"space.yaml:3: .*unknown regularizer 'smrt'. Did you mean 'smart'\?",
        ),
        ("space: {train.epochs: {low: 0, high: 3}}", r"train.epochs=0: .*greater than or equal to 1"),
        ("space: {train.epochs: {low: 3, high: 1}}", "low must be below high, got 3 and 1"),
        ("space: {train.weight_decay: {low: 0.0, high: 0.1, log: true}}", "log needs a range above 0"),
        ("space: {train.epochs: {low: 3}}", "give low and high, or values"),
        ("space: {train.epochs: {lo: 3, high: 4}}", r"unknown key 'lo'. Did you mean 'log'\?|unknown key 'lo'"),
        (
            "system: plane\nspace: {train.epochs: {low: 1, high: 2}}",
            r"space.yaml:1: system: unknown system 'plane'. Did you mean 'plain'\?",
        ),
        (
            "stage: jiont\nspace: {train.epochs: {low: 1, high: 2}}",
            r"unknown stage 'jiont'. Did you mean 'joint'\?",
        ),
        ("trials: 3", "key 'space' is missing"),
    ],
)
def test_a_sweep_file_with_a_fault_is_refused_with_its_place(toy, tmp_path, space, message):
    with pytest.raises(ConfigError, match=message):
        sweep(toy, tmp_path, space=space)


def test_an_experiment_with_several_systems_needs_the_one_that_counts(toy, tmp_path):
    other = "systems.other=[{name: finetune, kind: finetune, tasks: [nli]}]"
    with pytest.raises(ConfigError, match="system is missing; say whose results count: plain, other"):
        sweep(toy, tmp_path, overrides=[other])
    judged = sweep(toy, tmp_path, space=f"system: other\n{SPACE}", overrides=[other])
    assert {str(cell) for cell in judged.judged(judged.job({}))} == {
        f"other/finetune/nli/full/{seed}" for seed in (1, 2)
    }


def test_a_sweep_that_does_not_evaluate_on_validation_is_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match=r"--set data.eval_splits: trials are judged by validation"):
        sweep(toy, tmp_path, overrides=["data.eval_splits=[test]"])


def test_the_folder_of_another_sweep_is_refused_with_the_difference(toy, whole):
    out, _ = whole
    with pytest.raises(ConfigError, match=r"trials of another sweep: space.seed: 1 -> 2"):
        sweep(toy, out, space=f"seed: 2\n{SPACE}").run()
    with pytest.raises(ConfigError, match=r"train.epochs: 1 -> 2"):
        sweep(toy, out, overrides=["train.epochs=2"]).run()


def test_without_optuna_the_line_that_installs_it_is_told(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'mtdnn\[sweep\]'"):
        sweep(toy, tmp_path)


def test_a_torn_line_of_the_journal_is_dropped(toy, whole):
    out, found = whole
    with (out / "journal.log").open("a") as file:
        file.write('{"op_code": 4, "wor')
    space = SPACE.replace("trials: 3", f"trials: {len(json.loads((out / 'results.json').read_text())['trials'])}")
    assert sweep(toy, out, space=space).run()["trials"][:3] == found["trials"]
