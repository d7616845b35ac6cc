"""Synthetic traffic: the same for the same seed, valid, labelled, and shaped like trade."""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from local_stack.simulation import Message, simulate
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


def test_every_type_but_retractions_occurs_and_cancellations_are_a_few_percent(traffic: list[Message]) -> None:
    counts = Counter(message.type for message in traffic)
    assert counts.keys() == set(TYPE_NAMES.values()) - {"retraction"}
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
