"""Metrics against numbers by hand, and what they do where they are undefined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdnn.metrics.base import METRICS, UndefinedMetricWarning, compute, resampled
from mtdnn.metrics.ranking import ranked_groups


def value(name, predictions, targets):
    return METRICS.get(name, where="test")(predictions, targets)


@pytest.mark.parametrize(
    ("name", "predictions", "targets", "expected"),
    [
        ("accuracy", [0, 1, 1, 1], [0, 1, 0, 1], 0.75),
        ("f1", [1, 1, 0, 0], [1, 0, 1, 0], 0.5),  # precision 1/2, recall 1/2
        ("f1_macro", [0, 0, 1], [0, 1, 1], 2 / 3),  # both classes: precision/recall 1/2 and 1
        ("matthews_corrcoef", [1, 1, 0, 0], [1, 1, 0, 0], 1.0),
        ("pearson", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 1.0),
        ("spearman", [1.0, 2.0, 30.0], [6.0, 4.0, 2.0], -1.0),
        ("mrr", [[0.1, 0.9, 0.5]], [[1, 0, 0]], 1 / 3),
        ("map", [[0.9, 0.8, 0.7]], [[1, 0, 1]], (1 + 2 / 3) / 2),
        ("hits@1", [[0.9, 0.1], [0.1, 0.9]], [[1, 0], [1, 0]], 0.5),
        ("ndcg@10", [[0.9, 0.8, 0.7]], [[0, 1, 0]], 1 / np.log2(3)),
    ],
)
def test_a_metric_is_what_one_computes_by_hand(name, predictions, targets, expected):
    assert value(name, predictions, targets) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "predictions", "targets"),
    [
        ("pearson", [1.0, 1.0], [1.0, 2.0]),
        ("spearman", [1.0, 2.0], [1.0, 1.0]),
        ("matthews_corrcoef", [1, 1], [0, 1]),
        ("f1", [0, 0], [0, 0]),
        ("mrr", [[0.5]], [[1]]),
    ],
)
def test_an_undefined_metric_is_zero_with_a_warning(name, predictions, targets):
    with pytest.warns(UndefinedMetricWarning, match=f"{name} is undefined"):
        assert value(name, predictions, targets) == 0.0


def test_ties_are_ranked_worst_case():
    assert value("mrr", [[0.5, 0.5, 0.5]], [[1, 0, 0]]) == pytest.approx(1 / 3)


def test_only_groups_with_right_and_wrong_candidates_count():
    groups = ranked_groups([[0.1], [0.1, 0.2], [0.3, 0.4]], [[1], [1, 1], [0, 1]])
    assert [list(group) for group in groups] == [[1, 0]]


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(0, 1)), min_size=2, max_size=12))
def test_ranking_metrics_lie_between_zero_and_one_and_do_not_depend_on_the_order(candidates):
    scores, right = [score for score, _ in candidates], [target for _, target in candidates]
    if not 0 < sum(right) < len(right):
        return
    for name in ("mrr", "map", "ndcg@10", "hits@1"):
        there = value(name, [scores], [right])
        assert 0 <= there <= 1
        assert value(name, [scores[::-1]], [right[::-1]]) == pytest.approx(there)


def test_predictions_and_targets_must_pair_up():
    with pytest.raises(ValueError, match="2 predictions but 1 targets"):
        compute(["accuracy"], [1, 0], [1])


@given(
    data=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    name=st.sampled_from(["accuracy", "f1", "f1_macro", "matthews_corrcoef"]),
)
@pytest.mark.filterwarnings("ignore::mtdnn.metrics.base.UndefinedMetricWarning")
def test_resamples_by_their_counts_are_scikit_learn_s_of_each(data, name):
    predictions, targets = [a for a, _ in data], [b for _, b in data]
    metric, rng = METRICS.get(name, where="test"), np.random.default_rng(7)
    draws = [rng.integers(len(data), size=len(data)) for _ in range(5)]
    one_by_one = [metric([predictions[i] for i in draw], [targets[i] for i in draw]) for draw in draws]
    assert resampled(metric, predictions, targets, resamples=5, seed=7) == pytest.approx(one_by_one, abs=1e-12)
