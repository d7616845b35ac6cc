"""Bytes of one message -> one typed event, or a reject with its reason.

Laws: `decode` depends on the bytes and headers alone, never on a clock, on rates or on other
messages; whatever the bytes, it returns and does not raise; what it returns carries the customer
id wherever a valid one can be read, so that an erased customer is recognised in a bad message too.
"""

import enum
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, NewType

from segmentation import calendar, json_values
from segmentation.json_values import InvalidJson, LongNumber
from segmentation.money import BILLIONTHS, MINOR_UNITS

CustomerId = NewType("CustomerId", str)
EventKey = NewType("EventKey", bytes)

MAX_MESSAGE_BYTES: Final = 262_144
MAX_EVENT_ID: Final = 128
MAX_ORDER_ID: Final = 64
MONEY_LIMIT: Final = 10**12
GREATEST_WEIGHT_GRAMS: Final = 10**400
"""Counted in place of any greater weight: far beyond the doubles that answers are made of."""

_CUSTOMER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_MONEY = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?", re.ASCII)
_SCORE_DECIMALS = 1_100
_SHOWN_CHARACTERS = 500

Headers = tuple[tuple[str, bytes], ...]


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


@dataclass(frozen=True, slots=True)
class Reject:
    """Why a message cannot be applied, for the person who has to mend it."""

    reason: RejectReason
    sentence: str
    """One sentence: the field, its value, and what to send instead."""
    field: str | None = None
    customer_id: CustomerId | None = None
    """As far as one could be read."""
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event has. Instants are microseconds since the epoch."""

    event_id: str
    customer_id: CustomerId
    occurred_at: int
    fingerprint: bytes
    """Equal exactly for messages of the same content."""

    @property
    def key(self) -> EventKey:
        return event_key(self.event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced(Event):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled(Event):
    order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReported(Event):
    order_id: str
    promised_at: int | None
    delivered_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnReceived(Event):
    amount: int
    """Billionths of the currency's unit."""
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplaintRaised(Event):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackGiven(Event):
    score: Decimal


