"""The eight event types as JSON Schemas, for whoever writes or checks messages with a tool.

Laws: a message that `events.decode` refuses for a field's presence, type, length, pattern, choice or range is refused
by its schema, and the other way round: a test tries every field with values at and beyond each limit. `decode` alone
decides; what no schema can say is in `UNSAID`.
"""

from collections.abc import Mapping
from typing import Any, Final

from segmentation.events import MAX_EVENT_ID, MAX_ORDER_ID, NEEDS
from segmentation.fields import MONEY_LIMIT

Schema = dict[str, Any]

CUSTOMER_ID_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"
UNSAID: Final = (
    "days that no calendar has",
    "more decimals than the currency has, or than 9 in a number",
    "more than 3 decimals of a weight",
    "an unknown currency, and a currency without a rate on or before the day",
    "an instant before 1990 or ahead of the clock",
)
"""What is refused although it fits the schema."""

_NO_NUL: Final = r"^[^\u0000]*$"
_DAY: Final = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_MOST_ITEMS: Final = 10**9


def _text(description: str, *, longest: int | None = None) -> Schema:
    bounds = {} if longest is None else {"minLength": 1, "maxLength": longest}
    return {"description": description, "type": "string", "pattern": _NO_NUL, **bounds}


def _choice(description: str, *choices: str) -> Schema:
    return {"description": description, "type": "string", "enum": list(choices)}


def _instant(description: str) -> Schema:
    return {
        "description": f"{description} An instant with its offset, up to 9 digits of a second.",
        "type": "string",
        "format": "date-time",
        "pattern": f"^{_DAY}[Tt]{_TIME}$",
    }


def _money(description: str) -> Schema:
    return {
        "description": f"{description} Money, best as a string; no more decimals than the currency has.",
        "anyOf": [
            {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})?$"},
            {"type": "number", "minimum": 0, "exclusiveMaximum": MONEY_LIMIT},
        ],
    }


def _integer(description: str, lowest: int, highest: int) -> Schema:
    return {"description": description, "type": "integer", "minimum": lowest, "maximum": highest}


def _codes(description: str) -> Schema:
    return {"description": description, "type": "array", "items": {"type": "string", "pattern": _NO_NUL}}


_CURRENCY: Final[Schema] = {
    "description": "ISO 4217 code in capital letters.",
    "type": "string",
    "pattern": "^[A-Z]{3}$",
}
_ORDER_ID: Final = _text("The order; belongs to the customer.", longest=MAX_ORDER_ID)
_ITEMS: Final = _integer("How many.", 0, _MOST_ITEMS)
_REASON: Final = _text("Why.")
_PROMISED: Final = _instant("By when the goods were promised.")
_DELIVERED: Final = _instant("When the goods came.")
_REGION: Final = _text("Where the customer is.")
_CHANNEL: Final = _text("How the customer orders.")

CUSTOMER_ID: Final[Schema] = {
    "description": "Whose event it is.",
    "type": "string",
    "pattern": CUSTOMER_ID_PATTERN,
}
EVENT_ID: Final = _text("Unique for ever among all events.", longest=MAX_EVENT_ID)
OCCURRED_AT: Final = _instant("When it happened.")

