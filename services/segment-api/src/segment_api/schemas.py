"""The answers, as they go over the wire. Codes never change with the language, names do."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer


def _example(example: Any) -> ConfigDict:  # noqa: ANN401 - any JSON value
    return ConfigDict(json_schema_extra={"example": example})


def _utc_text(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate is no text; send valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("U+0000 cannot be stored; leave it out")
    return _encodable(text)


Line = Annotated[str, AfterValidator(_storable)]
Moment = Annotated[datetime, PlainSerializer(_utc_text, return_type=str)]
Money = Annotated[str, Field(description="Decimal string with exactly the base currency's decimals.")]
AsOf = Annotated[date, Field(description="The business day that the answer is computed for.")]


class SegmentPart(BaseModel):
    """The behaviour segment that a customer is in."""

    code: str = Field(description="Stable code.")
    name: str = Field(description="Name in the language of `Accept-Language` (en, zh).")
    since: date = Field(description="The business day since which it has been this one.")
    source: str = Field(description="`rules`, or the model that decided.")
    confidence: float | None = Field(description="How sure a model is; null for rules.")


class OverridePart(BaseModel):
    """What a person decided over the rules."""

    tier: str | None = Field(description="The tier given by hand; null where the rules decide.")
    service_level: str | None = Field(description="Code of the level given by hand; null where the policy decides.")
    reason: str = Field(description="Why, in the author's words.")
    author: str = Field(description="Who set it.")
    expires_on: date = Field(description="The first business day on which it no longer counts.")
    set_at: Moment = Field(description="When it was set, by the machine's clock.")


class TierPart(BaseModel):
    """The value tier, and what moves it."""

    effective: str = Field(description="The tier that counts: A, B, C or unrated.")
    computed: str = Field(description="The tier that the ranking of everyone gives right now.")
    since: date = Field(description="The business day since which the effective tier has stood.")
    demotion_due: date | None = Field(description="The day on which the effective tier falls if nothing changes.")
    override: OverridePart | None = Field(
        description="A manual override of the tier, of the service level, or of both, while it counts."
    )


class RiskPart(BaseModel):
    """How likely the customer is to leave."""

    churn_probability: float | None = Field(description="Of a model; null while none is active.")


class NamedPart(BaseModel):
    """A code with its name in the language asked for."""

    code: str = Field(description="Stable code.")
    name: str = Field(description="Name in the language of `Accept-Language` (en, zh).")


class PlaybookPart(NamedPart):
    """How customers of an industry are served."""

    description: str = Field(description="What it is about, in the language asked for.")


class AdditionPart(NamedPart):
    """Something added to the service level, and why."""

    reasons: list[str] = Field(description="What added it, in words.")


class RelationshipPart(BaseModel):
    """The relationship strategy, and the two axes that it follows from."""

    strategy: str = Field(
        description="product_sales, service_support, customer_marketing or individualised_relationship."
    )
    name: str = Field(description="Name in the language of `Accept-Language` (en, zh).")
    knowledge: float = Field(description="How much of what can be known about the customer is known.", ge=0, le=1)
    individualisation: float = Field(description="How individual the service is.", ge=0, le=1)


class ServiceLevelPart(BaseModel):
    """What is to be done for a customer: the level, and what is added to it."""

    code: str = Field(description="Stable code.")
    name: str = Field(description="Name in the language of `Accept-Language` (en, zh).")
    dispatch_priority: int = Field(description="0 to 100; the highest goes first.", ge=0, le=100)
    actions: list[str] = Field(description="What is done for the customer, as codes.")
    reasons: list[str] = Field(description="What granted the level, in words.")
    description: str = Field(description="What the level is about.")
    response_hours: int | None = Field(description="A question is answered within so many hours.")
    complaint_hours: int | None = Field(description="A complaint is settled within so many hours.")
    delivery_commitment: str | None = Field(description="What is promised about delivery, in words.")
    channel: str | None = Field(description="How the customer is looked after, as a code.")
    dedicated_manager: bool = Field(description="Whether somebody of ours is there for this customer.")
    callback_days: int | None = Field(description="At least one call-back every so many days.")
    review_days: int | None = Field(description="At least one review with the customer every so many days.")
    survey_days: int | None = Field(description="At least one survey every so many days.")
    offers: list[NamedPart] = Field(description="What may be offered; to private persons never another price.")
    playbooks: list[PlaybookPart] = Field(description="How customers of this kind are served.")
    retention_level: str | None = Field(description="By what the customer is bound: financial, social or structural.")
    owner: str | None = Field(description="The role that has to see to it, such as of a retention plan.")
    additions: list[AdditionPart] = Field(description="What is added to the level; all above has it in it.")
    relationship: RelationshipPart = Field(description="The strategy that knowledge and service lead to.")


class VersionsPart(BaseModel):
    """What decided."""

    policy: int = Field(description="Version of the policy that decided.")
    model: int | None = Field(description="Version of the model that decided; null while none is active.")


_VIP_EXAMPLE = {
    "code": "vip",
    "name": "VIP",
    "dispatch_priority": 95,
    "actions": ["dedicated_manager", "fast_response", "first_in_dispatch"],
    "reasons": ["tier A"],
    "description": "Dedicated manager, fast response, first in dispatch.",
    "response_hours": 1,
    "complaint_hours": 4,
    "delivery_commitment": "Guaranteed time windows, told at once if one is at risk",
    "channel": "account_manager",
    "dedicated_manager": True,
    "callback_days": 30,
    "review_days": 90,
    "survey_days": 90,
    "offers": [{"code": "customised_solution", "name": "Customised logistics solution"}],
    "playbooks": [{"code": "retail", "name": "Fast and precise", "description": "Store time windows."}],
    "retention_level": "structural",
    "owner": None,
    "additions": [{"code": "retail", "name": "Retail", "reasons": ["industry retail", "tier A"]}],
    "relationship": {
        "strategy": "individualised_relationship",
        "name": "Individualised relationship",
        "knowledge": 0.7777777777777778,
        "individualisation": 1.0,
    },
}
_WELCOME_EXAMPLE = {
    "code": "welcome",
    "name": "Welcome",
    "dispatch_priority": 50,
    "actions": ["welcome_contact", "onboarding"],
    "reasons": ["unknown customer"],
    "description": "A good first impression while there is no rating yet.",
    "response_hours": 8,
    "complaint_hours": 24,
    "delivery_commitment": "Standard transit times",
    "channel": "service_desk",
    "dedicated_manager": False,
    "callback_days": None,
    "review_days": None,
    "survey_days": None,
    "offers": [],
    "playbooks": [],
    "retention_level": None,
    "owner": None,
    "additions": [],
    "relationship": {
        "strategy": "product_sales",
        "name": "Product sales",
        "knowledge": 0.0,
        "individualisation": 0.0,
    },
}
_SEGMENT_EXAMPLE = {
    "customer_id": "C-1042",
    "as_of": "2026-11-22",
    "segment": {
        "code": "strategic",
        "name": "Strategic partner",
        "since": "2026-10-02",
        "source": "rules",
        "confidence": None,
    },
    "lifecycle": "active",
    "value_tier": "A",
    "tier": {"effective": "A", "computed": "A", "since": "2026-06-14", "demotion_due": None, "override": None},
    "value_level": "high",
    "risk": {"churn_probability": None},
    "recommended_service_level": _VIP_EXAMPLE,
    "stale": False,
    "versions": {"policy": 1, "model": None},
    "updated_at": "2026-11-22T08:15:30.120Z",
}


class SegmentAnswer(BaseModel):
    """Where a customer stands, and what to do for it."""

    model_config = _example(_SEGMENT_EXAMPLE)

    customer_id: str
    as_of: AsOf
    segment: SegmentPart
    lifecycle: str = Field(description="prospect, new, active, at_risk, dormant, lost or won_back.")
    value_tier: str = Field(description="The effective tier: A, B, C or unrated.")
    tier: TierPart
    value_level: str = Field(description="high, medium or low: contribution and potential together.")
    risk: RiskPart
    recommended_service_level: ServiceLevelPart
    stale: bool = Field(
        description="True only where tier or segment rest on cut-offs older than `as_of`, or more than a second "
        "behind the events applied."
    )
    versions: VersionsPart
    updated_at: Moment = Field(description="When this assessment was made, by the machine's clock.")


class WindowFigures(BaseModel):
    """What counted in one window."""

    orders: int
    gross_revenue: Money
    returned_amount: Money
    net_revenue: Money = Field(description="Gross revenue less returned amount.")
    gross_profit: Money | None = Field(description="Over orders with a cost; null where none has one.")
    items: int = Field(description="Ordered items.")
    parcels: int
    weight_kg: float
    returns: int
    complaints: int
    return_rate: float | None = Field(description="Returns / orders; null without orders.")
    complaint_rate: float | None = Field(description="Complaints / orders; null without orders.")
    average_order_value: Money | None = Field(description="Gross revenue / orders; null without orders.")
    on_time_rate: float | None = Field(
        description="Orders delivered at or before the promised instant / orders that have both; null without any."
    )
    feedback_score: float | None = Field(description="Mean score, all kinds together; null without feedback.")


class LifetimeFigures(BaseModel):
    """What counted up to `as_of`."""

    first_order_day: date | None
    last_order_day: date | None
    orders: int
    net_revenue: Money
    recency_days: int | None = Field(description="Days since the last order; null without orders.")
    mean_days_between_orders: float | None = Field(description="Null with fewer than two order days.")


_WINDOW_EXAMPLE = {
    "orders": 12,
    "gross_revenue": "4810.00",
    "returned_amount": "120.50",
    "net_revenue": "4689.50",
    "gross_profit": None,
    "items": 340,
    "parcels": 41,
    "weight_kg": 812.5,
    "returns": 1,
    "complaints": 0,
    "return_rate": 0.08333333333333333,
    "complaint_rate": 0.0,
    "average_order_value": "400.83",
    "on_time_rate": 0.9166666666666666,
    "feedback_score": 8.5,
}


class MetricsAnswer(BaseModel):
    """A customer's rolling figures."""

    model_config = _example(
        {
            "customer_id": "C-1042",
            "as_of": "2026-11-22",
            "windows": dict.fromkeys(("7d", "30d", "90d", "365d"), _WINDOW_EXAMPLE),
            "lifetime": {
                "first_order_day": "2025-02-11",
                "last_order_day": "2026-11-20",
                "orders": 97,
                "net_revenue": "40112.70",
                "recency_days": 2,
                "mean_days_between_orders": 6.75,
            },
        }
    )

    customer_id: str
    as_of: AsOf
    windows: dict[str, WindowFigures] = Field(description="By window: 7d, 30d, 90d, 365d, each up to `as_of`.")
    lifetime: LifetimeFigures


