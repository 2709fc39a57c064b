"""The F1 of entities against two independent counts of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import conlleval
from seqeval.metrics import f1_score

from mtdnn.metrics.base import METRICS, UndefinedMetricWarning
from mtdnn.metrics.spans import entities

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def span_f1(predictions, targets):
    return METRICS.get("span_f1", where="test")(predictions, targets)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER O", [("PER", 0, 2)]),  # what continues nothing begins
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("O I-LOC B-LOC I-LOC", [("LOC", 1, 2), ("LOC", 2, 4)]),
    ],
)
def test_entities_are_runs_of_one_type(labels, expected):
    assert list(entities(labels.split())) == expected


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", 1.0),
        ("B-PER O O", "B-PER I-PER O", 0.0),  # an end is wrong
        ("B-LOC I-LOC O", "B-PER I-PER O", 0.0),  # the type is wrong
        ("B-PER O B-LOC", "B-PER O O", 2 / 3),  # 1 right of 2 found and 1 there
        ("I-PER O B-LOC", "B-PER O B-PER", 1 / 2),
    ],
)
def test_an_entity_counts_when_its_type_and_both_its_ends_are_right(prediction, target, expected):
    assert span_f1([prediction.split()], [target.split()]) == pytest.approx(expected)


SENTENCES = st.lists(
    st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)


@given(SENTENCES)
def test_it_counts_as_conlleval_and_as_seqeval(sentences):
    predictions, targets = ([[word[side] for word in each] for each in sentences] for side in (0, 1))
    right, found, there = conlleval.counts(predictions, targets)
    if not found + there:
        with pytest.warns(UndefinedMetricWarning, match="no entity"):
            assert span_f1(predictions, targets) == 0
        return
    value = span_f1(predictions, targets)
    assert value == pytest.approx(2 * right / (found + there))
    assert value == pytest.approx(f1_score(targets, predictions, zero_division=0))


def test_sentences_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="2 labels but 1 targets"):
        span_f1([["O", "O"]], [["O"]])
