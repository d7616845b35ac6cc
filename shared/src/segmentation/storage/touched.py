"""Whose answers changed: told in the transaction that changes them, seen once by everyone who follows.

Laws: a look sees exactly what was committed since the look before, for it asks for rows of transactions that the
earlier look's snapshot could not see, whatever order they drew their ids or committed in; a row is dropped only when
every look for `KEPT_SECONDS` could have seen it; who was away for longer is told so.

The notification only wakes readers: one that is lost costs them `_LOOK_SECONDS`, and nothing else.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.fields import CustomerId
from segmentation.storage.engine import transaction, translated_failures
from segmentation.watching import Look

KEPT_SECONDS: Final = 60.0
"""A row stays at least so long after its commit."""

_CHANNEL = "touched"
_AWAY_SECONDS = KEPT_SECONDS / 2
_LOOK_SECONDS = 0.1
_BREATH_SECONDS = 0.003
"""Between two looks, whatever is told: many small transactions are seen together."""
_ANSWER_SECONDS = 2.0

_TELL = text(f"""
    WITH told AS (INSERT INTO touched (customer_ids) VALUES (:customer_ids))
    SELECT pg_notify('{_CHANNEL}', '')
""")  # noqa: S608 - a name of our own
_LOOK = """
    -- One statement, one snapshot: what it does not see is not visible in the snapshot that it returns. Without one of
    -- before, nobody is named: everything is new.
    SELECT pg_current_snapshot()::text AS snapshot, clock_timestamp() AS at,
           house::text AS basis, house.as_of, house.erasures, house.policy_version,
           (SELECT as_of FROM tier_state) AS tiers_as_of,
           (SELECT extract(epoch FROM clock_timestamp() - min(unsettled_since))::double precision FROM partitions)
             AS unsettled_seconds,
           (SELECT string_agg(customer_ids, E'\n') FROM touched
            WHERE transaction_id >= pg_snapshot_xmin($1::text::pg_snapshot)
              AND NOT pg_visible_in_snapshot(transaction_id, $1::text::pg_snapshot)) AS touched
    FROM house
"""
_BEFORE_ALL = text("SELECT pg_current_snapshot()::text AS snapshot, clock_timestamp() AS at")
_FORGET = text("""
    -- Also what comes from a cluster whose transactions had come farther, before a restore: it would be news for ever.
    DELETE FROM touched WHERE pg_visible_in_snapshot(transaction_id, CAST(CAST(:snapshot AS text) AS pg_snapshot))
        OR transaction_id >= pg_snapshot_xmax(pg_current_snapshot())
""")


async def tell_touched(connection: AsyncConnection, customer_ids: Collection[CustomerId]) -> None:
    """Tells everyone who keeps answers, once this transaction is committed, that these are no longer to be trusted."""
    if customer_ids:
        await connection.execute(_TELL, {"customer_ids": "\n".join(customer_ids)})


class Forgetting:
    """Drops what everyone has had the time to see."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._seen: tuple[str, datetime] | None = None

    async def step(self) -> None:
        """To be called now and then."""
        async with transaction(self._engine) as connection:
            now = (await connection.execute(_BEFORE_ALL)).one()
            if self._seen is not None:
                snapshot, at = self._seen
                if now.at - at < timedelta(seconds=KEPT_SECONDS):
                    return
                await connection.execute(_FORGET, {"snapshot": snapshot})
        self._seen = now.snapshot, now.at


class PostgresWatch:
    """`segmentation.watching.Watch` over PostgreSQL, on a connection that is taken from the engine for good."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def looks(self) -> AsyncGenerator[Look]:
        with translated_failures():
            async with self._engine.connect() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None  # noqa: S101 - it is asyncpg's
                woken = asyncio.Event()
                driver.add_termination_listener(lambda *_: woken.set())
                try:
                    await driver.add_listener(_CHANNEL, lambda *_: woken.set())
                    async for look in _follow(driver, woken):
                        yield look
                finally:
                    # It listens, so it is not given back.
                    with suppress(Exception):
                        await connection.invalidate()


async def _follow(driver: Any, woken: asyncio.Event) -> AsyncGenerator[Look]:  # noqa: ANN401 - asyncpg's connection
    snapshot: str | None = None
    seen_until = 0.0
    while True:
        woken.clear()
        asked_at = time.monotonic()
        row = await driver.fetchrow(_LOOK, snapshot, timeout=_ANSWER_SECONDS)
        if row is not None:  # else nobody has moved into the house yet
            anew = snapshot is None or time.monotonic() - seen_until > _AWAY_SECONDS
            snapshot, seen_until = row["snapshot"], asked_at
            yield Look(
                asked_at=asked_at,
                anew=anew,
                touched=() if anew or row["touched"] is None else row["touched"].split("\n"),
                basis=row["basis"],
                as_of=row["as_of"],
                erasures=row["erasures"],
                policy_version=row["policy_version"],
                tiers_as_of=row["tiers_as_of"],
                unsettled_seconds=row["unsettled_seconds"],
            )
        await asyncio.sleep(_BREATH_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await woken.wait()
