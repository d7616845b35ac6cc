"""Accepted events of some customers -> every change of a day bucket with the day it became known on: as columns.

Laws: the day buckets of a moment are those that counting the events of the days before it would give, to the last
unit, whatever the moment; events are judged and counted once, however many moments are asked for.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from segmentation import counting
from segmentation.buckets import DayBucket
from segmentation.events import DeliveryReported, OrderCancelled, OrderPlaced
from segmentation.fields import CustomerId
from segmentation.metrics import DECISION_COLUMNS, FAR_FUTURE, BucketTable, Column, Days, column
from segmentation.outcomes import AcceptedEvent

_DAY_BITS: Final = FAR_FUTURE.bit_length()
_DAY: Final = (1 << _DAY_BITS) - 1
_DECISIVE: Final = operator.attrgetter(*DECISION_COLUMNS)
_OCCURRED: Final = operator.attrgetter("occurred_day")
_OfOrders = OrderPlaced | OrderCancelled | DeliveryReported


@dataclass(frozen=True, slots=True)
class Logbook:
    """What the events of some customers changed; a row a change, by customer and day."""

    customer_ids: Sequence[CustomerId]
    """In the order in which they became known."""
    known_on: Days
    """Of each customer the day of its first event."""
    places: Days
    """Of each row the customer's position and the day that counts, as one number."""
    learnt_on: npt.NDArray[np.int32]
    """Of each row the day on which it became known."""
    columns: Mapping[str, Column]
    """Of DECISION_COLUMNS those in which anything is."""

    @classmethod
    def of(cls, accepted: Sequence[AcceptedEvent]) -> Self:
        """From events of different ids, in any order."""
        accepted = sorted(accepted, key=_OCCURRED)
        positions: dict[CustomerId, int] = {}
        known_on: list[int] = []
        places: list[int] = []
        learnt_on: list[int] = []
        rows: list[tuple[Any, ...]] = []
        for customer_id, day, learnt, bucket in _changes(accepted, positions, known_on):
            places.append((positions[customer_id] << _DAY_BITS) | day.toordinal())
            learnt_on.append(learnt)
            rows.append(_DECISIVE(bucket))
        ordered = np.argsort(np.array(places, dtype=np.int64), kind="stable")
        values = zip(*rows, strict=True) if rows else ((),) * len(DECISION_COLUMNS)
        return cls(
            list(positions),
            np.array(known_on, dtype=np.int64),
            np.array(places, dtype=np.int64)[ordered],
            np.array(learnt_on, dtype=np.int32)[ordered],
            {name: column(one)[ordered] for name, one in zip(DECISION_COLUMNS, values, strict=True) if any(one)},
        )

    def table(self, moment: date) -> BucketTable:
        """The day buckets by what had become known before that day, of everyone known then, in the order of ids."""
        today = moment.toordinal()
        customers = int(np.searchsorted(self.known_on, today))
        known = self.learnt_on < today
        places = self.places[known]
        firsts = np.flatnonzero(np.diff(places, prepend=-1))
        columns = {name: np.zeros(len(firsts), dtype=np.int64) for name in DECISION_COLUMNS}
        if len(firsts):
            columns |= {name: np.add.reduceat(values[known], firsts) for name, values in self.columns.items()}
        places = places[firsts]
        return BucketTable.of_columns(self.customer_ids[:customers], places >> _DAY_BITS, places & _DAY, columns)


def _changes(
    accepted: Sequence[AcceptedEvent], positions: dict[CustomerId, int], known_on: list[int]
) -> Iterator[tuple[CustomerId, date, int, DayBucket]]:
    """Customer, day that counts, day of knowing, change; numbers customers as they become known."""
    disputed = _told_twice(accepted)
    state = counting.Counted()
    for day, events in groupby(accepted, _OCCURRED):
        today, others = day.toordinal(), []
        for each in events:
            event = each.event
            if event.customer_id not in positions:
                positions[event.customer_id] = len(positions)
                known_on.append(today)
            if (
                isinstance(event, OrderPlaced)
                and _counts_alone(each, event)
                and (event.customer_id, event.order_id) not in disputed
            ):
                yield event.customer_id, each.business_day, today, DayBucket(1, each.amount or 0)
            else:
                others.append(each)
        counting.count(others, state)
        for (customer_id, counts_on), bucket in state.bucket_changes.items():
            yield customer_id, counts_on, today, bucket
        state.bucket_changes.clear()


def _told_twice(accepted: Sequence[AcceptedEvent]) -> set[tuple[CustomerId, str]]:
    """The orders of which several events tell."""
    seen: set[tuple[CustomerId, str]] = set()
    twice: set[tuple[CustomerId, str]] = set()
    for each in accepted:
        event = each.event
        if isinstance(event, _OfOrders):
            key = (event.customer_id, event.order_id)
            (twice if key in seen else seen).add(key)
    return twice


def _counts_alone(accepted: AcceptedEvent, event: OrderPlaced) -> bool:
    """Whether an order counts as one and with its amount, nothing else; most do, and need no state."""
    return accepted.profit is None and (event.promised_at is None or event.delivered_at is None)