ProfileValue = str | list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerDescribed(Event):
    fields: Mapping[str, ProfileValue]
    """What the event names: `name`, `needs.basic`, `attributes.credit_hold` ...; None clears. A bare
    `needs` or `attributes` is always None: everything below it is cleared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRetracted(Event):
    retracts: str


def event_key(event_id: str) -> EventKey:
    """What an event is known by in the store: 16 bytes for any id."""
    return EventKey(hashlib.blake2b(event_id.encode(), digest_size=16).digest())


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
        content = _unwrap(body, headers)
        customer_id = _readable_customer_id(content)
        if isinstance(content.get("event_id"), str):
            event_id = _printable(content["event_id"][:MAX_EVENT_ID])
        return _event(content)
    except _Refused as refused:
        return Reject(
            refused.reason,
            _printable(str(refused)),
            field=_printable(refused.field),
            customer_id=customer_id or _readable_customer_id(refused.content),
            event_id=event_id,
        )


class _Refused(Exception):
    def __init__(
        self,
        field: str,
        problem: str,
        *,
        reason: RejectReason = RejectReason.SCHEMA,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(problem)
        self.field = field
        self.reason = reason
        self.content = content or {}


def _readable_customer_id(content: Mapping[str, Any]) -> CustomerId | None:
    value = content.get("customer_id")
    return read_customer_id(value) if isinstance(value, str) else None


def read_customer_id(text: str) -> CustomerId | None:
    """A customer id, or None where the text cannot be one."""
    return CustomerId(text) if _CUSTOMER_ID.fullmatch(text) else None


def _printable(text: str) -> str:
    """Text that any store and terminal takes, however strange the names in the message were."""
    text = text.replace("\x00", "\\0")
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, LongNumber):
        return "a number of more than 400 digits"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004


# --- CloudEvents 1.0 -------------------------------------------------------------------------------------------


def _unwrap(body: Any, headers: Headers) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """The message's content in the contract's own names, whichever way it was wrapped."""
    binary = {name.lower(): value for name, value in headers if name.lower().startswith("ce_")}
    if "ce_specversion" in binary:
        attributes: dict[str, Any] = {}
        for name, raw in binary.items():
            try:
                attributes[name.removeprefix("ce_")] = raw.decode()
            except UnicodeDecodeError:
                raise _Refused(name, f"The header {name} is not UTF-8; send it as UTF-8 text.") from None
        return _from_cloud_event(attributes, body)
    if not isinstance(body, dict):
        raise _Refused("", f"The value is {_shown(body)}; send one JSON object per message.")
    if body.get("specversion") is not None:
        return _from_cloud_event(body, body.get("data"))
    return body


def _from_cloud_event(attributes: Mapping[str, Any], data: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    subject = attributes.get("subject")
    content = dict(data) if isinstance(data, dict) else {}
    if content.get("customer_id") is None and subject is not None:
        content["customer_id"] = subject
    if attributes["specversion"] != "1.0":
        raise _Refused(
            "specversion",
            f'specversion is {_shown(attributes["specversion"])}; CloudEvents 1.0 is understood: send "1.0".',
            content=content,
        )
    if not isinstance(data, dict):
        raise _Refused(
            "data", f"data is {_shown(data)}; the event's fields are expected there as an object.", content=content
        )
    for attribute, field in (("id", "event_id"), ("time", "occurred_at"), ("type", "type")):
        value = attributes.get(attribute)
        if value is None:
            raise _Refused(attribute, f"The CloudEvent has no {attribute}; it is required.", content=content)
        content[field] = value.rpartition(".")[2] if attribute == "type" and isinstance(value, str) else value
    return content


# --- fields ----------------------------------------------------------------------------------------------------


class _Fields:
    """Reads known fields of a JSON object; whatever does not fit is refused with field, value and remedy."""

    def __init__(self, content: Mapping[str, Any], prefix: str = "") -> None:
        self._content = content
        self._prefix = prefix

    def has(self, name: str) -> bool:
        return name in self._content

    def refuse(self, name: str, expected: str) -> _Refused:
        value = self._content.get(name)
        state = "is missing" if value is None else f"is {_shown(value)}"
        return _Refused(self._prefix + name, f"{self._prefix}{name} {state}; {expected}.")

    def text(self, name: str, *, longest: int | None = None, required: bool = False) -> str | None:
        """A string; with `longest` it has 1 to that many characters."""
        value = self._content.get(name)
        expected = "a string is expected" if longest is None else f"a string of 1 to {longest} characters is expected"
        if value is None and not required:
            return None
        if not isinstance(value, str) or (longest is not None and not 1 <= len(value) <= longest):
            raise self.refuse(name, expected)
        if "\x00" in value:
            raise self.refuse(name, "U+0000 is not allowed in it")
        return value

    def one_of(self, name: str, *choices: str) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            raise self.refuse(name, f"one of {', '.join(choices)} is expected")
        return value

    def customer_id(self) -> CustomerId:
        customer_id = read_customer_id(self.text("customer_id", required=True) or "")
        if customer_id is None:
            raise self.refuse("customer_id", "1 to 64 of A-Z a-z 0-9 . _ : - are expected, a letter or digit first")
        return customer_id

    def instant(self, name: str, *, required: bool = False) -> int | None:
        text = self.text(name, required=required)
        if text is None:
            return None
        instant = calendar.parse_instant(text)
        if instant is None:
            raise self.refuse(name, "an instant with its offset is expected, such as 2026-03-01T08:30:00Z")
        return instant

    def date(self, name: str) -> date | None:
        text = self.text(name)
        day = calendar.parse_date(text) if text is not None else None
        if text is not None and day is None:
            raise self.refuse(name, "a date such as 2026-03-01 is expected")
        return day

    def number(self, name: str, *, required: bool = False) -> json_values.Number | None:
        value = self._content.get(name)
        if value is None and not required:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, Decimal, LongNumber)):
            raise self.refuse(name, "a number is expected")
        return value

    def integer(self, name: str, lowest: int, highest: int) -> int | None:
        value = self.number(name)
        if value is not None and not (isinstance(value, int) and lowest <= value <= highest):
            raise self.refuse(name, f"an integer from {lowest} to {highest} is expected")
        return value

    def money(self, name: str, currency: str, *, required: bool = False) -> int | None:
        """Billionths of the currency's unit."""
        expected = 'an amount is expected, 0 or more, below 10^12, with at most 9 decimals, such as "120.50"'
        value = self._content.get(name)
        if value is None and not required:
            return None
        if isinstance(value, str):
            match = _MONEY.fullmatch(value)
            billionths = match and int(match[1]) * BILLIONTHS + int((match[2] or "").ljust(9, "0"))
        elif isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            billionths = _scaled(value, BILLIONTHS) if value < MONEY_LIMIT else None
        else:
            billionths = None
        if billionths is None:
            raise self.refuse(name, expected)
        decimals = MINOR_UNITS.get(currency)
        if decimals is not None and billionths % 10 ** (9 - decimals):
            raise self.refuse(name, f"{currency} has {decimals} decimals; more are not allowed")
        return billionths

    def weight_grams(self) -> int:
        value = self.number("weight_kg")
        grams: int | None
        if isinstance(value, LongNumber):
            whole_grams = len(value.digits) - value.exponent <= 3  # noqa: PLR2004
            grams = GREATEST_WEIGHT_GRAMS if whole_grams and not value.negative else None
        else:
            grams = _scaled(value or 0, 1_000)
        if grams is None:
            raise self.refuse("weight_kg", "a weight of 0 or more with at most 3 decimals is expected")
        return min(grams, GREATEST_WEIGHT_GRAMS)

    def score(self) -> Decimal:
        value = self.number("score", required=True)
        score = _shortened(value) if isinstance(value, LongNumber) else Decimal(value or 0)
        if not 0 <= score <= 10:  # noqa: PLR2004
            raise self.refuse("score", "a number from 0 to 10 is expected")
        return score

    def codes(self, name: str) -> list[str] | None:
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(code, str) and "\x00" not in code for code in value):
            raise self.refuse(name, 'a list of codes is expected, such as ["express"]')
        return value

    def members(self, name: str) -> "_Fields | None":
        """The fields of an object below this one."""
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refuse(name, "an object is expected")
        return _Fields(value, f"{self._prefix}{name}.")

    def names(self) -> list[str]:
        return list(self._content)