class SegmentsQuestion(BaseModel):
    """Whose segments are wanted."""

    model_config = _example({"customer_ids": ["C-1042", "nobody"]})

    customer_ids: list[Text] = Field(max_length=10_000, description="Up to 10,000 customer ids.")


class UnknownCustomer(BaseModel):
    """A customer nobody has heard of, and what it gets all the same."""

    customer_id: str
    recommended_service_level: ServiceLevelPart


class SegmentsAnswer(BaseModel):
    """Where many customers stand."""

    model_config = _example(
        {
            "as_of": "2026-11-22",
            "customers": [_SEGMENT_EXAMPLE],
            "unknown": [
                {
                    "customer_id": "nobody",
                    "recommended_service_level": _WELCOME_EXAMPLE,
                }
            ],
        }
    )

    as_of: date | None = Field(description="The business day of all answers; null before the first event.")
    customers: list[SegmentAnswer] = Field(description="In the order asked for, each once.")
    unknown: list[UnknownCustomer] = Field(description="At the policy's default level; never an error.")


class CutOff(BaseModel):
    """The last customer inside a tier."""

    net_revenue: Money = Field(description="Its value on the basis of the tiers, over 365 days.")
    customer_id: str


class TierCount(BaseModel):
    """One tier's part of everyone, by computed tier."""

    tier: str
    customers: int
    net_revenue: Money = Field(description="Sum of the values on the basis of the tiers, over 365 days.")
    share: float | None = Field(description="Of the total; null for the unrated and where nobody is ranked.")


