"""What counts: the latest version of each order, each return, complaint and feedback once, and a
customer's profile field by field.

Laws: the state after a set of events does not depend on the order they came in, nor on how they
were cut into batches; every change of state comes with the exact change of the day buckets, so
buckets never have to be counted again; an order, profile or retraction counted twice changes
nothing, and neither does an occurrence, as long as the state remembers it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from segmentation.buckets import DayBucket, merge, negate
from segmentation.events import (
    ComplaintRaised,
    CustomerDescribed,
    DeliveryReported,
    Event,
    EventKey,
    EventRetracted,
    FeedbackGiven,
    OrderCancelled,
    OrderPlaced,
    ProfileValue,
    ReturnReceived,
    event_key,
)
from segmentation.fields import CustomerId
from segmentation.outcomes import AcceptedEvent


class Version(NamedTuple):
    """Which event a value comes from; the greatest wins. Code points order like UTF-8 bytes."""

    occurred_at: int
    event_id: str


class OrderKey(NamedTuple):
    customer_id: CustomerId
    order_id: str


class Reported(NamedTuple):
    """An instant that a delivery event reported, and which one did."""

    version: Version
    instant: int


class Placed(Struct, frozen=True):
    """The counting version of an order, when it is no cancellation. Money in base minor units."""

    business_day: date
    amount: int
    profit: int | None
    items: int
    parcels: int
    weight_grams: int
    promised_at: int | None
    delivered_at: int | None
    services: tuple[str, ...]
    region: str | None
    channel: str | None


class OrderState(Struct, frozen=True):
    """All that has to be known of an order to count it, whatever arrives next."""

    version: Version | None = None
    """None while only deliveries of it have been seen."""
    placed: Placed | None = None
    """None where the counting version is a cancellation."""
    promised: Reported | None = None
    """The latest delivery event's; the order's own are in `placed`."""
    delivered: Reported | None = None

    def bucket(self) -> tuple[date, DayBucket] | None:
        """What the order counts, and on which day."""
        if self.placed is None or self.version is None:
            return None
        promised_at = _latest(self.version, self.placed.promised_at, self.promised)
        delivered_at = _latest(self.version, self.placed.delivered_at, self.delivered)
        both = promised_at is not None and delivered_at is not None
        return self.placed.business_day, DayBucket(
            orders=1,
            gross_revenue=self.placed.amount,
            gross_profit=self.placed.profit or 0,
            orders_with_cost=int(self.placed.profit is not None),
            items=self.placed.items,
            parcels=self.placed.parcels,
            weight_grams=self.placed.weight_grams,
            orders_on_time=int(promised_at is not None and delivered_at is not None and delivered_at <= promised_at),
            orders_with_promise=int(both),
        )


def _latest(version: Version, own: int | None, reported: Reported | None) -> int | None:
    if own is None:
        return reported.instant if reported else None
    return reported.instant if reported and reported.version > version else own


class Occurrence(Struct, frozen=True):
    """A return, complaint or feedback: it counts by itself, unless it is retracted."""

    key: EventKey
    customer_id: CustomerId
    business_day: date
    bucket: DayBucket


class Retraction(NamedTuple):
    """What was taken back, for whom; known even before it arrives."""

    customer_id: CustomerId
    key: EventKey


Profile = Mapping[str, tuple[Version, ProfileValue]]
"""Per field of `customer` events the latest version and its value; see `CustomerDescribed.fields`."""


@dataclass(slots=True)
class Counted:
    """The state that a batch's events touch: loaded from the store, then brought up to date by `count`."""

    orders: dict[OrderKey, OrderState] = field(default_factory=dict)
    orders_before: dict[OrderKey, OrderState] = field(default_factory=dict)
    """Those that the batch changed, as they were."""
    retractions: set[Retraction] = field(default_factory=set)
    occurrences: dict[Retraction, Occurrence] = field(default_factory=dict)
    """Counted earlier, by what would take them back: those that a retraction of this batch names, and those of
    which this batch brings a repeat that nobody could recognise any more."""
    profiles: dict[CustomerId, dict[str, tuple[Version, ProfileValue]]] = field(default_factory=dict)
    bucket_changes: dict[tuple[CustomerId, date], DayBucket] = field(default_factory=dict)
    """To be merged into the stored buckets."""

    def count_anew(self) -> None:
        """Makes the bucket changes all that the orders and occurrences count, as if they had just arrived."""
        self.bucket_changes = {}
        for key, order in self.orders.items():
            counts = order.bucket()
            if counts is not None:
                self.add(key.customer_id, *counts)
        for place, occurrence in self.occurrences.items():
            if place not in self.retractions:
                self.add(place.customer_id, occurrence.business_day, occurrence.bucket)

    def add(self, customer_id: CustomerId, day: date, bucket: DayBucket) -> None:
        place = (customer_id, day)
        before = self.bucket_changes.get(place)
        self.bucket_changes[place] = bucket if before is None else merge(before, bucket)


@dataclass(frozen=True, slots=True)
class Touched:
    """What has to be loaded before a batch can be counted."""

    customers: frozenset[CustomerId]
    orders: frozenset[OrderKey]
    retractions: frozenset[Retraction]
    """Those that could take back an event of the batch, or are made by it."""
    described: frozenset[CustomerId]


