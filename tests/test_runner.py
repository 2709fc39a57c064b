"""Work that waits for other work: order, failures, processes, a cluster's executor."""

import gc
import os
import signal
import time
import weakref
from functools import partial
from pathlib import Path

import pytest
from forked_python import forking
from support import untimed, write_toy_experiment

from mtdnn.cell_folder import alone
from mtdnn.cell_run import CellRun
from mtdnn.config import load_experiment
from mtdnn.errors import ConfigError, NonFiniteError, RunError
from mtdnn.experiment import Experiment
from mtdnn.interruptions import Interrupted, interruptions
from mtdnn.plan import choose
from mtdnn.runner import Cluster, Here, Processes, run_graph
from mtdnn.tasks import load_tasks

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": []}


def note(done, name, failing=()):
    if name in failing:
        raise ValueError(f"{name} is broken")
    done.append(name)


def test_work_is_done_after_what_it_needs():
    done = []
    assert run_graph(DIAMOND, lambda name: partial(note, done, name), Here()) == ({}, [])
    assert sorted(done) == list("abcde")
    assert done.index("a") < done.index("b") < done.index("d") > done.index("c")


def test_what_fails_stops_only_what_needs_it():
    done = []
    failed, waiting = run_graph(DIAMOND, lambda name: partial(note, done, name, {"b"}), Here())
    assert {name: str(error) for name, error in failed.items()} == {"b": "b is broken"}
    assert waiting == ["d"]
    assert sorted(done) == ["a", "c", "e"]


def test_where_other_processes_wait_for_this_one_a_failure_ends_all():
    done = []
    chain = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}
    failed, waiting = run_graph(chain, lambda name: partial(note, done, name, {"b"}), Here(together=True))
    assert (list(failed), waiting, done) == (["b"], ["c", "d"], ["a"])


def test_an_error_that_all_processes_have_stops_only_what_needs_it():
    done = []

    def work(name):
        return (lambda: done.append(name)) if name == "b" else not_finite

    def not_finite():
        raise NonFiniteError("nan")

    failed, waiting = run_graph({"a": [], "b": [], "c": ["a"]}, work, Here(together=True))
    assert (list(failed), waiting, done) == (["a"], ["c"], ["b"])


def test_work_that_failed_holds_nothing_while_other_work_is_done():
    class Large:
        pass

    held = []

    def work(name):
        def fail(large):
            held.append(weakref.ref(large))
            try:
                raise KeyError(name)
            except KeyError as error:
                raise error from error

        def do():
            if name == "a":
                fail(Large())
            gc.collect()
            held.append(held[0]() is None)

        return do

    failed, _ = run_graph({"a": [], "b": []}, work, Here())
    assert list(failed) == ["a"]
    assert held[1:] == [True]


def write_or_die(folder, name):
    if name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, name).write_text(str(os.getpid()))


def test_each_process_is_its_own_and_one_that_is_killed_stops_only_what_needs_it(tmp_path):
    failed, waiting = run_graph(DIAMOND, lambda name: partial(write_or_die, str(tmp_path), name), Processes(2))
    assert "SIGKILL; the machine may have run out of memory" in str(failed["b"])
    assert waiting == ["d"]
    pids = {(tmp_path / name).read_text() for name in "ace"}
    assert len(pids) == 3
    assert str(os.getpid()) not in pids


def test_a_number_of_processes_below_one_and_an_unknown_cluster_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--jobs must be at least 1, got 0"):
        Processes(0)
    with pytest.raises(ConfigError, match="--cluster moon"):
        Cluster("moon", folder=tmp_path, options={})
    with pytest.raises(ConfigError, match=r"--cluster local: .*timeout_hours"):
        Cluster("local", folder=tmp_path, options={"timeout_hours": 1})


GRID = """
name: grid
encoder: {path: tiny, pool: mean, max_length: 32}
seeds: [1, 2, 3]
train: {epochs: 1, batch_size: 8, learning_rate: 1e-3, precision: fp32}
stages:
  joint: {kind: joint, tasks: [nli, sts], seeds: [1]}
  finetune: {kind: finetune, from: joint, tasks: [nli, sts]}
systems:
  plain: [joint, {base: finetune, save_model: false}]
  smart: [joint, {base: finetune, regularizers: [{type: smart}], save_model: false}]
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A folder with a grid of 12 fine-tuned cells over one joint stage, and its results."""
    folder = tmp_path_factory.mktemp("grid")
    write_toy_experiment(folder, text=GRID, rows=24)
    return folder, job_at(folder, "here").run()