class ParetoPoint(BaseModel):
    """The best customers and what they make."""

    customers_share: float = Field(description="Share of the ranked customers, best first.")
    revenue_share: float = Field(description="Share of the total that they make.")


class TiersAnswer(BaseModel):
    """The ranking of everyone, as last settled."""

    model_config = _example(
        {
            "as_of": "2026-11-22",
            "basis": "net_revenue",
            "total": "8008923.52",
            "cutoffs": {
                "A": {"net_revenue": "1447.14", "customer_id": "14591"},
                "B": {"net_revenue": "455.30", "customer_id": "15585"},
            },
            "tiers": [{"tier": "A", "customers": 1170, "net_revenue": "6408408.01", "share": 0.8001584}],
            "pareto": [{"customers_share": 0.0502, "revenue_share": 0.4812}],
        }
    )

    as_of: date | None = Field(description="The business day that the cut-offs were settled for; null before any.")
    basis: str = Field(description="What customers are ranked by: net_revenue, gross_profit or orders.")
    total: Money = Field(description="Over all ranked customers.")
    cutoffs: dict[str, CutOff | None] = Field(description="The last customer inside A, and inside B.")
    tiers: list[TierCount]
    pareto: list[ParetoPoint] = Field(description="Points of the curve, best customers first.")


