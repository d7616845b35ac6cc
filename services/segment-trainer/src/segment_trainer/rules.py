"""What a firm does without a model: the naive rule, a hiatus, RFM cells.

Each is given its best: rates and thresholds are learnt from the same customers as the models are.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from segment_trainer.examples import Examples, Rows
from segmentation import scoring
from segmentation.features import Numbers

_GROUPS: Final = 20
_QUINTILES: Final = 5
PRIOR: Final = 10.0
"""So many customers of the average are added to each group."""
_THRESHOLDS: Final = (14, 30, 45, 60, 90, 120, 150, 180, 240, 300, 365, 545, 730, 10_000)


def past_revenue(examples: Examples) -> Numbers:
    """Net revenue of the past year, or of as much of it as there is, scaled to the horizon."""
    return scoring.past_revenue(examples.features, examples.history_days, examples.question.horizon_days)


def _rates(groups: Rows, number: int, values: Numbers) -> Numbers:
    """The mean of each group, drawn a little towards the mean of all."""
    sums = np.bincount(groups, values, minlength=number)
    counts = np.bincount(groups, minlength=number)
    rates: Numbers = (sums + PRIOR * values.mean()) / (counts + PRIOR)
    return rates


@dataclass(frozen=True, slots=True)
class Naive:
    """Recency decides who is lost; the past goes on."""

    edges: Numbers
    rates: Numbers

    @classmethod
    def fit(cls, examples: Examples) -> "Naive":
        recency = examples.column("recency_days")
        edges = np.unique(np.quantile(recency, np.arange(1, _GROUPS) / _GROUPS))
        groups = np.searchsorted(edges, recency)
        return cls(edges, _rates(groups, len(edges) + 1, examples.churned.astype(np.float64)))

    def churn(self, examples: Examples) -> Numbers:
        return self.rates[np.searchsorted(self.edges, examples.column("recency_days"))]

    def value(self, examples: Examples) -> Numbers:
        return past_revenue(examples)


@dataclass(frozen=True, slots=True)
class Hiatus:
    """Whoever is silent for longer than a threshold is lost and brings nothing; the others go on."""

    lost_after_days: float
    worthless_after_days: float
    rates: tuple[float, float]
    """Of churn: of those within the threshold, and of those beyond it."""

    @classmethod
    def fit(cls, examples: Examples) -> "Hiatus":
        recency, churned, past = examples.column("recency_days"), examples.churned, past_revenue(examples)
        lost = min(_THRESHOLDS, key=lambda days: float(np.mean((recency > days) != churned)))
        worthless = min(
            _THRESHOLDS, key=lambda days: float(np.abs(np.where(recency > days, 0, past) - examples.value).mean())
        )
        within, beyond = _rates((recency > lost).astype(np.intp), 2, churned.astype(np.float64))
        return cls(lost, worthless, (float(within), float(beyond)))

    def churn(self, examples: Examples) -> Numbers:
        within, beyond = self.rates
        return np.where(examples.column("recency_days") > self.lost_after_days, beyond, within)

    def value(self, examples: Examples) -> Numbers:
        silent = examples.column("recency_days") > self.worthless_after_days
        return np.where(silent, 0.0, past_revenue(examples))


@dataclass(frozen=True, slots=True)
class RecencyFrequencyMoney:
    """RFM quintiles: 125 cells, each with the churn rate and the mean value of its customers."""

    edges: tuple[Numbers, Numbers, Numbers]
    churn_rates: Numbers
    values: Numbers

    @classmethod
    def fit(cls, examples: Examples) -> "RecencyFrequencyMoney":
        shares = np.arange(1, _QUINTILES) / _QUINTILES
        recency, frequency, money = (np.quantile(each, shares) for each in _rfm(examples))
        edges = (recency, frequency, money)
        cells, number = _cells(edges, examples), _QUINTILES**3
        return cls(
            edges,
            _rates(cells, number, examples.churned.astype(np.float64)),
            _rates(cells, number, examples.value),
        )

    def cells(self, examples: Examples) -> tuple[Rows, int]:
        """The cell of each, and how many there are."""
        return _cells(self.edges, examples), len(self.values)

    def churn(self, examples: Examples) -> Numbers:
        return self.churn_rates[_cells(self.edges, examples)]

    def value(self, examples: Examples) -> Numbers:
        return self.values[_cells(self.edges, examples)]


def _rfm(examples: Examples) -> tuple[Numbers, Numbers, Numbers]:
    return examples.column("recency_days"), examples.column("order_days"), examples.column("net_365d")


def _cells(edges: tuple[Numbers, Numbers, Numbers], examples: Examples) -> Rows:
    cells = np.zeros(len(examples), dtype=np.intp)
    for own, values in zip(edges, _rfm(examples), strict=True):
        cells = cells * _QUINTILES + np.searchsorted(own, values)
    return cells
