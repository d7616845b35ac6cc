"""A ledger in PostgreSQL held against its own raw events, and old ones dropped, as the operators' commands do it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from segmentation.fields import CustomerId
from segmentation.ledger import House
from segmentation.storage.books import Books
from segmentation.storage.recount import Difference, Recount
from segmentation.storage.retention import PostgresRetention

from .histories import NOW


async def _pages(recount: Recount, limit: int) -> AsyncIterator[Sequence[CustomerId]]:
    after = ""
    while page := await recount.page(after, limit=limit):
        yield [customer_id for customer_id, _ in page]
        after = page[-1][0]


async def differences(engine: AsyncEngine, house: House, *, now: datetime = NOW, at_once: int = 2) -> list[str]:
    """What `check` would print of a settled ledger."""
    recount, books = Recount(engine, house), Books(engine, house)
    found = [*await books.check()]
    async for customer_ids in _pages(recount, at_once):
        found += await recount.check(customer_ids)
    misplaced = await books.misplaced(now=now)
    assert misplaced is not None, "the tiers are not settled"
    return [str(difference) for difference in (*found, *misplaced)]


async def rebuild(engine: AsyncEngine, house: House, *, now: datetime = NOW, at_once: int = 2) -> list[str]:
    """Mends everything; what differed. The caller settles."""
    recount, books = Recount(engine, house), Books(engine, house)
    found: list[Difference] = []
    await books.mend_clock()
    async for customer_ids in _pages(recount, at_once):
        found += await recount.mend(customer_ids, now=now)
    await recount.unsettle()
    return [str(difference) for difference in found]


async def drop(engine: AsyncEngine, house: House, before: date, *, limit: int = 3) -> int:
    """Drops all raw events before a day, in small steps; how many there were."""
    retention = PostgresRetention(engine, house)
    dropped = 0
    first: date | None = date.min
    while first is not None:
        step = await retention.drop(before, first=first, limit=limit)
        assert step.dropped + step.kept <= limit
        dropped, first = dropped + step.dropped, step.next_day
    return dropped
