"""Every message ends in exactly one outcome

Applied, duplicate, rejected or suppressed: the four add up to the messages read.
The tests run in one order and the first that hits decides: `empty`, `too_large`, `invalid_json`, suppressed (the
customer was erased), `schema` or `unknown_type`, duplicate (the same content again), `conflicting_duplicate` (other
content under a known id), `too_old` (before 1990), `future` (more than 300 s ahead of the clock), `unknown_currency`,
applied.
An `event_id` is known once applied, so the repeat of a rejected message is rejected again, until its cause is mended.
"""

from datetime import UTC, datetime
from typing import Any

from tests.spec.story import Store, a_store
from tests.spec.tables import rows
from tests.support.builders import an_order, as_json

from segmentation.fields import CustomerId
from segmentation.money import Rates, parse_rates
from segmentation.outcomes import Outcome

CLOCK = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FAULTS: dict[str, dict[str, Any]] = {
    "wrong field": {"items": -1},
    "unknown type": {"type": "shipment"},
    "year 1989": {"occurred_at": "1989-12-31T23:59:59Z"},
    "ahead of the clock": {"ordered_at": "2026-03-01T12:06:00Z"},
    "no rate": {"currency": "USD"},
}


def message(faults: list[str]) -> bytes:
    """A valid order with these faults."""
    if "nothing in it" in faults:
        return b""
    changes: dict[str, Any] = {}
    for fault in faults:
        changes |= FAULTS.get(fault, {})
    if "erased customer" in faults:
        changes["customer_id"] = "C-erased"
    if "known id" in faults:
        changes["event_id"] = "known"
    text = as_json(an_order(**{"event_id": "fresh", "occurred_at": "2026-03-01T12:00:00Z", **changes}))
    if "no JSON" in faults:
        text = text[:-1]
    return text + b" " * 262_144 if "too many bytes" in faults else text


def outcome_of(store: Store, value: bytes | None, now: datetime = CLOCK) -> tuple[str, str]:
    """The outcome of one message, and the reason where it is rejected."""
    counts = store.record([(value, ())], now=now)
    assert sum(counts.values()) == 1
    (outcome,) = counts
    reasons = [reject.reason.value for reject in store.rejects]
    assert len(reasons) == (outcome is Outcome.REJECTED)
    return outcome.value, "".join(reasons)


def decided(table: str) -> None:
    """Each row is read by itself, after an order with the id `known` was applied and the customer C-erased erased."""
    for row in rows(table):
        store = a_store()
        store.suppressed = {CustomerId("C-erased")}
        store.record([(as_json(an_order(event_id="known")), ())])
        faults = [fault.strip() for fault in row["the message has"].split(",")]
        assert outcome_of(store, message(faults)) == (row["outcome"], row["reason"]), row


def test_the_first_test_that_hits_decides():
    """Messages with several faults at once."""
    decided(
        """
        the message has                                                 | outcome    | reason
        nothing in it                                                   | rejected   | empty
        too many bytes, no JSON, erased customer                        | rejected   | too_large
        no JSON, erased customer, wrong field                           | rejected   | invalid_json
        erased customer, wrong field                                    | suppressed |
        erased customer, unknown type                                   | suppressed |
        erased customer, known id                                       | suppressed |
        erased customer, year 1989, no rate                             | suppressed |
        wrong field, known id, year 1989                                | rejected   | schema
        unknown type, known id, ahead of the clock                      | rejected   | unknown_type
        known id, year 1989, ahead of the clock, no rate                | rejected   | conflicting_duplicate
        year 1989, ahead of the clock, no rate                          | rejected   | too_old
        ahead of the clock, no rate                                     | rejected   | future
        no rate                                                         | rejected   | unknown_currency
        no fault                                                        | applied    |
        """
    )


def read_in_turn(table: str) -> None:
    """The rows are read one after the other: orders of the id, the amount and the spelling given."""
    for together in (False, True):
        store = a_store()
        messages = [
            as_json(an_order(event_id=row["id"], amount=row["amount"], currency=row.get("currency", "CNY")))
            for row in rows(table)
        ]
        if together:
            counts = store.record((each, ()) for each in messages)
            expected = [row["outcome"] for row in rows(table)]
            assert {outcome.value: count for outcome, count in counts.items()} == {
                outcome: expected.count(outcome) for outcome in expected
            }
        else:
            for each, row in zip(messages, rows(table), strict=True):
                assert outcome_of(store, each) == (row["outcome"], row["reason"]), row


def test_an_event_id_is_applied_at_most_once():
    """The same content is a duplicate, other content a conflict, however often it comes."""
    read_in_turn(
        """
        id | amount | outcome   | reason
        e1 | 10.00  | applied   |
        e1 | 10.00  | duplicate |
        e1 | 11.00  | rejected  | conflicting_duplicate
        e2 | 11.00  | applied   |
        e1 | 10.00  | duplicate |
        e1 | 10.0   | rejected  | conflicting_duplicate
        """
    )


def test_a_rejected_id_is_not_known():
    """It can still be applied once its message is right; from then on the wrong one is a conflict."""
    read_in_turn(
        """
        id | amount | currency | outcome   | reason
        e1 | 10.00  | USD      | rejected  | unknown_currency
        e1 | 10.00  | USD      | rejected  | unknown_currency
        e1 | 10.00  | CNY      | applied   |
        e1 | 10.00  | USD      | rejected  | conflicting_duplicate
        e1 | 10.00  | CNY      | duplicate |
        """
    )


