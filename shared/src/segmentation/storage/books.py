"""What holds for everybody at once, compared: the exact counters, the event clock, the ranking.

Laws: every comparison is of one moment and locks nothing. Counters of duplicates and suppressed
messages have no rows behind them, so nothing can be said of those.
"""

from collections.abc import Sequence
from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.ledger import House
from segmentation.storage import tiers
from segmentation.storage.audit import note_deeds
from segmentation.storage.engine import transaction
from segmentation.storage.foundation import Library
from segmentation.storage.recount import Difference

_NO_TIMEOUT = text("SET LOCAL statement_timeout = 0")
_RAW_EVENTS = text("""
    -- How many there have to be, by the counters alone: counting the rows takes long.
    SELECT ((SELECT coalesce(sum(applied), 0) FROM partitions)
          - (SELECT coalesce(sum(events), 0) FROM dropped_totals))::bigint
""")
_COUNTS = text("""
    SELECT (SELECT coalesce(sum(applied), 0)::bigint FROM partitions) AS applied,
           (SELECT count(*) FROM events) AS raw,
           (SELECT coalesce(sum(events), 0)::bigint FROM dropped_totals) AS dropped,
           (SELECT coalesce(sum(new_customers), 0)::bigint FROM partitions)
             - (SELECT customers_erased FROM house) AS new_customers,
           (SELECT count(*) FROM customers) AS customers,
           (SELECT coalesce(sum(rejected), 0)::bigint FROM partitions) AS rejected,
           (SELECT count(*) FROM dead_letters WHERE replayed_as IS NULL) AS letters
""")
_CLOCK = text("SELECT as_of, events_known_since, erasures, (SELECT max(occurred_at) FROM events) AS latest FROM house")
_SET_CLOCK = text("UPDATE house SET as_of = :as_of")
_LOCK_HOUSE = text("SELECT FROM house FOR UPDATE")


class Books:
    """Compares what no customer alone can tell."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._house = house
        self._calendar = BusinessCalendar(house.time_zone)
        self._library = Library(house.base_currency)

    async def raw_events(self) -> int:
        """How many raw events there are, by the counters."""
        async with transaction(self._engine) as connection:
            return int(await connection.scalar(_RAW_EVENTS) or 0)

    async def missing_events(self) -> int:
        """How many applied events are neither there nor dropped on purpose."""
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            await connection.execute(_NO_TIMEOUT)
            counts = (await connection.execute(_COUNTS)).one()
            return int(counts.applied - counts.raw - counts.dropped)

    async def check(self) -> Sequence[Difference]:
        """The counters and the event clock against the rows that they count."""
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            await connection.execute(_NO_TIMEOUT)
            counts = (await connection.execute(_COUNTS)).one()
            found = [
                Difference("partitions", what, str(counter), f"{rows} ({of})")
                for what, counter, rows, of in (
                    (
                        "applied",
                        counts.applied,
                        counts.raw + counts.dropped,
                        f"raw {counts.raw}, dropped {counts.dropped}",
                    ),
                    ("new_customers", counts.new_customers, counts.customers, "known customers"),
                    ("rejected", counts.rejected, counts.letters, "dead letters that are still rejected"),
                )
                if counter != rows
            ]
            stored, recounted = await self._clock(connection)
            if stored != recounted:
                found.append(Difference("house", "as_of", str(stored), str(recounted)))
            return found

    async def misplaced(self, *, now: datetime) -> Sequence[Difference] | None:
        """Customers whose computed tier the ranking does not give; None while the tiers are not settled."""
        today = self._calendar.business_day(instant_of(now)) if self._house.clock == "system" else None
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            found = await tiers.misplaced(connection, self._library, today)
        if found is None:
            return None
        return [Difference(each, "computed tier", stored, ranked) for each, stored, ranked in found]

    async def mend_clock(self, *, missing: int = 0, accept_missing: bool = False, by: Actor = ANYONE) -> None:
        """Begins a rebuild: sets the event clock to the day that the events say.

        The audit trail has the rebuild from here on, with how many events are missing and whether that was accepted.
        """
        async with transaction(self._engine) as connection:
            await connection.execute(_NO_TIMEOUT)
            await connection.execute(_LOCK_HOUSE)
            stored, recounted = await self._clock(connection)
            if stored != recounted:
                await connection.execute(_SET_CLOCK, {"as_of": recounted})
            detail = {"accept_missing_events": accept_missing, "missing_events": missing}
            await note_deeds(connection, by, [Deed(Action.REBUILD_BEGUN, detail=detail)])

    async def _clock(self, connection: AsyncConnection) -> tuple[date | None, date | None]:
        """The event clock as stored and as the events say, as far as they are there to say it."""
        if self._house.clock == "system":
            return None, None
        row = (await connection.execute(_CLOCK)).one()
        latest = None if row.latest is None else self._calendar.business_day(row.latest)
        dropped = row.events_known_since is not None and (latest is None or latest < row.events_known_since)
        if (dropped or row.erasures) and row.as_of is not None:
            # The latest event itself may have been dropped, or its customer erased: it was no earlier, that is certain.
            latest = row.as_of if latest is None else max(latest, row.as_of)
        return row.as_of, latest