def _scaled(value: int | Decimal, scale: int) -> int | None:
    """Value * scale as an integer; None where it is negative or has more decimals."""
    if value < 0:
        return None
    numerator, denominator = value.as_integer_ratio()
    scaled, remainder = divmod(numerator * scale, denominator)
    return None if remainder else scaled


def _shortened(number: LongNumber) -> Decimal:
    # The digits cut off lie far beyond what a double can show of a mean.
    if number.negative:
        return Decimal(-1)
    if number.exponent < -_SCORE_DECIMALS:
        return Decimal(0)
    if number.exponent > 2:  # noqa: PLR2004
        return Decimal(11)
    return Decimal(f"0.{number.digits[:400]}e{number.exponent}")


# --- the eight types -------------------------------------------------------------------------------------------


def _event(content: dict[str, Any]) -> Event:
    type_name = content.get("type")
    fields = _Fields(content)
    if not isinstance(type_name, str) or "\x00" in type_name:
        fields.text("type", required=True)
    build = _BUILDERS.get(str(type_name))
    if build is None:
        raise _Refused(
            "type",
            f"type is {_shown(type_name)}; one of {', '.join(_BUILDERS)} is expected.",
            reason=RejectReason.UNKNOWN_TYPE,
        )
    return build(
        fields,
        {
            "event_id": fields.text("event_id", longest=MAX_EVENT_ID, required=True),
            "customer_id": fields.customer_id(),
            "occurred_at": fields.instant("occurred_at", required=True),
            "fingerprint": json_values.fingerprint(content),
        },
    )


def _currency(fields: _Fields) -> str:
    currency = fields.text("currency", required=True) or ""
    if not _CURRENCY.fullmatch(currency):
        raise fields.refuse("currency", "an ISO 4217 code of three capital letters is expected, such as CNY")
    return currency


def _order_id(fields: _Fields, *, required: bool = True) -> str:
    return fields.text("order_id", longest=MAX_ORDER_ID, required=required) or ""


def _order(fields: _Fields, shared: dict[str, Any]) -> OrderPlaced:
    currency = _currency(fields)
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


def _order_cancelled(fields: _Fields, shared: dict[str, Any]) -> OrderCancelled:
    fields.text("reason")
    return OrderCancelled(**shared, order_id=_order_id(fields))


def _delivery(fields: _Fields, shared: dict[str, Any]) -> DeliveryReported:
    fields.instant("picked_up_at")
    fields.text("exception")
    return DeliveryReported(
        **shared,
        order_id=_order_id(fields),
        promised_at=fields.instant("promised_at"),
        delivered_at=fields.instant("delivered_at"),
    )


def _return(fields: _Fields, shared: dict[str, Any]) -> ReturnReceived:
    currency = _currency(fields)
    _order_id(fields, required=False)
    fields.integer("items", 0, 10**9)
    fields.text("reason")
    return ReturnReceived(**shared, amount=fields.money("amount", currency, required=True) or 0, currency=currency)


def _complaint(fields: _Fields, shared: dict[str, Any]) -> ComplaintRaised:
    _order_id(fields, required=False)
    fields.text("category")
    fields.integer("severity", 1, 5)
    fields.text("text")
    return ComplaintRaised(**shared)


def _feedback(fields: _Fields, shared: dict[str, Any]) -> FeedbackGiven:
    fields.one_of("kind", "nps", "csat", "survey")
    fields.text("text")
    return FeedbackGiven(**shared, score=fields.score())


def _customer(fields: _Fields, shared: dict[str, Any]) -> CustomerDescribed:
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
        ("needs", _Fields.codes, NEEDS),
        ("attributes", _Fields.text, None),
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


def _retraction(fields: _Fields, shared: dict[str, Any]) -> EventRetracted:
    fields.text("reason")
    return EventRetracted(**shared, retracts=fields.text("retracts", longest=MAX_EVENT_ID, required=True) or "")


NEEDS: Final = ("basic", "expected", "latent")

_BUILDERS: Final[Mapping[str, Callable[[_Fields, dict[str, Any]], Event]]] = {
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
