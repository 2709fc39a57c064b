"""Stages x tasks x fractions x seeds: the plan, skipping what is done, leaks."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from support import EXPERIMENT, save_tiny, write_toy_experiment

from mtdnn import trainer
from mtdnn.cell_folder import differences
from mtdnn.config import load_experiment
from mtdnn.data.batch import make_batch
from mtdnn.errors import CheckpointError, ConfigError, DataError
from mtdnn.evaluate import Evaluation, evaluate
from mtdnn.experiment import Experiment
from mtdnn.model import load_model
from mtdnn.published import Figure
from mtdnn.regularizers.smart import Smart
from mtdnn.report.pairing import against_baseline
from mtdnn.report.sections.published import rows_of
from mtdnn.report.study import Study
from mtdnn.runs import read_run
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
        assert set(result["task_updates"]) == set(result["tasks"])
        assert sum(result["task_updates"].values()) == result["steps"]  # a batch a step
    joint = folder / "out/mtdnn/joint/joint/full/1"
    assert (joint / "model/model.safetensors").is_file()
    assert not (joint / "checkpoint").exists()
    rows = [json.loads(line) for line in (joint / "predictions-nli-test.jsonl").read_text().splitlines()]
    assert [row["uid"] for row in rows] == [f"test{i}" for i in range(16)]
    assert set(rows[0]) == {"uid", "prediction", "label", "probabilities", "target"}


def test_the_training_rows_targets_are_kept_for_the_report(done):
    folder, _ = done
    about = json.loads((folder / "out/experiment.json").read_text())
    assert about["places"] == [["mtdnn", "joint"], ["mtdnn", "finetune"], ["mtdnn", "adapt"], ["single", "finetune"]]
    done = [cell for cell in read_run(folder / "out").cells if cell.kind != "cosine"]
    trained = {(cell.system, cell.stage, task, cell.fraction) for cell in done for task in cell.tasks}
    assert set(map(tuple, about["planned"])) == trained
    assert about["planned"][0][:2] == ["mtdnn", "joint"]
    assert about["published"] is None
    found = about["training"]
    labels = [json.loads(line)["label"] for line in (folder / "tasks/nli-train.jsonl").read_text().splitlines()]
    counts = [labels.count(name) for name in ("no", "maybe", "yes")]
    assert found["nli"]["most_frequent"] == counts.index(max(counts))
    assert found["rank"]["mean"] == pytest.approx(1 / 3)


def test_a_second_run_trains_nothing(done, monkeypatch):
    folder, results = done
    monkeypatch.setattr(Experiment, "run_cell", lambda self, cell: pytest.fail(f"{cell} was trained again"))
    assert experiment_at(folder).run() == results


def test_checkpoints_that_a_kill_left_in_a_cell_that_is_done_are_deleted(done):
    folder, results = done
    left = folder / "out/mtdnn/joint/joint/full/1/checkpoint/step-00000012"
    left.mkdir(parents=True)
    assert experiment_at(folder).run() == results
    assert not left.parent.exists()


def test_what_changes_no_bit_of_a_result_does_not_outdate_it(done, monkeypatch):
    folder, results = done
    monkeypatch.setattr(Experiment, "run_cell", lambda self, cell: pytest.fail(f"{cell} was trained again"))
    switched = [f"{place}.activation_checkpointing=true" for place in ("train", "stages.joint.train")]
    job = experiment_at(folder, overrides=switched)
    assert all(job.at(cell).options.activation_checkpointing for cell in job.cells)
    assert job.run() == results


def test_a_result_older_than_an_option_is_accepted(done):
    folder, _ = done
    inputs = json.dumps([result["inputs"] for result in experiment_at(folder).results()])
    assert "few_shot" in inputs
    assert "activation_checkpointing" not in inputs
    assert "eval_precision" not in inputs


def test_only_the_splits_that_are_asked_for_are_evaluated_and_validation_still_selects(tmp_path, done, monkeypatch):
    write_toy_experiment(tmp_path)
    job = experiment_at(tmp_path, overrides=["data.eval_splits=[test]", "train.eval_batch_size=96"])
    seen = []
    monkeypatch.setattr(trainer, "evaluate", lambda *a, **k: seen.append(k["batch_size"]) or evaluate(*a, **k))
    (result,) = [each for each in job.run(chosen=job.cells[:1]) if each["stage"] == "joint"]
    (whole,) = [each for each in done[1] if each["stage"] == "joint"]
    assert {task: {"test": splits["test"]} for task, splits in whole["metrics"].items()} == result["metrics"]
    assert result["history"][0]["validation"]
    assert [path.name for path in sorted((tmp_path / "out/examples").iterdir())] == [
        f"{task}-test.jsonl" for task in sorted(job.config.tasks())
    ]
    assert seen == [96] * len(result["metrics"]) * (1 + len(result["history"]))
    with pytest.raises(ConfigError, match=r"another configuration: data.eval_splits"):
        experiment_at(tmp_path).run(chosen=job.cells[:1])


FAR = """
version: 1
extends: nli
data: {files: {splits: {train: nowhere, validation: test}}}
metrics: [f1_macro, accuracy]
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The toy experiment whose joint stage is asked for a further task, NLI's test rows under another name; its job."""
    folder = tmp_path_factory.mktemp("asked")
    write_toy_experiment(folder)
    (folder / "tasks/far.yaml").write_text(FAR)
    job = experiment_at(folder, overrides=["stages.joint.also_evaluate={nli: [far]}"])
    job.run(chosen=job.cells[:1])
    return job


