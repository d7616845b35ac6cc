"""Dropping old raw events without touching what is counted.

Laws: what events counted moves into the baseline in the transaction that deletes them, so a recount
gives the same before and after; each step is small, and stopping between two of them leaves the
data right; an event is old only if both its business day and the day it occurred on are.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import Action, Actor, Deed
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.events import EventKey
from segmentation.ledger import House
from segmentation.storage import baseline, raw_events, tables
from segmentation.storage.assessed import lock_customers
from segmentation.storage.audit import note_deeds
from segmentation.storage.bulk import insert_rows
from segmentation.storage.engine import transaction
from segmentation.storage.foundation import load_state
from segmentation.storage.touched import Forgetting

LEAST_DAYS: Final = 30
"""For how long raw events are kept at least: repeats and conflicts are recognised by them."""

_OLD = "business_day < :before AND occurred_at < :instant"
_CANDIDATES = text(f"""
    SELECT event_key, customer_id, business_day FROM events
    WHERE business_day >= :first AND {_OLD} ORDER BY business_day LIMIT :limit
""")  # noqa: S608 - a constant of our own
_COUNT = text(f"SELECT count(*) FROM events WHERE {_OLD}")  # noqa: S608 - a constant of our own
_DELETE = text("DELETE FROM events WHERE event_key = ANY(CAST(:event_keys AS bytea[]))")
_KNOWN_SINCE = text("""
    UPDATE house SET events_known_since = :day WHERE events_known_since IS NULL OR events_known_since < :day
""")
_ADD_TOTALS = (
    "ON CONFLICT (business_day, type, currency) DO UPDATE SET events = stored.events + EXCLUDED.events, "
    "amount = stored.amount + EXCLUDED.amount"
)
_NO_TIMEOUT = text("SET LOCAL statement_timeout = 0")


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of dropping did."""

    dropped: int
    kept: int
    """Old events that stay because their bytes no longer read as an event; `check` names them."""
    next_day: date | None
    """Where the next step looks on; None when nothing old is left."""


class PostgresRetention:
    """`segmentation.ledger.Retention` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._house = house
        self._calendar = BusinessCalendar(house.time_zone)
        self._reached = date.min
        self._forgetting = Forgetting(engine)

    async def as_of(self, now: datetime) -> date | None:
        """The current business day, which age is counted from."""
        if self._house.clock == "system":
            return self._calendar.business_day(instant_of(now))
        async with transaction(self._engine) as connection:
            return (await load_state(connection)).as_of

    async def old_events(self, before: date) -> int:
        """How many raw events are older than a day."""
        async with transaction(self._engine) as connection:
            await connection.execute(_NO_TIMEOUT)
            return int(await connection.scalar(_COUNT, self._old(before)) or 0)

    async def drop(self, before: date, *, first: date = date.min, limit: int, by: Actor | None = None) -> Step:
        """Drops up to `limit` raw events older than `before`, looking from the day `first` on.

        With somebody named, the audit trail says that they drop all before that day, if there was one to drop.
        """
        async with transaction(self._engine) as connection:
            asked = self._old(before) | {"first": first, "limit": limit}
            candidates = (await connection.execute(_CANDIDATES, asked)).all()
            if not candidates:
                return Step(0, 0, None)
            await lock_customers(connection, {row.customer_id for row in candidates})
            # Read after the locks: whoever else drops may have been faster.
            raw = await raw_events.by_key(connection, (EventKey(row.event_key) for row in candidates))
            await baseline.add(connection, raw.applied)
            await _add_totals(connection, raw.rows)
            await connection.execute(_DELETE, {"event_keys": [row.event_key for row in raw.rows]})
            if raw.rows:
                await connection.execute(_KNOWN_SINCE, {"day": before})
            if raw.rows and by is not None:
                deed = Deed(Action.EVENTS_DROPPED, detail={"before": before.isoformat()})
                await note_deeds(connection, by, [deed])
        last = candidates[-1].business_day
        more = len(candidates) == limit
        following = last if raw.rows else last + timedelta(days=1)
        return Step(len(raw.rows), len(raw.unreadable), following if more else None)

    async def drop_expired(self, *, days: int, now: datetime, limit: int) -> bool:
        as_of = await self.as_of(now)
        if as_of is None:
            return False
        step = await self.drop(as_of - timedelta(days=days), first=self._reached, limit=limit)
        # From the beginning again next time: an old event may arrive late.
        self._reached = step.next_day or date.min
        return step.next_day is not None

    async def forget_touched(self) -> None:
        await self._forgetting.step()

    def _old(self, before: date) -> dict[str, Any]:
        return {"before": before, "instant": self._calendar.beginning(before)}


async def _add_totals(connection: AsyncConnection, rows: Iterable[Any]) -> None:
    """Keeps what `GET /ingest/totals` says of events that go."""
    places: defaultdict[tuple[date, str, str], list[Any]] = defaultdict(list)
    for row in rows:
        places[row.business_day, row.type, row.currency or ""].append(row.given_amount)
    await insert_rows(
        connection,
        tables.dropped_totals,
        ("business_day", "type", "currency", "events", "amount"),
        ((*place, len(places[place]), _sum(places[place])) for place in sorted(places)),
        then=_ADD_TOTALS,
    )


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    given = [amount for amount in amounts if amount is not None]
    return sum(given, Decimal(0)) if given else None
