"""Bytes of one message -> one typed event, or a reject with its reason.

Laws: `decode` depends on the bytes and headers alone, never on a clock, on rates or on other
messages; whatever the bytes, it returns and does not raise; what it returns carries the customer
id wherever a valid one can be read, so that an erased customer is recognised in a bad message too.
"""

import enum
import hashlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NewType

from msgspec import Struct

from segmentation import json_values
from segmentation.envelopes import Headers, unwrap
from segmentation.fields import CustomerId, Fields, Refused, UnknownType, printable, read_customer_id, shown
from segmentation.json_values import InvalidJson

EventKey = NewType("EventKey", bytes)

MAX_MESSAGE_BYTES: Final = 262_144
MAX_EVENT_ID: Final = 128
MAX_ORDER_ID: Final = 64


class RejectReason(enum.StrEnum):
    """Why a message was refused, in the order of the tests."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    INVALID_JSON = "invalid_json"
    SCHEMA = "schema"
    UNKNOWN_TYPE = "unknown_type"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    TOO_OLD = "too_old"
    FUTURE = "future"
    UNKNOWN_CURRENCY = "unknown_currency"


class Reject(Struct, frozen=True):
    """Why a message cannot be applied, for the person who has to mend it."""

    reason: RejectReason
    sentence: str
    """One sentence: the field, its value, and what to send instead."""
    field: str | None = None
    customer_id: CustomerId | None = None
    """As far as one could be read."""
    event_id: str | None = None


class Event(Struct, frozen=True, kw_only=True):
    """What every event has. Instants are microseconds since the epoch."""

    event_id: str
    customer_id: CustomerId
    occurred_at: int

    @property
    def key(self) -> EventKey:
        return event_key(self.event_id)


class OrderPlaced(Event, frozen=True, kw_only=True):
    order_id: str
    amount: int
    """Billionths of the currency's unit, like `cost`."""
    currency: str
    ordered_at: int | None
    cost: int | None
    items: int
    parcels: int
    weight_grams: int
    services: tuple[str, ...]
    promised_at: int | None
    delivered_at: int | None
    region: str | None
    channel: str | None


class OrderCancelled(Event, frozen=True, kw_only=True):
    order_id: str


class DeliveryReported(Event, frozen=True, kw_only=True):
    order_id: str
    promised_at: int | None
    delivered_at: int | None


class ReturnReceived(Event, frozen=True, kw_only=True):
    amount: int
    """Billionths of the currency's unit."""
    currency: str


class ComplaintRaised(Event, frozen=True, kw_only=True):
    pass


class FeedbackGiven(Event, frozen=True, kw_only=True):
    score: Decimal


ProfileValue = str | list[str] | None


class CustomerDescribed(Event, frozen=True, kw_only=True):
    fields: Mapping[str, ProfileValue]
    """What the event names: `name`, `needs.basic`, `attributes.credit_hold` ...; None clears. A bare
    `needs` or `attributes` is always None: everything below it is cleared."""


class EventRetracted(Event, frozen=True, kw_only=True):
    retracts: str


def event_key(event_id: str) -> EventKey:
    """What an event is known by in the store: 16 bytes for any id."""
    return EventKey(hashlib.blake2b(event_id.encode(), digest_size=16).digest())


def fingerprint(value: bytes, headers: Headers = ()) -> bytes:
    """Of a message that was decoded: equal exactly for messages of the same content, however they are wrapped."""
    return json_values.fingerprint(unwrap(json_values.parse(value), headers))


def decode(value: bytes | None, headers: Headers = ()) -> Event | Reject:
    """Reads one Kafka message, plain or as a CloudEvent in structured or binary mode."""
    if not value:
        return Reject(RejectReason.EMPTY, "The message has no value; send one JSON object per message.")
    if len(value) > MAX_MESSAGE_BYTES:
        return Reject(
            RejectReason.TOO_LARGE,
            f"The message has {len(value)} bytes; send at most {MAX_MESSAGE_BYTES}.",
        )
    try:
        body = json_values.parse(value)
    except InvalidJson as error:
        return Reject(RejectReason.INVALID_JSON, f"The value is not valid JSON: {error}; send RFC 8259 JSON in UTF-8.")
    customer_id: CustomerId | None = None
    event_id: str | None = None
    try:
        content = _unwrapped(body, headers)
        customer_id = _readable_customer_id(content)
        if isinstance(content.get("event_id"), str):
            event_id = printable(content["event_id"][:MAX_EVENT_ID])
        return _event(content)
    except Refused as refused:
        return Reject(
            RejectReason.UNKNOWN_TYPE if isinstance(refused, UnknownType) else RejectReason.SCHEMA,
            str(refused),
            field=refused.field,
            customer_id=customer_id or _readable_customer_id(refused.content),
            event_id=event_id,
        )


def _unwrapped(body: Any, headers: Headers) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    try:
        return unwrap(body, headers)
    except Refused as refused:
        name = refused.content.get("type")
        if isinstance(name, str) and "\x00" not in name and name not in _BUILDERS:
            # An unknown type is told whatever else is wrong.
            raise _unknown_type(name, refused.content) from None
        raise


def _readable_customer_id(content: Mapping[str, Any]) -> CustomerId | None:
    value = content.get("customer_id")
    return read_customer_id(value) if isinstance(value, str) else None