def test_a_head_answers_a_further_task_as_its_own_with_that_task_s_metrics_and_without_training_for_it(asked, done):
    (result,), joint = asked.results(), asked.out / "mtdnn/joint/joint/full/1"
    (plain,) = [each for each in done[1] if each["stage"] == "joint"]
    assert result["tasks"] == plain["tasks"] == ["nli", "sts", "rank"]
    assert result["data"] == plain["data"]
    assert {**plain["metrics"], "far": result["metrics"]["far"]} == result["metrics"]
    far, own = result["metrics"]["far"]["validation"], plain["metrics"]["nli"]["test"]
    assert list(far["values"]) == ["f1_macro", "accuracy"]
    assert far["values"]["accuracy"] == own["values"]["accuracy"]
    answers, same = (joint / f"predictions-{name}.jsonl" for name in ("far-validation", "nli-test"))
    assert answers.read_text() == same.read_text()
    assert "far" in (joint / "model/README.md").read_text()


def test_the_report_shows_a_further_task_beside_its_published_figure_and_compares_it(asked):
    study = Study([read_run(asked.out)])
    assert ["mtdnn", "joint", "far", None] in study.runs[0].experiment["planned"]
    assert not against_baseline(study).left_out
    assert study.runs[0].texts("far", "validation")
    figure = Figure("mtdnn", "far", "validation", "accuracy", None, 84.4, "a paper", "", "tiny")
    (row,) = rows_of([figure], [study.last])
    value = asked.results()[0]["metrics"]["far"]["validation"]["values"]["accuracy"]
    assert row[:8] == ("mtdnn", "far", "", "validation", "accuracy", "84.4", "tiny", f"{100 * value:.1f}")


def test_only_the_key_of_a_cell_that_is_asked_for_further_tasks_knows_of_them(asked):
    plain = experiment_at(asked.out.parent)
    assert all("also_evaluate" not in json.dumps(plain.inputs(cell)) for cell in plain.cells)
    changed = {
        str(a): differences(plain.inputs(a), asked.inputs(b)) for a, b in zip(plain.cells, asked.cells, strict=True)
    }
    assert {cell: [each.key for each in found] for cell, found in changed.items() if not cell.startswith("mtdnn")} == {
        "single/finetune/sts/full/1": [],
        "single/finetune/sts/full/2": [],
    }
    joint = [each.key for each in changed["mtdnn/joint/joint/full/1"]]
    assert joint == ["tasks.far", "content.far/validation", "also_evaluate"]
    with pytest.raises(ConfigError, match=r"another configuration: .*also_evaluate: \{'far': 'nli'\} -> None"):
        plain.run(chosen=plain.cells[:1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{nli: [farr]}", r"stages.joint.also_evaluate: nli\[0\]: unknown task 'farr'. Did you mean 'far'"),
        (
            "{rank: [far]}",
            r"the head of 'rank' \(ranking: 0, 1\) cannot answer 'far' \(classification: no, maybe, yes\)",
        ),
        ("{nil: [far]}", r"stage 'joint': also_evaluate: unknown task 'nil'. Did you mean 'nli'"),
        ("{nli: [sts]}", r"stage 'joint': tasks and also_evaluate: sts stands twice"),
        ("{nli: []}", r"also_evaluate.*at least 1 item"),
    ],
)
def test_a_further_task_that_no_head_can_answer_is_refused(asked, given, message):
    with pytest.raises(ConfigError, match=message):
        experiment_at(asked.out.parent, overrides=[f"stages.joint.also_evaluate={given}"])