_REQUIRED: Final[Mapping[str, Mapping[str, Schema]]] = {
    "order": {
        "order_id": _ORDER_ID,
        "amount": _money("What the customer owes for the order without tax."),
        "currency": _CURRENCY,
    },
    "order_cancelled": {"order_id": _ORDER_ID},
    "delivery": {"order_id": _ORDER_ID},
    "return": {"amount": _money("What was given back."), "currency": _CURRENCY},
    "complaint": {},
    "feedback": {"score": {"description": "How content.", "type": "number", "minimum": 0, "maximum": 10}},
    "customer": {},
    "retraction": {"retracts": _text("The id of the event that is taken back.", longest=MAX_EVENT_ID)},
}
_OPTIONAL: Final[Mapping[str, Mapping[str, Schema]]] = {
    "order": {
        "ordered_at": _instant("The order counts on this business day; without it on that of `occurred_at`."),
        "cost": _money("What it cost to serve, in the same currency."),
        "items": _ITEMS,
        "parcels": _ITEMS,
        "weight_kg": {"description": "With at most 3 decimals.", "type": "number", "minimum": 0},
        "services": _codes("Codes of your own, such as express or cold_chain."),
        "promised_at": _PROMISED,
        "delivered_at": _DELIVERED,
        "region": _REGION,
        "channel": _CHANNEL,
    },
    "order_cancelled": {"reason": _REASON},
    "delivery": {
        "promised_at": _PROMISED,
        "picked_up_at": _instant("When the goods were picked up."),
        "delivered_at": _DELIVERED,
        "exception": _text("What went wrong."),
    },
    "return": {"order_id": _ORDER_ID, "items": _ITEMS, "reason": _REASON},
    "complaint": {
        "order_id": _ORDER_ID,
        "category": _text("What it is about."),
        "severity": _integer("5 is the worst.", 1, 5),
        "text": _text("In the customer's words."),
    },
    "feedback": {"kind": _choice("How it was asked.", "nps", "csat", "survey"), "text": _text("Words.")},
    "customer": {
        "name": _text("What the customer is called."),
        "subject_type": _choice("Who it is.", "company", "person"),
        "industry": _choice("Trade.", "manufacturing", "retail", "ecommerce", "pharma", "electronics", "other"),
        "region": _REGION,
        "channel": _CHANNEL,
        "account_manager": _text("Who looks after the customer."),
        "needs": {
            "description": "Codes of your own, list by list; null clears all.",
            "type": "object",
            "properties": {name: _codes(f"What is {name}.") for name in NEEDS},
        },
        "contract_type": _text("Of the contract."),
        "contract_end": {
            "description": "A date.",
            "type": "string",
            "format": "date",
            "pattern": f"^{_DAY}$",
        },
        "attributes": {
            "description": "Texts under any key; null clears all.",
            "type": "object",
            "propertyNames": {"pattern": _NO_NUL},
            "additionalProperties": _text("Null clears it."),
        },
    },
    "retraction": {"reason": _REASON},
}

TITLES: Final[Mapping[str, str]] = {
    "order": "An order was placed, or changed",
    "order_cancelled": "An order was cancelled",
    "delivery": "What is known of the way of an order",
    "return": "Goods came back, or money was given back",
    "complaint": "A customer complained",
    "feedback": "A customer gave a score",
    "customer": "Master data of a customer",
    "retraction": "A return, complaint or feedback is taken back",
}

EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "order": {
        "event_id": "erp-000184467-2",
        "type": "order",
        "customer_id": "C-1042",
        "occurred_at": "2026-03-01T09:12:44.120Z",
        "order_id": "SO-77120",
        "ordered_at": "2026-03-01T17:05:00+08:00",
        "amount": "1280.50",
        "currency": "CNY",
        "cost": "915.00",
        "items": 12,
        "parcels": 3,
        "weight_kg": 48.25,
        "services": ["express", "insured"],
        "promised_at": "2026-03-04T10:00:00Z",
        "region": "east",
        "channel": "web",
    },
    "order_cancelled": {
        "event_id": "erp-000184467-3",
        "type": "order_cancelled",
        "customer_id": "C-1042",
        "occurred_at": "2026-03-02T08:00:00Z",
        "order_id": "SO-77120",
        "reason": "out of stock",
    },
    "delivery": {
        "event_id": "tms-99120045",
        "type": "delivery",
        "customer_id": "C-1042",
        "occurred_at": "2026-03-04T09:41:10Z",
        "order_id": "SO-77120",
        "picked_up_at": "2026-03-02T06:30:00Z",
        "delivered_at": "2026-03-04T09:40:00Z",
    },
    "return": {
        "event_id": "wms-5501",
        "type": "return",
        "customer_id": "C-1042",
        "occurred_at": "2026-03-09T11:00:00Z",
        "amount": "120.00",
        "currency": "CNY",
        "order_id": "SO-77120",
        "items": 1,
        "reason": "damaged",
    },
    "complaint": {
        "event_id": "crm-c-8801",
        "type": "complaint",
        "customer_id": "C-1042",
        "occurred_at": "2026-03-05T02:15:00Z",
        "order_id": "SO-77120",
        "category": "late",
        "severity": 3,
        "text": "Arrived after the shop had closed.",
    },
    "feedback": {
        "event_id": "survey-2026-03-771",
        "type": "feedback",
        "customer_id": "C-1042",
        "occurred_at": "2026-03-06T20:00:00+08:00",
        "score": 8.5,
        "kind": "nps",
    },
    "customer": {
        "event_id": "crm-1042-17",
        "type": "customer",
        "customer_id": "C-1042",
        "occurred_at": "2026-02-28T09:00:00Z",
        "name": "Acme Pharma (Shanghai)",
        "subject_type": "company",
        "industry": "pharma",
        "region": "east",
        "channel": None,
        "account_manager": "li.na",
        "needs": {"basic": ["on_time"], "expected": ["tracking"], "latent": ["green"]},
        "contract_type": "framework",
        "contract_end": "2027-12-31",
        "attributes": {"credit_hold": "no"},
    },
    "retraction": {
        "event_id": "crm-r-12",
        "type": "retraction",
        "customer_id": "C-1042",
        "occurred_at": "2026-03-07T07:00:00Z",
        "retracts": "crm-c-8801",
        "reason": "entered for the wrong order",
    },
}
"""One of each type, as docs/events.md shows it."""


