"""Heads: contracts over every kind, and losses by hand."""

import math
from dataclasses import replace

import pytest
import torch
from support import NLI, RANK, STS, TASKS, TOKEN_TASKS, toy_batch, toy_model

from mtdnn.errors import ConfigError
from mtdnn.heads.base import build_head

LOG = math.log
EVERY = (*TASKS, *TOKEN_TASKS)


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_a_head_gives_one_loss_prediction_and_output_per_unit(task):
    model, batch = toy_model(tasks=EVERY).eval(), toy_batch(task.name)
    head, logits = model.head(task.name), model(batch)
    loss = head.loss(logits, batch)
    assert loss.shape == (batch.num_units,)
    assert loss.isfinite().all()
    assert len(head.decode(logits, batch)) == len(head.describe(logits, batch)) == batch.num_units
    outputs = head.outputs(logits, batch)
    values = outputs.values_U if outputs.log_probs_UK is None else outputs.log_probs_UK[:, 0]
    assert outputs.by_unit(values).shape == (batch.num_units,)
    assert values.dtype == torch.float32


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_one_step_down_the_gradient_lowers_the_loss(task):
    model, batch = toy_model(tasks=EVERY).eval(), toy_batch(task.name)
    before = model.loss(model(batch), batch).mean()
    before.backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight.sub_(1e-3 * weight.grad)
    assert model.loss(model(batch), batch).mean() < before


def test_a_score_of_the_wrong_shape_is_refused_and_never_broadcast():
    batch = toy_batch("sts")
    with pytest.raises(ValueError, match=r"\(3, 1\) for targets of shape \(3,\)"):
        build_head(STS).loss(torch.zeros(3, 1), batch)


def test_regression_is_the_squared_error_on_the_raw_score():
    loss = build_head(STS).loss(torch.tensor([1.0, 2.0, 3.0]), toy_batch("sts"))
    assert loss.tolist() == [0.25, 0.0, 4.0]  # targets 0.5, 2, 5


def test_classification_is_minus_the_log_probability_of_the_right_class():
    logits = torch.tensor([[LOG(1), LOG(2), LOG(5)], [LOG(1), LOG(2), LOG(5)], [0.0, 0.0, 0.0]])
    loss = build_head(NLI).loss(logits, toy_batch("nli"))
    torch.testing.assert_close(loss, torch.tensor([LOG(8), LOG(8 / 5), LOG(3)]))  # targets 0, 2, 1


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_the_loss_of_bf16_logits_is_float32s(task):
    model, batch = toy_model(tasks=EVERY).eval(), toy_batch(task.name)
    logits = model(batch).bfloat16()
    loss = model.loss(logits, batch)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.loss(logits.float(), batch))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_dropout_falls_on_the_pooled_vector_and_in_training_alone(task):
    head = build_head(task.model_copy(update={"head": {"dropout": 0.5}}), hidden_size=64)
    seen = []
    head.output.register_forward_hook(lambda _module, args, output: seen.append((args[0], output)))
    pooled = torch.ones(6, 64)
    logits = head.train()(pooled, toy_batch(task.name))
    assert set(seen[0][0].unique().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(logits.flatten(), seen[0][1].flatten())
    head.eval()(pooled, toy_batch(task.name))
    assert torch.equal(seen[1][0], pooled)


def test_the_most_likely_class_and_the_best_candidate_are_told():
    logits = torch.tensor([[LOG(1), LOG(2), LOG(5)], [LOG(5), LOG(2), LOG(1)], [LOG(2), LOG(5), LOG(1)]])
    head, batch = build_head(NLI), toy_batch("nli")
    assert head.decode(logits, batch) == [2, 0, 1]
    assert [each["label"] for each in head.describe(logits, batch)] == ["yes", "no", "maybe"]
    assert head.describe(logits, batch)[0]["probabilities"] == pytest.approx(
        {"no": 1 / 8, "maybe": 2 / 8, "yes": 5 / 8}
    )
    scores = torch.tensor([LOG(1), LOG(3), 0.7, LOG(2), LOG(5), LOG(1)])
    told = build_head(RANK).describe(scores, toy_batch("rank"))
    assert [each["best"] for each in told] == [1, 0, 1]
    assert told[2]["probabilities"] == pytest.approx([2 / 8, 5 / 8, 1 / 8])


def test_the_candidates_of_a_group_share_its_probability_and_no_place_that_is_not_there_has_any():
    scores = torch.tensor([LOG(1), LOG(3), 0.7, LOG(2), LOG(5), LOG(1)])
    found = build_head(RANK).outputs(scores, toy_batch("rank")).log_probs_UK.exp()
    torch.testing.assert_close(found[0, :2], torch.tensor([1 / 4, 3 / 4]))
    torch.testing.assert_close(found[1, :1], torch.ones(1))
    torch.testing.assert_close(found[2], torch.tensor([2 / 8, 5 / 8, 1 / 8]))


def test_a_fresh_regression_head_starts_at_the_middle_of_its_range_whose_ends_are_scores():
    head = build_head(STS, hidden_size=8)
    head.reset_bias()
    assert head.output.bias.item() == 2.5
    assert [head.parse(score) for score in (0, "5")] == [0.0, 5.0]


def ranking_loss(form):
    head = build_head(RANK.model_copy(update={"head": {"loss": form}}))
    # groups: (wrong, right), (right), (wrong, right, right); P of the last: 1/8, 2/8, 5/8
    scores = torch.tensor([LOG(1), LOG(3), 0.7, LOG(1), LOG(2), LOG(5)])
    return head.loss(scores, toy_batch("rank"))


@pytest.mark.parametrize(
    ("form", "last"),
    [
        ("marginal", -LOG(7 / 8)),
        ("mean_positive", -(LOG(2 / 8) + LOG(5 / 8)) / 2),
        ("mtdnn", -(LOG(2 / 3) + LOG(5 / 6)) / 2),
    ],
)
def test_ranking_losses_by_hand(form, last):
    expected = torch.tensor([-LOG(3 / 4), 0.0, last])  # the group of one candidate gives exactly zero
    torch.testing.assert_close(ranking_loss(form), expected)


def test_a_group_without_wrong_answers_has_no_gradient():
    scores = torch.zeros(6, requires_grad=True)
    build_head(RANK).loss(scores, toy_batch("rank")).sum().backward()
    assert scores.grad[2] == 0
    assert scores.grad[0] != 0


@pytest.mark.parametrize("form", ["marginal", "mean_positive", "mtdnn"])
def test_groups_without_a_right_or_without_a_wrong_answer_have_no_loss_and_no_gradient(form):
    head = build_head(RANK.model_copy(update={"head": {"loss": form}}))
    batch = replace(toy_batch("rank"), targets=torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]))
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], requires_grad=True)
    loss = head.loss(scores, batch)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0, 0.0]
    assert (scores.grad == 0).all()
    assert [head.trainable(targets) for targets in ([0, 0], [1], [1, 1], [1, 0, 1])] == [False, False, False, True]