def same(table: str) -> None:
    """Both messages of a row under one id: duplicate where they have the same content, else a conflict."""
    for row in rows(table):
        store = a_store()
        frame = (
            '{"event_id":"e","type":"complaint","customer_id":"C","occurred_at":"2026-03-01T12:00:00Z","text":"é",%s}'
        )
        store.record([((frame % row["first"]).encode(), ())])
        outcome, _ = outcome_of(store, (frame % row["second"]).encode())
        assert outcome == ("duplicate" if row["same"] == "yes" else "rejected"), row


def test_same_content_is_equal_by_value():
    """Members are unordered, numbers compare by value, of duplicate keys the last counts; all else matters."""
    same(
        """
        first                  | second                 | same
        "x":1,"y":2            | "y":2,"x":1            | yes
        "x":1                  | "x": 1                 | yes
        "x":1                  | "x":1.0                | yes
        "x":100                | "x":1e2                | yes
        "x":0                  | "x":-0.0               | yes
        "x":1e999              | "x":10e998             | yes
        "x":0,"x":1            | "x":1                  | yes
        "x":"A"                | "x":"\\u0041"          | yes
        "x":1                  | "x":"1"                | no
        "x":1                  | "x":true               | no
        "x":null               | "y":null               | no
        "x":null               | "x":0                  | no
        "x":[1,2]              | "x":[2,1]              | no
        "x":{"a":1}            | "x":{"a":1,"b":null}   | no
        "x":0.1                | "x":0.10000000000000001 | no
        "x":1e999              | "x":1e998              | no
        "x":"é"                | "x":"e\\u0301"         | no
        """
    )


def dated(table: str) -> None:
    """One order a row, read at 2026-03-01T12:00:00Z."""
    for row in rows(table):
        order = an_order(occurred_at=row["occurred_at"], ordered_at=row["ordered_at"] or None)
        assert outcome_of(a_store(), as_json(order)) == (row["outcome"], row["reason"]), row


def test_the_edges_of_time():
    """Exactly 1990 is not too old, exactly 300 s ahead is not the future; of an order both instants are looked at."""
    dated(
        """
        occurred_at                  | ordered_at                  | outcome  | reason
        1990-01-01T00:00:00Z         |                             | applied  |
        1989-12-31T23:59:59.999999Z  |                             | rejected | too_old
        1990-01-01T00:00:00+00:01    |                             | rejected | too_old
        2026-03-01T12:05:00Z         |                             | applied  |
        2026-03-01T12:05:00.0000009Z |                             | applied  |
        2026-03-01T12:05:00.000001Z  |                             | rejected | future
        2026-03-01T12:00:00Z         | 1989-12-31T23:59:59Z        | rejected | too_old
        2026-03-01T12:00:00Z         | 2026-03-01T12:05:00.000001Z | rejected | future
        1989-12-31T23:59:59Z         | 9999-12-31T23:59:59-23:59   | rejected | too_old
        0001-01-01T00:00:00+23:59    |                             | rejected | too_old
        9999-12-31T23:59:59-23:59    |                             | rejected | future
        """
    )


def priced(table: str, *, rates: str) -> None:
    """One order a row, on its own day; then with these rates."""
    lines = ["currency,day,rate", *(",".join(row.values()) for row in rows(rates))]
    for row in rows(table):
        store = a_store()
        store.rates = Rates.of("CNY", parse_rates(lines, base_currency="CNY"))
        order = an_order(occurred_at=f"{row['day']}T12:00:00Z", currency=row["currency"], amount="1")
        assert outcome_of(store, as_json(order)) == (row["outcome"], row["reason"]), row


def test_a_currency_needs_a_rate_on_or_before_the_day():
    """What is no money at all, such as gold, is unknown too; three other letters are no code."""
    priced(
        """
        currency | day        | outcome  | reason
        CNY      | 2020-01-01 | applied  |
        USD      | 2026-02-09 | rejected | unknown_currency
        USD      | 2026-02-10 | applied  |
        EUR      | 2026-02-10 | rejected | unknown_currency
        XAU      | 2026-02-10 | rejected | unknown_currency
        ABC      | 2026-02-10 | rejected | unknown_currency
        usd      | 2026-02-10 | rejected | schema
        US       | 2026-02-10 | rejected | schema
        """,
        rates="""
        currency | day        | rate
        USD      | 2026-02-10 | 7.1
        """,
    )


def test_a_rejected_message_is_applied_once_the_rate_is_there():
    """Loading rates changes no applied event; the repeat of a rejected one finds them."""
    store = a_store()
    order = as_json(an_order(currency="USD"))
    assert outcome_of(store, order) == ("rejected", "unknown_currency")
    store.rates = Rates.of("CNY", parse_rates(["currency,day,rate", "USD,2026-01-01,7"], base_currency="CNY"))
    assert outcome_of(store, order) == ("applied", "")
    store.rates = Rates.of("CNY", parse_rates(["currency,day,rate", "USD,2026-01-01,8"], base_currency="CNY"))
    assert outcome_of(store, order) == ("duplicate", "")


def test_an_erased_customers_messages_leave_nothing():
    """Wherever its id can be read the message is suppressed; where none can, it is an ordinary reject."""
    decided(
        """
        the message has            | outcome    | reason
        erased customer            | suppressed |
        erased customer, no JSON   | rejected   | invalid_json
        """
    )
