"""Stages x tasks x fractions x seeds: the plan, skipping what is done, leaks, and being killed."""

import json
import subprocess
import time
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file
from support import EXPERIMENT, MTDNN, own_process, write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.data.batch import make_batch
from mtdnn.errors import CheckpointError, ConfigError, DataError
from mtdnn.experiment import Experiment, differences
from mtdnn.model import load_model
from mtdnn.plan import plan_cells
from mtdnn.tasks import load_tasks


def experiment_at(folder, *, overrides=(), out="out"):
    config = load_experiment(folder / "toy.yaml", overrides=overrides)
    return Experiment(config, load_tasks(folder / "tasks"), out=folder / out)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with the toy experiment run to its end, and its results."""
    folder = tmp_path_factory.mktemp("done")
    write_toy_experiment(folder)
    return folder, experiment_at(folder).run()


def test_every_cell_has_a_result_with_its_metrics_and_data_counts(done):
    folder, results = done
    assert len(results) == 1 + 2 + 2 * 2 + 2
    for result in results:
        for splits in result["metrics"].values():
            assert set(splits) == {"validation", "test"}
        assert result["data"]
        assert result["steps"] > 0
    joint = folder / "out/mtdnn/joint/joint/full/1"
    assert (joint / "model/model.safetensors").is_file()
    assert not (joint / "checkpoint").exists()
    rows = [json.loads(line) for line in (joint / "predictions-nli-test.jsonl").read_text().splitlines()]
    assert [row["uid"] for row in rows] == [f"test{i}" for i in range(16)]
    assert set(rows[0]) == {"uid", "label", "probabilities", "target"}


def test_a_second_run_trains_nothing(done, monkeypatch):
    folder, results = done
    monkeypatch.setattr(Experiment, "run_cell", lambda self, cell: pytest.fail(f"{cell} was trained again"))
    assert experiment_at(folder).run() == results


def test_another_configuration_is_refused_with_the_difference(done):
    folder, _ = done
    job = experiment_at(folder, overrides=["train.learning_rate=2e-3"])
    with pytest.raises(ConfigError, match=r"another configuration: train.learning_rate: 0.001 -> 0.002"):
        job.run()


def test_changed_data_is_noticed(done, tmp_path):
    write_toy_experiment(tmp_path)
    job = experiment_at(
        tmp_path, overrides=["train.epochs=1", "systems={single: [{name: s, kind: finetune, tasks: [sts]}]}"]
    )
    job.run()
    data = tmp_path / "tasks" / "sts-train.jsonl"
    data.write_text(data.read_text().replace("5.0", "4.5"))
    with pytest.raises(ConfigError, match=r"content.sts/train"):
        experiment_at(
            tmp_path, overrides=["train.epochs=1", "systems={single: [{name: s, kind: finetune, tasks: [sts]}]}"]
        ).run()


def test_a_small_fraction_is_trained_as_few_shot(done):
    _, results = done
    small = [r for r in results if r["fraction"] == 0.25]
    assert {r["data"]["nli"]["trained_on"] for r in small} == {12}
    assert all(r["steps"] >= 6 and r["selected_step"] == r["steps"] for r in small)


def test_stages_start_from_the_right_cell(done):
    folder, _ = done
    cells = {str(cell): cell for cell in experiment_at(folder).cells}
    assert str(cells["mtdnn/adapt/nli/0.25/2"].upstream) == "mtdnn/joint/joint/full/1"
    assert cells["single/finetune/sts/full/1"].upstream is None


def test_a_saved_model_gives_the_same_logits_and_keeps_its_heads(done):
    folder, _ = done
    joint = folder / "out/mtdnn/joint/joint/full/1/model"
    model = load_model(joint)
    weights = load_file(joint / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items() if name in weights)
    tasks = load_tasks(folder / "tasks")
    fewer = model.with_tasks([tasks["nli"]], seed=3)
    assert torch.equal(fewer.head("nli").output.weight, model.head("nli").output.weight)
    assert list(fewer.heads) == ["nli"]


def test_a_checkpoint_with_other_labels_is_refused_with_both_shown(done):
    folder, _ = done
    model = load_model(folder / "out/mtdnn/joint/joint/full/1/model")
    task = load_tasks(folder / "tasks")["nli"].model_copy(update={"labels": ["yes", "maybe", "no"]})
    with pytest.raises(CheckpointError, match=r"labels \['no', 'maybe', 'yes'\].* with \['yes', 'maybe', 'no'\]"):
        model.with_tasks([task], seed=1)


def test_a_head_can_start_from_another_tasks(tmp_path):
    write_toy_experiment(tmp_path)
    (tmp_path / "tasks/two.yaml").write_text(
        "extends: nli\nlabels: [rest, {yes: []}]\ndata: {files: {path: 'two-{split}.jsonl'}}\n"
    )
    for split in ("train", "validation", "test"):
        text = (tmp_path / f"tasks/nli-{split}.jsonl").read_text()
        (tmp_path / f"tasks/two-{split}.jsonl").write_text(text.replace('"no"', '"rest"').replace('"maybe"', '"rest"'))
    text = (
        EXPERIMENT[: EXPERIMENT.index("stages:")]
        + """
