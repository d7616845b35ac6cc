"""A logbook's day buckets are those that counting everything of before a moment would give."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from tests.support.builders import a_cancellation, a_complaint, a_customer, a_delivery, a_retraction, a_return, an_order
from tests.support.builders import as_json as encoded

from segment_trainer.logbook import Logbook
from segmentation import counting
from segmentation.buckets import DayBucket
from segmentation.calendar import BusinessCalendar
from segmentation.events import Reject, decode
from segmentation.fields import CustomerId
from segmentation.metrics import DECISION_COLUMNS, BucketTable
from segmentation.money import Rates
from segmentation.outcomes import AcceptedEvent, Delivery, Partition, accept

START = date(2026, 1, 1)
DAYS = 40


def on(day: int, hour: int = 12) -> str:
    return f"{START + timedelta(days=day)}T{hour:02}:00:00Z"


def accepted(events: list[dict[str, Any]]) -> list[AcceptedEvent]:
    rates, calendar = Rates("CNY"), BusinessCalendar("UTC")
    found = []
    for event in events:
        decoded = decode(encoded(event))
        assert not isinstance(decoded, Reject), decoded
        delivery = Delivery(Partition("file", 0), 0, None)
        verdict = accept(delivery, decoded, key=decoded.key, rates=rates, calendar=calendar, now=2**60)
        assert not isinstance(verdict, Reject), verdict
        found.append(verdict)
    return found


def counted(events: list[AcceptedEvent], moment: date) -> BucketTable:
    """The plain way: everything of before the moment, one after the other."""
    before = sorted((each for each in events if each.occurred_day < moment), key=lambda each: each.occurred_day)
    state = counting.Counted()
    counting.count(before, state)
    buckets: dict[CustomerId, list[tuple[date, DayBucket]]] = {each.event.customer_id: [] for each in before}
    for (customer_id, day), bucket in state.bucket_changes.items():
        buckets[customer_id].append((day, bucket))
    return BucketTable.of(buckets)


def trade(chance: np.random.Generator) -> list[dict[str, Any]]:
    """Every kind of event, many about the same orders, in any order."""
    events: list[dict[str, Any]] = []
    for number in range(300):
        day = int(chance.integers(0, DAYS))
        shared = {"event_id": f"e-{number}", "customer_id": f"C-{chance.integers(0, 12)}", "occurred_at": on(day)}
        order = {**shared, "order_id": f"o-{chance.integers(0, 30)}"}
        money = {"amount": f"{chance.integers(1, 99)}.50", "currency": "CNY"}
        optional = {"cost": "1.00", "promised_at": on(day + 1), "delivered_at": on(day + int(chance.integers(0, 3)))}
        chosen = {name: value for name, value in optional.items() if chance.random() < 0.3}
        kinds = [
            an_order(**order, **money, **chosen),
            an_order(**order, **money, ordered_at=on(max(day - 3, 0))),
            an_order(**{**order, **money, "order_id": f"own-{number}"}),
            a_cancellation(**order),
            a_delivery(**order, delivered_at=on(day + 1)),
            a_return(**shared, **money),
            a_complaint(**shared),
            a_customer(**shared, name="N"),
            a_retraction(**shared, retracts=f"e-{chance.integers(0, 300)}"),
        ]
        events.append(kinds[int(chance.choice(9, p=[0.2, 0.1, 0.3, 0.08, 0.08, 0.08, 0.06, 0.04, 0.06]))])
    return events


@pytest.mark.parametrize("seed", range(5))
def test_a_logbook_gives_what_counting_everything_of_before_gives(seed):
    events = accepted(trade(np.random.default_rng(seed)))
    logbook = Logbook.of(events)
    for moment in (START, START + timedelta(days=1), START + timedelta(days=17), START + timedelta(days=DAYS + 5)):
        mine, plain = logbook.table(moment), counted(events, moment)
        assert list(mine.customer_ids) == list(plain.customer_ids)
        assert mine.starts.tolist() == plain.starts.tolist()
        assert mine.days.tolist() == plain.days.tolist()
        for name in DECISION_COLUMNS:
            assert mine.columns[name].tolist() == plain.columns[name].tolist(), name


def test_amounts_beyond_eight_bytes_are_counted_exactly():
    largest = {"amount": "999999999999.99", "currency": "CNY"}
    events = accepted(
        [an_order(event_id=f"e-{n}", order_id=f"o-{n}", occurred_at=on(1), **largest) for n in range(200)]
    )
    huge = [
        AcceptedEvent(each.delivery, each.event, each.key, each.occurred_day, each.business_day, 10**18 + 1)
        for each in events
    ]
    table = Logbook.of(huge).table(START + timedelta(days=9))
    assert table.columns["gross_revenue"].tolist() == [0, 200 * (10**18 + 1)]


def test_an_empty_logbook_has_empty_tables():
    table = Logbook.of([]).table(START)
    assert (list(table.customer_ids), len(table.days)) == ([], 0)
