"""Which workers live: each says so every few seconds, by the clock of the database.

Laws: one clock decides who lives, so it does not matter how those of the machines differ; a worker's row is written
last in a transaction, so that nothing keeps a heartbeat waiting, and by that worker alone until it is long dead.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.answers import WorkerStatus
from segmentation.storage.engine import transaction

LIVES: Final = "seen_at > clock_timestamp() - interval '10 seconds'"
"""A worker beats every other second."""

_GREET = text("""
    INSERT INTO workers (owner, started_at, seen_at, waiting_for)
    VALUES (:owner, clock_timestamp(), clock_timestamp(), '[]')
    ON CONFLICT (owner) DO UPDATE SET seen_at = EXCLUDED.seen_at
""")
_BEAT = text("""
    -- Those who have been silent for an hour are forgotten on the way.
    WITH forgotten AS (
        DELETE FROM workers WHERE seen_at < clock_timestamp() - interval '1 hour' AND owner <> :owner
    )
    INSERT INTO workers (owner, started_at, seen_at, waiting_for)
    VALUES (:owner, clock_timestamp(), clock_timestamp(), CAST(:waiting_for AS jsonb))
    ON CONFLICT (owner) DO UPDATE SET seen_at = EXCLUDED.seen_at, waiting_for = EXCLUDED.waiting_for
""")
_TAKE_LEAVE = text("DELETE FROM workers WHERE owner = :owner")
_WORKERS = text("SELECT owner, started_at, seen_at, waiting_for FROM workers ORDER BY started_at, owner")


async def greet(connection: AsyncConnection, owner: str) -> None:
    """A sign of life beside other work."""
    await connection.execute(_GREET, {"owner": owner})


async def beat(engine: AsyncEngine, owner: str, waiting_for: Sequence[Mapping[str, Any]]) -> None:
    """A sign of life, with what the worker waits for."""
    async with transaction(engine) as connection:
        await connection.execute(_BEAT, {"owner": owner, "waiting_for": json.dumps(list(waiting_for))})


async def take_leave(connection: AsyncConnection, owner: str) -> None:
    """The worker ends in order."""
    await connection.execute(_TAKE_LEAVE, {"owner": owner})


async def load_workers(connection: AsyncConnection) -> list[WorkerStatus]:
    """All that have not ended in order and were seen within the hour."""
    rows = await connection.execute(_WORKERS)
    return [WorkerStatus(row.owner, row.started_at, row.seen_at, row.waiting_for) for row in rows]
