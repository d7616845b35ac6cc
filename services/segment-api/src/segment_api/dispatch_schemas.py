"""What dispatch asks, and the order in which it is told to go."""

from collections import Counter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from segment_api.schemas import AsOf, Line, Text, example
from segmentation.calendar import moment_of, parse_instant
from segmentation.dispatch import REASON_CODES, Scale
from segmentation.fields import shown

MOST_ORDERS = 10_000
_NAMED = 5
_INSTANT_EXPECTED = "an instant with its offset is expected, such as 2026-11-22T08:15:30Z"


def _instant(value: Any) -> int:  # noqa: ANN401 - any JSON value
    instant = parse_instant(value) if isinstance(value, str) else None
    if instant is None:
        raise ValueError(_INSTANT_EXPECTED)
    return instant


def _between_years_1_and_9999(instant: int) -> int:
    try:
        moment_of(instant)
    except OverflowError:
        raise ValueError(_INSTANT_EXPECTED) from None
    return instant


Instant = Annotated[int, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]


class OrderQuestion(BaseModel):
    """An order that waits for dispatch."""

    order_id: Line = Field(min_length=1, max_length=64, description="The order's id, as in the events.")
    customer_id: Text = Field(
        description="The customer's id; one that nobody has heard of, or that is malformed, gets the default level."
    )
    promised_at: Instant | None = Field(
        None, description="By when it was promised to go; where the arrival was promised, less the journey."
    )
    waiting_since: Instant | None = Field(
        None, description="Since when it could have gone. Without it an order does not age."
    )


def _each_once(orders: list[OrderQuestion]) -> list[OrderQuestion]:
    counted = Counter((order.order_id, order.customer_id) for order in orders)
    repeated = [key for key, count in counted.items() if count > 1]
    if repeated:
        named = ", ".join(f"{shown(order_id)} of {shown(customer_id)}" for order_id, customer_id in repeated[:_NAMED])
        more = f" and {len(repeated) - _NAMED} more" if len(repeated) > _NAMED else ""
        raise ValueError(f"each order of a customer is expected once; more than once: {named}{more}")
    return orders


class DispatchQuestion(BaseModel):
    """Which orders wait."""

    model_config = example(
        {
            "orders": [
                {
                    "order_id": "O-77",
                    "customer_id": "C-1042",
                    "promised_at": "2026-11-22T11:15:30Z",
                    "waiting_since": "2026-11-22T06:15:30Z",
                },
                {"order_id": "O-78", "customer_id": "nobody"},
            ]
        }
    )

    orders: Annotated[list[OrderQuestion], AfterValidator(_each_once)] = Field(
        max_length=MOST_ORDERS, description="Up to 10,000, each order of a customer once."
    )
    at: Annotated[Instant, AfterValidator(_between_years_1_and_9999)] | None = Field(
        None,
        description="The instant that slack and waiting are reckoned at; the machine's clock without it. An answer's "
        "`at` repeats its ranking, as long as customers and policy stand as they did.",
    )


class DispatchPart(BaseModel):
    """One thing that an order stands where it stands for."""

    code: str = Field(description=f"One of {', '.join(REASON_CODES)}.")
    value: str = Field(
        description="What it was: a tier, a service level, a lifecycle; of promise, late and waiting the seconds; of "
        "minimum_share the tier and its share."
    )
    points: float = Field(description="What it adds; of all parts together `priority` is made.", ge=0)


class OrderPlace(BaseModel):
    """Where an order stands, and why."""

    order_id: str = Field(description="As it was asked for.")
    customer_id: str
    known: bool = Field(description="Whether anybody has heard of the customer.")
    rank: int = Field(description="1 goes first.", ge=1)
    priority: int = Field(
        description="0 to 100, the highest first, never rising along the ranks; with `scale`, as that tool has it.",
        ge=0,
        le=100,
    )
    value_tier: str = Field(description="The customer's effective tier: A, B, C or unrated.")
    service_level: str = Field(description="Code of the customer's service level; the default one where unknown.")
    reasons: list[str] = Field(description="Why it stands there, in words; what each adds in brackets.")
    parts: list[DispatchPart] = Field(description="The same as codes and numbers.")


class DispatchVersions(BaseModel):
    """What ranked."""

    policy: int = Field(description="Version of the policy whose [dispatch] ranked.")


_DISPATCH_EXAMPLE = {
    "as_of": "2026-11-22",
    "at": "2026-11-22T08:15:30Z",
    "scale": "tierline",
    "stale": False,
    "versions": {"policy": 1},
    "orders": [
        {
            "order_id": "O-77",
            "customer_id": "C-1042",
            "known": True,
            "rank": 1,
            "priority": 85,
            "value_tier": "A",
            "service_level": "vip",
            "reasons": [
                "tier A (+60)",
                "service level VIP (+9.5)",
                "promised in 3 h (+10.5)",
                "waiting for 2 h (+5)",
            ],
            "parts": [
                {"code": "tier", "value": "A", "points": 60.0},
                {"code": "service_level", "value": "vip", "points": 9.5},
                {"code": "promise", "value": "10800", "points": 10.5},
                {"code": "waiting", "value": "7200", "points": 5.0},
            ],
        },
        {
            "order_id": "O-78",
            "customer_id": "nobody",
            "known": False,
            "rank": 2,
            "priority": 5,
            "value_tier": "unrated",
            "service_level": "welcome",
            "reasons": [
                "tier unrated (+0)",
                "service level Welcome (+5)",
                "unknown customer, default level",
            ],
            "parts": [
                {"code": "tier", "value": "unrated", "points": 0.0},
                {"code": "service_level", "value": "welcome", "points": 5.0},
                {"code": "unknown_customer", "value": "welcome", "points": 0.0},
            ],
        },
    ],
}


class DispatchAnswer(BaseModel):
    """Orders in rank order."""

    model_config = example(_DISPATCH_EXAMPLE)

    as_of: AsOf | None = Field(description="The business day that customers stand at; null before the first event.")
    at: Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})] = Field(
        description="The instant that slack and waiting were reckoned at."
    )
    scale: Scale = Field(description="What `priority` is told as.")
    stale: bool = Field(
        description="Whether tiers rest on cut-offs that are behind, as in the answers about those customers."
    )
    versions: DispatchVersions
    orders: list[OrderPlace] = Field(description="The first goes first.")
