"""Feeds without holes: changes and dead letters in an order that no later commit can slip into.

Laws: a row gets its position only once it is committed, from one counter, under a lock; so whoever
has read up to a position has missed nothing before it. Of one customer, positions follow the order
in which its changes were made: the customer is locked while its sequence numbers are drawn.

Reading by `sequence > last` would lose what commits late with a lower number.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.feeds import ChangeAnnouncement, Feed
from segmentation.fields import CustomerId
from segmentation.ledger import DeadLetter
from segmentation.storage.audit import note_deeds
from segmentation.storage.engine import transaction
from segmentation.storage.reader import DEAD_LETTER_COLUMNS, dead_letter_from_row
from segmentation.streams import ChangePage

_OPEN = text("""
    INSERT INTO feeds (name, placed, relayed) VALUES (:name, 0, 0) ON CONFLICT DO NOTHING
""")
_LOCK = text("SELECT placed, relayed FROM feeds WHERE name = :name FOR UPDATE")
_MARK_PLACED = text("UPDATE feeds SET placed = :placed WHERE name = :name")
_MARK_RELAYED = text("UPDATE feeds SET relayed = :relayed WHERE name = :name AND relayed < :relayed")
_PLACE: dict[Feed, TextClause] = {
    Feed.CHANGES: text("""
        UPDATE changes AS stored SET position = :placed + numbered.place
        FROM (SELECT sequence, row_number() OVER (ORDER BY sequence) AS place FROM changes
              WHERE position IS NULL ORDER BY sequence LIMIT :limit) AS numbered
        WHERE stored.sequence = numbered.sequence
    """),
    Feed.DEAD_LETTERS: text("""
        UPDATE dead_letters AS stored SET position = :placed + numbered.place
        FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM dead_letters
              WHERE position IS NULL ORDER BY id LIMIT :limit) AS numbered
        WHERE stored.id = numbered.id
    """),
}
_CHANGES_AFTER = text("""
    SELECT position, customer_id, payload, recorded_at FROM changes
    WHERE position > :after ORDER BY position LIMIT :limit
""")
_BOUNDS = text("""
    SELECT coalesce(max(placed), 0) AS placed, coalesce(max(dropped), 0) AS dropped FROM feeds WHERE name = :name
""")
_UNPLACED = text("SELECT EXISTS (SELECT FROM changes WHERE position IS NULL)")
_OLDEST_CHANGES = text("""
    SELECT position, recorded_at < now() - make_interval(days => CAST(:days AS integer)) AS is_old FROM changes
    WHERE position <= :relayed ORDER BY position LIMIT :limit
""")
_DROP_CHANGES = text("DELETE FROM changes WHERE position <= :last")
_MARK_DROPPED = text("UPDATE feeds SET dropped = :last WHERE name = :name")
_DEAD_LETTERS_AFTER = text(
    f"SELECT position, {DEAD_LETTER_COLUMNS}, value, headers FROM dead_letters "  # noqa: S608 - names of our own
    "WHERE position > :after ORDER BY position LIMIT :limit"
)


_ERASED = {"erased": True}
_TAKE_BACK = text("DELETE FROM changes WHERE customer_id = :customer_id")
_ANNOUNCE_ERASURE = text(
    """INSERT INTO changes (customer_id, payload) VALUES (:customer_id, '{"erased": true}'::jsonb)"""
)
_FORGET_ERASURES = text("""
    DELETE FROM changes WHERE payload = '{"erased": true}'::jsonb
      AND position <= (SELECT relayed FROM feeds WHERE name = :name)
      AND recorded_at < now() - make_interval(secs => CAST(:hours AS double precision) * 3600)
""")

LEAP = 1_000_000_000
"""More positions than any feed gives out between a backup and the day it is needed."""

_LEAP = text("UPDATE feeds SET placed = placed + :leap WHERE name = :name RETURNING placed")
_LEAP_DEAD_LETTERS = text("""
    SELECT setval(pg_get_serial_sequence('dead_letters', 'id'), coalesce(max(id), 0) + :leap) FROM dead_letters
