"""What a model says of customers, as it is kept and shown; and when the danger of losing one is worth a warning.

Laws: a warning follows from one day's facts alone, never from what was warned of before; what is kept, shown and
compared is one and the same number: probabilities in whole percents, money in minor units.

Churn warning    where a model knows the customer: its churn probability is at least `warn_from`, and the customer is
                 not yet dormant or lost (new, active, won back or at risk); otherwise: the customer is at risk.

Whole percents, since a model is no surer than that, and an answer that changed in its tenth digit every day would have
to be kept and fetched again every day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from segmentation.drivers import Driver
from segmentation.features import FeatureTable, features
from segmentation.metrics import BucketTable, Column
from segmentation.scoring import Model
from segmentation.segments import STAGES, Lifecycle
from segmentation.toml_tables import TomlTable

CHURN_PROBABILITY: Final = "churn_probability"
"""The fact's name in conditions."""
WARNED: Final = ("yes", "no")
_PERCENT: Final = 100
_WITHIN_REACH: Final = tuple(
    STAGES.index(stage) for stage in (Lifecycle.NEW, Lifecycle.ACTIVE, Lifecycle.WON_BACK, Lifecycle.AT_RISK)
)


@dataclass(frozen=True, slots=True)
class RiskRules:
    """The policy's part of it."""

    warn_from: Fraction = Fraction(7, 10)


STANDARD_RISK: Final = RiskRules()


class Outlook(Struct, frozen=True):
    """What a model says of a customer."""

    churn_probability: float
    behaviour: str
    """Code of the segment that it puts the customer in."""
    confidence: float


@dataclass(frozen=True, slots=True)
class Outlooks:
    """What a model says of some customers; where it does not know one, the other columns mean nothing."""

    model: Model
    features: FeatureTable
    known: npt.NDArray[np.bool_]
    churn_percent: npt.NDArray[np.int64]
    segment: npt.NDArray[np.intp]
    """Positions in the model's segments."""
    confidence_percent: npt.NDArray[np.int64]
    expected: Column
    """Net revenue of the model's horizon, in minor units; Python's integers."""

    def outlook(self, row: int) -> Outlook | None:
        """Of one customer; None where the model does not know it."""
        if not self.known[row]:
            return None
        return Outlook(
            int(self.churn_percent[row]) / _PERCENT,
            self.model.segments[int(self.segment[row])].code,
            int(self.confidence_percent[row]) / _PERCENT,
        )

    def drivers(self, row: int) -> Sequence[Driver]:
        """The main reasons of one customer's churn probability, the strongest first."""
        return self.model.drivers(self.features, row)

    @property
    def churn(self) -> tuple[Column, Column]:
        """The churn probability exactly: numerators, and denominators that are 0 where it is unknown."""
        return self.churn_percent, np.where(self.known, _PERCENT, 0)


def look_ahead(model: Model | None, table: BucketTable, as_of: date, *, decimals: int) -> Outlooks | None:
    """What a model says of some customers as of a day; None without one. `decimals` are the base currency's."""
    if model is None:
        return None
    known_of = features(table, as_of, decimals=decimals)
    scores = model.score(known_of)
    return Outlooks(
        model,
        known_of,
        scores.knows,
        _percents(scores.churn_probability),
        scores.segment,
        _percents(scores.confidence),
        np.array([round(value * 10**decimals) for value in scores.expected_value.tolist()], dtype=object),
    )


def _percents(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.asarray(np.rint(shares * _PERCENT), dtype=np.int64)


def warned(stages: Column, outlooks: Outlooks | None, rules: RiskRules) -> npt.NDArray[np.bool_]:
    """Of whom there is a churn warning; `stages` are positions in STAGES."""
    at_risk: npt.NDArray[np.bool_] = stages == STAGES.index(Lifecycle.AT_RISK)
    if outlooks is None:
        return at_risk
    likely = outlooks.churn_percent * rules.warn_from.denominator >= _PERCENT * rules.warn_from.numerator
    return np.asarray(np.where(outlooks.known, likely & np.isin(stages, _WITHIN_REACH), at_risk), dtype=np.bool_)


def parse_risk(table: TomlTable) -> RiskRules:
    """Reads the section [risk], which may be left out; raises PolicyInvalid with the field."""
    rules = RiskRules(warn_from=table.share("warn_from", "0.7"))
    table.finish()
    return rules
