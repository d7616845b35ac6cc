"""Every message ends in exactly one outcome: applied, duplicate, rejected or suppressed.

Laws: the tests run in the contract's order and the first that hits decides; an event id is known
once applied, so the repeat of a rejected message is rejected again; the counts of a batch add up
to its messages.

The store has one part in the decision: of the events that `judge` finds acceptable it says which
ids are new. So judging has two halves, before and after that answer.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from msgspec import Struct

from segmentation.calendar import MICROSECONDS, BusinessCalendar, format_instant, parse_instant
from segmentation.envelopes import Headers
from segmentation.events import Event, EventKey, OrderPlaced, Reject, RejectReason, ReturnReceived, fingerprint
from segmentation.fields import CustomerId
from segmentation.money import Rates

FUTURE_SECONDS: Final = 300
_FIRST_INSTANT: Final = parse_instant("1990-01-01T00:00:00Z") or 0


class Outcome(enum.StrEnum):
    """What became of a message."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    SUPPRESSED = "suppressed"


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Delivery(Struct, frozen=True):
    """One record of the broker, as received."""

    partition: Partition
    offset: int
    value: bytes | None
    headers: Headers = ()

    @property
    def fingerprint(self) -> bytes:
        """Of its content; only for what was decoded to an event. It costs more than decoding, and few need it."""
        return fingerprint(self.value or b"", self.headers)


class Reading(Struct, frozen=True):
    """A delivery and what it was decoded to."""

    delivery: Delivery
    decoded: Event | Reject


class AcceptedEvent(Struct, frozen=True):
    """An event that may be applied, dated and priced. Money in base minor units."""

    delivery: Delivery
    event: Event
    key: EventKey
    occurred_day: date
    business_day: date
    """The day it counts on: of an order's `ordered_at`, of anything else's `occurred_at`."""
    amount: int | None = None
    profit: int | None = None
    """Amount less cost, converted as one amount; None for an order without a cost."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What can be said of a batch before the store says which ids it knows."""

    verdicts: Sequence[tuple[Reading, AcceptedEvent | Reject | None]]
    """In order of reading; None is suppressed."""
    candidates: Mapping[EventKey, AcceptedEvent]
    """Per event id the first acceptable message: the one to apply if the id is new."""
    keys: AbstractSet[EventKey]
    """Every id in the batch that a known event could have."""


