"""Where examples come from: parts of the customers, each a random choice of them, counted one after the other.

Law: a part holds all that its customers need, so memory grows with a part, and what was enough can stop.
"""

import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final

import numpy as np

from segment_trainer.examples import Examples, Question, Truths
from segment_trainer.failures import NotPossible
from segmentation.features import COLUMNS, FEATURES, FeatureTable, Numbers, features
from segmentation.fields import CustomerId
from segmentation.metrics import BucketTable

PARTS: Final = 32
_ALL: Final[Mapping[Question, int]] = MappingProxyType({})

Say = Callable[[str], None]


@dataclass(slots=True)
class Read:
    """What became of the messages of a file."""

    messages: int = 0
    applied: int = 0
    repeated: int = 0
    """Messages whose event id was applied before."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason of the contract."""
    unconverted: Counter[str] = field(default_factory=Counter)
    """Of the refused, those of a currency without a rate, by currency."""


class Source(ABC):
    """Customers whose past is known; read in parts."""

    def __init__(self, say: Say) -> None:
        self.read = Read()
        self.base_currency = ""
        self.decimals = 2
        self.first_day = date.max
        self.last_day = date.min
        self.name = ""
        self.sha256: str | None = None
        """Of the bytes, where it is a file."""
        self._say = say

    @abstractmethod
    def _tables(self, part: int, moments: Sequence[date]) -> Iterator[tuple[date, BucketTable]]:
        """Per moment the day buckets by what had occurred before that day, of everyone known then."""

    @property
    def _tells_parts(self) -> bool:
        """Whether a part takes so long that a person wants to hear of it."""
        return True

    def check(self, question: Question) -> None:
        """Raises NotPossible where the file does not hold the answer, with what it does hold."""
        first, last = self.first_day + timedelta(days=1), self.last_day
        if question.horizon_days < 1:
            raise NotPossible(f"the horizon is {question.horizon_days} days; at least 1 is expected")
        if question.cut < first:
            raise NotPossible(
                f"no customer is known before {question.cut}: the first event is of {self.first_day}, "
                f"so the cut must be {first} or later"
            )
        if question.cut > last:
            raise NotPossible(f"the last event is of {last}: the cut must be {last} or earlier, not {question.cut}")
        if question.end > last + timedelta(days=1):
            longest = (last - question.cut).days + 1
            latest = last - timedelta(days=question.horizon_days - 1)
            other = f", or with this horizon a cut up to {latest}" if latest >= first else ""
            raise NotPossible(
                f"the horizon of {question.horizon_days} days from {question.cut} ends after the last event "
                f"({last}); possible are {longest} days{other}"
            )

    def examples(self, questions: Sequence[Question], *, most: Mapping[Question, int] = _ALL) -> list[Examples]:
        """The examples of several questions, in one pass over the events.

        A question that needs no more than so many examples is not asked of further parts once it has them: a part is
        a random choice of customers.
        """
        found: list[list[_Part]] = [[] for _ in questions]
        for part in range(PARTS):
            asked = [
                number
                for number, question in enumerate(questions)
                if sum(len(each.customer_ids) for each in found[number]) < most.get(question, sys.maxsize)
            ]
            moments = sorted({moment for number in asked for moment in (questions[number].cut, questions[number].end)})
            if self._tells_parts:
                self._say(f"reading features, part {part + 1} of {PARTS} ...")
            waiting: dict[int, FeatureTable] = {}
            for moment, table in self._tables(part, moments):
                for number in asked:
                    question = questions[number]
                    if moment == question.cut:
                        waiting[number] = features(table, question.as_of, decimals=self.decimals)
                    if moment == question.end:
                        found[number].append(_answered(waiting.pop(number), table, question, self.decimals))
        return [
            _together(parts, question, (question.cut - self.first_day).days)
            for question, parts in zip(questions, found, strict=True)
        ]

    def tables(self, as_of: date) -> Iterator[BucketTable]:
        """The day buckets as known at the end of a day, part by part."""
        for part in range(PARTS):
            for _, table in self._tables(part, [as_of + timedelta(days=1)]):
                yield table


@dataclass(frozen=True, slots=True)
class _Part:
    customer_ids: Sequence[CustomerId]
    features: Numbers
    churned: Truths
    value: Numbers


def _answered(known: FeatureTable, table: BucketTable, question: Question, decimals: int) -> _Part:
    """Everyone known at the cut with what they did; the table lists them first, in the same order."""
    number = len(known.customer_ids)
    inside = (table.days >= question.cut.toordinal()) & (table.days < question.end.toordinal())
    orders = table.sums("orders", inside)[:number]
    net = (table.sums("gross_revenue", inside) - table.sums("returned_amount", inside))[:number]
    return _Part(known.customer_ids, known.values, orders == 0, net.astype(np.float64) / 10.0**decimals)


def _together(parts: Sequence[_Part], question: Question, history_days: int) -> Examples:
    ids = [customer_id for part in parts for customer_id in part.customer_ids]
    has_ordered = np.concatenate([part.features[:, COLUMNS["orders"]] for part in parts]) > 0
    chosen = np.array(sorted(np.flatnonzero(has_ordered).tolist(), key=lambda row: ids[row]), dtype=np.intp)
    places = np.full(len(ids), -1, dtype=np.intp)
    places[chosen] = np.arange(len(chosen))
    # Put where they belong part by part: everyone's features are by far the largest, and are there only once.
    values = np.empty((len(chosen), len(FEATURES)))
    first = 0
    for part in parts:
        there = places[first : first + len(part.customer_ids)]
        values[there[there >= 0]] = part.features[there >= 0]
        first += len(part.customer_ids)
    return Examples(
        question,
        [ids[row] for row in chosen.tolist()],
        values,
        np.concatenate([part.churned for part in parts])[chosen].astype(np.bool_),
        np.concatenate([part.value for part in parts])[chosen],
        np.full(len(chosen), history_days, dtype=np.float64),
        without_orders=len(ids) - len(chosen),
    )
