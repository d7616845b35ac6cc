"""What is kept of the past, in rows: written with every assessment that says something new, read a page at a time.

Laws: rows are only added, in the transaction that makes them true, while their customer is locked; so of one customer
the sequence is the order in which its answers stood, and a page that begins below a sequence never shifts.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation.assessment import Facets, Snapshot
from segmentation.chronicle import Entry, EntryKind
from segmentation.fields import CustomerId
from segmentation.segments import Lifecycle
from segmentation.storage import tables
from segmentation.storage.bulk import insert_rows
from segmentation.worth import LEVELS

_KEPT = tuple(
    # The day and the customer stand beside it; what an answer is found by, and when it comes due, is no part of it.
    name
    for name in Snapshot.__struct_fields__
    if name not in ("customer_id", "as_of", "due_on", "value", "order_traits", "expected_value")
)
_OUTLOOK = ("outlook", "updated_at")
_LEVEL_OF_TIER = {"A": "high", "B": "medium"}
_NAMES = ("customer_id", "as_of", "kind", "author", "reason", "snapshot")
_PAGE = text("""
    SELECT sequence, customer_id, as_of, kind, author, reason, snapshot, recorded_at FROM history
    WHERE customer_id = :customer_id AND kind NOT IN ('refresh', 'outlook')
      AND (CAST(:before AS bigint) IS NULL OR sequence < :before)
    ORDER BY sequence DESC LIMIT :limit
""")
_LAST_UP_TO = text("""
    -- The latest entry, and where that is an outlook alone, the latest whole one before it.
    WITH last AS (
        SELECT * FROM history WHERE customer_id = :customer_id AND as_of <= :day ORDER BY sequence DESC LIMIT 1
    )
    SELECT customer_id, as_of, CASE WHEN kind = 'outlook' THEN (
        SELECT whole.snapshot FROM history AS whole
        WHERE whole.customer_id = last.customer_id AND whole.sequence < last.sequence AND whole.kind <> 'outlook'
        ORDER BY whole.sequence DESC LIMIT 1
    ) || snapshot ELSE snapshot END AS snapshot FROM last
""")


async def add_entries(connection: AsyncConnection, entries: Iterable[Entry]) -> None:
    """Keeps what has become of some locked customers."""
    await insert_rows(connection, tables.history, _NAMES, map(_row, entries))


async def page(
    connection: AsyncConnection, customer_id: CustomerId, *, before: int | None, limit: int
) -> Sequence[tuple[int, Entry, datetime]]:
    """Listed entries, newest first."""
    asked = {"customer_id": customer_id, "before": before, "limit": limit}
    return [
        (row.sequence, Entry(EntryKind(row.kind), _snapshot(row), row.author, row.reason), row.recorded_at)
        for row in await connection.execute(_PAGE, asked)
    ]


async def last_up_to(connection: AsyncConnection, customer_id: CustomerId, day: date) -> Snapshot | None:
    """What stood at the end of a day; None before the first record."""
    row = (await connection.execute(_LAST_UP_TO, {"customer_id": customer_id, "day": day})).one_or_none()
    return None if row is None else _snapshot(row)


def _row(entry: Entry) -> tuple[Any, ...]:
    after = entry.after
    kept = _OUTLOOK if entry.kind is EntryKind.OUTLOOK else _KEPT
    stored = {name: value for name in kept if (value := getattr(after, name)) is not None}
    told = msgspec.json.encode(stored).decode()
    return (after.customer_id, after.as_of, entry.kind, entry.author, entry.reason, told)


def _snapshot(row: Any) -> Snapshot:  # noqa: ANN401 - a row of history
    beside = {"customer_id": row.customer_id, "as_of": row.as_of, "due_on": row.as_of, "value": None}
    if "facets" not in row.snapshot:  # of a time when the tier alone said it, and nothing else was kept
        beside["facets"] = Facets(value_level=_LEVEL_OF_TIER.get(row.snapshot["tier"], LEVELS[-1]))
    if "churn_warning" not in row.snapshot:  # of a time when the lifecycle alone said it
        beside["churn_warning"] = row.snapshot["lifecycle"] == Lifecycle.AT_RISK
    return msgspec.convert(row.snapshot | beside, Snapshot)
