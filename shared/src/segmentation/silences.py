"""How likely a customer's silence is to last: BG/NBD, of which only elementary functions are needed here.

Fader, Hardie and Lee (2005), "Counting your customers" the easy way. A customer has `repeats` order days after the
first, the last of them `span` after the first, and was looked at for `age`: all from the first order on, in weeks.
While alive it orders at a rate that is Gamma(r, alpha) over customers, and after each order it is lost with a chance
that is Beta(a, b). Law: both probabilities depend on the customer's own row alone, to the last bit.
"""

from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct

from segmentation.features import COLUMNS, Numbers

DAYS_A_WEEK: Final = 7.0
NUMBER: Final = 2
"""Of columns that `columns` gives."""
_STEEPEST: Final = 700.0


class Past(NamedTuple):
    """What it looks at, a row a customer."""

    repeats: Numbers
    span: Numbers
    age: Numbers

    @classmethod
    def of(cls, features: Numbers) -> "Past":
        recency, tenure, order_days = (
            np.ascontiguousarray(features[:, COLUMNS[name]]) for name in ("recency_days", "tenure_days", "order_days")
        )
        return cls(
            np.maximum(order_days - 1, 0.0), np.maximum(tenure - recency, 0.0) / DAYS_A_WEEK, tenure / DAYS_A_WEEK
        )


class Silence(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of BG/NBD."""

    r: float
    alpha: float
    a: float
    b: float

    def alive(self, past: Past) -> Numbers:
        """The probability that a customer is not lost."""
        repeats, span, age = past
        odds = (self.r + repeats) * (np.log(self.alpha + age) - np.log(self.alpha + span))
        odds += np.log(self.a) - np.log(self.b + np.maximum(repeats, 1) - 1)
        return np.where(repeats > 0, 1 / (1 + np.exp(np.minimum(odds, _STEEPEST))), 1.0)

    def lasting(self, past: Past, weeks: float) -> Numbers:
        """The probability of no order in the weeks to come."""
        silent = ((self.alpha + past.age) / (self.alpha + past.age + weeks)) ** (self.r + past.repeats)
        found: Numbers = 1 - self.alive(past) * (1 - silent)
        return found

    def columns(self, features: Numbers, horizon_days: int) -> Numbers:
        """Both, as two more columns beside the features."""
        past = Past.of(features)
        return np.column_stack([self.lasting(past, horizon_days / DAYS_A_WEEK), self.alive(past)])