def job_at(folder, out):
    return Experiment(load_experiment(folder / "toy.yaml"), load_tasks(folder / "tasks"), out=folder / out)


def test_cells_with_the_same_inputs_are_trained_once(grid):
    folder, results = grid
    assert len(results) == 14
    assert (folder / "here/plain/joint/joint/full/1/model").is_dir()
    assert not (folder / "here/smart/joint").exists()
    (copied,) = (each for each in results if "same_as" in each)
    assert (copied["system"], copied["stage"], copied["same_as"]) == ("smart", "joint", "plain/joint/joint/full/1")
    (original,) = (each for each in results if each["system"] == "plain" and each["stage"] == "joint")
    assert copied["metrics"] == original["metrics"]


@pytest.mark.slow
def test_a_grid_in_two_processes_gives_the_same_results(grid):
    folder, results = grid
    found = job_at(folder, "processes").run(executor=Processes(2), threads=1)
    assert untimed(found) == untimed(results)
    log = folder / "processes/smart/finetune/nli/full/2/log.txt"
    assert "smart/finetune/nli/full/2" in log.read_text()


@pytest.mark.slow
def test_a_grid_through_submitit_gives_the_same_results(grid, tmp_path):
    """All 12 and what they start from. The first job imports everything anew; the others fork, to save a minute."""
    folder, results = grid
    job, cluster = job_at(folder, "submitit"), Cluster("local", folder=tmp_path / "jobs", options={"timeout_min": 10})
    assert len(job.run(executor=cluster, chosen=choose(job.cells, only="plain/joint"), threads=1)) == 2
    with forking(tmp_path / "socket") as python:
        cluster.executor._executor.python = python
        found = job.run(executor=cluster, threads=1)
    assert len(cluster.jobs) == 13
    assert untimed(found) == untimed(results)


def test_a_run_that_a_signal_ends_cancels_its_jobs_and_waits_for_them(tmp_path, monkeypatch):
    """The second job sends the signal to this process; the first would sleep on for ten minutes."""
    monkeypatch.setattr(interruptions, "received", None)  # and again when the test ends
    cluster = Cluster("local", folder=tmp_path, options={"timeout_min": 10})
    work = {"asleep": partial(time.sleep, 600), "signal": partial(os.kill, os.getpid(), signal.SIGTERM)}
    with interruptions.caught(), pytest.raises(Interrupted):
        run_graph(dict.fromkeys(work, ()), work.__getitem__, cluster)
    assert [job.done() for job in cluster.jobs] == [True, True]
    assert not cluster.jobs[0].paths.result_pickle.exists()


def test_a_cell_that_fails_is_told_and_kept_apart_and_is_tried_again(grid, monkeypatch):
    folder, _ = grid
    job = job_at(folder, "broken")
    train = CellRun._train

    def breaking(self):
        if self.cell.path.match("plain/joint/*/*/*"):
            raise ValueError("no luck")
        return train(self)

    monkeypatch.setattr(CellRun, "_train", breaking)
    with pytest.raises(RunError, match="1 of 13 cells failed") as caught:
        job.run()
    assert "plain/joint/joint/full/1: no luck (see " in str(caught.value)
    assert "smart/finetune/sts/full/3: not begun" in str(caught.value)
    trouble = folder / "broken/plain/joint/joint/full/1/error.txt"
    assert "ValueError: no luck" in trouble.read_text()
    assert job.results() == []
    monkeypatch.undo()
    chosen = choose(job.cells, only="smart/finetune/nli", seeds=[2])
    assert len(job.run(chosen=chosen)) == 3  # the joint stage, for both systems, and the one cell
    assert not trouble.exists()


def test_cells_are_chosen_by_pattern_seed_and_fraction(grid):
    cells = job_at(grid[0], "here").cells
    assert [str(cell) for cell in choose(cells, only="*/finetune/sts/*", seeds=[3])] == [
        "plain/finetune/sts/full/3",
        "smart/finetune/sts/full/3",
    ]
    with pytest.raises(ConfigError, match=r"--only plian, --seeds \[4\]: no cell fits; there are, "):
        choose(cells, only="plian", seeds=[4])


def test_a_cell_that_another_process_works_on_is_refused(grid):
    job = job_at(grid[0], "locked")
    cell = job.cells[0]
    job.folder(cell).path.mkdir(parents=True)
    with alone(job.folder(cell).path), pytest.raises(RunError, match=r"process \d+ on \S+ is at work there"):
        job.run(chosen=[cell])
