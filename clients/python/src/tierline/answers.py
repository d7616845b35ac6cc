"""What the service answers, as frozen values.

Laws: a field that this version does not know is no error and is left out; codes are plain strings, so that a new one is
no error either; money is a Decimal, never a float.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import msgspec

_TIERS = ("A", "B", "C", "unrated")


class Answer(msgspec.Struct, frozen=True):
    """What all of them are: read-only, equal by value."""


class SegmentPart(Answer, frozen=True):
    code: str
    name: str
    since: date
    source: str
    confidence: float | None


class Override(Answer, frozen=True):
    """What a person decided over the rules."""

    tier: str | None
    service_level: str | None
    reason: str
    author: str
    expires_on: date
    set_at: datetime


class TierPart(Answer, frozen=True):
    effective: str
    computed: str
    since: date
    demotion_due: date | None
    override: Override | None


class Risk(Answer, frozen=True):
    churn_probability: float | None
    warning: bool


class Named(Answer, frozen=True):
    code: str
    name: str


class ServiceLevel(Answer, frozen=True):
    """What is to be done for a customer."""

    code: str
    name: str
    dispatch_priority: int
    actions: list[str]
    reasons: list[str]
    description: str
    response_hours: int | None
    complaint_hours: int | None
    delivery_commitment: str | None
    channel: str | None
    dedicated_manager: bool
    callback_days: int | None
    review_days: int | None
    survey_days: int | None
    offers: list[Named]
    playbooks: list[Named]
    retention_level: str | None
    owner: str | None


class Versions(Answer, frozen=True):
    policy: int
    model: int | None = None


class Segment(Answer, frozen=True):
    """Where a customer stands, and what to do for it."""

    customer_id: str
    as_of: date
    segment: SegmentPart
    lifecycle: str
    value_tier: str
    """The effective tier: A, B, C or unrated."""
    tier: TierPart
    value_level: str
    risk: Risk
    recommended_service_level: ServiceLevel
    stale: bool
    """It may be behind: the service says so, or it comes from this client's memory while the service is away."""
    versions: Versions
    updated_at: datetime


class UnknownCustomer(Answer, frozen=True):
    """A customer nobody has heard of, and the level it gets all the same."""

    customer_id: str
    recommended_service_level: ServiceLevel


class Segments(Answer, frozen=True):
    """Where many customers stand."""

    as_of: date | None
    customers: list[Segment]
    unknown: list[UnknownCustomer]

    def service_level(self, customer_id: str) -> ServiceLevel:
        """Of any customer that was asked for, known or not.

        Raises:
            KeyError: it was not asked for.
        """
        for known in self.customers:
            if known.customer_id == customer_id:
                return known.recommended_service_level
        for unknown in self.unknown:
            if unknown.customer_id == customer_id:
                return unknown.recommended_service_level
        raise KeyError(customer_id)


class Window(Answer, frozen=True):
    """What counted in one window."""

    orders: int
    gross_revenue: Decimal
    returned_amount: Decimal
    net_revenue: Decimal
    gross_profit: Decimal | None
    items: int
    parcels: int
    weight_kg: float
    returns: int
    complaints: int
    return_rate: float | None
    complaint_rate: float | None
    average_order_value: Decimal | None
    on_time_rate: float | None
    feedback_score: float | None


class Lifetime(Answer, frozen=True):
    first_order_day: date | None
    last_order_day: date | None
    orders: int
    net_revenue: Decimal
    recency_days: int | None
    mean_days_between_orders: float | None


class Metrics(Answer, frozen=True):
    """A customer's rolling figures; `windows` by 7d, 30d, 90d, 365d."""

    customer_id: str
    as_of: date
    windows: dict[str, Window]
    lifetime: Lifetime


class Gap(Answer, frozen=True):
    """How far a neighbouring tier is."""

    tier: str
    amount: Decimal


class TierExplanation(Answer, frozen=True):
    effective: str
    computed: str
    decided_by: str
    since: date
    basis: str
    unit: str
    value: Decimal | None
    next: Gap | None
    previous: Gap | None
    grace_days: int
    demotion_due: date | None
    words: list[str]


