"""Raw events as stored, read again as what was applied.

Laws: an event counts on the day and with the converted amounts that it was applied with, whatever
rates are loaded now; bytes that the code of today would refuse are told, never passed over.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation.events import EventKey, Reject, decode
from segmentation.fields import CustomerId
from segmentation.outcomes import AcceptedEvent, Delivery, Partition
from segmentation.storage.ledger import headers_from_json

_COLUMNS = (
    "event_key, event_id, customer_id, business_day, type, currency, given_amount, amount, profit, "
    'topic, partition, "offset", value, headers'
)
_OF_CUSTOMERS = text(
    f"SELECT {_COLUMNS} FROM events "  # noqa: S608 - names of our own
    "WHERE customer_id = ANY(CAST(:customer_ids AS text[]))"
)
_BY_KEY = text(f"SELECT {_COLUMNS} FROM events WHERE event_key = ANY(CAST(:event_keys AS bytea[]))")  # noqa: S608
_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class RawEvents:
    """Some stored events."""

    rows: Sequence[Any]
    applied: Sequence[AcceptedEvent]
    unreadable: Sequence[tuple[Any, str]]
    """Rows that no longer read as what they were applied as, each with the reason."""


async def of_customers(connection: AsyncConnection, customer_ids: Iterable[CustomerId]) -> AsyncIterator[RawEvents]:
    """All raw events of some customers, some thousands at a time: nobody has too many."""
    result = await connection.stream(_OF_CUSTOMERS, {"customer_ids": list(customer_ids)})
    async for rows in result.partitions(_AT_ONCE):
        yield _read(rows)


async def by_key(connection: AsyncConnection, event_keys: Iterable[EventKey]) -> RawEvents:
    """Those that are still there."""
    return _read((await connection.execute(_BY_KEY, {"event_keys": list(event_keys)})).all())


def _read(rows: Sequence[Any]) -> RawEvents:
    applied: list[AcceptedEvent] = []
    unreadable: list[tuple[Any, str]] = []
    readable: list[Any] = []
    for row in rows:
        headers = headers_from_json(row.headers)
        event = decode(row.value, headers)
        if isinstance(event, Reject):
            unreadable.append((row, event.sentence))
        elif (event.customer_id, event.key) != (row.customer_id, row.event_key):
            unreadable.append((row, "its bytes are of another customer or event id"))
        else:
            readable.append(row)
            delivery = Delivery(Partition(row.topic, row.partition), row.offset, row.value, headers)
            applied.append(
                AcceptedEvent(
                    delivery=delivery,
                    event=event,
                    key=EventKey(row.event_key),
                    occurred_day=row.business_day,  # counts nothing: only the event clock asks for it
                    business_day=row.business_day,
                    amount=None if row.amount is None else int(row.amount),
                    profit=None if row.profit is None else int(row.profit),
                )
            )
    return RawEvents(readable, applied, unreadable)
