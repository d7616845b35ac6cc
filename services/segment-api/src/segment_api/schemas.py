"""The answers, as they go over the wire. Codes never change with the language, names do."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer


def example(answer: Any) -> ConfigDict:  # noqa: ANN401 - any JSON value
    """The configuration of a model that shows an example in the document."""
    return ConfigDict(json_schema_extra={"example": answer})


def utc_text(moment: datetime) -> str:
    """A moment as answers show it."""
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
Moment = Annotated[datetime, PlainSerializer(utc_text, return_type=str)]
Money = Annotated[str, Field(description="Decimal string with exactly the base currency's decimals.")]
AsOf = Annotated[date, Field(description="The business day that the answer is computed for.")]


class SegmentPart(BaseModel):
    """The segment that a customer is in: by behaviour where a model knows the customer, else by the policy's table."""

    code: str = Field(description="Stable code.")
    name: str = Field(description="Name in the language of `Accept-Language` (en, zh).")
    since: date = Field(description="The business day since which it has been this one.")
    source: str = Field(description="`rules`, or the model that decided, such as `model:7`.")
    confidence: float | None = Field(
        description="How sure the model is, in whole percents: 0 on the border of two segments; null for rules."
    )


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

    churn_probability: float | None = Field(
        description="By the model in force, in whole percents, as of `as_of`; null where no model knows the customer."
    )
    warning: bool = Field(
        description="A churn warning: the probability is as high as the policy's `[risk]` says while the customer can "
        "still be kept; without a model, the customer is at risk by its own rhythm."
    )


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
    model: int | None = Field(description="Version of the model in force; null while none is.")


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
EXAMPLE_OF_A_SEGMENT = {
    "customer_id": "C-1042",
    "as_of": "2026-11-22",
    "segment": {
        "code": "strategic",
        "name": "Strategic partner",
        "since": "2026-10-02",
        "source": "model:7",
        "confidence": 0.93,
    },
    "lifecycle": "active",
    "value_tier": "A",
    "tier": {"effective": "A", "computed": "A", "since": "2026-06-14", "demotion_due": None, "override": None},
    "value_level": "high",
    "risk": {"churn_probability": 0.08, "warning": False},
    "recommended_service_level": _VIP_EXAMPLE,
    "stale": False,
    "versions": {"policy": 3, "model": 7},
    "updated_at": "2026-11-22T08:15:30.120Z",
}


class SegmentAnswer(BaseModel):
    """Where a customer stands, and what to do for it."""

    model_config = example(EXAMPLE_OF_A_SEGMENT)

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

    model_config = example(
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

    model_config = example({"customer_ids": ["C-1042", "nobody"]})

    customer_ids: list[Text] = Field(max_length=10_000, description="Up to 10,000 customer ids.")


class UnknownCustomer(BaseModel):
    """A customer nobody has heard of, and what it gets all the same."""

    customer_id: str
    recommended_service_level: ServiceLevelPart


class SegmentsAnswer(BaseModel):
    """Where many customers stand."""

    model_config = example(
        {
            "as_of": "2026-11-22",
            "customers": [EXAMPLE_OF_A_SEGMENT],
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

    model_config = example(
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


class HealthAnswer(BaseModel):
    """The service answers."""

    model_config = example({"status": "ready"})

    status: str = Field(description="live, or ready.")