def event_schema(type_name: str) -> Schema:
    """An event as one JSON object."""
    common = {
        "event_id": EVENT_ID,
        "type": {"description": "In small letters.", "const": type_name},
        "customer_id": CUSTOMER_ID,
        "occurred_at": OCCURRED_AT,
    }
    return _object(type_name, common, required=[*common, *_REQUIRED[type_name]])


def data_schema(type_name: str) -> Schema:
    """The data of a CloudEvent of the type; its attributes have the rest, its subject may have the customer."""
    return _object(type_name, {"customer_id": _or_null(CUSTOMER_ID)}, required=[*_REQUIRED[type_name]])


def envelope_schema(type_name: str) -> Schema:
    """A CloudEvent in structured mode."""
    named_inside = {
        "properties": {"data": {"required": ["customer_id"], "properties": {"customer_id": {"type": "string"}}}}
    }
    return {
        "title": f"{TITLES[type_name]}, as a CloudEvent",
        "type": "object",
        "properties": {
            "specversion": {"description": "What a CloudEvent is recognised by.", "const": "1.0"},
            "id": EVENT_ID,
            "type": {
                "description": "What follows its last dot is the event's type.",
                "type": "string",
                "pattern": rf"^([^\u0000]*\.)?{type_name}$",
            },
            "time": OCCURRED_AT,
            "subject": {"description": "The customer, where the data name none."},
            "data": data_schema(type_name),
        },
        "required": ["specversion", "id", "type", "time", "data"],
        "anyOf": [named_inside, {"required": ["subject"], "properties": {"subject": CUSTOMER_ID}}],
    }


def _object(type_name: str, first: Mapping[str, Schema], *, required: list[str]) -> Schema:
    optional = {name: _or_null(schema) for name, schema in _OPTIONAL[type_name].items()}
    schema: Schema = {
        "title": TITLES[type_name],
        "description": "Fields that are not named here are no error and have no effect.",
        "type": "object",
        "properties": {**first, **_REQUIRED[type_name], **optional},
    }
    return schema | {"required": required} if required else schema


def _or_null(schema: Schema) -> Schema:
    """A field that may be null, and whatever is inside it too."""
    inside = {name: _or_null(each) for name, each in schema.get("properties", {}).items()}
    nullable = schema | ({"properties": inside} if inside else {})
    if "additionalProperties" in schema:
        nullable["additionalProperties"] = _or_null(schema["additionalProperties"])
    if "anyOf" in schema:
        return nullable | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    nullable["type"] = [schema["type"], "null"]
    if "enum" in schema:
        nullable["enum"] = [*schema["enum"], None]
    return nullable