systems:
  x:
    - {name: joint, kind: joint, tasks: [nli], seeds: [1]}
    - {name: adapt, kind: adapt, from: joint, tasks: [two], fractions: [1.0], head: {from: nli, map: {rest: no}}}
"""
    )
    (tmp_path / "toy.yaml").write_text(text)
    job = experiment_at(tmp_path, overrides=["data.drop_leaks=false"])
    joint = job.cells[0]
    job.run_cell(joint)
    source, model = load_model(job.folder(joint) / "model"), job.start(job.cells[1])
    torch.testing.assert_close(model.head("two").output.weight, source.head("nli").output.weight[[0, 2]])


def test_leaked_pairs_are_dropped_and_counted(tmp_path):
    write_toy_experiment(tmp_path)
    leaked = json.loads((tmp_path / "tasks/sts-test.jsonl").read_text().splitlines()[0])
    nli = tmp_path / "tasks/nli-train.jsonl"
    row = {"uid": "leak", "a": leaked["b"].upper(), "b": leaked["a"], "label": "no"}  # swapped, other case, other task
    nli.write_text(nli.read_text() + json.dumps(row) + "\n")
    data, counts = experiment_at(tmp_path).data.train("nli", fraction=None, max_rows=None, seed=1)
    assert counts["leaks_dropped"] == 1
    assert "leak" not in data.uids
    kept, _ = experiment_at(tmp_path, overrides=["data.drop_leaks=false"]).data.train(
        "nli", fraction=None, max_rows=None, seed=1
    )
    assert "leak" in kept.uids


def test_fractions_are_nested_and_capped(tmp_path):
    write_toy_experiment(tmp_path)
    data = experiment_at(tmp_path).data
    uids = [set(data.train("nli", fraction=f, max_rows=None, seed=1)[0].uids) for f in (0.1, 0.5, 1.0)]
    assert uids[0] < uids[1] < uids[2]
    assert [len(each) for each in uids] == [4, 24, 48]
    assert len(data.train("nli", fraction=None, max_rows=10, seed=1)[0]) == 10


def test_training_groups_keep_at_most_so_many_candidates_and_evaluation_groups_all(tmp_path):
    write_toy_experiment(tmp_path)
    path = tmp_path / "tasks/rank.yaml"
    path.write_text(path.read_text().replace("max_candidates: 30", "max_candidates: 2"))
    data = experiment_at(tmp_path).data
    train, counts = data.train("rank", fraction=None, max_rows=None, seed=1)
    batch = make_batch(train, range(8), data.head("rank"), pad_id=0)
    assert batch.num_rows_U.tolist() == [2] * 8
    assert batch.targets.view(8, 2).sum(1).tolist() == [1.0] * 8
    assert len(batch.inputs_NT["input_ids"]) == 16
    assert counts["trained_on"] == 2 * len(train) == train.num_rows.sum()
    assert data.split("rank", "validation").num_rows.tolist() == [3] * 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.epochz=3", r"train\.epochz: unknown key 'epochz'. Did you mean 'epochs'\?"),
        ("systems.single.0.kind=finetun", "systems.single.0.kind: "),
        ("systems.single.0.tasks=[stss]", r"systems.single\[0\].tasks\[0\]: unknown task 'stss'. Did you mean 'sts'\?"),
        (
            "systems.single.0.sampler={type: round_robbin}",
            r"unknown sampler 'round_robbin'. Did you mean 'round_robin'\?",
        ),
        ("systems.single.0.regularizers=[{type: smart, epsilon: 1}]", "unknown smart option 'epsilon'"),
        ("systems.single.0.from=join", "starts from unknown earlier stage 'join'"),
        ("systems.single.0.fractions=[0.5]", "fractions belong to adapt stages"),
        ("size=small", "unknown size 'small'"),
        ("systems.mtdnn=[joimt]", r"unknown stage 'joimt'. Did you mean 'joint'\?"),
        ("train.batch_size=0", "train.batch_size: .*greater than or equal to 1, got 0"),
    ],
)
def test_a_wrong_key_or_name_is_named_with_a_suggestion(tmp_path, change, message):
    write_toy_experiment(tmp_path)
    with pytest.raises(ConfigError, match=message):
        experiment_at(tmp_path, overrides=[change])


def test_all_faults_of_an_experiment_come_at_once(tmp_path):
    write_toy_experiment(tmp_path)
    with pytest.raises(ConfigError) as caught:
        experiment_at(
            tmp_path, overrides=["systems.single.0.tasks=[stss]", "systems.single.0.regularizers=[{type: smrt}]"]
        )
    assert "'stss'" in str(caught.value)
    assert "'smrt'" in str(caught.value)


def test_all_bad_data_files_are_named_before_anything_is_trained(tmp_path, monkeypatch):
    write_toy_experiment(tmp_path)
    for name in ("nli-train", "sts-test"):
        path = tmp_path / f"tasks/{name}.jsonl"
        path.write_text(path.read_text() + '{"uid": "bad"}\n')
    monkeypatch.setattr(Experiment, "run_cell", lambda self, cell: pytest.fail("trained"))
    with pytest.raises(DataError) as caught:
        experiment_at(tmp_path).run()
    assert "nli-train.jsonl:49" in str(caught.value)
    assert "sts-test.jsonl:17" in str(caught.value)


def test_differences_name_every_key_that_changed():
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}}) == ["a.c: 2 -> 4", "d: 3 -> None"]


def test_a_cosine_stage_needs_no_training(tmp_path):
    config = load_experiment(write_toy_experiment(tmp_path))
    assert {cell.stage.kind for cell in plan_cells(config)} == {"joint", "finetune", "adapt"}


@contextmanager
def running(folder, out):
    """``mtdnn run`` of the toy experiment as its own process, its output in a file."""
    options = ["--task-defs", str(folder / "tasks"), "--out", str(out), "--set", "train.save_every=2"]
    command = [*MTDNN, "run", str(folder / "toy.yaml"), *options]
    with (
        (folder / "output.txt").open("w") as output,
        subprocess.Popen(command, env=own_process(), stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        yield process


@pytest.mark.slow
def test_a_run_killed_in_the_joint_stage_ends_with_bit_identical_weights_and_metrics(tmp_path):
    write_toy_experiment(tmp_path, rows=160)
    joint = "mtdnn/joint/joint/full/1"
    with running(tmp_path, tmp_path / "killed") as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "killed" / joint / "checkpoint").glob("step-*")):
            assert time.monotonic() < deadline
            assert process.poll() is None, (tmp_path / "output.txt").read_text()
            time.sleep(0.02)
        process.kill()
    assert not (tmp_path / "killed" / joint / "results.json").exists()
    for out in ("killed", "whole"):
        with running(tmp_path, tmp_path / out) as process:
            assert process.wait(timeout=300) == 0, (tmp_path / "output.txt").read_text()
    results = []
    for out in ("killed", "whole"):
        paths = sorted((tmp_path / out).glob("*/*/*/*/*/results.json"))
        results.append([json.loads(path.read_text())["metrics"] for path in paths])
        results.append(load_file(tmp_path / out / joint / "model/model.safetensors"))
    assert results[0] == results[2]
    assert len(results[0]) == 9
    assert all(torch.equal(results[1][name], results[3][name]) for name in results[3])