def test_a_further_task_without_labels_is_refused_before_anything_is_trained(asked):
    settings = ["stages.joint.also_evaluate={nli: [far]}", "data.eval_splits=[test]"]
    job = experiment_at(asked.out.parent, overrides=settings, out="another")
    with pytest.raises(ConfigError, match=r"also_evaluate: task 'far' has no labels here in test"):
        job.run(chosen=job.cells[:1])


def test_a_lower_precision_of_evaluation_changes_validation_and_answers_little_and_training_not_at_all(tmp_path, done):
    write_toy_experiment(tmp_path)
    job = experiment_at(tmp_path, overrides=["train.eval_precision=bf16"])
    (narrow,) = [each for each in job.run(chosen=job.cells[:1]) if each["stage"] == "joint"]
    (wide,) = [each for each in done[1] if each["stage"] == "joint"]
    assert [each["losses"] for each in narrow["history"]] == [each["losses"] for each in wide["history"]]
    assert (narrow["eval_precision"], wide["eval_precision"]) == ("bf16", "fp32")
    assert narrow["metrics"].keys() == wide["metrics"].keys()
    assert_little_else(narrow["history"][-1]["validation"]["sts"], wide["history"][-1]["validation"]["sts"])
    for split, found in wide["metrics"]["sts"].items():
        assert_little_else(narrow["metrics"]["sts"][split]["values"], found["values"])


def assert_little_else(found, other):
    assert found != other
    assert found == pytest.approx(other, abs=0.02)


def answers(prediction, target):
    return Evaluation("nli", "test", {}, list("abcd"), [{}] * 4, prediction, target, 4)


@pytest.mark.parametrize(
    ("prediction", "target", "doubted"),
    [
        ([1, 1, 1, 1], [0, 1, 1, 1], True),
        ([0.5, 0.5, 0.5, 0.5], [0.1, 0.5, 0.2, 0.3], True),
        ([1, 1, 0, 1], [0, 1, 1, 1], False),
        ([1, 1, 1, 1], [0, 0, 0, 0], False),
        ([1, 1, 1, 1], [], False),
        ([], [], False),
    ],
)
def test_the_same_answer_to_every_example_is_doubted_where_the_targets_differ(prediction, target, doubted):
    found = answers(prediction, target).doubts()
    assert [text.partition(";")[0] for text in found] == ["nli: every test example gets the same answer"] * doubted


def test_doubtful_answers_are_told_and_stand_in_the_result(tmp_path, monkeypatch, caplog):
    write_toy_experiment(tmp_path)

    def alike(*args, **options):
        found = evaluate(*args, **options)
        return replace(found, decoded=found.decoded[:1] * len(found.decoded))

    monkeypatch.setattr(trainer, "evaluate", alike)
    job = experiment_at(tmp_path, overrides=["data.eval_splits=[test]", "systems.mtdnn=[{base: joint, tasks: [nli]}]"])
    (result,) = job.run(chosen=job.cells[:1])
    (told,) = answers([1, 1, 1, 1], [0, 1, 1, 1]).doubts()
    assert result["warnings"] == [told]
    assert told in caplog.messages


def test_both_splits_in_either_order_are_the_same_as_not_saying_it(done, monkeypatch):
    folder, results = done
    monkeypatch.setattr(Experiment, "run_cell", lambda self, cell: pytest.fail(f"{cell} was trained again"))
    assert experiment_at(folder, overrides=["data.eval_splits=[test, validation]"]).run() == results


def test_another_configuration_is_refused_with_the_difference(done):
    folder, _ = done
    job = experiment_at(folder, overrides=["train.learning_rate=2e-3"])
    with pytest.raises(ConfigError, match=r"another configuration: train.learning_rate: 0.001 -> 0.002"):
        job.run()


@pytest.mark.parametrize(("error", "again"), [(ConfigError("wrong"), False), (OSError("gone"), True)])
def test_what_would_fail_again_is_not_said_to_be_tried_again(done, error, again):
    folder, _ = done
    job = experiment_at(folder)
    assert ("tries these again" in job.told({job.cells[0].path: error}, [], of=1)) is again


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
    assert list(fewer.task_defs) == ["nli"]
    assert len(fewer.heads) == 1


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
    source, model = load_model(job.folder(joint).model), job.at(job.cells[1]).start()
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
        ("systems.single.0.tasks=[stss]", r"systems.single.0.tasks\[0\]: unknown task 'stss'. Did you mean 'sts'\?"),
        (
            "systems.single.0.sampler={type: round_robbin}",
            r"unknown sampler 'round_robbin'. Did you mean 'round_robin'\?",
        ),
        ("systems.single.0.regularizers=[{type: smart, epsilon: 1}]", "unknown smart option 'epsilon'"),
        ("systems.single.0.from=join", "starts from unknown earlier stage 'join'"),
        ("systems.single.0.fractions=[0.5]", "fractions belong to adapt stages"),
        ("size=small", "unknown size 'small'"),
        ("systems.mtdnn=[joimt]", r"unknown stage 'joimt'. Did you mean 'joint'\?"),
        ("stages.joimt.tasks=[nli]", r"--set stages.joimt.tasks: unknown stage 'joimt'. Did you mean 'joint'\?"),
        ("seeds=[1, 2, 1]", "seeds: 1 stands twice"),
        ("stages.adapt.fractions=[0.25, 0.25]", "stage 'adapt': fractions: 0.25 stands twice"),
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
    found = differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}})
    assert list(map(str, found)) == ["a.c: 2 -> 4", "d: 3 -> None"]
    assert [each.is_one_of(["a", "e"]) for each in found] == [True, False]
    assert [each.is_one_of(["a.c", "d.e"]) for each in found] == [True, False]


