"""The oracle itself, held against known facts and cases worked out by hand.

Laws: every expected figure here is written down, none computed by the code under test; nothing of the product is used.
"""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import builders, histories
from tests.support.builders import (
    ABSENT,
    a_cancellation,
    a_complaint,
    a_customer,
    a_delivery,
    a_feedback,
    a_retraction,
    a_return,
    an_order,
    as_json,
    as_message,
)
from tests.support.histories import NOW
from tests.support.oracle import Message, Oracle, Setting

REAL = Path(__file__).resolve().parents[2] / "data" / "online_retail_ii.ndjson.gz"
DAY = date(2026, 3, 1)


def told(*events: builders.Event, setting: Setting | None = None) -> Oracle:
    """An oracle that has applied the events."""
    oracle = Oracle(Setting() if setting is None else setting)
    for event in events:
        assert oracle.read(as_message(event), now=NOW) == ("applied", None)
    return oracle


def verdict(event: builders.Event | bytes | Message, setting: Setting | None = None) -> str:
    """The outcome of the event alone, or its reason code where it is rejected."""
    if isinstance(event, dict):
        event = as_message(event)
    message = Message(event) if isinstance(event, bytes) else event
    outcome, reason = Oracle(Setting() if setting is None else setting).read(message, now=NOW)
    return reason or outcome


def window(oracle: Oracle, as_of: date = DAY, name: str = "365d", customer_id: str = "C-1") -> dict[str, Any]:
    figures = oracle.metrics(customer_id, as_of)["windows"][name]
    assert isinstance(figures, dict)
    return figures


# --- the real data --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Oracle:
    oracle = Oracle(Setting(base_currency="GBP"))
    with gzip.open(REAL) as lines:
        for line in lines:
            oracle.read(Message(line.rstrip(b"\n")), now=NOW)
    return oracle


def test_every_event_of_the_real_data_is_applied(real: Oracle) -> None:
    assert real.counts == {"applied": 44_876, "duplicate": 0, "rejected": 0, "suppressed": 0}
    assert len(real.customers()) == 5_942
    assert real.as_of(NOW) == date(2011, 12, 9)


def test_the_real_data_ends_in_the_published_tiers(real: Oracle) -> None:
    tiers = list(real.computed_tiers(date(2011, 12, 9)).values())
    assert {tier: tiers.count(tier) for tier in ("A", "B", "C", "unrated")} == {
        "A": 1_170,
        "B": 1_426,
        "C": 1_647,
        "unrated": 1_699,
    }


def test_the_real_data_adds_up_to_the_published_sums(real: Oracle) -> None:
    """Three windows of 365 days, end to end, cover both years."""
    gross = returned = lifetime = Decimal(0)
    for customer_id in real.customers():
        lifetime += Decimal(real.metrics(customer_id, date(2011, 12, 9))["lifetime"]["net_revenue"])
        for as_of in (date(2011, 12, 9), date(2010, 12, 9), date(2009, 12, 9)):
            figures = window(real, as_of, customer_id=customer_id)
            gross += Decimal(figures["gross_revenue"])
            returned += Decimal(figures["returned_amount"])
    assert gross == Decimal("17431533.16")
    assert returned == Decimal("1087882.14")
    assert lifetime == gross - returned


# --- tiers ----------------------------------------------------------------------------------------------------------


def orders_of(**amounts: str) -> list[builders.Event]:
    return [
        an_order(event_id=f"e-{index}", order_id=f"O-{index}", customer_id=customer_id, amount=amount)
        for index, (customer_id, amount) in enumerate(amounts.items())
    ]


def test_a_tier_is_the_smallest_prefix_that_reaches_its_share() -> None:
    """Total 100: c crosses 80 and e crosses 95, so each is still inside."""
    oracle = told(*orders_of(a="79", c="14", d="1", e="4", f="1", b="1"))
    assert oracle.computed_tiers(DAY) == {"a": "A", "c": "A", "e": "B", "b": "C", "d": "C", "f": "C"}
    assert oracle.cutoffs(DAY) == {"A": (1_400, "c"), "B": (400, "e")}


def test_a_share_reached_exactly_ends_its_tier() -> None:
    oracle = told(*orders_of(a="80", b="15", c="5"))
    assert oracle.computed_tiers(DAY) == {"a": "A", "b": "B", "c": "C"}


