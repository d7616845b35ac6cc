"""Contract events with sensible defaults, and the messages that carry them.

Laws: nothing here is random or looks at a clock; each builder returns a fresh dict that is valid by the contract as it
stands; a keyword replaces or adds a field, `ABSENT` takes it out, and None is an explicit JSON null.
"""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal

from .oracle import Message

Event = dict[str, Any]
Mode = Literal["plain", "structured", "binary"]
MODES: Final[tuple[Mode, ...]] = ("plain", "structured", "binary")


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT


def _an_event(event_type: str, fields: Event, overrides: Event) -> Event:
    event: Event = {
        "event_id": f"{event_type}-1",
        "type": event_type,
        "customer_id": "C-1",
        "occurred_at": "2026-03-01T12:00:00Z",
    }
    event |= fields
    event |= overrides
    return {name: value for name, value in event.items() if value is not ABSENT}


def an_order(**overrides: Any) -> Event:
    """An order of 100.00 CNY."""
    return _an_event("order", {"order_id": "O-1", "amount": "100.00", "currency": "CNY"}, overrides)


def a_cancellation(**overrides: Any) -> Event:
    """A cancellation of the order that `an_order` makes, a day later."""
    return _an_event("order_cancelled", {"order_id": "O-1", "occurred_at": "2026-03-02T12:00:00Z"}, overrides)


def a_delivery(**overrides: Any) -> Event:
    """A delivery, on time, of the order that `an_order` makes."""
    fields = {
        "order_id": "O-1",
        "occurred_at": "2026-03-03T12:00:00Z",
        "promised_at": "2026-03-03T18:00:00Z",
        "delivered_at": "2026-03-03T11:00:00Z",
    }
    return _an_event("delivery", fields, overrides)


def a_return(**overrides: Any) -> Event:
    """A return of 10.00 CNY."""
    return _an_event("return", {"amount": "10.00", "currency": "CNY"}, overrides)


def a_complaint(**overrides: Any) -> Event:
    """A complaint that says no more than that there is one."""
    return _an_event("complaint", {}, overrides)


def a_feedback(**overrides: Any) -> Event:
    """A feedback with score 8."""
    return _an_event("feedback", {"score": 8}, overrides)


def a_customer(**overrides: Any) -> Event:
    """A customer event that names no field yet."""
    return _an_event("customer", {}, overrides)


def a_retraction(**overrides: Any) -> Event:
    """A retraction of the complaint that `a_complaint` makes."""
    return _an_event("retraction", {"retracts": "complaint-1"}, overrides)


def as_json(value: Any) -> bytes:
    """The value as compact UTF-8 JSON; a Decimal becomes a number digit for digit."""
    return _json_text(value).encode()


def _json_text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json_text(key)}:{_json_text(element)}" for key, element in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json_text, value)) + "]"
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def as_envelope(event: Event) -> Event:
    """The event as a structured CloudEvent; a field the event lacks is lacking there too."""
    attributes = {"event_id": "id", "type": "type", "occurred_at": "time"}
    envelope: Event = {"specversion": "1.0", "source": "/tests"}
    for name, attribute in attributes.items():
        if name in event:
            value = event[name]
            envelope[attribute] = f"com.example.{value}" if name == "type" and isinstance(value, str) else value
    envelope["datacontenttype"] = "application/json"
    envelope["data"] = {name: value for name, value in event.items() if name not in attributes}
    return envelope


def as_message(event: Event, *, mode: Mode = "plain") -> Message:
    """The event as one message. Binary mode needs `event_id`, `type` and `occurred_at` to be strings or lacking."""
    if mode == "plain":
        return Message(as_json(event))
    envelope = as_envelope(event)
    if mode == "structured":
        return Message(as_json(envelope), (("content-type", b"application/cloudevents+json; charset=UTF-8"),))
    data = envelope.pop("data")
    content_type = envelope.pop("datacontenttype")
    headers = [("content-type", content_type.encode())]
    headers += [(f"ce_{name}", value.encode()) for name, value in envelope.items()]
    return Message(as_json(data), tuple(headers))
