"""Measures against scikit-learn and SciPy, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import brier_score_loss, log_loss, mean_absolute_error, roc_auc_score, root_mean_squared_error

from segment_trainer import measures

CHANCE = np.random.default_rng(1)
PROBABILITY = np.round(CHANCE.beta(1, 2, 500), 2)
CHURNED = CHANCE.random(500) < PROBABILITY
VALUE = np.round(CHANCE.lognormal(3, 2, 500) * (CHANCE.random(500) < 0.6), 1)
FORETOLD = np.round(VALUE * CHANCE.lognormal(0, 1, 500), 0)


def test_churn_is_measured_as_scikit_learn_does():
    found = measures.churn_figures(CHURNED, PROBABILITY)
    bounded = np.clip(PROBABILITY, 1e-6, 1 - 1e-6)
    assert found["auroc"] == pytest.approx(roc_auc_score(CHURNED, PROBABILITY))
    assert found["log_loss"] == pytest.approx(log_loss(CHURNED, bounded))
    assert found["brier"] == pytest.approx(brier_score_loss(CHURNED, PROBABILITY))


def test_value_is_measured_as_scikit_learn_and_scipy_do():
    found = measures.value_figures(VALUE, FORETOLD)
    assert found["mae"] == pytest.approx(mean_absolute_error(VALUE, FORETOLD))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(VALUE, FORETOLD))
    assert found["spearman"] == pytest.approx(spearmanr(VALUE, FORETOLD).statistic)
    assert found["total_ratio"] == pytest.approx(FORETOLD.sum() / VALUE.sum())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=2, max_size=30))
def test_auroc_is_the_chance_of_the_right_order(pairs):
    churned, score = np.array([each[0] for each in pairs]), np.array([each[1] for each in pairs], dtype=float)
    wins = [(a > b) + (a == b) / 2 for a in score[churned] for b in score[~churned]]
    assert measures.auroc(churned, score) == (pytest.approx(np.mean(wins)) if wins else None)


def test_one_class_has_no_auroc_and_everyone_alike_no_rank():
    nobody = np.zeros(10, dtype=bool)
    found = measures.churn_figures(nobody, np.full(10, 0.5))
    assert (found["auroc"], found["lift_top_decile"]) == (None, None)
    assert found["brier"] == 0.25
    assert measures.value_figures(np.zeros(10), np.zeros(10))["spearman"] is None
    assert measures.value_figures(np.zeros(10), np.zeros(10))["total_ratio"] is None


def test_calibration_error_by_hand():
    probability = np.repeat([0.2, 0.8], 50)
    churned = np.tile([True] + [False] * 9, 10)
    assert [each.customers for each in measures.calibration(churned, probability)] == [50, 50]
    assert measures.churn_figures(churned, probability)["calibration_error"] == pytest.approx((0.1 + 0.7) / 2)


def test_tenths_go_from_the_highest_forecast_to_the_lowest():
    tenths = measures.deciles(np.arange(100.0), np.arange(100.0))
    assert [each.customers for each in tenths] == [10] * 10
    assert (tenths[0].actual_mean, tenths[-1].actual_mean) == (94.5, 4.5)
    assert sum(each.actual_total for each in tenths) == np.arange(100.0).sum()


def test_lift_by_hand():
    assert measures.value_figures(np.arange(20.0), np.arange(20.0))["lift_top_decile"] == pytest.approx(18.5 / 9.5)


def bounds(found: measures.Interval) -> tuple[float, float, float]:
    figure, low, high = found
    assert figure is not None
    assert low is not None
    assert high is not None
    return figure, low, high


def test_an_interval_holds_its_figure_and_is_the_same_each_time():
    def mean(rows):
        return {"mean": float(VALUE[rows].mean()), "undefined": None}

    found = measures.intervals(len(VALUE), mean)
    figure, low, high = bounds(found["mean"])
    assert low < figure < high
    # the normal approximation, roughly
    assert high - low == pytest.approx(2 * 1.96 * VALUE.std() / np.sqrt(len(VALUE)), rel=0.3)
    assert found["undefined"] == (None, None, None)
    assert measures.intervals(len(VALUE), mean) == found


def test_large_data_are_resampled_in_part_with_the_interval_of_the_whole(monkeypatch):
    def mean(rows):
        return {"mean": float(VALUE[rows].mean())}

    figure, low, high = bounds(measures.intervals(500, mean)["mean"])
    monkeypatch.setattr(measures, "MOST_RESAMPLED", 125)
    same, lower, higher = bounds(measures.intervals(500, mean)["mean"])
    assert same == figure
    assert higher - lower == pytest.approx(high - low, rel=0.3)