@pytest.fixture
def another_default(monkeypatch):
    """Another version's preset, which the experiment names and does not spell out."""
    monkeypatch.setitem(Smart.PRESETS["default"], "radius", 0.3)


def test_a_preset_that_changed_outdates_what_was_done_with_it_and_says_in_what(done, another_default):
    folder, _ = done
    with pytest.raises(ConfigError) as caught:
        experiment_at(folder).run()
    assert "another configuration: resolved.stage.regularizers.smart.radius: 0.1 -> 0.3." in str(caught.value)
    assert "adapt/nli/0.25/1 holds work of another configuration: resolved.upstream: not the same" in str(caught.value)
    assert "single/finetune/sts" not in str(caught.value)


def test_a_result_that_does_not_record_what_was_resolved_is_accepted(tmp_path, done, another_default):
    shutil.copytree(done[0], tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "out").glob("*/*/*/*/*/results.json"):
        result = json.loads(path.read_text())
        result["inputs"].pop("resolved")
        path.write_text(json.dumps(result))
    assert len(experiment_at(tmp_path).results()) == len(done[1])


def test_what_is_resolved_otherwise_because_other_options_are_given_is_told_once(done):
    folder, _ = done
    job = experiment_at(folder, overrides=["train.schedule={type: cosine}"])
    (cell,) = (cell for cell in job.cells if cell.system == "single" and cell.seed == 1)
    assert [each.key for each in job.folder(cell).changed()] == ["train.schedule.type"]


def test_another_encoder_at_the_same_path_is_refused(tmp_path):
    write_toy_experiment(tmp_path)
    stage = "{name: finetune, kind: finetune, tasks: [sts], seeds: [1]}"
    chosen = [f"encoder.path={tmp_path / 'model'}", f"systems={{single: [{stage}]}}", "train.epochs=1"]
    save_tiny(tmp_path / "model", seed=3)
    experiment_at(tmp_path, overrides=chosen).run()
    save_tiny(tmp_path / "model", seed=3)
    assert experiment_at(tmp_path, overrides=chosen).pending() == []
    save_tiny(tmp_path / "model", seed=4)
    with pytest.raises(ConfigError, match=r"another configuration: resolved.encoder: not the same any more"):
        experiment_at(tmp_path, overrides=chosen).run()


def test_a_cosine_stage_trains_nothing_and_scores_both_splits(tmp_path):
    write_toy_experiment(tmp_path)
    only = "systems={encoder: [{name: cosine, kind: cosine, tasks: [sts]}]}"
    (result,) = experiment_at(tmp_path, overrides=[only]).run()
    assert "steps" not in result
    for split in ("validation", "test"):
        assert -1 <= result["metrics"]["sts"][split]["values"]["pearson"] <= 1


ADAPT = "{name: adapt, kind: adapt, from: joint, tasks: [nli], fractions: [0.5]"
JOINT = "{name: joint, kind: joint, tasks: [sts]"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            f"{JOINT}}}, {ADAPT}, head: {{from: stts}}}}",
            "head.from: unknown task .* 'stts'. Did you mean 'sts'",
        ),
        (f"{JOINT}, head: {{from: sts}}}}", "systems: x, stage 'joint': head.from: sts: .* say from: STAGE"),
        (f"{JOINT}}}, {ADAPT}, head: {{from: sts}}}}", "head of 'nli' from 'sts': "),
        (f"{JOINT}, save_model: false}}, {ADAPT}}}", "starts from 'joint', which keeps no model; say save_model: true"),
        (f"{JOINT}, regularizers: [{{type: smart, site: embedings}}]}}", "Did you mean 'embeddings'"),
        (f"{JOINT}, regularizers: [{{type: smart, site: 'layer:9'}}]}}", "this encoder has layers 1 to 2"),
    ],
)
def test_what_would_end_a_later_cell_is_refused_before_the_first(tmp_path, monkeypatch, stages, message):
    write_toy_experiment(tmp_path)
    monkeypatch.setattr(Experiment, "run_cell", lambda self, cell: pytest.fail(f"{cell} was trained"))
    with pytest.raises(ConfigError, match=message):
        experiment_at(tmp_path, overrides=[f"systems={{x: [{stages}]}}"]).run()