def test_ties_rank_by_bytes_of_the_id() -> None:
    """Upper case comes first, "C-10" before "C-2"."""
    events = [an_order(event_id=f"e-{name}", customer_id=name, amount="1") for name in ("a", "c-1", "C-2", "B", "C-10")]
    oracle = told(*events)
    assert oracle.computed_tiers(DAY) == {"B": "A", "C-10": "A", "C-2": "A", "a": "A", "c-1": "B"}
    assert oracle.cutoffs(DAY) == {"A": (100, "a"), "B": (100, "c-1")}


def test_nobody_is_rated_where_nothing_is_above_zero() -> None:
    oracle = told(an_order(amount="0"), a_return(customer_id="C-2"), a_complaint(customer_id="C-3"))
    assert oracle.computed_tiers(DAY) == {"C-1": "unrated", "C-2": "unrated", "C-3": "unrated"}
    assert oracle.cutoffs(DAY) == {"A": None, "B": None}
    assert oracle.net_revenue_365(DAY) == {"C-1": 0, "C-2": -1_000, "C-3": 0}


def test_the_basis_and_the_shares_are_the_settings() -> None:
    events = [
        an_order(event_id="1", customer_id="a", amount="10", cost="9"),
        an_order(event_id="2", customer_id="b", amount="99"),
        an_order(event_id="3", customer_id="b", order_id="O-2", amount="0"),
    ]
    assert told(*events, setting=Setting(basis="gross_profit")).computed_tiers(DAY) == {"a": "A", "b": "unrated"}
    halves = Setting(basis="orders", share_a=Fraction(1, 2), share_b=Fraction(2, 3))
    assert told(*events, setting=halves).computed_tiers(DAY) == {"b": "A", "a": "C"}


def test_the_tier_window_is_365_days_long() -> None:
    oracle = told(an_order(occurred_at="2026-03-01T00:00:00Z"))
    assert oracle.computed_tiers(date(2027, 2, 28)) == {"C-1": "A"}
    assert oracle.computed_tiers(date(2027, 3, 1)) == {"C-1": "unrated"}


# --- money ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "rate", "converted"),
    [
        ("1", "0.005", "0.00"),
        ("3", "0.005", "0.02"),
        ("5", "0.005", "0.02"),
        ("1", "0.0050000001", "0.01"),
        ("999999999999.99", "1.000000000001", "1000000000000.99"),
    ],
)
def test_a_converted_amount_is_rounded_half_to_even(amount: str, rate: str, converted: str) -> None:
    setting = Setting(rates=(("USD", "2026-01-01", rate),))
    oracle = told(an_order(amount=amount, currency="USD"), setting=setting)
    assert window(oracle)["gross_revenue"] == converted


def test_amounts_are_rounded_one_by_one() -> None:
    """Two of half a minor unit each are nothing, not one; a loss rounds to even as well."""
    setting = Setting(base_currency="JPY", rates=(("USD", "2026-01-01", "0.5"),))
    events = [
        an_order(event_id=str(number), order_id=str(number), amount="1", cost="4", currency="USD") for number in (1, 2)
    ]
    figures = window(told(*events, setting=setting))
    assert (figures["gross_revenue"], figures["gross_profit"]) == ("0", "-4")


def test_money_has_the_decimals_of_the_base_currency() -> None:
    assert window(told(an_order(amount=0)))["net_revenue"] == "0.00"
    assert window(told(a_return(amount="0.05")))["net_revenue"] == "-0.05"
    kuwait = Setting(base_currency="KWD")
    assert window(told(an_order(amount="1.5", currency="KWD"), setting=kuwait))["gross_revenue"] == "1.500"


def test_the_latest_rate_on_or_before_the_business_day_of_the_order_applies() -> None:
    setting = Setting(rates=(("USD", "2026-02-01", "7"), ("USD", "2026-03-01", "8")))
    late = an_order(currency="USD", amount="1", occurred_at="2026-03-05T00:00:00Z", ordered_at="2026-02-28T00:00:00Z")
    assert window(told(late, setting=setting))["gross_revenue"] == "7.00"
    assert window(told(a_return(currency="USD", amount="1"), setting=setting))["returned_amount"] == "8.00"
    assert verdict(an_order(currency="USD", ordered_at="2026-01-31T00:00:00Z"), setting) == "unknown_currency"


def test_an_average_is_rounded_half_to_even() -> None:
    events = [an_order(event_id=name, order_id=name, amount=amount) for name, amount in (("1", "0.05"), ("2", "0.00"))]
    assert window(told(*events))["average_order_value"] == "0.02"


