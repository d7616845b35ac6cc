"""Erasure and export, as they go over the wire."""

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_ERASED_EXAMPLE: dict[str, Any] = {
    "customer_id": "C-1042",
    "as_of": "2026-11-22",
    "erased_at": "2026-11-22T08:15:30.120000Z",
    "already": False,
    "rows": {"events": 214, "orders": 96, "day_buckets": 88, "snapshots": 1, "history": 12, "customers": 1},
}
_EXPORT_EXAMPLE: dict[str, Any] = {
    "customer_id": "C-1042",
    "as_of": "2026-11-22",
    "exported_at": "2026-11-22T08:15:30.120000Z",
    "data": {
        "events": {
            "purpose": "What was received, as received.",
            "rows": [{"event_id": "evt-4711", "type": "complaint", "customer_id": "C-1042"}],
        }
    },
}


class ErasureAnswer(BaseModel):
    """What an erasure did."""

    model_config = ConfigDict(json_schema_extra={"example": _ERASED_EXAMPLE})

    customer_id: str = Field(description="Who was erased.")
    as_of: date | None = Field(description="The current business day; null before the first event of a replay.")
    erased_at: datetime = Field(description="When it was done; when it had been done, where it had been before.")
    already: bool = Field(description="Whether nothing was left to erase, because it had been done before.")
    rows: dict[str, int] = Field(
        description="Rows deleted, by table; those of `dead_letters` and `tier_state` were emptied of everything about "
        "the customer. Tables without any are left out."
    )


class HoldingPart(BaseModel):
    """What one table keeps about a customer."""

    purpose: str = Field(description="Why it is kept.")
    rows: list[dict[str, Any]] = Field(
        description="Each with its columns: amounts as decimal strings, converted ones in minor units of the base "
        "currency; bytes as text, or as `{base64}` where they are none."
    )


class ExportAnswer(BaseModel):
    """Everything that is kept about a customer."""

    model_config = ConfigDict(json_schema_extra={"example": _EXPORT_EXAMPLE})

    customer_id: str = Field(description="Whose data it is.")
    as_of: date | None = Field(description="The current business day; null before the first event of a replay.")
    exported_at: datetime = Field(description="When; all of it is of one moment.")
    data: dict[str, HoldingPart] = Field(description="By table, also those that hold nothing.")