class HaltAnswer(BaseModel):
    """Why a partition stands still, and how it goes on."""

    at: Moment = Field(description="When it halted, by the machine's clock.")
    offset: int = Field(description="Of the last message read before the halt.")
    detail: str = Field(description="What was too many.")
    reasons: dict[str, int] = Field(description="How many of those messages were rejected for which reason.")
    remedy: str = Field(description="What to do.")


class PartitionAnswer(BaseModel):
    """How far one partition was read."""

    topic: str
    partition: int
    next_offset: int = Field(description="The next message to read.")
    end_offset: int = Field(description="Where the partition ends, as last seen by the worker.")
    lag: int = Field(description="Messages not yet read.")
    worker: str | None = Field(
        description="Who reads it; null where nobody does, or who did has given no sign of life for ten seconds."
    )
    halted: HaltAnswer | None = Field(
        description="Set where too many of its messages were rejected: nothing is read until an operator resumes it."
    )


class WaitAnswer(BaseModel):
    """What a part of a worker waits for."""

    part: str = Field(description="consumer, subscription, watchdog, keeper or relay.")
    awaited: str = Field(alias="for", description="database, broker, partitions, topics, position, messages or repair.")
    since: Moment = Field(description="By the clock of the worker's machine.")
    detail: str = Field(description="What was said of it.")


class WorkerAnswer(BaseModel):
    """A worker that has not ended in order; one that is gone is forgotten after an hour."""

    worker: str = Field(description="Machine, process id, and some letters of its own.")
    started_at: Moment = Field(description="By the clock of the database.")
    seen_at: Moment = Field(description="When it last gave a sign of life, by the clock of the database.")
    waiting_for: list[WaitAnswer] = Field(description="Empty while it works.")


class EventCounts(BaseModel):
    """Every message read ended as exactly one of these."""

    applied: int
    duplicate: int
    rejected: int
    suppressed: int


class TiersFreshness(BaseModel):
    """How far the cut-offs have come."""

    as_of: date | None = Field(description="The business day that the cut-offs were settled for.")
    current: bool = Field(description="True once the cut-offs cover every event applied.")


_FULL_SNAPSHOT_EXAMPLE = {
    "snapshot_id": "17.1",
    "requested_at": "2026-11-22T08:00:00.000Z",
    "begun_at": "2026-11-22T08:00:00.500Z",
    "done_at": "2026-11-22T08:00:03.200Z",
    "customers": 5942,
}


class FullSnapshotAnswer(BaseModel):
    """Where everyone stands, sent to the topic of changes."""

    model_config = _example(_FULL_SNAPSHOT_EXAMPLE)

    snapshot_id: str | None = Field(
        description="What its messages call it; another one for each attempt, null before the first."
    )
    requested_at: Moment = Field(description="When it was asked for, by a person or by the schedule.")
    begun_at: Moment | None = Field(description="When the last attempt began; null while nobody has begun it.")
    done_at: Moment | None = Field(description="When its end markers were on the topic; null before.")
    customers: int = Field(description="Customers on the topic so far, in the last attempt.")


class FullSnapshotsAnswer(BaseModel):
    """Full snapshots, those last asked for first."""

    model_config = _example({"full_snapshots": [_FULL_SNAPSHOT_EXAMPLE]})

    full_snapshots: list[FullSnapshotAnswer]


