"""Span extraction: windows, targets and answers; the loss against a float64 reference."""

import pytest
import torch
from heads.token_rows import batch_of, split_of, units_of
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import token_heads
from support import READ, TAG, toy_batch

from mtdnn.data.batch import pad_columns
from mtdnn.errors import ConfigError, DataError
from mtdnn.heads.base import build_head
from mtdnn.heads.span_places import answer_places, best_spans, unit_of_row
from mtdnn.testing.encoders import tiny_tokenizer

TEXT = "Anna bought the boat in Paris."
ANSWER = {"text": ["Paris", "in Paris"], "answer_start": [24, 21]}
ROWS = [{"a": "Where?", "b": TEXT, "label": ANSWER}]
TOYS = [(4, 7), (0, 5), (4, 5)]


def read_with(**head):
    return READ.model_copy(update={"head": head})


def logits_of(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch.mask_NT.shape, 2, generator=generator, dtype=torch.float64)


def columns(batch):
    return (batch.tokens_NT[name].numpy() for name in ("start", "end"))


# Rows


@pytest.mark.parametrize(
    "answers",
    [ANSWER, [{"text": "Paris", "answer_start": 24}, {"answer_start": 21, "text": "in Paris"}]],
    ids=["lists", "one by one"],
)
def test_both_forms_of_answers_are_the_same(tmp_path, answers):
    (unit,) = units_of(tmp_path, READ, [{**ROWS[0], "label": answers}])
    assert unit.targets == [24, 29, 21, 29]
    assert build_head(READ).gold(unit.targets, unit.texts) == ["Paris", "in Paris"]


def test_white_space_around_an_answer_is_none_of_it(tmp_path):
    (unit,) = units_of(tmp_path, READ, [{**ROWS[0], "label": {"text": [" in "], "answer_start": [20]}}])
    assert unit.targets == [21, 23]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            {"text": ["Paris"], "answer_start": [23]},
            "train.jsonl:1: column 'label': answer_start 23: the text has ' Pari' there, the answer is 'Paris'",
        ),
        ({"text": ["Paris"], "answer_start": [-6]}, "answer_start -6: the text has 'Anna ' there"),
        ({"text": [], "answer_start": []}, "no right answer; span extraction takes answerable questions"),
        ([], "no right answer"),
        ({"text": ["Paris"], "answer_start": []}, r"expected \{text: .*as many of either"),
        ({"text": "Paris", "answer_start": 24}, r"expected \{text: \[...\], answer_start"),
        ({"text": [" "], "answer_start": [4]}, "expected an answer's text"),
        ({"text": ["Paris"], "answer_start": ["24"]}, "expected an answer's text.*'24'"),
        ("Paris", r"expected \{text"),
    ],
)
def test_a_bad_answer_is_named_with_its_place_and_value(tmp_path, answers, message):
    with pytest.raises(DataError, match=message):
        units_of(tmp_path, READ, [{**ROWS[0], "label": answers}])


def test_a_task_without_a_second_text_is_refused():
    with pytest.raises(ConfigError, match=r"a question, inputs.text_a, and a text, inputs.text_b"):
        build_head(READ.model_copy(update={"inputs": READ.inputs.model_copy(update={"text_b": None})}))


@pytest.mark.parametrize("options", [{"stride": -1}, {"max_answer_tokens": 0}, {"max_question_tokens": 0}])
def test_options_out_of_range_are_refused_with_the_value(options):
    with pytest.raises(ConfigError, match=str(next(iter(options.values())))):
        build_head(read_with(**options))


# Windows


def test_a_long_text_is_read_in_windows_that_share_stride_tokens(tmp_path):
    text = " ".join(f"{letter}" for letter in "abcdefghijklmnop")
    rows = [{"a": "z y", "b": text, "label": {"text": ["k"], "answer_start": [20]}}]
    batch = batch_of(tmp_path, read_with(stride=2, max_question_tokens=2), rows, max_length=11)
    tokens = [tiny_tokenizer().convert_ids_to_tokens(row) for row in batch.inputs_NT["input_ids"]]
    assert [" ".join(each) for each in tokens] == [
        "[CLS] z y [SEP] a b c d e f [SEP]",
        "[CLS] z y [SEP] e f g h i j [SEP]",
        "[CLS] z y [SEP] i j k l m n [SEP]",
        "[CLS] z y [SEP] m n o p [SEP] [PAD] [PAD]",
    ]
    assert batch.num_rows_U.tolist() == [4]
    begins, stops = answer_places(batch.targets[:, 0].expand(4, 2), batch)
    assert (begins.tolist(), stops.tolist()) == ([0, 0, 6, 0], [0, 0, 6, 0])


def test_a_stride_that_leaves_no_room_is_half_a_window(tmp_path):
    text = " ".join("abcdefghijklmnop")
    rows = [{"a": "z y", "b": text, "label": {"text": ["k"], "answer_start": [20]}}]
    data = split_of(tmp_path, read_with(stride=500, max_question_tokens=2), rows, max_length=11)
    assert data.num_rows.tolist() == [5]  # 6 tokens of the text in each, 3 of them shared
    assert data.num_examples.tolist() == [1]


def test_the_end_of_a_long_question_is_cut_off(tmp_path):
    rows = [{**ROWS[0], "a": " ".join("abcdefghijklmnop")}]
    batch = batch_of(tmp_path, read_with(max_question_tokens=4), rows)
    tokens = tiny_tokenizer().convert_ids_to_tokens(batch.inputs_NT["input_ids"][0])
    assert tokens[:7] == ["[CLS]", "a", "b", "c", "d", "[SEP]", "anna"]
    assert split_of(tmp_path, read_with(max_question_tokens=4), rows).facts.truncated == 1