@dataclass(slots=True)
class Settled:
    """The final outcomes of a batch."""

    applied: list[AcceptedEvent] = field(default_factory=list)
    rejects: list[tuple[Delivery, Reject]] = field(default_factory=list)
    counts: dict[Partition, Counter[Outcome]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    """Of every message, in order of reading."""

    def totals(self) -> Counter[Outcome]:
        """The counts of all partitions together."""
        totals: Counter[Outcome] = Counter()
        for counts in self.counts.values():
            totals.update(counts)
        return totals


def customers_named(readings: Iterable[Reading]) -> set[CustomerId]:
    """Every customer whose suppression decides over a message."""
    return {reading.decoded.customer_id for reading in readings if reading.decoded.customer_id is not None}


def judge(
    readings: Iterable[Reading],
    *,
    suppressed: AbstractSet[CustomerId],
    rates: Rates,
    calendar: BusinessCalendar,
    now: int,
) -> Judgement:
    """All tests but those for known ids. `now` is the machine's clock as an instant."""
    verdicts: list[tuple[Reading, AcceptedEvent | Reject | None]] = []
    candidates: dict[EventKey, AcceptedEvent] = {}
    keys: set[EventKey] = set()
    for reading in readings:
        decoded = reading.decoded
        verdict: AcceptedEvent | Reject | None
        if decoded.customer_id in suppressed:
            verdict = None
        elif isinstance(decoded, Reject):
            verdict = decoded
        else:
            key = decoded.key
            keys.add(key)
            verdict = accept(reading.delivery, decoded, key=key, rates=rates, calendar=calendar, now=now)
            if isinstance(verdict, AcceptedEvent):
                candidates.setdefault(key, verdict)
        verdicts.append((reading, verdict))
    return Judgement(verdicts, candidates, keys)


def settle(judgement: Judgement, *, new: AbstractSet[EventKey], known: Mapping[EventKey, bytes]) -> Settled:
    """The outcomes, once the store has said which candidates' ids are new and what the known ones hold.

    Args:
        judgement: Of `judge`.
        new: Keys of the candidates that were not known.
        known: Fingerprints by key of all others in `judgement.keys` that are known.
    """
    settled = Settled()
    fingerprints = dict(known)
    applied: dict[EventKey, Delivery] = {}
    for reading, verdict in judgement.verdicts:
        decoded, final = reading.decoded, verdict
        outcome = Outcome.SUPPRESSED if verdict is None else Outcome.REJECTED
        if verdict is not None and not isinstance(decoded, Reject):
            key = verdict.key if isinstance(verdict, AcceptedEvent) else decoded.key
            if key in applied and key not in fingerprints:
                fingerprints[key] = applied[key].fingerprint
            if key in fingerprints:
                same = fingerprints[key] == reading.delivery.fingerprint
                outcome = Outcome.DUPLICATE if same else Outcome.REJECTED
                final = _conflict(decoded) if not same else None
            elif isinstance(verdict, AcceptedEvent) and key in new:
                outcome = Outcome.APPLIED
                applied[key] = reading.delivery
                settled.applied.append(verdict)
        if outcome is Outcome.REJECTED and isinstance(final, Reject):
            settled.rejects.append((reading.delivery, final))
        settled.counts.setdefault(reading.delivery.partition, Counter())[outcome] += 1
        settled.outcomes.append(outcome)
    return settled


def accept(
    delivery: Delivery, event: Event, *, key: EventKey, rates: Rates, calendar: BusinessCalendar, now: int
) -> AcceptedEvent | Reject:
    """Dates and prices an event, or says why it cannot count."""
    counts_at = event.occurred_at
    instants = [("occurred_at", event.occurred_at)]
    if isinstance(event, OrderPlaced) and event.ordered_at is not None:
        counts_at = event.ordered_at
        instants.append(("ordered_at", event.ordered_at))
    for name, instant in instants:
        if instant < _FIRST_INSTANT:
            sentence = f"{name} is {format_instant(instant)}, before 1990-01-01T00:00Z; correct it."
            return _refuse(event, RejectReason.TOO_OLD, name, sentence)
    for name, instant in instants:
        if instant > now + FUTURE_SECONDS * MICROSECONDS:
            return _refuse(
                event,
                RejectReason.FUTURE,
                name,
                f"{name} is {format_instant(instant)}, more than {FUTURE_SECONDS} s ahead of the clock here; "
                "check the sender's clock.",
            )
    business_day = calendar.business_day(counts_at)
    occurred_day = business_day if counts_at == event.occurred_at else calendar.business_day(event.occurred_at)
    amount = profit = None
    if isinstance(event, (OrderPlaced, ReturnReceived)):
        rate = rates.find(event.currency, business_day)
        if rate is None:
            return _refuse(
                event,
                RejectReason.UNKNOWN_CURRENCY,
                "currency",
                f"currency is {event.currency}, which has no rate into {rates.base_currency} on or before "
                f"{business_day}; load one with `ingest-worker load-rates`, then send the event again.",
            )
        amount = rates.convert(event.amount, rate)
        if isinstance(event, OrderPlaced) and event.cost is not None:
            profit = rates.convert(event.amount - event.cost, rate)
    return AcceptedEvent(delivery, event, key, occurred_day, business_day, amount, profit)


def _refuse(event: Event, reason: RejectReason, field_name: str, sentence: str) -> Reject:
    return Reject(reason, sentence, field=field_name, customer_id=event.customer_id, event_id=event.event_id)


def _conflict(event: Event) -> Reject:
    return _refuse(
        event,
        RejectReason.CONFLICTING_DUPLICATE,
        "event_id",
        f"event_id is {event.event_id!r}, which is known with other content; "
        "send a correction as an event of its own id.",
    )
