"""Our models: the probability of churn, and what a customer will bring.

Laws: a model is arrays of numbers (bin edges, trees, coefficients, the parameters of the classics), so that it can be
written down; trained twice on the same examples it is the same; it sees features and the training examples' outcomes,
nothing else. The classics are fitted inside, on the training examples' past, and their figures are features.

Value: trees do not extrapolate, and a few large customers make most of the revenue. So the trees foretell a ratio:
value divided by a scale of the customer's own, half of it the classics' expectation and half its past revenue. There
are two ensembles: one of the median of the ratio, weighted by the scale, so that what is minimised is the absolute
error in money; one of the mean of the ratio's cube root, which tells the many small customers apart where their median
is nothing. The larger of the two counts. It is no expectation: summed up over customers it is too low.

Churn: the mean log-odds of a logistic regression and of trees, then calibrated by a logistic regression (Platt) on
log-odds that were foretold out of fold.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from segment_trainer.classics import Classic, Past
from segment_trainer.examples import Examples, Truths
from segment_trainer.rules import past_revenue
from segmentation.features import Numbers

Codes = npt.NDArray[np.uint8]

MOST_TRAINED_ON: Final = 100_000
"""Customers, chosen by a hash; more change little and take long."""
_BINS: Final = 64
_TREES: Final = {
    "max_iter": 120,
    "learning_rate": 0.05,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 40,
    "l2_regularization": 5.0,
    "max_features": 0.4,
    "early_stopping": False,
    "random_state": 0,
}
_LOGISTIC_C: Final = 0.01
_SOLVER: Final = "newton-cholesky"
_CALIBRATION_FOLDS: Final = 3
_SMALLEST: Final = 1e-4
"""No probability is nearer to 0 or 1."""
_FLOOR_SHARE: Final = 0.2
_TIE: Final = 0.05
_CALIBRATION_C: Final = 100.0


@dataclass(frozen=True, slots=True)
class Bins:
    """Each column cut into at most 64 bins at quantiles: what the trees look at."""

    edges: tuple[Numbers, ...]

    @classmethod
    def fit(cls, matrix: Numbers) -> "Bins":
        shares = np.arange(1, _BINS) / _BINS
        return cls(tuple(np.unique(np.quantile(column, shares)) for column in matrix.T))

    def codes(self, matrix: Numbers) -> Numbers:
        """Per value the number of edges at or below it."""
        return np.column_stack(
            [np.searchsorted(edges, column, side="right") for edges, column in zip(self.edges, matrix.T, strict=True)]
        ).astype(np.float64)


def _matrix(examples: Examples, classic: Classic) -> Numbers:
    """The features, and what the classics make of the past."""
    past = Past.of(examples)
    orders, amount = classic.orders.orders(past, classic.weeks), classic.amount(past)
    return np.column_stack(
        [examples.features, orders, amount, orders * amount, classic.orders.silence(past, classic.weeks)]
    )


def _logs(matrix: Numbers) -> Numbers:
    return np.sign(matrix) * np.log1p(np.abs(matrix))


def _log_odds(probabilities: Numbers) -> Numbers:
    bounded = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)
    return np.log(bounded / (1 - bounded))


@dataclass(frozen=True, slots=True)
class ValueModel:
    """What a customer brings in the horizon."""

    classic: Classic
    bins: Bins
    floor: float
    """Money; keeps the scale of the smallest from 0."""
    median_ratio: Any
    root_ratio: Any
    """Trees of scikit-learn over the bins' codes."""

    @classmethod
    def fit(cls, examples: Examples) -> "ValueModel":
        chosen = examples.sample(MOST_TRAINED_ON)
        classic = Classic.fit(chosen.latest())
        matrix = _matrix(chosen, classic)
        bins = Bins.fit(matrix)
        brought = chosen.column("day_value_mean")
        floor = max(_FLOOR_SHARE * float(np.median(brought[brought > 0])) if (brought > 0).any() else 0.0, 1.0)
        scale = _scale(chosen, classic, floor)
        ratio, codes = chosen.value / scale, bins.codes(matrix)
        with _threads(chosen):
            median = HistGradientBoostingRegressor(loss="absolute_error", **_TREES)
            median.fit(codes, _untied(ratio), sample_weight=scale / scale.mean())
            root = HistGradientBoostingRegressor(**_TREES)
            weight = np.cbrt(scale)
            root.fit(codes, np.cbrt(ratio), sample_weight=weight / weight.mean())
        return cls(classic, bins, floor, median, root)

    def value(self, examples: Examples) -> Numbers:
        codes = self.bins.codes(_matrix(examples, self.classic))
        with _threads(examples):
            ratio = np.maximum(self.median_ratio.predict(codes), self.root_ratio.predict(codes) ** 3)
        found: Numbers = ratio * _scale(examples, self.classic, self.floor)
        return found


