"""Synthetic traffic: the same for the same seed, valid, labelled, and shaped like trade."""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice

import pytest

from local_stack.simulation import Message, Traffic, simulate
from segmentation.events import TYPE_NAMES, Reject, decode

START = datetime(2025, 1, 6, tzinfo=UTC)
COUNT = 12_000
A_DAY = 400


def _traffic(seed: int = 7, count: int = COUNT) -> list[Message]:
    return list(islice(simulate(seed=seed, customers=300, start=START, events_per_day=A_DAY), count))


@pytest.fixture(scope="module")
def traffic() -> list[Message]:
    return _traffic()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(traffic: list[Message]) -> None:
    assert _traffic() == traffic
    assert _traffic(seed=8, count=100) != traffic[:100]


def test_every_message_is_a_valid_event_of_its_type_and_customer_and_says_that_it_is_synthetic(
    traffic: list[Message],
) -> None:
    for message in traffic:
        event = decode(message.value)
        assert not isinstance(event, Reject), event.sentence
        assert (TYPE_NAMES[type(event)], event.customer_id) == (message.type, message.customer_id)
        assert json.loads(message.value)["synthetic"] is True


def test_every_type_occurs_and_cancellations_are_a_few_percent(traffic: list[Message]) -> None:
    counts = Counter(message.type for message in traffic)
    assert counts.keys() == set(TYPE_NAMES.values())
    assert 0.015 < counts["order_cancelled"] / counts["order"] < 0.05


