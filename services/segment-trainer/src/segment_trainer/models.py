"""Our models: the probability of churn, and what a customer will bring.

Laws: what is fitted here becomes the parts of a document, and only `segmentation.scoring` foretells by them: what is
evaluated is what is published. Trained twice on the same examples it is the same; it sees features and the training
examples' outcomes, nothing else.

Value: trees do not extrapolate, and a few large customers make most of the revenue. So the trees foretell a ratio:
value divided by a scale of the customer's own, its past revenue and a floor. There are two ensembles: one of the median
of the ratio, weighted by the scale, so that what is minimised is the absolute error in money; one of the mean of the
ratio's cube root, which tells the many small customers apart where their median is nothing. The larger of the two
counts. Summed up over customers that is too low: one factor, found on forecasts out of fold, makes the sum right.

Beside the features stand two probabilities of BG/NBD, fitted on the training examples' past: that a customer is alive,
and that it stays silent. Churn: the mean log-odds of a logistic regression and of trees, then calibrated by a logistic
regression (Platt) on log-odds that were foretold out of fold.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from segment_trainer.classics import Classic
from segment_trainer.examples import Examples, Rows, Truths
from segment_trainer.sources import Say
from segmentation.features import Numbers
from segmentation.forests import MOST_BINS, MOST_LEAVES, Bins, Forest, Tree
from segmentation.scoring import Churn, Forecaster, Forecasts, Linear, Value, logs, own_scale, widened
from segmentation.silences import Silence

MOST_TRAINED_ON: Final = 100_000
"""Examples, chosen by a hash of the customer; more change little and take long."""
_AT_ONCE: Final = 50_000
"""Customers that are foretold at a time: the columns they need are several times their features."""
_TREES: Final = {
    "max_iter": 120,
    "learning_rate": 0.05,
    "max_leaf_nodes": MOST_LEAVES,
    "min_samples_leaf": 40,
    "l2_regularization": 5.0,
    "max_features": 0.4,
    "early_stopping": False,
    "random_state": 0,
}
_LOGISTIC_C: Final = 0.01
_SOLVER: Final = "newton-cholesky"
_CALIBRATION_FOLDS: Final = 3
_FLOOR_SHARE: Final = 0.2
_TIE: Final = 0.05
_CALIBRATION_C: Final = 100.0
_NO_SPREAD: Final = 1e-9
_FACTORS: Final = (0.5, 4.0)
"""Beyond these it is not the median that foretells too little: the examples are too few, or of one giant."""


def fit_bins(features: Numbers) -> Bins:
    """Each column cut at quantiles into at most 64 bins."""
    shares = np.arange(1, MOST_BINS) / MOST_BINS
    return Bins(tuple(np.unique(np.quantile(column, shares)) for column in features.T))


@dataclass(frozen=True, slots=True)
class Fitted:
    """What scikit-learn made of examples; None of churn where everyone, or nobody, was lost."""

    silence: Silence | None
    bins: Bins
    horizon_days: int
    floor: float
    median: Any
    root: Any
    """Trees of scikit-learn over the bins' codes."""
    centre: Numbers
    spread: Numbers
    logistic: Any | None
    trees: Any | None

    @classmethod
    def fit(cls, examples: Examples, silence: Silence | None) -> "Fitted":
        columns = widened(examples.features, silence, examples.question.horizon_days)
        bins = fit_bins(columns)
        codes = bins.codes(columns).T.astype(np.float64)
        brought = examples.column("day_value_mean")
        floor = max(_FLOOR_SHARE * float(np.median(brought[brought > 0])) if (brought > 0).any() else 0.0, 1.0)
        scale = own_scale(examples.features, examples.history_days, examples.question.horizon_days, floor)
        ratio = examples.value / scale
        rows = logs(columns).T
        centre, spread = rows.mean(axis=0), rows.std(axis=0)
        spread = np.where(spread > _NO_SPREAD, spread, 1.0)
        logistic, trees = None, None
        # Threads that wait for each other take more time than they save, and that of others.
        with threadpool_limits(1):
            median = HistGradientBoostingRegressor(loss="absolute_error", **_TREES)
            median.fit(codes, _untied(ratio), sample_weight=scale / scale.mean())
            root = HistGradientBoostingRegressor(**_TREES)
            weight = np.cbrt(scale)
            root.fit(codes, np.cbrt(ratio), sample_weight=weight / weight.mean())
            if _both(examples.churned):
                logistic = LogisticRegression(C=_LOGISTIC_C, solver=_SOLVER)
                logistic.fit((rows - centre) / spread, examples.churned)
                trees = HistGradientBoostingClassifier(**_TREES).fit(codes, examples.churned)
        horizon_days = examples.question.horizon_days
        return cls(silence, bins, horizon_days, floor, median, root, centre, spread, logistic, trees)

    def churn(self, slope: float, intercept: float) -> Churn:
        """As a document holds it."""
        nothing = np.zeros(len(self.centre))
        linear = Linear(
            centre=self.centre.tolist(),
            spread=self.spread.tolist(),
            coefficients=(nothing if self.logistic is None else self.logistic.coef_[0]).tolist(),
            intercept=0.0 if self.logistic is None else float(self.logistic.intercept_[0]),
        )
        trees = Forest(start=0.0, trees=[]) if self.trees is None else forest_of(self.trees)
        return Churn(linear=linear, trees=trees, slope=slope, intercept=intercept)

    def value(self, factor: float) -> Value:
        """As a document holds it."""
        return Value(floor=self.floor, factor=factor, median=forest_of(self.median), root=forest_of(self.root))

    def forecaster(self, *, slope: float = 1.0, intercept: float = 0.0, factor: float = 1.0) -> Forecaster:
        """What foretells by it."""
        churn, value = self.churn(slope, intercept), self.value(factor)
        return Forecaster(self.bins.edges, churn, value, self.silence, self.horizon_days)


