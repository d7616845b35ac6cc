"""How good forecasts are: measures, and intervals for them by bootstrap.

Laws: a measure that is not defined (one class only, everyone alike) is None; every resample is drawn by a fixed seed
over customers, the same for every method, so differences are paired; ties are ranked by their mean.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from scipy.stats import rankdata

from segment_trainer.examples import Rows, Truths
from segmentation.features import Numbers

RESAMPLES: Final = 400
MOST_RESAMPLED: Final = 10_000
"""Larger data are resampled to so many, and the interval is narrowed by the root of the ratio (m out of n)."""
CALIBRATION_BINS: Final = 10
_DECILES: Final = 10
_CERTAIN: Final = 1e-6

Figures = Mapping[str, float | None]


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    figure: float | None
    low: float | None
    high: float | None


class Decile(NamedTuple):
    """A tenth of the customers, by what was foretold of them; the first is the highest."""

    customers: int
    foretold_mean: float
    actual_mean: float
    actual_total: float


class CalibrationBin(NamedTuple):
    """Customers of like probability."""

    customers: int
    foretold: float
    actual: float


def churn_figures(churned: Truths, probability: Numbers) -> Figures:
    """AUROC, log-loss, Brier, expected calibration error, and the churn rate of the riskiest tenth / that of all."""
    truth, bounded = churned.astype(np.float64), np.clip(probability, _CERTAIN, 1 - _CERTAIN)
    return {
        "auroc": auroc(churned, probability),
        "log_loss": -float(np.mean(truth * np.log(bounded) + (1 - truth) * np.log(1 - bounded))),
        "brier": float(np.mean((probability - truth) ** 2)),
        "calibration_error": sum(
            each.customers * abs(each.foretold - each.actual) for each in calibration(churned, probability)
        )
        / len(truth),
        "lift_top_decile": _lift(truth, probability),
    }


def value_figures(value: Numbers, foretold: Numbers, *, ranks: Numbers | None = None) -> Figures:
    """MAE, RMSE, Spearman, what was foretold in all / what came, revenue of the best tenth / of an average one.

    Args:
        value: What came.
        foretold: What was foretold.
        ranks: Those of the value, where several forecasts of it are measured.
    """
    total = float(value.sum())
    return {
        "mae": float(np.abs(foretold - value).mean()),
        "rmse": float(np.sqrt(np.mean((foretold - value) ** 2))),
        "spearman": _correlation(rankdata(value) if ranks is None else ranks, rankdata(foretold)),
        "total_ratio": float(foretold.sum()) / total if total > 0 else None,
        "lift_top_decile": _lift(value, foretold),
    }


def auroc(truth: Truths, score: Numbers) -> float | None:
    """The chance that one of the lost has a higher score than one of the kept; a tie is half."""
    lost = int(truth.sum())
    kept = len(truth) - lost
    if not lost or not kept:
        return None
    return (float(rankdata(score)[truth].sum()) - lost * (lost + 1) / 2) / (lost * kept)


def spearman(one: Numbers, other: Numbers) -> float | None:
    """The correlation of ranks."""
    return _correlation(rankdata(one), rankdata(other))


def _correlation(one: Numbers, other: Numbers) -> float | None:
    both = np.stack([one, other])
    both -= both.mean(axis=1, keepdims=True)
    squares = (both**2).sum(axis=1)
    return float((both[0] * both[1]).sum() / np.sqrt(squares.prod())) if squares.all() else None


def calibration(churned: Truths, probability: Numbers) -> list[CalibrationBin]:
    """Ten bins at the deciles of the probability; equal probabilities stay together, so there may be fewer."""
    edges = np.unique(np.quantile(probability, np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS))
    bins = np.searchsorted(edges, probability)
    counts = np.bincount(bins, minlength=len(edges) + 1)
    foretold, actual = np.bincount(bins, probability), np.bincount(bins, churned)
    return [
        CalibrationBin(int(counts[each]), float(foretold[each] / counts[each]), float(actual[each] / counts[each]))
        for each in np.flatnonzero(counts)
    ]


def deciles(value: Numbers, foretold: Numbers) -> list[Decile]:
    return [
        Decile(len(rows), float(foretold[rows].mean()), float(value[rows].mean()), float(value[rows].sum()))
        for rows in np.array_split(_best_first(foretold), _DECILES)
        if len(rows)
    ]


def _best_first(foretold: Numbers) -> Rows:
    return np.argsort(-foretold, kind="stable")


def _lift(truth: Numbers, score: Numbers) -> float | None:
    mean = float(truth.mean())
    best = _best_first(score)[: max(len(score) // _DECILES, 1)]
    return float(truth[best].mean()) / mean if mean > 0 else None


def intervals(customers: int, measure: Callable[[Rows], Figures]) -> dict[str, Interval]:
    """Each figure of all customers, with the 95 % interval over resamples of them."""
    everyone = measure(np.arange(customers))
    drawn = min(customers, MOST_RESAMPLED)
    chance = np.random.default_rng(0)
    resampled = [measure(chance.integers(0, customers, drawn)) for _ in range(RESAMPLES)]
    narrowed = float(np.sqrt(drawn / customers))
    found: dict[str, Interval] = {}
    for name, figure in everyone.items():
        seen = [each for figures in resampled if (each := figures[name]) is not None]
        if figure is None or len(seen) < RESAMPLES // 2:
            found[name] = Interval(figure, None, None)
            continue
        low, high = (figure + narrowed * (float(each) - figure) for each in np.quantile(seen, (0.025, 0.975)))
        found[name] = Interval(figure, low, high)
    return found