@pytest.mark.parametrize(
    ("amount", "outcome"),
    [
        ("1.500", "applied"),
        ("1.505", "schema"),
        ("000000000001.000000000", "applied"),
        ("1.0000000000", "schema"),
        ("0000000000001", "schema"),
        (Decimal("1.0000000000"), "applied"),
        (Decimal("1e2"), "applied"),
        (Decimal("-0.0"), "applied"),
        (Decimal("1E+11"), "applied"),
        (Decimal("1E+12"), "schema"),
        (Decimal("-0.01"), "schema"),
        (True, "schema"),
    ],
)
def test_money_is_read_by_value(amount: object, outcome: str) -> None:
    assert verdict(an_order(amount=amount)) == outcome


def test_an_unknown_currency_comes_after_its_pattern() -> None:
    assert verdict(an_order(currency="XXX", amount="1.123456789")) == "unknown_currency"
    assert verdict(an_order(currency="cny")) == "schema"
    assert verdict(an_order(currency="JPY", amount="1.5")) == "schema"


# --- days -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timezone", "instant", "day"),
    [
        ("UTC", "2026-03-28T23:30:00Z", "2026-03-28"),
        ("Europe/Berlin", "2026-03-28T22:59:59.999999Z", "2026-03-28"),
        ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29"),
        # The day of the change has 23 hours.
        ("Europe/Berlin", "2026-03-29T21:59:59Z", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29T22:00:00Z", "2026-03-30"),
        ("America/New_York", "2026-11-02T04:59:59z", "2026-11-01"),
        ("America/New_York", "2026-11-01t00:00:00-05:00", "2026-11-01"),
        ("Asia/Shanghai", "2026-03-01T16:00:00Z", "2026-03-02"),
        # Samoa had no 30 December 2011.
        ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31"),
    ],
)
def test_the_business_day_is_the_calendar_day_in_the_zone(timezone: str, instant: str, day: str) -> None:
    oracle = told(an_order(occurred_at=instant), setting=Setting(timezone=timezone))
    assert oracle.as_of(NOW) == date.fromisoformat(day)
    assert oracle.metrics("C-1", NOW.date())["lifetime"]["first_order_day"] == day


def test_as_of_follows_the_clock_of_the_setting() -> None:
    """The event clock looks at `occurred_at` alone, at every type, and never moves back."""
    assert Oracle(Setting()).as_of(NOW) is None
    oracle = told(
        an_order(occurred_at="2026-02-01T00:00:00Z", ordered_at="2026-05-01T00:00:00Z"),
        a_retraction(occurred_at="2026-02-02T00:00:00Z", customer_id="C-2"),
    )
    assert oracle.as_of(NOW) == date(2026, 2, 2)
    assert window(oracle, date(2026, 2, 2))["orders"] == 0
    oracle.erase("C-2")
    assert oracle.as_of(NOW) == date(2026, 2, 2)
    assert Oracle(Setting(clock="system", timezone="Pacific/Apia")).as_of(NOW) == date(2026, 11, 23)


def test_a_window_covers_its_days_and_no_other() -> None:
    oracle = told(an_order(occurred_at="2026-03-01T23:59:59Z"))
    counted = {
        name: [window(oracle, DAY + timedelta(days=days), name)["orders"] for days in (-1, 0, length - 1, length)]
        for name, length in (("7d", 7), ("30d", 30), ("90d", 90), ("365d", 365))
    }
    assert counted == {name: [0, 1, 1, 0] for name in ("7d", "30d", "90d", "365d")}


# --- what counts ----------------------------------------------------------------------------------------------------


def test_an_order_is_its_latest_version_whole() -> None:
    oracle = told(
        an_order(event_id="2", amount="2", occurred_at="2026-03-01T12:00:00.0000019Z"),
        an_order(event_id="1", amount="1", items=5, occurred_at="2026-03-01T13:00:00.000001+01:00"),
        an_order(event_id="3", amount="3", customer_id="C-2"),
    )
    assert (window(oracle)["gross_revenue"], window(oracle)["items"]) == ("2.00", 0)
    assert window(oracle, customer_id="C-2")["gross_revenue"] == "3.00"


def test_event_ids_break_a_tie_by_their_bytes() -> None:
    """U+FF5E comes before U+1F600 in UTF-8, and after it in UTF-16."""
    oracle = told(an_order(event_id="\U0001f600", amount="1"), an_order(event_id="\uff5e", amount="2"))
    assert window(oracle)["gross_revenue"] == "1.00"


