"""Distillation against its float64 reference; which teachers are taken, and what becomes of a run when they change."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from reference import distillation as reference
from safetensors.torch import load_file, save_file
from support import NLI, RANK, STS, TASKS, toy_batch, toy_model, untimed, write_toy_experiment
from toy_reference import KINDS, RNG, Toy, assert_close, reference_weights
from transformers import AutoModelForSequenceClassification

from mtdnn.config import load_experiment
from mtdnn.errors import CheckpointError, ConfigError, RunError
from mtdnn.experiment import Experiment
from mtdnn.interop.transformers import LogitsModel
from mtdnn.method_docs import find_method
from mtdnn.registry import build
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.distillation import Distillation
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_tokenizer


def saved(folder, *, spread=0.2, tasks=TASKS, **options):
    """The path of a random model's folder."""
    toy_model(spread=spread, tasks=tasks, **options).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Two models; the second has another number of layers, and no head for ranking."""
    folder = tmp_path_factory.mktemp("teachers")
    return [saved(folder / "1"), saved(folder / "2", spread=0.4, tasks=(NLI, STS), num_hidden_layers=3)]


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 3.0, "weight": 0.7}, {"preset": "paper"}, {"form": "mean", "weight": 0.3, "temperature": 0.5}],
    ids=str,
)
@pytest.mark.parametrize("task", KINDS)
def test_distillation_equals_the_reference_in_value_and_gradient(task, options, teachers):
    toy = Toy(task)
    regularizer = build(REGULARIZERS, {"type": "distillation", "teachers": teachers, **options}, where="test")
    regularizer.begin(toy.model, num_steps=1)
    weights = [reference_weights(each, task) for each in regularizer._models if task in each.task_defs]
    assert len(weights) == (1 if task == "rank" else 2)
    soft = [toy.logits(each, toy.still) for each in weights]

    def of_weights(student):
        logits = toy.logits(student, toy.still)
        loss = reference.soft_loss(toy.kind, logits, soft, temperature=regularizer.temperature, group_B=toy.groups) - (
            toy.loss(logits).mean() if regularizer.form == "mean" else 0.0
        )
        return regularizer.weight * loss

    penalty = regularizer.penalty(toy.model, toy.batch, toy.clean(regularizer), RNG)
    penalty.backward()
    assert_close(penalty.item(), float(np.real(of_weights(toy.weights))), 1e-9)
    toy.check_gradients(of_weights)
    assert all(weight.grad is None for each in regularizer._models for weight in each.parameters())


def test_the_papers_objective_is_the_mean_of_the_losses_on_hard_and_on_soft_labels_by_hand(tmp_path):
    """Two classes in all but name: student 1/2, 1/4, 1/4; teacher certain to 1e-30 of the first class."""
    model = toy_model().eval()
    batch = toy_batch("nli")
    with torch.no_grad():
        model.head("nli").output.weight.zero_()
        model.head("nli").output.bias.copy_(torch.tensor([0.5, 0.25, 0.25]).log())
    folder = tmp_path / "teacher"
    certain = toy_model()
    with torch.no_grad():
        certain.head("nli").output.weight.zero_()
        certain.head("nli").output.bias.copy_(torch.tensor([70.0, 0.0, 0.0]))
    certain.save_pretrained(folder)
    regularizer = build(REGULARIZERS, {"type": "distillation", "teachers": [str(folder)], "preset": "paper"}, where="")
    regularizer.begin(model, num_steps=1)
    clean = model.run(batch)
    objective = model.loss(clean.logits, batch).mean() + regularizer.penalty(model, batch, clean, RNG)
    hard = (np.log(2) + np.log(4) + np.log(4)) / 3  # the labels of the toy batch are 0, 2 and 1
    assert objective.item() == pytest.approx((hard + np.log(2)) / 2, rel=1e-6)


def test_a_student_that_answers_as_its_only_teacher_has_no_penalty_whatever_its_dropout(tmp_path):
    model, folder = toy_model(), saved(tmp_path / "same", spread=0.3)
    regularizer = Distillation(teachers=[folder], temperature=2.0)
    regularizer.begin(model, num_steps=1)
    for task in KINDS:
        batch = toy_batch(task)
        clean = model.eval().run(batch)
        assert regularizer.penalty(model, batch, clean, RNG).item() == pytest.approx(0, abs=1e-6)
        dropped = model.train().run(batch, rng=RNG)
        first, second = (regularizer.penalty(model, batch, dropped, RNG.at(each)) for each in "ab")
        assert first == second > 0


def test_a_task_without_a_teacher_gets_no_term_and_is_doubted(teachers):
    model, regularizer = toy_model(), Distillation(teachers=teachers[1:])
    regularizer.begin(model, num_steps=1)
    batch = toy_batch("rank")
    assert regularizer.penalty(model, batch, model.run(batch, rng=RNG), RNG) == 0
    assert regularizer.doubts() == ["distillation: no teacher has a head for rank, which gets no term"]


def test_options_that_make_no_sense_are_refused():
    for options, message in (
        ({"teachers": []}, "name at least one model folder"),
        ({"teachers": ["a", "a"]}, r"each once, got \['a', 'a'\]"),
        ({"teachers": ["a"], "weight": -1.0}, "weight must be at least 0"),
        ({"teachers": ["a"], "weight": 1.5, "form": "mean"}, "in the form mean at most 1"),
        ({"teachers": ["a"], "temperature": 0.0}, "temperature must be above 0"),
        ({}, "teachers"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(REGULARIZERS, {"type": "distillation", **options}, where="here")


def test_a_teacher_with_other_labels_tokenizer_length_or_heads_is_refused_and_both_are_shown(tmp_path):
    other = NLI.model_copy(update={"labels": ["no", "yes", "maybe"]})
    turned = saved(tmp_path / "turned", tasks=(other,))
    check = partial(Distillation(teachers=[turned]).check, tokenizer=tiny_tokenizer(), max_length=16)
    with pytest.raises(CheckpointError, match=r"turned: task 'nli': .*'yes', 'maybe'\].*'maybe', 'yes'\]"):
        check([NLI])
    with pytest.raises(CheckpointError, match=r"\['no', 'yes', 'maybe'\]"):
        Distillation(teachers=[turned]).begin(toy_model(), num_steps=1)
    with pytest.raises(ConfigError, match="no teacher has a head for rank; their heads: nli"):
        check([RANK])
    with pytest.raises(CheckpointError, match=r"turned: the model was trained with rows of 16 tokens, .* is 32"):
        check([STS], max_length=32)
    path = tmp_path / "turned/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer": "another one"}))
    with pytest.raises(CheckpointError, match="the model was trained with another one, and here is"):
        check([STS])
    with pytest.raises(CheckpointError, match=r"distillation.teachers: .*nowhere: no model there"):
        Distillation(teachers=[str(tmp_path / "nowhere")]).content()
    path.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="holds a model of type 'bert', not one of ours"):
        check([STS])


def test_its_page_says_that_teachers_must_be_given():
    method = find_method("distillation")
    assert method.options == {"teachers": "required", "weight": 1.0, "temperature": 1.0, "form": "sum"}
    assert set(method.option_texts) == set(method.options)


def test_a_model_without_tasks_is_refused(teachers):
    config = toy_model().encoder.config
    with pytest.raises(ConfigError, match="known by the tasks of a multi-task model"):
        Distillation(teachers=teachers).begin(
            LogitsModel(AutoModelForSequenceClassification.from_config(config)), num_steps=1
        )


TEACHER = """
name: teacher
encoder: {path: tiny, pool: mean, max_length: 32}
train: {epochs: 1, batch_size: 8, learning_rate: 1e-3, precision: fp32}
systems:
  teacher: [{name: joint, kind: joint, tasks: [nli, sts]}]
