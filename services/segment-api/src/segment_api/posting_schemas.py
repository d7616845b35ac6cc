"""What the API says of events that were posted."""

from typing import Any, Final

from pydantic import BaseModel, Field

from segment_api.ingest_schemas import EventCounts
from segment_api.posted_rows import MOST_EVENTS
from segment_api.schemas import example

_ORDER: Final = {
    "event_id": "erp-000184467-2",
    "type": "order",
    "customer_id": "C-1042",
    "occurred_at": "2026-03-01T09:12:44.120Z",
    "order_id": "SO-77120",
    "amount": "1280.50",
    "currency": "CNY",
}
_COMPLAINT: Final = (
    '{"event_id":"crm-8801","type":"complaint","customer_id":"C-1042","occurred_at":"2026-03-05T02:15:00Z"}'
)
_EVENTS: Final[dict[str, Any]] = {
    "type": "array",
    "maxItems": MOST_EVENTS,
    "items": {
        "type": "object",
        "additionalProperties": True,
        "description": "An event, plain or as a structured CloudEvent; `/asyncapi.json` has a schema of each type.",
    },
}
BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "An array of events, an object with `events`, or a line for each (NDJSON).",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    _EVENTS,
                    {
                        "type": "object",
                        "properties": {"events": _EVENTS},
                        "required": ["events"],
                        "additionalProperties": True,
                    },
                ]
            },
            "examples": {"array": {"value": [_ORDER]}, "object": {"value": {"events": [_ORDER]}}},
        },
        "application/x-ndjson": {"schema": {"type": "string"}, "example": f"{_COMPLAINT}\n"},
    },
}
"""The request body in the OpenAPI document: it is read by hand, so that every event keeps its own bytes."""

_APPLIED: Final = {
    "index": 0,
    "event_id": "erp-000184467-2",
    "outcome": "applied",
    "reason": None,
    "field": None,
    "detail": None,
}


class PostedEventAnswer(BaseModel):
    """What became of one posted event."""

    model_config = example(_APPLIED)

    index: int = Field(description="Its place in the body, from 0; blank lines do not count.")
    event_id: str | None = Field(description="As far as one could be read.")
    outcome: str = Field(description="applied, duplicate, rejected or suppressed.")
    reason: str | None = Field(description="Reason code of a reject, such as schema or unknown_currency.")
    field: str | None = Field(description="The field that is wrong, where it is one.")
    detail: str | None = Field(description="The field, its value, and what to send instead.")


class PostedEventsAnswer(BaseModel):
    """What became of posted events, in their order."""

    model_config = example(
        {
            "validate_only": False,
            "outcomes": {"applied": 1, "duplicate": 0, "rejected": 1, "suppressed": 0},
            "events": [
                _APPLIED,
                {
                    "index": 1,
                    "event_id": "erp-000184468-1",
                    "outcome": "rejected",
                    "reason": "schema",
                    "field": "amount",
                    "detail": "amount is '-5'; an amount is expected, 0 or more, ...",
                },
            ],
        }
    )

    validate_only: bool = Field(description="True where nothing was stored: this is what would become of them.")
    outcomes: EventCounts
    events: list[PostedEventAnswer] = Field(description="One for each event, in the order of the body.")