def test_a_cancelled_order_counts_nothing_until_ordered_again() -> None:
    cancelled = told(a_cancellation(), an_order(region="North"))
    assert window(cancelled)["orders"] == 0
    assert cancelled.profile("C-1")["region"] is None
    again = told(a_cancellation(), an_order(), an_order(event_id="again", occurred_at="2026-03-02T12:00:00.000001Z"))
    assert window(again, date(2026, 3, 2))["orders"] == 1


def test_a_retraction_takes_back_whichever_comes_first() -> None:
    taken_back = told(a_retraction(), a_complaint())
    assert window(taken_back)["complaints"] == 0
    assert window(told(a_complaint(), a_retraction(occurred_at="2025-01-01T00:00:00Z")))["complaints"] == 0
    assert window(told(a_complaint(), a_retraction(customer_id="C-2")))["complaints"] == 1
    assert window(told(an_order(), a_retraction(retracts="order-1")))["orders"] == 1
    twice = told(a_complaint(), a_retraction(), a_retraction(event_id="r-2", retracts="retraction-1"))
    assert window(twice)["complaints"] == 0


def test_returns_stand_whatever_becomes_of_the_order() -> None:
    figures = window(told(an_order(), a_cancellation(), a_return(order_id="O-1", items=3)), date(2026, 3, 2))
    assert (figures["net_revenue"], figures["returns"], figures["return_rate"]) == ("-10.00", 1, None)
    assert figures["items"] == 0


def test_the_latest_witness_of_a_delivery_counts_field_by_field() -> None:
    """The delivery is newer than the order, and says nothing of what was promised."""
    order = an_order(promised_at="2026-03-02T00:00:00Z", delivered_at="2026-03-01T00:00:00Z")
    late = a_delivery(promised_at=None, delivered_at="2026-03-02T00:00:00.000001Z")
    assert window(told(late, order))["on_time_rate"] == 0.0
    corrected = a_delivery(event_id="d-2", occurred_at="2026-03-04T00:00:00Z", promised_at=ABSENT)
    assert window(told(late, order, corrected))["on_time_rate"] == 0.0
    on_time = a_delivery(event_id="d-3", occurred_at="2026-03-05T00:00:00Z", delivered_at="2026-03-02T01:00:00+01:00")
    assert window(told(late, order, on_time | {"promised_at": None}))["on_time_rate"] == 1.0
    newer = an_order(event_id="v-2", occurred_at="2026-03-06T00:00:00Z", ordered_at="2026-03-01T00:00:00Z")
    # Nothing is merged between versions: the promise went with the first one.
    assert window(told(late, order, on_time | {"promised_at": None}, newer))["on_time_rate"] is None
    assert window(told(a_delivery()))["orders"] == 0


def test_rates_and_means_are_the_nearest_double() -> None:
    events = [an_order(event_id=name, order_id=name, weight_kg=Decimal("0.1")) for name in ("1", "2", "3")]
    scores = [a_feedback(event_id="f-1", score=10), a_feedback(event_id="f-2", score=Decimal("1e-999999999"))]
    figures = window(told(*events, a_return(), a_complaint(), *scores))
    assert (figures["weight_kg"], figures["return_rate"], figures["complaint_rate"]) == (0.3, 1 / 3, 1 / 3)
    assert figures["feedback_score"] == 5.0
    assert (figures["on_time_rate"], figures["gross_profit"], figures["parcels"]) == (None, None, 0)


def test_lifetime_figures() -> None:
    days = ("2020-01-01", "2020-01-01", "2026-02-20", "2026-02-27")
    events = [
        an_order(event_id=f"{number}", order_id=f"{number}", occurred_at=f"{day}T12:00:00Z")
        for number, day in enumerate(days)
    ]
    assert told(*events, a_return()).metrics("C-1", DAY)["lifetime"] == {
        "first_order_day": "2020-01-01",
        "last_order_day": "2026-02-27",
        "orders": 4,
        "net_revenue": "390.00",
        "recency_days": 2,
        "mean_days_between_orders": 1124.5,
    }
    lifetime = told(*events[:2]).metrics("C-1", date(2020, 1, 1))["lifetime"]
    assert (lifetime["recency_days"], lifetime["mean_days_between_orders"]) == (0, None)
    assert told(a_complaint()).metrics("C-1", DAY)["lifetime"] == {
        "first_order_day": None,
        "last_order_day": None,
        "orders": 0,
        "net_revenue": "0.00",
        "recency_days": None,
        "mean_days_between_orders": None,
    }