"""
STUDENT = """
name: student
encoder: {path: tiny, pool: mean, max_length: 32}
seeds: [2]
train: {epochs: 2, batch_size: 8, learning_rate: 1e-3, precision: fp32, save_every: 2}
systems:
  student:
    - name: joint
      kind: joint
      tasks: [nli, sts, rank]
      save_model: false
      regularizers: [{type: distillation, teachers: [TEACHER], preset: paper}]
"""


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """A folder with a trained teacher and a student's experiment."""
    folder = tmp_path_factory.mktemp("school")
    teacher = write_toy_experiment(folder, text=TEACHER, rows=24)
    model = folder / "out/teacher/joint/joint/full/1/model"
    Experiment(load_experiment(teacher), load_tasks(folder / "tasks"), out=folder / "out").run()
    (folder / "student.yaml").write_text(STUDENT.replace("TEACHER", str(model)))
    return folder, model


def student(folder, out, **options):
    return Experiment(load_experiment(folder / "student.yaml"), load_tasks(folder / "tasks"), out=out, **options)


def test_a_student_learns_beside_its_teacher_and_a_cut_run_ends_as_a_whole_one(school, tmp_path):
    folder, teacher = school
    (whole,) = student(folder, tmp_path / "whole").run()
    assert "distillation penalty" in whole["history"][0]["losses"]
    (content,) = Distillation(teachers=[str(teacher)]).content().values()
    assert whole["inputs"]["reads"] == {"distillation": {str(teacher): content}}

    def stop(cell, step):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        student(folder, tmp_path / "cut", on_step=stop).run()
    (again,) = student(folder, tmp_path / "cut").run()
    assert untimed(again) == untimed(whole)


def test_a_changed_teacher_is_other_work_and_is_refused_where_work_is_half_done(school, tmp_path):
    folder, model = school

    def stop(cell, step):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        student(folder, tmp_path, on_step=stop).run()
    weights = model / "model.safetensors"
    kept = weights.read_bytes()
    (model / "manifest.json").rename(model / "kept.json")
    save_file({name: value + 0.1 for name, value in load_file(weights).items()}, weights)
    try:
        with pytest.raises(ConfigError, match=r"reads\.distillation\..*: not the same any more"):
            student(folder, tmp_path).run()
        with pytest.raises(RunError, match=r"the run began with models of the content \w{12}, and in .* restore them"):
            student(folder, tmp_path, allowed=["reads"]).run()
    finally:
        weights.write_bytes(kept)
        (model / "kept.json").rename(model / "manifest.json")
    assert len(student(folder, tmp_path, allowed=["reads"]).run()) == 1


def test_teachers_that_do_not_fit_are_told_before_anything_is_trained(school, tmp_path):
    folder, _ = school
    config = load_experiment(folder / "student.yaml", overrides=["encoder.max_length=16"])
    job = Experiment(config, load_tasks(folder / "tasks"), out=tmp_path)
    with pytest.raises(ConfigError, match=r"distillation: .*rows of 32 tokens, encoder.max_length is 16"):
        job.run()