class LifecycleExplanation(Answer, frozen=True):
    stage: Named
    rhythm_days: int
    moves_on: date | None
    moves_to: Named | None
    words: list[str]


class ValueExplanation(Answer, frozen=True):
    level: str
    contribution: str
    potential: str
    words: list[str]


class Decision(Answer, frozen=True):
    """What a table of the policy decided, or a person over it."""

    code: str
    name: str
    decided_by: str
    reasons: list[str]
    words: list[str]


class Explanation(Answer, frozen=True):
    """Why a customer stands where it stands; `words` are sentences for people."""

    customer_id: str
    as_of: date
    tier: TierExplanation
    lifecycle: LifecycleExplanation
    value_level: ValueExplanation
    segment: Decision
    service_level: Decision
    stale: bool
    versions: Versions


class CutOff(Answer, frozen=True):
    """The last customer inside a tier."""

    net_revenue: Decimal
    customer_id: str


class TierCount(Answer, frozen=True):
    tier: str
    customers: int
    net_revenue: Decimal
    share: float | None


class Tiers(Answer, frozen=True):
    """The ranking of everyone, by computed tier."""

    as_of: date | None
    basis: str
    total: Decimal
    cutoffs: dict[str, CutOff | None]
    tiers: list[TierCount]


class Order(Answer, frozen=True, omit_defaults=True):
    """An order that waits for dispatch."""

    order_id: str
    customer_id: str
    promised_at: datetime | None = None
    waiting_since: datetime | None = None


class Place(Answer, frozen=True):
    """Where an order stands, and why."""

    order_id: str
    customer_id: str
    known: bool
    rank: int
    priority: int
    value_tier: str
    service_level: str
    reasons: list[str]


class Ranking(Answer, frozen=True):
    """Orders in rank order: the first goes first."""

    as_of: date | None
    at: datetime
    scale: str
    stale: bool
    versions: Versions
    orders: list[Place]


class EventOutcome(Answer, frozen=True):
    """What became of one event."""

    index: int
    """Its place among those sent, from 0."""
    event_id: str | None
    outcome: str
    """applied, duplicate, rejected or suppressed."""
    reason: str | None
    field: str | None
    detail: str | None


class Erasure(Answer, frozen=True):
    """What an erasure did."""

    customer_id: str
    erased_at: datetime
    already: bool
    rows: dict[str, int]


class Side(Answer, frozen=True):
    """Where a customer stood before a change, or stands after it: codes."""

    value_tier: str
    segment: str
    service_level: str
    churn_warning: bool = False


class Change(Answer, frozen=True):
    """A customer's tier, segment, service level or churn warning became another; or the customer was erased."""

    sequence: int
    customer_id: str
    as_of: date | None = None
    before: Side | None = None
    """None for a customer heard of for the first time."""
    after: Side | None = None
    """None for a customer who was erased: forget what you keep of it."""
    reasons: list[str] = []

    @property
    def erased(self) -> bool:
        """Whether the customer was erased."""
        return self.after is None

    @property
    def tier(self) -> str | None:
        """The effective tier from now on."""
        return None if self.after is None else self.after.value_tier

    @property
    def promoted(self) -> bool:
        """Whether the effective tier became a better one."""
        if self.before is None or self.after is None:
            return False
        before, after = self.before.value_tier, self.after.value_tier
        return before in _TIERS and after in _TIERS and _TIERS.index(after) < _TIERS.index(before)


class CustomersPage(Answer, frozen=True):
    as_of: date | None
    customers: list[Segment]
    next: str | None


class HistorySide(Answer, frozen=True):
    """Where a customer stood."""

    value_tier: str
    computed_tier: str
    lifecycle: Named
    segment: Named
    service_level: Named


class HistoryEntry(Answer, frozen=True):
    """One thing that happened to a customer."""

    as_of: date
    recorded_at: datetime
    kind: str
    before: HistorySide | None
    after: HistorySide | None
    reasons: list[str]
    override: Override | None
    author: str | None
    reason: str | None


class HistoryPage(Answer, frozen=True):
    history: list[HistoryEntry]
    next: str | None


class EventsAnswer(Answer, frozen=True):
    validate_only: bool
    events: list[EventOutcome]