class IngestAnswer(BaseModel):
    """How ingestion stands: exact counts, in step with the data."""

    model_config = _example(
        {
            "clock": "system",
            "as_of": "2026-11-22",
            "lag": 0,
            "partitions": [
                {
                    "topic": "logistics.orders",
                    "partition": 0,
                    "next_offset": 9244,
                    "end_offset": 9244,
                    "lag": 0,
                    "worker": "host-a-4711-9f3c2e10",
                    "halted": None,
                }
            ],
            "workers": [
                {
                    "worker": "host-a-4711-9f3c2e10",
                    "started_at": "2026-11-22T07:00:00.000Z",
                    "seen_at": "2026-11-22T08:15:31.005Z",
                    "waiting_for": [],
                }
            ],
            "events": {"applied": 44876, "duplicate": 0, "rejected": 0, "suppressed": 0},
            "customers": 5942,
            "tiers": {"as_of": "2026-11-22", "current": True},
            "last_applied_at": "2026-11-22T08:15:30.120Z",
            "events_known_since": "2025-10-18",
        }
    )

    clock: str = Field(description="`system`: as_of is today; `event`: it follows the events.")
    as_of: date | None = Field(description="The current business day; null before the first event.")
    lag: int = Field(description="Messages not yet read, over all partitions.")
    partitions: list[PartitionAnswer]
    workers: list[WorkerAnswer] = Field(description="Who reads, since when, and what each waits for.")
    events: EventCounts
    customers: int = Field(description="Known customers.")
    tiers: TiersFreshness
    last_applied_at: Moment | None = Field(description="When an event was last applied, by the machine's clock.")
    events_known_since: date | None = Field(
        description="Raw events of earlier days may have been dropped: a repeat of one is not recognised as a "
        "duplicate any more. It is counted as applied again, and changes no figure of a customer. Null while none was "
        "dropped."
    )


_DEAD_LETTER_EXAMPLE = {
    "id": 17,
    "reason": "schema",
    "field": "amount",
    "detail": "amount is '-5'; an amount is expected, 0 or more, ...",
    "topic": "logistics.orders",
    "partition": 3,
    "offset": 1204,
    "customer_id": "C-1042",
    "event_id": "evt-881",
    "recorded_at": "2026-11-22T08:15:30.120Z",
    "replayed_as": None,
    "replayed_at": None,
}


class DeadLetterAnswer(BaseModel):
    """A rejected message: why, and where it came from."""

    model_config = _example(_DEAD_LETTER_EXAMPLE)

    id: int = Field(description="Under which the message is kept here.")
    reason: str = Field(description="Reason code, such as schema or unknown_currency.")
    field: str | None = Field(description="The field that is wrong, where it is one.")
    detail: str = Field(description="The field, its value, and what to send instead.")
    topic: str
    partition: int
    offset: int
    customer_id: str | None = Field(description="As far as one could be read.")
    event_id: str | None = Field(description="As far as one could be read.")
    recorded_at: Moment = Field(description="When it was refused, by the machine's clock.")
    replayed_as: str | None = Field(
        description="Its outcome since a replay succeeded: applied, duplicate or suppressed."
    )
    replayed_at: Moment | None = Field(description="When it was last replayed.")


class DeadLetterDetail(DeadLetterAnswer):
    """A rejected message with its bytes."""

    model_config = _example(
        _DEAD_LETTER_EXAMPLE
        | {
            "value_base64": "eyJldmVudF9pZCI6ImV2dC04ODEifQ==",
            "value_text": '{"event_id":"evt-881"}',
            "headers": [{"name": "trace", "value_base64": "YWJj"}],
        }
    )

    value_base64: str | None = Field(description="The bytes as received; null for an empty message.")
    value_text: str | None = Field(description="The same as text, where they are UTF-8.")
    headers: list[dict[str, str | None]] = Field(description="Message headers: name, and value in base64.")


class ReplayAnswer(BaseModel):
    """What a replay made of a rejected message."""

    model_config = _example({"id": 17, "outcome": "applied", "reason": None, "detail": None})

    id: int = Field(description="Of the dead letter.")
    outcome: str = Field(description="applied, duplicate, suppressed, or rejected again.")
    reason: str | None = Field(description="Why it is still rejected.")
    detail: str | None = Field(description="The field, its value, and what to send instead.")


class AppliedPart(BaseModel):
    """The message of an event id that was applied."""

    type: str = Field(description="order, return, complaint, ...")
    customer_id: str
    business_day: date = Field(description="The day that it counts on.")
    topic: str
    partition: int
    offset: int
    recorded_at: Moment = Field(description="When it was applied, by the database's clock.")
    counts: bool = Field(description="False for an older version of an order, and for what was retracted.")
    counting_event_id: str | None = Field(description="The event that counts in its place; null where retracted.")


