"""State and bucket changes; what counts is in tests/spec."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from tests.support.builders import (
    a_cancellation,
    a_complaint,
    a_customer,
    a_delivery,
    a_feedback,
    a_retraction,
    a_return,
    an_order,
    as_json,
)

from segmentation.buckets import DayBucket, merge, negate
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.counting import Counted, OrderKey, Retraction, count, occurrence_bucket, touched
from segmentation.events import Event, Reject, decode, event_key
from segmentation.fields import CustomerId
from segmentation.money import Rates
from segmentation.outcomes import AcceptedEvent, Delivery, Partition, accept

C_1 = CustomerId("C-1")
DAY = date(2026, 3, 1)


def accepted(event: dict[str, Any]) -> AcceptedEvent:
    read = decode(as_json(event))
    assert not isinstance(read, Reject), read.sentence
    verdict = accept(
        Delivery(Partition("t", 0), 0, b""),
        read,
        key=read.key,
        rates=Rates.of("CNY", []),
        calendar=BusinessCalendar("UTC"),
        now=instant_of(datetime(2030, 1, 1, tzinfo=UTC)),
    )
    assert isinstance(verdict, AcceptedEvent)
    return verdict


def changes(*batches: list[dict[str, Any]]) -> list[DayBucket]:
    """The changes of C-1's day that each batch makes."""
    state, found = Counted(), []
    for batch in batches:
        count([accepted(event) for event in batch], state)
        found.append(state.bucket_changes.pop((C_1, DAY), DayBucket()))
    return found


def test_a_batch_says_what_it_touches():
    batch = [an_order(), a_cancellation(order_id="O-2"), a_delivery(order_id="O-3"), a_return(), a_complaint()]
    batch += [a_feedback(customer_id="C-2"), a_retraction(customer_id="C-3"), a_customer(customer_id="C-4")]
    found = touched(map(accepted, batch))
    assert found.customers == {"C-1", "C-2", "C-3", "C-4"}
    assert found.orders == {OrderKey(C_1, order_id) for order_id in ("O-1", "O-2", "O-3")}
    assert found.retractions == {
        Retraction(C_1, event_key("return-1")),
        Retraction(C_1, event_key("complaint-1")),
        Retraction(CustomerId("C-2"), event_key("feedback-1")),
        Retraction(CustomerId("C-3"), event_key("complaint-1")),
    }
    assert found.described == {"C-4"}


def test_a_new_version_changes_the_bucket_by_the_difference():
    first, second = changes(
        [an_order(amount="10", items=3, event_id="a")], [an_order(amount="12", items=1, event_id="b")]
    )
    assert first == DayBucket(orders=1, gross_revenue=1_000, items=3)
    assert second == DayBucket(gross_revenue=200, items=-2)


def test_an_older_version_changes_nothing():
    _, second = changes([an_order(event_id="b")], [an_order(event_id="a", amount="7")])
    assert second == DayBucket()


def test_a_delivery_changes_only_punctuality():
    _, second = changes([an_order()], [a_delivery()])
    assert second == DayBucket(orders_on_time=1, orders_with_promise=1)


def test_a_retraction_of_a_later_batch_takes_back_what_was_counted():
    first, second, third = changes(
        [a_return(amount="5")], [a_retraction(retracts="return-1")], [a_return(event_id="r2")]
    )
    assert merge(first, second) == DayBucket()
    assert third.returns == 1


def test_a_retraction_waits_for_its_event():
    first, second = changes([a_retraction(retracts="return-1")], [a_return()])
    assert first == second == DayBucket()


@pytest.mark.parametrize("event", [an_order(), a_cancellation(), a_delivery(), a_customer(), a_retraction()])
def test_other_events_are_no_occurrence(event):
    assert occurrence_bucket(accepted(event).event, None) is None


def test_an_unheard_kind_of_event_is_a_mistake_of_ours():
    stranger = accepted(an_order())
    unheard = AcceptedEvent(
        stranger.delivery,
        Event(event_id="e", customer_id=C_1, occurred_at=0),
        stranger.key,
        DAY,
        DAY,
    )
    with pytest.raises(TypeError):
        touched([unheard])
    with pytest.raises(TypeError):
        count([unheard], Counted())


def test_buckets_merge_and_negate():
    one, other = DayBucket(orders=1, gross_revenue=5), DayBucket(returns=2, gross_revenue=-7)
    assert merge(one, other) == merge(other, one) == DayBucket(orders=1, returns=2, gross_revenue=-2)
    assert merge(one, negate(one)) == DayBucket()


def test_an_occurrence_that_the_state_remembers_counts_once_and_can_be_taken_back() -> None:
    """A repeat that nobody recognised, since the raw event was dropped; what was counted first stands."""
    first, repeat, other_content, retraction, nothing = changes(
        [a_return(amount="5")], [a_return(amount="5")], [a_return(amount="7")], [a_retraction(retracts="return-1")], []
    )
    assert first == DayBucket(returns=1, returned_amount=500)
    assert (repeat, other_content) == (DayBucket(), DayBucket())
    assert (merge(first, retraction), nothing) == (DayBucket(), DayBucket())
