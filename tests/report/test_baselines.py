"""What no model gives, by hand."""

import json

import pytest
from report.made_run import write_run

from mtdnn.baseline import Constant, flat, name_of
from mtdnn.report.sections.results import GIVEN, LEARNED, results
from mtdnn.report.study import Study
from mtdnn.runs import read_run

CLASSES = [{"prediction": 0, "probabilities": {"a": 1, "b": 0}, "target": target} for target in (1, 1, 1, 0)]
SCORES = [{"prediction": 0.1, "score": 0.1, "target": target} for target in (1.0, 4.0)]
GROUPS = [{"prediction": [0.1, 0.9], "probabilities": [0.3, 0.7], "target": target} for target in ([1, 0], [0, 1])]


def test_the_most_frequent_label_is_answered_to_every_example():
    answer = Constant.of([1, 1, 0])
    assert answer.value(CLASSES, "accuracy") == 0.75
    assert answer.value(CLASSES, "matthews_corrcoef") is None
    assert Constant.of([0, 0, 1]).value(CLASSES, "accuracy") == 0.25
    assert name_of(CLASSES[0]) == "most frequent label"


def test_the_mean_score_has_no_correlation():
    assert Constant.of([1.0, 4.0]).answer(SCORES[0]) == 2.5
    assert Constant.of([1.0, 4.0]).value(SCORES, "pearson") is None


def test_candidates_are_ranked_as_they_come():
    assert Constant.of(flat([[1, 0], [0, 1]])).value(GROUPS, "mrr") == pytest.approx((1 + 1 / 2) / 2)
    assert name_of(GROUPS[0]) == "candidates as they come"


@pytest.mark.parametrize(("training", "stage"), [({"nli": {"most_frequent": 1, "mean": 0.6}}, LEARNED), ({}, GIVEN)])
def test_the_results_say_where_the_most_frequent_label_is_from(tmp_path, training, stage):
    folder = write_run(tmp_path / "run", {"plain": 0.5}, fractions=(0.1,))
    (folder / "experiment.json").write_text(json.dumps({"name": "run", "training": training}))
    run = read_run(folder)
    targets = [row["target"] for row in run.cells[0].predictions("nli", "test")]
    (table,) = results(Study([run])).tables
    answer = 1 if training else max((0, 1), key=targets.count)
    share = f"{100 * targets.count(answer) / len(targets):.1f}"
    assert table.rows[-1] == ("no model: most frequent label", stage, "nli", "", "accuracy", "-", share, "", "")
    assert len(table.rows) == 2