class DeadLettersAnswer(BaseModel):
    """Rejected messages, newest first."""

    model_config = _example({"dead_letters": [_DEAD_LETTER_EXAMPLE], "next": "/dead-letters?limit=1&before=17"})

    dead_letters: list[DeadLetterAnswer]
    next: str | None = Field(description="Path of the next page; null on the last one.")


class EventAnswer(BaseModel):
    """What became of an event id."""

    model_config = _example(
        {
            "event_id": "evt-4711",
            "outcome": "applied",
            "applied": {
                "type": "order",
                "customer_id": "C-1042",
                "business_day": "2026-11-22",
                "topic": "logistics.orders",
                "partition": 3,
                "offset": 1204,
                "recorded_at": "2026-11-22T08:15:30.120Z",
                "counts": True,
                "counting_event_id": "evt-4711",
            },
            "rejections": [],
        }
    )

    event_id: str = Field(description="As asked for.")
    outcome: str = Field(description="applied, or rejected where no message of this id was ever applied.")
    applied: AppliedPart | None = Field(description="The message that was applied; its repeats are duplicates.")
    rejections: list[DeadLetterAnswer] = Field(description="The newest messages of this id that were refused.")


class TotalPart(BaseModel):
    """What was applied of one business day, type and currency."""

    business_day: date = Field(description="The day that the events count on.")
    type: str = Field(description="order, return, complaint, ...")
    currency: str | None = Field(description="As given in the events; null for types without an amount.")
    events: int = Field(description="Applied events; every version of an order is one.")
    amount: str | None = Field(description="Sum in that currency, as given; null for types without an amount.")


class TotalsAnswer(BaseModel):
    """What was applied, to set against the books."""

    model_config = _example(
        {
            "from": "2026-11-21",
            "to": "2026-11-22",
            "totals": [
                {"business_day": "2026-11-22", "type": "order", "currency": "CNY", "events": 2, "amount": "120.50"}
            ],
        }
    )

    first: date = Field(alias="from", description="The first business day.")
    last: date = Field(alias="to", description="The last business day.")
    totals: list[TotalPart] = Field(description="In order of day, type and currency.")


class HealthAnswer(BaseModel):
    """The service answers."""

    model_config = _example({"status": "ready"})

    status: str = Field(description="live, or ready.")


_ACTIVATION_EXAMPLE = {
    "version": 4,
    "on": "2026-12-01",
    "author": "li.wei",
    "reason": "Winter contracts begin.",
    "requested_at": "2026-11-22T08:15:30.120Z",
    "activated_at": None,
    "cancelled_at": None,
    "replaced_version": None,
}
_POLICY_EXAMPLE = {
    "version": 4,
    "state": "scheduled",
    "origin": "api",
    "author": "li.wei",
    "note": "More for pharma.",
    "created_at": "2026-11-22T08:10:00.000Z",
    "activated_at": None,
    "scheduled_on": "2026-12-01",
}


class PolicyDraft(BaseModel):
    """A draft of the policy."""

    model_config = _example({"source": 'name = "Autumn policy" ...', "author": "li.wei", "note": "More for pharma."})

    source: Line = Field(max_length=1_000_000, description="The whole policy, as TOML.")
    author: Line | None = Field(None, min_length=1, max_length=200, description="Who wrote it.")
    note: Line | None = Field(None, max_length=2_000, description="What it is for.")


class ActivationQuestion(BaseModel):
    """How a version is to be put in force."""

    model_config = _example({"on": "2026-12-01", "author": "li.wei", "reason": "Winter contracts begin."})

    on: date | None = Field(None, description="From which business day on; at once without it, or where it has come.")
    author: Line = Field("unknown", min_length=1, max_length=200, description="Who wants it.")
    reason: Line | None = Field(None, max_length=2_000, description="Why.")


class ActivationAnswer(BaseModel):
    """That a version was put in force, or is to be."""

    model_config = _example(_ACTIVATION_EXAMPLE)

    version: int = Field(description="The version of the policy.")
    on: date | None = Field(description="From which business day it was wanted; null for at once.")
    author: str = Field(description="Who wanted it; POLICY_FILE for what a worker brought.")
    reason: str | None = Field(description="Why.")
    requested_at: Moment = Field(description="When it was asked for.")
    activated_at: Moment | None = Field(description="When it was put in force; null while its day has not come.")
    cancelled_at: Moment | None = Field(description="When it was taken back, if it was.")
    replaced_version: int | None = Field(description="The version that was in force before.")