def test_a_fifth_of_the_customers_make_most_of_the_revenue(traffic: list[Message]) -> None:
    revenue: dict[str, float] = defaultdict(float)
    for message in traffic:
        if message.type == "order":
            revenue[message.customer_id] += float(json.loads(message.value)["amount"])
    ordered = sorted(revenue.values(), reverse=True)
    assert sum(ordered[: len(ordered) // 5]) > 0.6 * sum(ordered)


def test_doubled_messages_are_exact_repeats(traffic: list[Message]) -> None:
    by_id: dict[str, list[bytes]] = defaultdict(list)
    for message in traffic:
        by_id[json.loads(message.value)["event_id"]].append(message.value)
    doubled = [values for values in by_id.values() if len(values) > 1]
    assert 0.01 < len(doubled) / len(by_id) < 0.03
    assert all(len(set(values)) == 1 for values in doubled)


def test_each_customer_is_introduced_once(traffic: list[Message]) -> None:
    introduced = {message.value for message in traffic if message.type == "customer"}
    assert len(introduced) == len({json.loads(value)["customer_id"] for value in introduced})


def test_time_goes_on_at_the_mean_rate_and_some_messages_are_late(traffic: list[Message]) -> None:
    occurred = [datetime.fromisoformat(json.loads(message.value)["occurred_at"]) for message in traffic]
    assert min(occurred) >= START
    days = (max(occurred) - START) / timedelta(days=1)
    # January is below the mean of the year, and deliveries only follow
    assert 0.6 < len(traffic) / days / A_DAY < 1.4
    latest, late = START, 0
    for at in occurred:
        latest = max(latest, at)
        late += latest - at > timedelta(minutes=10)
    assert 0.01 < late / len(occurred) < 0.1


def test_late_deliveries_are_followed_by_more_complaints(traffic: list[Message]) -> None:
    events = [json.loads(message.value) for message in traffic]
    promised = {event["order_id"]: event["promised_at"] for event in events if event["type"] == "order"}
    late = {
        event["order_id"]: event["delivered_at"] > promised[event["order_id"]]
        for event in events
        if event["type"] == "delivery" and event["order_id"] in promised
    }
    complained = {event["order_id"] for event in events if event["type"] == "complaint"}

    def share(*, when_late: bool) -> float:
        orders = [order_id for order_id, was_late in late.items() if was_late is when_late]
        return len(complained.intersection(orders)) / len(orders)

    assert share(when_late=True) > 5 * share(when_late=False)


def test_a_retraction_takes_back_what_the_same_customer_has_said_before(traffic: list[Message]) -> None:
    said: dict[str, tuple[str, str]] = {}
    taken_back = []
    for message in traffic:
        event = json.loads(message.value)
        said[event["event_id"]] = (message.type, message.customer_id)
        if message.type == "retraction":
            taken_back.append((event["retracts"], message.customer_id))
    known = [(said[event_id], customer_id) for event_id, customer_id in taken_back if event_id in said]
    # one whose original was sent late may come first
    assert len(known) > 0.8 * len(taken_back) > 0
    for (kind, by), customer_id in known:
        assert by == customer_id
        assert kind in {"return", "complaint", "feedback"}


def test_customers_are_companies_with_chinese_and_english_names_that_say_synthetic(traffic: list[Message]) -> None:
    profiles = [json.loads(message.value) for message in traffic if message.type == "customer"]
    chinese = [profile for profile in profiles if profile["name"].endswith("有限公司（模拟）")]
    english = [profile for profile in profiles if profile["name"].endswith(" Ltd (synthetic)")]
    assert len(chinese) + len(english) == len(profiles)
    assert min(len(chinese), len(english)) > 0.2 * len(profiles)
    assert {profile["attributes"]["synthetic"] for profile in profiles} == {"true"}
    for field in ("region", "channel", "industry"):
        assert len({profile[field] for profile in profiles}) > 2


def _steady(prefix: str = "SIM-1", **more: object) -> Traffic:
    day = timedelta(seconds=10)
    settings: dict[str, object] = {"seed": 7, "customers": 500, "events_per_day": 500, "day": day, **more}
    return Traffic(start=START, steady=True, prefix=prefix, **settings)  # type: ignore[arg-type]


def test_two_prefixes_have_no_id_in_common_and_else_the_same_trade() -> None:
    first, second = (list(islice(_steady(prefix).messages(), 2_000)) for prefix in ("SIM-1", "SIM-2"))
    assert [message.value.replace(b"SIM-1", b"SIM-2") for message in first] == [message.value for message in second]
    for field in ("event_id", "customer_id", "order_id"):
        ids = [{json.loads(message.value).get(field) for message in stream} - {None} for stream in (first, second)]
        assert ids[0].isdisjoint(ids[1])
        assert all(each.startswith("SIM-1-") for each in ids[0])


def test_a_steady_stream_keeps_its_rate_from_the_first_days_on() -> None:
    until = START + timedelta(seconds=100)
    traffic = _steady()
    sent = 0
    for message in traffic.messages():
        if message.sent_at > until:
            break
        sent += 1
        # nothing is told before it has occurred
        assert datetime.fromisoformat(json.loads(message.value)["occurred_at"]) <= message.sent_at
    assert 0.9 < sent / 100 / 50 < 1.1


def test_what_a_steady_stream_holds_does_not_grow() -> None:
    traffic = _steady()
    messages = traffic.messages()
    held = []
    for _ in range(3):
        for _ in islice(messages, 20_000):
            pass
        held.append(len(traffic._waiting) + len(traffic._known))
    assert max(held) < 1.3 * min(held)


def test_some_customers_pay_in_a_currency_with_a_rate_to_its_own_decimals() -> None:
    foreign = {"JPY": 0.05, "KWD": 23.0}
    amounts: dict[str, list[Decimal]] = defaultdict(list)
    currencies: dict[str, set[str]] = defaultdict(set)
    for message in islice(_steady(foreign=foreign).messages(), 6_000):
        event = json.loads(message.value)
        assert not isinstance(decode(message.value), Reject)
        if "amount" in event:
            amounts[event["currency"]].append(Decimal(event["amount"]))
            currencies[event["customer_id"]].add(event["currency"])
    assert amounts.keys() == {"CNY", "JPY", "KWD"}
    decimals = {currency: {str(amount)[::-1].find(".") for amount in some} for currency, some in amounts.items()}
    assert decimals == {"CNY": {2}, "JPY": {-1}, "KWD": {3}}
    assert {len(each) for each in currencies.values()} == {1}
    # worth about the same
    means = {
        currency: float(sum(some)) / len(some) * {"CNY": 1, **foreign}[currency] for currency, some in amounts.items()
    }
    assert max(means.values()) < 5 * min(means.values())


def test_the_largest_customers_are_known_beforehand() -> None:
    traffic = _steady()
    counts = Counter(message.customer_id for message in islice(traffic.messages(), 10_000))
    assert traffic.largest(1)[0] in [customer_id for customer_id, _ in counts.most_common(3)]