def test_a_stage_after_fractions_starts_from_its_own(tmp_path):
    write_toy_experiment(tmp_path)
    first = "{name: a, kind: adapt, tasks: [nli], fractions: [1.0, 0.5, 0.25], save_model: true}"
    second = "{name: b, kind: adapt, from: a, tasks: [nli], fractions: [0.25, 0.5]}"
    cells = experiment_at(tmp_path, overrides=[f"systems={{x: [{first}, {second}]}}"]).cells
    assert {(c.fraction, c.upstream.fraction) for c in cells if c.upstream} == {(0.25, 0.25), (0.5, 0.5)}
    whole = "{name: b, kind: finetune, from: a, tasks: [nli]}"
    with pytest.raises(ConfigError, match=r"'b' could start from any of the fractions 1, 0\.5, 0\.25 of 'a'"):
        experiment_at(tmp_path, overrides=[f"systems={{x: [{first}, {whole}]}}"])


def test_splits_and_fractions_that_are_not_there_are_refused_before_the_first_cell(tmp_path, monkeypatch):
    write_toy_experiment(tmp_path)
    path = tmp_path / "tasks/nli.yaml"
    text = path.read_text()
    path.write_text(text.replace("    uid: uid\n", "    uid: uid\n    splits: {train: train, test: test}\n") + "\n")
    monkeypatch.setattr(Experiment, "run_cell", lambda self, cell: pytest.fail(f"{cell} was trained"))
    with pytest.raises(ConfigError, match="no validation split of nli to select"):
        experiment_at(tmp_path, overrides=["systems={x: [{name: f, kind: finetune, tasks: [nli]}]}"]).run()
    path.write_text(text.replace("data:\n", "data:\n  full_size: 100\n", 1))
    with pytest.raises(ConfigError, match=r"fraction 0\.9 of 100 rows is 90, but the file holds 48; .* is 0\.48"):
        experiment_at(
            tmp_path, overrides=["systems={x: [{name: a, kind: adapt, tasks: [nli], fractions: [0.9]}]}"]
        ).run()


def test_an_explicitly_fresh_head_is_not_the_checkpoint_s(done):
    folder, _ = done
    job = experiment_at(folder)
    cell = next(cell for cell in job.cells if cell.stage.kind == "adapt")
    kept = job.at(cell).start()
    fresh = job.at(replace(cell, stage=cell.stage.model_copy(update={"head": "fresh"}))).start()
    assert not torch.equal(kept.head("nli").output.weight, fresh.head("nli").output.weight)
    assert torch.equal(kept.encoder.embeddings.word_embeddings.weight, fresh.encoder.embeddings.word_embeddings.weight)


def test_null_switches_clipping_off_and_few_shot_options_lie_over_their_defaults(tmp_path):
    write_toy_experiment(tmp_path)
    adapt = (
        "{name: a, kind: adapt, tasks: [nli], fractions: [0.5], few_shot: {up_to: 0.5, train: {learning_rate: 1e-4}}}"
    )
    job = experiment_at(
        tmp_path, overrides=["train.clip_norm=null", "train.save_every=null", f"systems={{x: [{adapt}]}}"]
    )
    options = job.at(job.cells[0]).options
    assert (options.clip_norm, options.save_every) == (None, None)
    assert (options.learning_rate, options.batch_size, options.min_updates, options.select) == (1e-4, 8, 200, "last")


def test_rows_of_ranking_groups_add_up(tmp_path):
    write_toy_experiment(tmp_path)
    path = tmp_path / "tasks/rank-train.jsonl"
    rows = path.read_text().splitlines()
    right = [line.replace('"label": "0"', '"label": "1"') for line in rows[:3]]
    path.write_text("\n".join([*right, *rows[3:]]) + "\n")
    _, counts = experiment_at(tmp_path).data.train("rank", fraction=None, max_rows=None, seed=1)
    assert counts["without_loss"] == 3
    left_out = counts["without_loss"] + counts["leaks_dropped"] + counts["candidates_cut"]
    assert counts["rows"] == counts["trained_on"] + left_out