class PolicyAnswer(BaseModel):
    """A version of the policy."""

    version: int = Field(description="The version's number.")
    state: str = Field(description="draft, scheduled, active or retired.")
    origin: str = Field(description="shipped with the product, from a worker's file, or by the api.")
    author: str | None = Field(description="Who wrote it.")
    note: str | None = Field(description="What it is for.")
    created_at: Moment = Field(description="When it was stored.")
    activated_at: Moment | None = Field(description="When it was last put in force.")
    scheduled_on: date | None = Field(description="The business day from which it will be in force.")


class PolicyDetail(PolicyAnswer):
    """A version of the policy with its text."""

    model_config = _example(_POLICY_EXAMPLE | {"source": 'name = "Autumn policy" ...'})

    source: str = Field(description="The whole policy, as TOML.")


class PoliciesAnswer(BaseModel):
    """All versions of the policy, and how they came in force."""

    model_config = _example({"active": 3, "policies": [_POLICY_EXAMPLE], "activations": [_ACTIVATION_EXAMPLE]})

    active: int | None = Field(description="The version in force.")
    policies: list[PolicyAnswer] = Field(description="Newest first.")
    activations: list[ActivationAnswer] = Field(description="The last hundred, newest first.")


class CancelledAnswer(BaseModel):
    """What was taken back."""

    model_config = _example({"version": 4, "cancelled": 1})

    version: int = Field(description="The version of the policy.")
    cancelled: int = Field(description="How many activations were still to come.")


class DryRunQuestion(BaseModel):
    """What is to be tried out: a text, or a version that is stored."""

    model_config = _example({"version": 4})

    source: Line | None = Field(None, max_length=1_000_000, description="A whole policy, as TOML.")
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="A stored version.")
    limit_seconds: float = Field(20.0, ge=1, le=300, description="After so long it answers with what it has.")
    examples: int = Field(10, ge=0, le=100, description="So many customers are named for each move.")


class MoveAnswer(BaseModel):
    """Customers who would go from one to another."""

    before: str = Field(description="As it stands.")
    after: str = Field(description="As it would be.")
    customers: int = Field(description="How many.")
    net_revenue: Money = Field(description="Theirs, over 365 days.")
    examples: list[str] = Field(description="Ids of some of them.")


class DispatchForecast(BaseModel):
    """What dispatch would have to do."""

    a_orders_a_day_before: float = Field(description="Orders a day of customers in tier A, over the last 30 days.")
    a_orders_a_day_after: float = Field(description="The same, of those who would be in tier A.")


class DryRunAnswer(BaseModel):
    """What a policy would do to everyone; nothing was changed."""

    model_config = _example(
        {
            "as_of": "2026-11-22",
            "policy_version": 3,
            "policy_name": "Autumn policy",
            "customers": 84_213,
            "looked_at": 84_213,
            "complete": True,
            "seconds": 8.214,
            "moved_customers": 391,
            "moved_net_revenue": "1840022.10",
            "moves": {
                "service_level": [
                    {
                        "before": "stable",
                        "after": "vip",
                        "customers": 391,
                        "net_revenue": "1840022.10",
                        "examples": ["C-1042"],
                    }
                ],
            },
            "dispatch": {"a_orders_a_day_before": 1204.3, "a_orders_a_day_after": 1204.3},
        }
    )

    as_of: date | None = Field(description="The business day that it was computed for; null before the first event.")
    policy_version: int = Field(description="The version in force, which everyone is held against.")
    policy_name: str = Field(description="The name of the policy that was tried out.")
    customers: int = Field(description="Everyone assessed so far.")
    looked_at: int = Field(description="For how many it was computed: a random sample where that is not everyone.")
    complete: bool = Field(description="Whether that was everyone; if not, all counts are of those looked at.")
    seconds: float = Field(description="How long it took.")
    moved_customers: int = Field(description="Whose tier, segment or service level would change, and be announced.")
    moved_net_revenue: Money = Field(description="Theirs, over 365 days.")
    moves: dict[str, list[MoveAnswer]] = Field(
        description="By tier, segment, service_level, value_level, grade and additions."
    )
    dispatch: DispatchForecast = Field(description="What dispatch would have to do.")