def test_a_large_group_keeps_its_right_answers_and_a_seeded_sample():
    head = build_head(RANK)
    targets = [0.0] * 100 + [1.0, 1.0]
    kept = head.keep_rows(targets, key="seed/group")
    assert len(kept) == 30
    assert {100, 101} <= set(kept)
    assert kept == head.keep_rows(targets, key="seed/group")
    assert kept != head.keep_rows(targets, key="other/group")


@pytest.mark.parametrize(
    ("task", "value", "message"),
    [
        (NLI, "yess", r"unknown label 'yess'. Did you mean 'yes'\?"),
        (NLI, 3, "unknown label '3'"),
        (NLI, True, "unknown label 'True'"),
        (STS, "nan", "expected a finite number"),
        (STS, "five", "expected a number, got 'five'"),
        (STS, 5.5, r"5.5 is outside the task's range \[0.0, 5.0\]"),
    ],
)
def test_a_wrong_target_says_what_was_expected(task, value, message):
    with pytest.raises(ValueError, match=message):
        build_head(task).parse(value)


def test_labels_are_read_by_name_alias_and_index():
    head = build_head(NLI.model_copy(update={"labels": ["no", {"yes": ["entails", "1.0"]}]}))
    assert [head.parse(value) for value in ("no", "yes", "entails", "1.0", 0, 1)] == [0, 1, 1, 1, 0, 1]


def test_where_labels_are_numbers_an_integer_is_a_name_and_never_an_index():
    head = build_head(NLI.model_copy(update={"labels": ["1", "2", "3"]}))
    assert [head.parse(value) for value in (1, "2", 3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="unknown label '0'"):
        head.parse(0)


def test_a_classifier_without_labels_is_refused():
    with pytest.raises(ConfigError, match="two or more labels, got 0"):
        build_head(NLI.model_copy(update={"labels": []}))


def test_a_fresh_head_can_start_from_another_tasks():
    model = toy_model()
    other = build_head(NLI.model_copy(update={"labels": ["neutral", "entails"]}), hidden_size=8)
    other.copy_from(model.head("nli"), {"neutral": "maybe", "entails": "yes"})
    torch.testing.assert_close(other.output.weight, model.head("nli").output.weight[[1, 2]])
    torch.testing.assert_close(other.output.bias, model.head("nli").output.bias[[1, 2]])