def _untied(ratio: Numbers) -> Numbers:
    # Where most bring exactly nothing the gradients of the absolute error all balance there, and no tree would grow.
    tiny = _TIE * np.random.default_rng(0).random(len(ratio))
    return np.where(ratio == 0, -tiny, ratio)


def _scale(examples: Examples, classic: Classic, floor: float) -> Numbers:
    return (classic.value(examples) + np.maximum(past_revenue(examples), 0)) / 2 + floor


def _threads(examples: Examples) -> Any:  # noqa: ANN401 - a context of a library without types
    # Few customers are done before threads have met, and threads that wait take the time of others.
    return threadpool_limits(1 if len(examples) < MOST_TRAINED_ON // 2 else None)


@dataclass(frozen=True, slots=True)
class _Uncalibrated:
    classic: Classic
    centre: Numbers
    spread: Numbers
    logistic: Any
    bins: Bins
    trees: Any

    @classmethod
    def fit(cls, examples: Examples) -> "_Uncalibrated":
        classic = Classic.fit(examples.latest())
        matrix = _matrix(examples, classic)
        logs, bins = _logs(matrix), Bins.fit(matrix)
        centre, spread = logs.mean(axis=0), logs.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        logistic = LogisticRegression(C=_LOGISTIC_C, solver=_SOLVER)
        with _threads(examples):
            logistic.fit((logs - centre) / spread, examples.churned)
            trees = HistGradientBoostingClassifier(**_TREES).fit(bins.codes(matrix), examples.churned)
        return cls(classic, centre, spread, logistic, bins, trees)

    def log_odds(self, examples: Examples) -> Numbers:
        matrix = _matrix(examples, self.classic)
        with _threads(examples):
            linear = self.logistic.decision_function((_logs(matrix) - self.centre) / self.spread)
            grown = self.trees.decision_function(self.bins.codes(matrix))
        mean: Numbers = (linear + grown) / 2
        return mean


@dataclass(frozen=True, slots=True)
class ChurnModel:
    """The probability of no order in the horizon."""

    model: _Uncalibrated | None
    """None where everyone, or nobody, was lost: then the rate is all there is."""
    slope: float
    intercept: float

    @classmethod
    def fit(cls, examples: Examples) -> "ChurnModel":
        chosen = examples.sample(MOST_TRAINED_ON)
        folds = chosen.folds(_CALIBRATION_FOLDS, seed=7)
        if not all(_both(chosen.churned[folds != fold]) for fold in range(_CALIBRATION_FOLDS)):
            rate = (float(chosen.churned.sum()) + 0.5) / (len(chosen) + 1)
            return cls(None, 0.0, float(np.log(rate / (1 - rate))))
        foretold = np.empty(len(chosen))
        for fold in range(_CALIBRATION_FOLDS):
            if (folds == fold).any():
                rest = _Uncalibrated.fit(chosen.at(folds != fold))
                foretold[folds == fold] = rest.log_odds(chosen.at(folds == fold))
        platt = LogisticRegression(C=_CALIBRATION_C, solver=_SOLVER).fit(foretold[:, None], chosen.churned)
        return cls(_Uncalibrated.fit(chosen), float(platt.coef_[0, 0]), float(platt.intercept_[0]))

    def churn(self, examples: Examples) -> Numbers:
        log_odds = np.zeros(len(examples)) if self.model is None else self.model.log_odds(examples)
        probability = 1 / (1 + np.exp(-(self.slope * log_odds + self.intercept)))
        return np.clip(probability, _SMALLEST, 1 - _SMALLEST)


def _both(truths: Truths) -> bool:
    return 1 < int(truths.sum()) < len(truths) - 1