def _builder(fields: Fields) -> Callable[[Fields, dict[str, Any]], Event]:
    name = fields.text("type", required=True) or ""
    build = _BUILDERS.get(name)
    if build is None:
        raise _unknown_type(name)
    return build


def _unknown_type(name: str, content: Mapping[str, Any] | None = None) -> UnknownType:
    sentence = f"type is {shown(name)}; one of {', '.join(_BUILDERS)} is expected."
    return UnknownType("type", sentence, content=content)


def _event(content: dict[str, Any]) -> Event:
    fields = Fields(content)
    build = _builder(fields)
    return build(
        fields,
        {
            "event_id": fields.text("event_id", longest=MAX_EVENT_ID, required=True),
            "customer_id": fields.customer_id(),
            "occurred_at": fields.instant("occurred_at", required=True),
        },
    )


def _order_id(fields: Fields, *, required: bool = True) -> str:
    return fields.text("order_id", longest=MAX_ORDER_ID, required=required) or ""


def _order(fields: Fields, shared: dict[str, Any]) -> OrderPlaced:
    currency = fields.currency()
    return OrderPlaced(
        **shared,
        order_id=_order_id(fields),
        amount=fields.money("amount", currency, required=True) or 0,
        currency=currency,
        ordered_at=fields.instant("ordered_at"),
        cost=fields.money("cost", currency),
        items=fields.integer("items", 0, 10**9) or 0,
        parcels=fields.integer("parcels", 0, 10**9) or 0,
        weight_grams=fields.weight_grams(),
        services=tuple(fields.codes("services") or ()),
        promised_at=fields.instant("promised_at"),
        delivered_at=fields.instant("delivered_at"),
        region=fields.text("region"),
        channel=fields.text("channel"),
    )


def _order_cancelled(fields: Fields, shared: dict[str, Any]) -> OrderCancelled:
    fields.text("reason")
    return OrderCancelled(**shared, order_id=_order_id(fields))


def _delivery(fields: Fields, shared: dict[str, Any]) -> DeliveryReported:
    fields.instant("picked_up_at")
    fields.text("exception")
    return DeliveryReported(
        **shared,
        order_id=_order_id(fields),
        promised_at=fields.instant("promised_at"),
        delivered_at=fields.instant("delivered_at"),
    )


def _return(fields: Fields, shared: dict[str, Any]) -> ReturnReceived:
    currency = fields.currency()
    _order_id(fields, required=False)
    fields.integer("items", 0, 10**9)
    fields.text("reason")
    return ReturnReceived(**shared, amount=fields.money("amount", currency, required=True) or 0, currency=currency)


def _complaint(fields: Fields, shared: dict[str, Any]) -> ComplaintRaised:
    _order_id(fields, required=False)
    fields.text("category")
    fields.integer("severity", 1, 5)
    fields.text("text")
    return ComplaintRaised(**shared)


def _feedback(fields: Fields, shared: dict[str, Any]) -> FeedbackGiven:
    fields.one_of("kind", "nps", "csat", "survey")
    fields.text("text")
    return FeedbackGiven(**shared, score=fields.score())


def _customer(fields: Fields, shared: dict[str, Any]) -> CustomerDescribed:
    contract_end = fields.date("contract_end")
    named: dict[str, ProfileValue] = {
        "name": fields.text("name"),
        "subject_type": fields.one_of("subject_type", "company", "person"),
        "industry": fields.one_of("industry", "manufacturing", "retail", "ecommerce", "pharma", "electronics", "other"),
        "region": fields.text("region"),
        "channel": fields.text("channel"),
        "account_manager": fields.text("account_manager"),
        "contract_type": fields.text("contract_type"),
        "contract_end": contract_end.isoformat() if contract_end else None,
    }
    described = {name: value for name, value in named.items() if fields.has(name)}
    for group, read, choices in (
        ("needs", Fields.codes, NEEDS),
        ("attributes", Fields.text, None),
    ):
        if not fields.has(group):
            continue
        members = fields.members(group)
        if members is None:
            described[group] = None
            continue
        for name in members.names():
            if choices is None or name in choices:
                if "\x00" in name:
                    raise members.refuse(name, "U+0000 is not allowed in a key")
                described[f"{group}.{name}"] = read(members, name)
    return CustomerDescribed(**shared, fields=described)


def _retraction(fields: Fields, shared: dict[str, Any]) -> EventRetracted:
    fields.text("reason")
    return EventRetracted(**shared, retracts=fields.text("retracts", longest=MAX_EVENT_ID, required=True) or "")


NEEDS: Final = ("basic", "expected", "latent")

_BUILDERS: Final[Mapping[str, Callable[[Fields, dict[str, Any]], Event]]] = {
    "order": _order,
    "order_cancelled": _order_cancelled,
    "delivery": _delivery,
    "return": _return,
    "complaint": _complaint,
    "feedback": _feedback,
    "customer": _customer,
    "retraction": _retraction,
}

TYPE_NAMES: Final[Mapping[type[Event], str]] = {
    OrderPlaced: "order",
    OrderCancelled: "order_cancelled",
    DeliveryReported: "delivery",
    ReturnReceived: "return",
    ComplaintRaised: "complaint",
    FeedbackGiven: "feedback",
    CustomerDescribed: "customer",
    EventRetracted: "retraction",
}
"""What an event's type is called on the wire and in the store."""
