"""Judging and settling a batch; the order of the tests is in tests/spec."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from tests.support.builders import a_complaint, a_return, an_order, as_json

from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.events import EventKey, Reject, RejectReason, decode, event_key
from segmentation.fields import CustomerId
from segmentation.money import Rates
from segmentation.outcomes import (
    FUTURE_SECONDS,
    AcceptedEvent,
    Delivery,
    Outcome,
    Partition,
    Reading,
    Settled,
    accept,
    customers_named,
    judge,
    settle,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RATES = Rates.of("CNY", [])
ORDERS, RETURNS = Partition("logistics.orders", 0), Partition("logistics.returns", 3)


def reading(event: dict[str, Any] | bytes, partition: Partition = ORDERS, offset: int = 0) -> Reading:
    value = event if isinstance(event, bytes) else as_json(event)
    return Reading(Delivery(partition, offset, value), decode(value))


def decided(
    *readings: Reading, known: dict[EventKey, bytes] | None = None, suppressed: frozenset[str] = frozenset()
) -> Settled:
    known = known or {}
    judged = judge(
        readings,
        suppressed={CustomerId(each) for each in suppressed},
        rates=RATES,
        calendar=BusinessCalendar("UTC"),
        now=instant_of(NOW),
    )
    return settle(judged, new=set(judged.candidates) - set(known), known=known)


def sentence_of(event: dict[str, Any]) -> str:
    read = decode(as_json(event))
    assert not isinstance(read, Reject)
    verdict = accept(
        Delivery(ORDERS, 0, b""),
        read,
        key=read.key,
        rates=RATES,
        calendar=BusinessCalendar("UTC"),
        now=instant_of(NOW),
    )
    assert isinstance(verdict, Reject)
    assert verdict.field is not None
    assert verdict.sentence.startswith(verdict.field)
    return verdict.sentence


@pytest.mark.parametrize(
    ("event", "value", "remedy"),
    [
        (an_order(occurred_at="1989-12-31T23:59:59Z"), "1989-12-31", "correct"),
        (an_order(ordered_at="2026-03-02T12:00:00Z"), "2026-03-02", "check the sender's clock"),
        (an_order(currency="USD"), "USD", "load one with `ingest-worker load-rates`, then send the event again"),
        (a_return(currency="XAU"), "XAU", "load one with `ingest-worker load-rates`, then send the event again"),
    ],
    ids=["too_old", "future", "unknown_currency", "no money"],
)
def test_a_sentence_names_field_value_and_remedy(event, value, remedy):
    sentence = sentence_of(event)
    assert remedy in sentence
    assert value in sentence


def test_the_sentence_of_a_conflict_names_the_id():
    settled = decided(reading(an_order()), reading(an_order(amount="1")))
    ((_, reject),) = settled.rejects
    assert (reject.reason, reject.field, reject.event_id) == ("conflicting_duplicate", "event_id", "order-1")
    assert "an event of its own id" in reject.sentence
    assert "order-1" in reject.sentence


def test_the_counts_of_a_batch_add_up_to_its_messages_per_partition():
    settled = decided(
        reading(an_order()),
        reading(an_order(), RETURNS),
        reading(an_order(amount="1"), RETURNS),
        reading(b"", RETURNS),
        reading(a_complaint(customer_id="C-gone")),
        suppressed=frozenset({"C-gone"}),
    )
    assert settled.counts == {
        ORDERS: {Outcome.APPLIED: 1, Outcome.SUPPRESSED: 1},
        RETURNS: {Outcome.DUPLICATE: 1, Outcome.REJECTED: 2},
    }
    assert [delivery.partition for delivery, _ in settled.rejects] == [RETURNS, RETURNS]
    assert len(settled.applied) == 1


def test_what_the_store_knows_decides_before_dates_and_rates():
    old = an_order(occurred_at="1980-01-01T00:00:00Z")
    known = decode(as_json(old))
    assert not isinstance(known, Reject)
    assert decided(reading(old), known={known.key: reading(old).delivery.fingerprint}).counts[ORDERS] == {
        Outcome.DUPLICATE: 1
    }
    settled = decided(reading(old), known={known.key: b"other"})
    assert settled.rejects[0][1].reason is RejectReason.CONFLICTING_DUPLICATE


def test_a_rejected_message_makes_no_id_known_within_its_batch():
    future = an_order(occurred_at="2030-01-01T00:00:00Z")
    settled = decided(*(reading(each) for each in (future, future, an_order(), future, an_order())))
    assert settled.counts[ORDERS] == {Outcome.REJECTED: 3, Outcome.APPLIED: 1, Outcome.DUPLICATE: 1}
    assert [reject.reason for _, reject in settled.rejects] == ["future", "future", "conflicting_duplicate"]


def test_an_event_that_another_batch_applied_meanwhile_is_a_duplicate():
    """The store says that the id is not new, and what it holds."""
    read = reading(an_order())
    assert not isinstance(read.decoded, Reject)
    judged = judge([read], suppressed=set(), rates=RATES, calendar=BusinessCalendar("UTC"), now=instant_of(NOW))
    settled = settle(judged, new=set(), known={read.decoded.key: read.delivery.fingerprint})
    assert settled.counts[ORDERS] == {Outcome.DUPLICATE: 1}


def test_only_what_can_be_read_of_a_reject_is_asked_for_suppression():
    readings = [reading(an_order(customer_id="C-2", items=-1)), reading(b"{"), reading(a_complaint())]
    assert customers_named(readings) == {"C-1", "C-2"}
    assert decided(*readings, suppressed=frozenset({"C-2"})).counts[ORDERS] == {
        Outcome.SUPPRESSED: 1,
        Outcome.REJECTED: 1,
        Outcome.APPLIED: 1,
    }


def test_an_accepted_order_is_dated_and_priced():
    settled = decided(reading(an_order(amount="10.00", cost="12.50", ordered_at="2026-02-27T23:00:00Z", event_id="o")))
    (accepted,) = settled.applied
    assert isinstance(accepted, AcceptedEvent)
    assert (accepted.occurred_day, accepted.business_day) == (date(2026, 3, 1), date(2026, 2, 27))
    assert (accepted.amount, accepted.profit, accepted.key) == (1_000, -250, event_key("o"))
    (accepted,) = decided(reading(an_order())).applied
    assert accepted.profit is None
    (accepted,) = decided(reading(a_complaint())).applied
    assert (accepted.amount, accepted.profit) == (None, None)


def test_the_tolerance_is_five_minutes():
    assert FUTURE_SECONDS == 300


def test_an_empty_batch_has_no_outcomes():
    settled = decided()
    assert (settled.applied, settled.rejects, settled.counts) == ([], [], {})