def test_a_customer_event_sets_what_it_names_and_a_null_clears() -> None:
    first = a_customer(
        event_id="1",
        name="Old",
        region="North",
        industry="retail",
        needs={"basic": ["x"], "latent": ["y"]},
        attributes={"k": "1", "l": "2"},
        contract_end="2028-02-29",
    )
    second = a_customer(
        event_id="2",
        occurred_at="2026-03-02T00:00:00Z",
        name="",
        region=None,
        needs={"basic": [], "latent": None},
        attributes={"k": None},
    )
    order = an_order(region="South", channel="web")
    for events in ((first, second, order), (order, second, first)):
        assert told(*events).profile("C-1") == {
            "name": "",
            "subject_type": None,
            "industry": "retail",
            "region": "South",
            "channel": "web",
            "account_manager": None,
            "needs": {"basic": [], "expected": None, "latent": None},
            "contract_type": None,
            "contract_end": "2028-02-29",
            "attributes": {"l": "2"},
        }
    cleared = a_customer(event_id="3", occurred_at="2026-03-03T00:00:00Z", needs=None, attributes=None)
    later = a_customer(event_id="4", occurred_at="2026-03-04T00:00:00Z", attributes={"m": "3"})
    profile = told(later, cleared, second, first).profile("C-1")
    assert profile["needs"] == {"basic": None, "expected": None, "latent": None}
    assert profile["attributes"] == {"m": "3"}


# --- outcomes -------------------------------------------------------------------------------------------------------


def test_same_content_is_equality_by_value() -> None:
    first = (
        b'{"event_id":"1","type":"feedback","customer_id":"C-1","occurred_at":"2026-03-01T00:00:00Z","score":1,"x":0}'
    )
    oracle = Oracle(Setting())
    assert oracle.read(Message(first), now=NOW) == ("applied", None)
    respelt = [
        first.replace(b":1,", b":10.0e-1,").replace(b'"x":0', b' "x" : -0.0'),
        b'{"x":9,"score":1.0,' + first[1:],
        first.replace(b"C-1", b"\\u0043-1"),
    ]
    for value in respelt:
        assert oracle.read(Message(value), now=NOW) == ("duplicate", None)
    others = [
        first.replace(b'"x":0', b'"x":false'),
        first.replace(b'"x":0', b'"x":"0"'),
        first.replace(b'"x":0', b'"x":null'),
        first.replace(b',"x":0', b""),
        first.replace(b'"x":0', b'"x":1e-9999999999999999999999'),
        first.replace(b"00Z", b"00z"),
    ]
    for value in others:
        assert oracle.read(Message(value), now=NOW) == ("rejected", "conflicting_duplicate")
    assert oracle.counts == {"applied": 1, "duplicate": 3, "rejected": 6, "suppressed": 0}


@pytest.mark.parametrize("mode", builders.MODES)
def test_an_event_is_the_same_in_every_mode(mode: builders.Mode) -> None:
    oracle = told(an_order())
    assert oracle.read(as_message(an_order(), mode=mode), now=NOW) == ("duplicate", None)
    assert oracle.read(as_message(an_order(amount="1"), mode=mode), now=NOW) == ("rejected", "conflicting_duplicate")


def test_cloud_events_take_the_customer_from_the_subject_where_the_data_names_none() -> None:
    envelope = builders.as_envelope(an_order(customer_id=ABSENT, event_id="1")) | {"subject": "C-9"}
    envelope["data"]["occurred_at"] = "loses"
    oracle = Oracle(Setting())
    assert oracle.read(Message(as_json(envelope)), now=NOW) == ("applied", None)
    assert oracle.customers() == ["C-9"]
    del envelope["time"]
    assert verdict(as_json(envelope | {"id": "2"})) == "schema"


def test_the_tests_of_a_message_run_in_the_order_of_the_contract() -> None:
    oracle = told(an_order(), an_order(event_id="known", customer_id="C-3"))
    oracle.erase("C-1")

    def outcome(value: bytes | None) -> str:
        read, reason = oracle.read(Message(value), now=NOW)
        return reason or read

    assert outcome(None) == outcome(b"") == "empty"
    assert outcome(b"x" * 262_145) == "too_large"
    assert outcome(b"x" * 262_144) == "invalid_json"
    assert outcome(b'{"customer_id":"C-1"}') == "suppressed"
    assert outcome(b'{"customer_id":"C-1","type":"?"}') == "suppressed"
    assert outcome(b'{"specversion":"1.0","subject":"C-1"}') == "suppressed"
    assert outcome(b'{"customer_id":"C-1 "}') == "schema"
    assert outcome(b'{"customer_id":"C-2","type":"?"}') == "unknown_type"
    order = an_order(event_id="2", customer_id="C-2", currency="XXX")
    early, late = "1989-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59"
    assert outcome(as_json(order | {"event_id": "known", "occurred_at": early})) == "conflicting_duplicate"
    assert outcome(as_json(order | {"occurred_at": late, "ordered_at": early})) == "too_old"
    assert outcome(as_json(order | {"ordered_at": late})) == "future"
    assert outcome(as_json(order)) == "unknown_currency"
    assert oracle.customers() == ["C-3"]
    # The ids of an erased customer's events are forgotten with it.
    assert outcome(as_json(an_order(customer_id="C-4"))) == "applied"


