"""The table by max_layer from made-up results."""

from statistics import stdev

import pytest

from mtdnn.analysis.max_layer import csv_rows, panels, points_of, rows
from mtdnn.errors import ConfigError


def result(system, seed, validation, *regularizers, test=None):
    """One cell's results, as far as the collector reads them."""
    splits = {"validation": validation, **({} if test is None else {"test": test})}
    return {
        "system": system,
        "stage": "finetune",
        "fraction": None,
        "seed": seed,
        "metrics": {"mrpc": {split: {"values": {"accuracy": value, "f1": 0.1}} for split, value in splits.items()}},
        "inputs": {"stage": {"regularizers": list(regularizers)}},
    }


def rapt(**options):
    return {"type": "rapt", **options}


RESULTS = [
    result("deep", 1, 0.9, rapt(preset="paper"), test=0.8),  # the preset's max_layer is 3
    result("deep", 2, 0.7, rapt(preset="paper"), test=0.6),
    result("one", 1, 0.6, {"type": "bregman"}, rapt(max_layer=1, after_steps=2)),
    result("first", 1, 0.5, rapt(preset="embeddings")),
    result("standard", 1, 0.4),
]


def test_systems_are_ordered_by_what_they_were_trained_with_and_not_by_their_names():
    shown = [(row[4], row[5], row[6], row[7]) for row in rows(points_of(RESULTS))]
    assert shown == [
        ("standard", "40.0", "-", "1"),
        ("embed", "50.0", "-", "1"),
        ("1", "60.0", "-", "1"),
        ("3", "80.0 ± 14.1", "70.0 ± 14.1", "2"),
    ]


def test_the_csv_has_a_row_a_system_and_split_with_mean_and_standard_deviation():
    found = {(row[5], row[6]): row[7:] for row in csv_rows(points_of(RESULTS))}
    assert set(found) == {
        ("standard", "validation"),
        ("embed", "validation"),
        ("1", "validation"),
        ("3", "validation"),
        ("3", "test"),
    }
    assert found["3", "validation"] == pytest.approx((0.8, stdev([0.9, 0.7]), 2))
    assert found["1", "validation"] == pytest.approx((0.6, 0.0, 1))


def test_the_plot_has_a_curve_a_split_and_a_level_for_the_system_without_rapt():
    (panel,) = panels(points_of(RESULTS))
    validation, test, level = panel.curves
    assert panel.ticks == {0.0: "embed", 1.0: "1", 3.0: "3"}
    assert validation.x == [0.0, 1.0, 3.0]
    assert validation.y == pytest.approx([50, 60, 80])
    assert test.x == [3.0]
    assert level.level
    assert level.y == pytest.approx([40])


def test_a_run_that_is_no_sweep_is_refused():
    with pytest.raises(ConfigError, match="no system of this run has RAPT"):
        points_of(RESULTS[-1:])
    with pytest.raises(ConfigError, match="systems one and wide both have max_layer 1"):
        points_of([*RESULTS, result("wide", 1, 0.6, rapt(max_layer=1, step_size=1.5))])
    with pytest.raises(ConfigError, match="system one has RAPT with different values"):
        points_of([*RESULTS, result("one", 2, 0.6, rapt(max_layer=2))])