""")


async def leap(engine: AsyncEngine, *, by: Actor = ANYONE) -> int:
    """Lets feeds and dead letters go on far beyond whatever they gave out before; returns the changes' position.

    For a database that was restored to an earlier point: what it gave out since then, others have seen.
    """
    async with transaction(engine) as connection:
        for feed in Feed:
            await connection.execute(_OPEN, {"name": feed})
            await connection.execute(_LOCK, {"name": feed})
        placed = [await connection.scalar(_LEAP, {"name": feed, "leap": LEAP}) for feed in Feed]
        await connection.execute(_LEAP_DEAD_LETTERS, {"leap": LEAP})
        position = int(placed[0] or 0)
        await note_deeds(connection, by, [Deed(Action.DATABASE_RESTORED, detail={"after": position})])
    return position


async def take_back(connection: AsyncConnection, customer_id: CustomerId, *, known: bool) -> int:
    """Deletes what is announced of a held customer, and announces that it was erased if anybody can know of it.

    Returns how many announcements there were. All under the lock by which positions are given: else the next ones
    would be numbered over rows that go.
    """
    await connection.execute(_OPEN, {"name": Feed.CHANGES})
    await connection.execute(_LOCK, {"name": Feed.CHANGES})
    taken_back = (await connection.execute(_TAKE_BACK, {"customer_id": customer_id})).rowcount
    if known or taken_back:
        await connection.execute(_ANNOUNCE_ERASURE, {"customer_id": customer_id})
    return taken_back


class PostgresFeeds:
    """`segmentation.feeds.Feeds`, `segmentation.streams.ChangeStream` and `segmentation.erasure.ErasureNotices`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def place(self, feed: Feed, *, limit: int) -> int:
        async with transaction(self._engine) as connection:
            return (await place_some(connection, feed, limit=limit))[1]

    async def relayed(self, feed: Feed) -> int:
        async with transaction(self._engine) as connection:
            await connection.execute(_OPEN, {"name": feed})
            return int((await connection.execute(_LOCK, {"name": feed})).one().relayed)

    async def mark_relayed(self, feed: Feed, position: int) -> None:
        async with transaction(self._engine) as connection:
            await connection.execute(_MARK_RELAYED, {"name": feed, "relayed": position})

    async def changes_after(self, position: int, *, limit: int) -> Sequence[ChangeAnnouncement]:
        async with transaction(self._engine) as connection:
            return await _changes_after(connection, position, limit)

    async def place_changes(self, *, limit: int) -> int:
        async with transaction(self._engine) as connection:
            # Asked first, since most often there are none: the lock is for those who have something to place.
            if not await connection.scalar(_UNPLACED):
                return 0
            return (await place_some(connection, Feed.CHANGES, limit=limit))[1]

    async def page_after(self, position: int, *, limit: int) -> ChangePage:
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            bounds = (await connection.execute(_BOUNDS, {"name": Feed.CHANGES})).one()
            return ChangePage(await _changes_after(connection, position, limit), bounds.placed, bounds.dropped)

    async def drop_changes(self, *, days: int, limit: int) -> int:
        async with transaction(self._engine) as connection:
            await connection.execute(_OPEN, {"name": Feed.CHANGES})
            relayed = (await connection.execute(_LOCK, {"name": Feed.CHANGES})).one().relayed
            asked = {"days": days, "relayed": relayed, "limit": limit}
            # From the oldest position on, without a hole: `dropped` says all up to it.
            old = list(itertools.takewhile(lambda row: row.is_old, await connection.execute(_OLDEST_CHANGES, asked)))
            if old:
                await connection.execute(_DROP_CHANGES, {"last": old[-1].position})
                await connection.execute(_MARK_DROPPED, {"name": Feed.CHANGES, "last": old[-1].position})
        return len(old)

    async def dead_letters_after(self, position: int, *, limit: int) -> Sequence[tuple[int, DeadLetter]]:
        async with transaction(self._engine) as connection:
            rows = await _after(connection, _DEAD_LETTERS_AFTER, position, limit)
            return [(row.position, dead_letter_from_row(row, whole=True)) for row in rows]

    async def forget_erasures(self, *, hours: float) -> int:
        async with transaction(self._engine) as connection:
            return (await connection.execute(_FORGET_ERASURES, {"name": Feed.CHANGES, "hours": hours})).rowcount


async def place_some(connection: AsyncConnection, feed: Feed, *, limit: int) -> tuple[int, int]:
    """Gives positions to rows that have none yet; returns the last position given by now, and how many were new."""
    await connection.execute(_OPEN, {"name": feed})
    placed = int((await connection.execute(_LOCK, {"name": feed})).one().placed)
    added = (await connection.execute(_PLACE[feed], {"placed": placed, "limit": limit})).rowcount
    if added:
        await connection.execute(_MARK_PLACED, {"name": feed, "placed": placed + added})
    return placed + added, added


async def _changes_after(connection: AsyncConnection, position: int, limit: int) -> list[ChangeAnnouncement]:
    return [
        ChangeAnnouncement(row.position, row.customer_id, row.payload, row.recorded_at, row.payload == _ERASED)
        for row in await _after(connection, _CHANGES_AFTER, position, limit)
    ]


async def _after(connection: AsyncConnection, statement: TextClause, position: int, limit: int) -> Sequence[Any]:
    return (await connection.execute(statement, {"after": position, "limit": limit})).all()