def test_the_future_begins_300_seconds_ahead() -> None:
    assert verdict(an_order(occurred_at="2026-11-22T12:05:00.0000009Z")) == "applied"
    assert verdict(an_order(occurred_at="2026-11-22T12:05:00.000001Z")) == "future"
    assert verdict(an_order(occurred_at="1990-01-01T00:00:00Z")) == "applied"
    assert verdict(an_order(occurred_at="0001-01-01T00:00:00+23:59")) == "too_old"
    assert verdict(an_order(promised_at="0001-01-01T00:00:00+23:59", delivered_at="9999-12-31T23:59:59-23:59")) == (
        "applied"
    )


def test_a_replay_moves_a_rejected_message_to_its_new_outcome() -> None:
    oracle = Oracle(Setting())
    message = as_message(an_order(currency="USD"))
    assert oracle.read(message, now=NOW) == ("rejected", "unknown_currency")
    oracle.load_rates([("USD", "2026-01-01", "7")])
    assert oracle.replay(message, now=NOW) == ("applied", None)
    oracle.load_rates([("USD", "2026-01-01", "8")])
    assert window(oracle)["gross_revenue"] == "700.00"
    assert oracle.counts == {"applied": 1, "duplicate": 0, "rejected": 0, "suppressed": 0}


@pytest.mark.parametrize("value", histories.NOT_JSON)
def test_what_is_no_json(value: bytes) -> None:
    assert verdict(value) == "invalid_json"


@pytest.mark.parametrize("value", histories.NOT_EVENTS)
def test_what_is_no_event(value: bytes) -> None:
    assert verdict(value) == "schema"


def test_what_is_json_all_the_same() -> None:
    whole = as_json(a_complaint())[:-1]
    deep = b"[" * 99 + b"]" * 99
    for unknown in (deep, b'"' + b"[" * 200 + b'"', b"1" * 5_000, b"1e" + b"9" * 5_000, b'"\\ud83d\\ude00\\u0000"'):
        assert verdict(whole + b',"x":' + unknown + b"}") == "applied"
    assert verdict(b" \r\n\t" + whole + b"}\n") == "applied"


@pytest.mark.parametrize(
    ("build", "field", "value"),
    [(build, field, value) for build, field, values in histories.MALFORMED_FIELDS for value in values],
    ids=lambda part: getattr(part, "__name__", None) or ascii(part)[:40],
)
def test_a_malformed_field_is_schema(build: Any, field: str, value: object) -> None:
    assert verdict(build()) == "applied"
    assert verdict(build(**{field: value})) == "schema"


# --- the generated histories ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data(), st.sampled_from(histories.REJECT_REASONS))
def test_a_reject_has_the_reason_it_was_made_for(data: st.DataObject, reason: str) -> None:
    assert verdict(data.draw(histories.rejects(reason))) == reason


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), histories.histories(20), histories.settings_for_histories())
def test_the_oracle_depends_on_the_set_of_applied_events_only(
    data: st.DataObject, history: list[Message], setting: Setting
) -> None:
    applied = histories.agreeable(history, setting)
    answers = []
    for batches in ([applied], data.draw(histories.shuffles(applied))):
        oracle = Oracle(setting)
        for message in (message for batch in batches for message in batch):
            assert oracle.read(message, now=NOW)[0] in ("applied", "duplicate")
        as_of = oracle.as_of(NOW) or datetime(2026, 11, 22, tzinfo=UTC).date()
        customers = oracle.customers()
        answers.append(
            (
                as_of,
                [oracle.metrics(customer_id, as_of) for customer_id in customers],
                [oracle.profile(customer_id) for customer_id in customers],
                oracle.computed_tiers(as_of),
                oracle.cutoffs(as_of),
            )
        )
    assert answers[0] == answers[1]
