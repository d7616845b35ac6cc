"""What models are made from: who there is, and which days are known."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation.fields import CustomerId

_DAYS = text("SELECT min(day) AS first_day, max(day) AS last_day FROM day_buckets")
_CUSTOMERS = text("SELECT customer_id FROM customers ORDER BY customer_id")


class KnownDays(NamedTuple):
    """The first and the last day with a bucket."""

    first: date
    last: date


async def known_days(connection: AsyncConnection) -> KnownDays | None:
    """None where nothing was applied yet."""
    row = (await connection.execute(_DAYS)).one()
    return None if row.first_day is None else KnownDays(row.first_day, row.last_day)


async def customer_ids(connection: AsyncConnection) -> Sequence[CustomerId]:
    """Everyone known."""
    return [row.customer_id for row in await connection.execute(_CUSTOMERS)]