@dataclass(frozen=True, slots=True)
class Learnt:
    """Churn and value, calibrated on forecasts out of fold."""

    fitted: Fitted
    slope: float
    intercept: float
    factor: float
    examples: int
    """So many were learnt from."""

    @classmethod
    def fit(cls, examples: Examples, say: Say = lambda _: None) -> "Learnt":
        chosen = examples.sample(MOST_TRAINED_ON)
        folds = chosen.folds(_CALIBRATION_FOLDS, seed=7)
        # Of the past alone, so that nothing of a fold's outcomes is in it.
        silence = Classic.fit(chosen.latest()).orders.silences
        log_odds, value = _out_of_fold(chosen, folds, silence, say)
        low, high = _FACTORS
        foretold = float(value.sum())
        factor = min(max(float(chosen.value.sum()) / foretold, low), high) if foretold > 0 else 1.0
        if all(_both(chosen.churned[folds != fold]) for fold in range(_CALIBRATION_FOLDS)):
            platt = LogisticRegression(C=_CALIBRATION_C, solver=_SOLVER).fit(log_odds[:, None], chosen.churned)
            slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
        else:
            rate = (float(chosen.churned.sum()) + 0.5) / (len(chosen) + 1)
            slope, intercept = 0.0, float(np.log(rate / (1 - rate)))
        say(f"growing trees, {_CALIBRATION_FOLDS + 1} of {_CALIBRATION_FOLDS + 1} times ...")
        return cls(Fitted.fit(chosen, silence), slope, intercept, factor, len(chosen))

    @property
    def churn(self) -> Churn:
        return self.fitted.churn(self.slope, self.intercept)

    @property
    def value(self) -> Value:
        return self.fitted.value(self.factor)

    def forecast(self, examples: Examples) -> Forecasts:
        """What it foretells, by the code that foretells in the live system."""
        ready = self.fitted.forecaster(slope=self.slope, intercept=self.intercept, factor=self.factor)
        parts = [
            ready.forecast(examples.features[begin : begin + _AT_ONCE], examples.history_days[begin : begin + _AT_ONCE])
            for begin in range(0, max(len(examples), 1), _AT_ONCE)
        ]
        return Forecasts(np.concatenate([each.churn for each in parts]), np.concatenate([each.value for each in parts]))


def _out_of_fold(examples: Examples, folds: Rows, silence: Silence | None, say: Say) -> tuple[Numbers, Numbers]:
    log_odds, value = np.zeros(len(examples)), np.zeros(len(examples))
    for fold in range(_CALIBRATION_FOLDS):
        say(f"growing trees, {fold + 1} of {_CALIBRATION_FOLDS + 1} times ...")
        asked = folds == fold
        if asked.any() and not asked.all():
            some = examples.at(asked)
            ready = Fitted.fit(examples.at(~asked), silence).forecaster()
            log_odds[asked] = ready.log_odds(some.features)
            value[asked] = ready.forecast(some.features, some.history_days).value
    return log_odds, value


def forest_of(trees: Any) -> Forest:  # noqa: ANN401 - of a library without types
    """The trees of scikit-learn as numbers; thresholds between codes become the code on their left."""
    found: list[Tree] = []
    for (predictor,) in trees._predictors:  # noqa: SLF001 - scikit-learn has no other way to its trees
        nodes = predictor.nodes
        leaf = nodes["is_leaf"].astype(np.bool_)
        bins = np.floor(np.where(leaf, 0.0, nodes["num_threshold"])).astype(np.int64)
        found.append(
            Tree(
                feature=np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)).tolist(),
                bin=bins.tolist(),
                left=np.where(leaf, 0, nodes["left"].astype(np.int64)).tolist(),
                right=np.where(leaf, 0, nodes["right"].astype(np.int64)).tolist(),
                value=nodes["value"].tolist(),
            )
        )
    return Forest(start=float(np.ravel(trees._baseline_prediction)[0]), trees=found)  # noqa: SLF001 - likewise


def _untied(ratio: Numbers) -> Numbers:
    # Where most bring exactly nothing the gradients of the absolute error all balance there, and no tree would grow.
    tiny = _TIE * np.random.default_rng(0).random(len(ratio))
    return np.where(ratio == 0, -tiny, ratio)


def _both(truths: Truths) -> bool:
    return 1 < int(truths.sum()) < len(truths) - 1