def test_rows_too_short_for_a_text_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"encoder.max_length: 6 leaves no room for a text"):
        batch_of(tmp_path, READ, ROWS, max_length=6)


LETTERS = "abcdefghij"


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_windows_cover_the_text_and_every_short_answer_is_whole_in_one(tmp_path_factory, data):
    words = data.draw(st.lists(st.sampled_from(["a", "bc", "zzq", "é", "d.", "x-y"]), min_size=1, max_size=40))
    text, first = " ".join(words), data.draw(st.integers(0, len(words) - 1))
    start = sum(len(word) + 1 for word in words[:first])
    row = {"a": "q", "b": text, "label": {"text": [words[first]], "answer_start": [start]}}
    batch = batch_of(tmp_path_factory.mktemp("w"), read_with(stride=4), [row], max_length=22)
    starts, ends = columns(batch)
    covered = {place for a, b in zip(starts.flat, ends.flat, strict=True) for place in range(a, b) if a >= 0}
    assert covered == {place for place, character in enumerate(text) if character != " "}
    begins, stops = answer_places(batch.targets[:, 0].expand(len(starts), 2), batch)
    found = [(starts[n, b], ends[n, s]) for n, (b, s) in enumerate(zip(begins, stops, strict=True)) if b > 0]
    assert found
    assert set(found) == {(start, start + len(words[first]))}


# Loss and answers


def test_the_loss_equals_the_reference():
    batch = toy_batch("read")
    expected = token_heads.span_loss_U(logits_of(batch).numpy(), *columns(batch), unit_of_row(batch).numpy(), TOYS)
    found = build_head(READ).loss(logits_of(batch), batch)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-12, atol=0)


def test_the_question_and_the_padding_have_no_gradient_and_the_first_token_has():
    batch = toy_batch("read")
    logits = logits_of(batch).requires_grad_()
    build_head(READ).loss(logits, batch).sum().backward()
    counts = batch.tokens_NT["start"] >= 0
    counts[:, 0] = True
    assert ((logits.grad != 0).all(-1) == counts).all()


def brute_force(logits, batch, row, longest):
    """The best span of a row, by trying all."""
    starts = batch.tokens_NT["start"][row]
    spans = [
        (float(logits[row, a, 0] + logits[row, b, 1]), a, b)
        for a in range(len(starts))
        for b in range(a, min(a + longest, len(starts)))
        if starts[a] >= 0 and starts[b] >= 0
    ]
    return max(spans)


@pytest.mark.parametrize("longest", [1, 2, 3, 50])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_span_is_the_best_of_all_that_are_short_enough(longest, seed):
    batch = toy_batch("read")
    logits = logits_of(batch, seed)
    found = best_spans(logits, batch, max_tokens=longest)
    for row in range(6):
        score, first, last = brute_force(logits, batch, row, longest)
        assert (found.first_N[row], found.last_N[row]) == (first, last)
        assert found.score_N[row] == pytest.approx(score)


def test_the_answer_is_the_best_span_of_any_window_in_the_words_of_the_text():
    batch, head = toy_batch("read"), build_head(READ)
    logits = torch.zeros(6, 5, 2)
    logits[0, 1, 0] = logits[0, 2, 1] = 2.0  # "red cat" in the first window: 4
    logits[1, 1] = 3.0  # "sat" in the second: 6
    logits[2, 3, 0] = logits[2, 1, 1] = 9.0  # begins after it ends: 9 + 0 at most
    logits[4, 0] = 50.0  # the first token is no answer
    logits[5, 1, 0], logits[5, 2, 1] = 4.0, 5.0
    told = head.describe(logits, batch)
    assert [each["answer"] for each in told] == head.decode(logits, batch) == ["sat", "ab", "d e"]
    assert [(each["start"], each["end"]) for each in told] == [(8, 11), (0, 2), (6, 9)]
    two = torch.tensor([0.0, 3.0]).softmax(0)[1] ** 2  # both ends, among the first token and "sat"
    assert told[0]["probability"] == pytest.approx(two.item(), abs=1e-6)


def test_a_text_without_a_token_has_the_empty_answer():
    batch, head = toy_batch("read"), build_head(READ)
    empty = [[-1] * len(row) for row in batch.tokens_NT["start"].tolist()]
    batch.tokens_NT.update(pad_columns({"start": empty, "end": empty}))
    assert head.decode(logits_of(batch), batch) == ["", "", ""]


def test_training_takes_the_first_answer_and_evaluation_all(tmp_path):
    batch, head = batch_of(tmp_path, READ, ROWS), build_head(READ)
    begins, stops = answer_places(batch.targets[:, 0], batch)
    starts, ends = columns(batch)
    assert (starts[0, begins[0]], ends[0, stops[0]]) == (24, 29)
    assert head.gold([24, 29, 21, 29], batch.texts[0]) == ["Paris", "in Paris"]


def test_a_fresh_head_can_start_from_another_tasks():
    head, other = build_head(READ, hidden_size=8), build_head(READ, hidden_size=8)
    other.copy_from(head, {})
    assert torch.equal(head.output.weight, other.output.weight)
    with pytest.raises(ValueError, match="cannot start from a TaggingHead"):
        other.copy_from(build_head(TAG, hidden_size=8), {})
