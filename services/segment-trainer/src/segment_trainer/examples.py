"""What is known of customers before a cut, and what they did in the horizon after it.

Laws: features rest on what had occurred before the cut, as it was known then: an order cancelled later still stands;
the outcome rests on what had occurred by the end of the horizon. Customers are in the order of their ids, so nothing
depends on the order of a file.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segmentation.features import COLUMNS, Numbers
from segmentation.fields import CustomerId

Truths = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]

FOLDS = 5
_QUARTER = 91


class Question(NamedTuple):
    """What will happen in so many days from a cut on: its first day is the cut itself."""

    cut: date
    horizon_days: int

    @property
    def as_of(self) -> date:
        """The last day that features may know."""
        return self.cut - timedelta(days=1)

    @property
    def end(self) -> date:
        """The first day after the horizon."""
        return self.cut + timedelta(days=self.horizon_days)

    def earlier(self) -> "list[Question]":
        """The same, asked so early that its answer is known at the cut: the latest such cut, and quarters before it.

        A year of quarters: what is learnt in one season alone is wrong in another.
        """
        latest = self.cut - timedelta(days=self.horizon_days)
        return [Question(latest - timedelta(days=_QUARTER * number), self.horizon_days) for number in range(4)]


@dataclass(frozen=True, slots=True)
class Examples:
    """Customers with an order before the cut, a row each."""

    question: Question
    """Of several together, the latest."""
    customer_ids: Sequence[CustomerId]
    features: Numbers
    churned: Truths
    """No order in the horizon."""
    value: Numbers
    """Net revenue in the horizon, in units of the base currency; may be negative."""
    history_days: Numbers
    """From the first day with an event of anyone to the cut."""
    without_orders: int = 0
    """Customers known before the cut who had not ordered: nothing is foretold of them."""

    def __len__(self) -> int:
        return len(self.customer_ids)

    def column(self, name: str) -> Numbers:
        """One feature by name."""
        values: Numbers = self.features[:, COLUMNS[name]]
        return values

    def at(self, rows: Rows | Truths) -> "Examples":
        """Some of them."""
        chosen = np.arange(len(self))[rows]
        ids = [self.customer_ids[row] for row in chosen]
        return Examples(
            self.question, ids, self.features[rows], self.churned[rows], self.value[rows], self.history_days[rows]
        )

    def latest(self) -> "Examples":
        """Those of the latest cut, where several are together."""
        return self.at(self.history_days == self.history_days.max()) if len(self) else self

    @classmethod
    def together(cls, several: "Sequence[Examples]") -> "Examples":
        """Those of several cuts, the latest first; a customer may be there more than once."""
        return cls(
            several[0].question,
            [customer_id for each in several for customer_id in each.customer_ids],
            np.concatenate([each.features for each in several]),
            np.concatenate([each.churned for each in several]),
            np.concatenate([each.value for each in several]),
            np.concatenate([each.history_days for each in several]),
        )

    def folds(self, number: int = FOLDS, *, seed: int = 0) -> Rows:
        """A fold for each, by a hash of the customer id alone."""
        return np.array([_mixed(each, seed) % number for each in self.customer_ids], dtype=np.intp)

    def sample(self, most: int) -> "Examples":
        """All, or so many chosen by a hash of the id."""
        if len(self) <= most:
            return self
        hashes = np.array([_mixed(each, 1) for each in self.customer_ids])
        return self.at(np.sort(np.argsort(hashes, kind="stable")[:most]))


def _mixed(customer_id: CustomerId, seed: int) -> int:
    # A CRC is linear: only the multiplication makes its low digits depend on every character.
    return (zlib.crc32(customer_id.encode(), seed) * 0x9E3779B97F4A7C15 >> 20) & 0xFFFFFFFF
