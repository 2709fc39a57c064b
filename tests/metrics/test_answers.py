"""EM and F1 against numbers by hand and an independent transcription of the published script's definition."""

import string

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reference import squad_v1

from mtdnn.metrics.answers import normalized
from mtdnn.metrics.base import METRICS, UndefinedMetricWarning

# prediction, right answers, EM and F1 in percent, by hand
CASES = [
    ("308", ["308"], 100, 100),
    ("The Panthers", ["panthers"], 100, 100),  # case, article
    ("panthers.", ["Panthers"], 100, 100),  # punctuation
    ("  Luke   Kuechly ", ["Luke Kuechly"], 100, 100),  # white space
    ("Kuechly", ["Luke Kuechly"], 0, 200 / 3),  # precision 1, recall 1/2
    ("Luke Kuechly of Carolina", ["Luke Kuechly"], 0, 200 / 3),  # precision 1/2, recall 1
    ("Thomas Davis", ["Luke Kuechly"], 0, 0),
    ("Davis", ["Luke Kuechly", "Thomas Davis", "Davis"], 100, 100),  # the best of several
    ("Thomas", ["Luke Kuechly", "Thomas Davis"], 0, 200 / 3),
    ("", ["308"], 0, 0),
    ("the", ["an"], 100, 0),  # nothing is left of either: equal, and without a common word
    ("the", ["308"], 0, 0),
    ("New York, New York", ["New York"], 0, 200 / 3),  # words count as often as both have them
    ("New York", ["New York, New York"], 0, 200 / 3),
    ("U.S.", ["US"], 100, 100),  # punctuation leaves no gap
    ("five-time", ["five time"], 0, 0),  # so that this is one word
    ("an apple a day", ["apple day"], 100, 100),  # articles inside
    ("theory", ["the ory"], 0, 0),  # an article is a whole word
    ("5½ sacks", ["5½"], 0, 200 / 3),
    ("“308”", ["308"], 0, 0),  # only ASCII punctuation is dropped
]


def value(name, predictions, targets):
    return METRICS.get(name, where="test")(predictions, targets)


@pytest.mark.parametrize(("prediction", "answers", "em", "f1"), CASES)
def test_twenty_cases_by_hand(prediction, answers, em, f1):
    assert 100 * value("exact_match", [prediction], [answers]) == pytest.approx(em)
    assert 100 * value("squad_f1", [prediction], [answers]) == pytest.approx(f1)
    assert squad_v1.exact_match(prediction, answers) == pytest.approx(em)
    assert squad_v1.f1(prediction, answers) == pytest.approx(f1)


def test_both_are_means_over_questions():
    predictions, answers, em, f1 = ([case[place] for case in CASES] for place in range(4))
    assert len(CASES) == 20
    assert 100 * value("exact_match", predictions, answers) == pytest.approx(sum(em) / 20)
    assert 100 * value("squad_f1", predictions, answers) == pytest.approx(sum(f1) / 20)


TEXTS = st.lists(
    st.sampled_from(["a", "an", "the", "The", "cat", "cats", "A.", "x-y", "½", "_", "the_", "é", *string.punctuation]),
    max_size=6,
).map(" ".join)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
@example("cat cat", ["cat cat x-y"])  # a word that both have twice
def test_any_answer_gets_the_reference_s_numbers(prediction, answers):
    assert normalized(prediction).split() == squad_v1.words(prediction)
    assert 100 * value("exact_match", [prediction], [answers]) == squad_v1.exact_match(prediction, answers)
    assert 100 * value("squad_f1", [prediction], [answers]) == pytest.approx(squad_v1.f1(prediction, answers))


def test_answers_may_be_an_array_as_resamples_are():
    given, right = ["the cat", "dog"], [["cat"], ["a bird"]]
    for metric in ("exact_match", "squad_f1"):
        score = METRICS.get(metric, where="")
        assert score(np.array(given), right) == score(given, right) == 0.5


def test_no_question_has_no_value():
    with pytest.warns(UndefinedMetricWarning, match="there is no question"):
        assert value("squad_f1", [], []) == 0
