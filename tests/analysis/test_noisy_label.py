"""Figure 1 of SMART against its closed forms."""

import math

import pytest
import torch

from mtdnn.analysis.noisy_label import HEADER, composite_losses, margins, panel, sample, table
from mtdnn.errors import ConfigError

EPS, WEIGHT = 0.7, 2.0


def h(margin):
    """The logistic loss of a margin."""
    return math.log1p(math.exp(-margin))


def sigmoid(score):
    return 1 / (1 + math.exp(-score))


@pytest.mark.parametrize("m", [-3.0, -0.9, -0.2, 0.0, 0.4, 2.5])
def test_each_loss_is_its_closed_form(m):
    losses = composite_losses(torch.tensor([m], dtype=torch.float64), radius=EPS, weight=WEIGHT)
    found = {name: values.item() for name, values in losses.items()}
    nearer_zero = abs(m) - EPS  # where the sigmoid is steeper, and where f f~ is smallest
    assert found["clean"] == pytest.approx(h(m), abs=1e-12)
    assert found["adversarial"] == pytest.approx(h(m) + WEIGHT * h(m - EPS), abs=1e-12)
    assert found["smoothness"] == pytest.approx(h(m) + WEIGHT * h(abs(m) * nearer_zero), abs=1e-12)
    kl = EPS * abs(sigmoid(abs(m)) - sigmoid(nearer_zero))
    assert found["symmetric_kl"] == pytest.approx(h(m) + WEIGHT * kl, abs=1e-12)


def test_the_worst_change_of_a_linear_scorer_moves_its_margin_by_epsilon_times_the_l1_norm():
    # f(x) = w . x with ||w||_1 = 1: every corner of the l_inf ball around x is tried.
    weights, x = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64), torch.tensor([1.0, 2.0, -1.5])
    corners = torch.cartesian_prod(*[torch.tensor([-EPS, EPS], dtype=torch.float64)] * 3)
    worst = max(h(score) for score in ((x + corners) @ weights).tolist())
    margin_U = (x.double() @ weights).reshape(1)
    losses = composite_losses(margin_U, radius=EPS)
    assert (losses["adversarial"] - losses["clean"]).item() == pytest.approx(worst, abs=1e-12)


def test_no_change_inside_the_interval_is_worse_than_the_one_that_counts():
    margin_U = margins(limit=3.0, step=0.5)
    ends = composite_losses(margin_U, radius=EPS)
    for share in torch.linspace(0, 1, 11).tolist():
        for name, inside in composite_losses(margin_U, radius=share * EPS).items():
            assert (inside <= ends[name] + 1e-12).all(), name


def test_a_wrong_label_costs_more_and_more_under_adversarial_training_and_nothing_under_smoothness():
    wrong = composite_losses(torch.tensor([-20.0], dtype=torch.float64), radius=EPS)
    assert (wrong["adversarial"] - wrong["clean"]).item() == pytest.approx(20 + EPS, abs=1e-8)
    for name in ("smoothness", "symmetric_kl"):
        assert (wrong[name] - wrong["clean"]).item() == pytest.approx(0, abs=1e-7), name


def test_margins_are_even_and_symmetric_and_hold_zero():
    assert margins(limit=1.0, step=0.25).tolist() == [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]
    assert len(margins(limit=0.3, step=0.1)) == 7


@pytest.mark.parametrize("wrong", [{"step": 0.0}, {"limit": -1.0}, {"step": 1e-9}, {"step": math.nan}])
def test_margins_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="above 0"):
        margins(**wrong)


@pytest.mark.parametrize("wrong", [{"radius": -0.1}, {"weight": math.nan}])
def test_a_negative_radius_or_weight_is_refused(wrong):
    with pytest.raises(ConfigError, match="at least 0"):
        composite_losses(margins(), **wrong)


def test_the_table_has_a_column_a_loss_and_the_plot_a_curve():
    margin_U = margins(limit=1.0, step=0.01)
    rows = table(margin_U, composite_losses(margin_U))
    assert {len(row) for row in rows} == {len(HEADER)}
    assert [row[0] for row in sample(rows)] == [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]
    assert [len(curve.y) for curve in panel(rows).curves] == [len(rows)] * 4
    assert sample(rows[:2]) == rows[:2]