def touched(applied: Iterable[AcceptedEvent]) -> Touched:
    """Says what a batch touches."""
    customers: set[CustomerId] = set()
    orders: set[OrderKey] = set()
    retractions: set[Retraction] = set()
    described: set[CustomerId] = set()
    for accepted in applied:
        event = accepted.event
        customers.add(event.customer_id)
        match event:
            case OrderPlaced() | OrderCancelled() | DeliveryReported():
                orders.add(OrderKey(event.customer_id, event.order_id))
            case ReturnReceived() | ComplaintRaised() | FeedbackGiven():
                retractions.add(Retraction(event.customer_id, accepted.key))
            case EventRetracted():
                retractions.add(Retraction(event.customer_id, event_key(event.retracts)))
            case CustomerDescribed():
                described.add(event.customer_id)
            case _:
                raise TypeError(type(event))
    return Touched(frozenset(customers), frozenset(orders), frozenset(retractions), frozenset(described))


def count(applied: Iterable[AcceptedEvent], state: Counted) -> None:
    """Brings the state up to date with events that were never counted before."""
    for accepted in applied:
        event = accepted.event
        match event:
            case OrderPlaced() | OrderCancelled() | DeliveryReported():
                _count_order(accepted, event, state)
            case ReturnReceived() | ComplaintRaised() | FeedbackGiven():
                _count_occurrence(accepted, state)
            case EventRetracted():
                _retract(event, state)
            case CustomerDescribed():
                _describe(event, state)
            case _:
                raise TypeError(type(event))


def _count_order(
    accepted: AcceptedEvent, event: OrderPlaced | OrderCancelled | DeliveryReported, state: Counted
) -> None:
    key = OrderKey(event.customer_id, event.order_id)
    before = state.orders.get(key, OrderState())
    after = _with_event(before, accepted)
    if after is before:
        return
    state.orders_before.setdefault(key, before)
    state.orders[key] = after
    old, new = before.bucket(), after.bucket()
    if old == new:
        return
    if old is not None:
        state.add(key.customer_id, old[0], negate(old[1]))
    if new is not None:
        state.add(key.customer_id, new[0], new[1])


def _with_event(state: OrderState, accepted: AcceptedEvent) -> OrderState:
    event = accepted.event
    version = Version(event.occurred_at, event.event_id)
    if isinstance(event, DeliveryReported):
        promised = _reported(state.promised, version, event.promised_at)
        delivered = _reported(state.delivered, version, event.delivered_at)
        if promised is state.promised and delivered is state.delivered:
            return state
        return replace(state, promised=promised, delivered=delivered)
    if state.version is not None and state.version >= version:
        return state
    if not isinstance(event, OrderPlaced):
        return replace(state, version=version, placed=None)
    placed = Placed(
        business_day=accepted.business_day,
        amount=accepted.amount or 0,
        profit=accepted.profit,
        items=event.items,
        parcels=event.parcels,
        weight_grams=event.weight_grams,
        promised_at=event.promised_at,
        delivered_at=event.delivered_at,
        services=event.services,
        region=event.region,
        channel=event.channel,
    )
    return replace(state, version=version, placed=placed)


def _reported(current: Reported | None, version: Version, instant: int | None) -> Reported | None:
    if instant is None or (current is not None and current.version >= version):
        return current
    return Reported(version, instant)


def occurrence_bucket(event: Event, amount: int | None) -> DayBucket | None:
    """What a return, complaint or feedback counts; None for all other events."""
    match event:
        case ReturnReceived():
            return DayBucket(returns=1, returned_amount=amount or 0)
        case ComplaintRaised():
            return DayBucket(complaints=1)
        case FeedbackGiven():
            return DayBucket(feedbacks=1, feedback_total=Fraction(event.score))
        case _:
            return None


def _count_occurrence(accepted: AcceptedEvent, state: Counted) -> None:
    event = accepted.event
    bucket = occurrence_bucket(event, accepted.amount)
    place = Retraction(event.customer_id, accepted.key)
    if bucket is None or place in state.occurrences:
        return
    state.occurrences[place] = Occurrence(accepted.key, event.customer_id, accepted.business_day, bucket)
    if place not in state.retractions:
        state.add(event.customer_id, accepted.business_day, bucket)


def _retract(event: EventRetracted, state: Counted) -> None:
    retraction = Retraction(event.customer_id, event_key(event.retracts))
    if retraction in state.retractions:
        return
    state.retractions.add(retraction)
    occurrence = state.occurrences.get(retraction)
    if occurrence is not None:
        state.add(event.customer_id, occurrence.business_day, negate(occurrence.bucket))


def _describe(event: CustomerDescribed, state: Counted) -> None:
    version = Version(event.occurred_at, event.event_id)
    profile = state.profiles.setdefault(event.customer_id, {})
    for name, value in event.fields.items():
        current = profile.get(name)
        if current is None or current[0] < version:
            profile[name] = (version, value)


def profile_fields(profile: Profile) -> dict[str, str | list[str]]:
    """The fields of a profile that have a value: `name`, `needs.basic`, `attributes.credit_hold` ..."""
    fields: dict[str, str | list[str]] = {}
    for name, (version, value) in profile.items():
        cleared = profile.get(name.partition(".")[0]) if "." in name else None
        if value is not None and not (cleared is not None and cleared[0] > version):
            fields[name] = value
    return fields
