"""Full snapshots: what was asked for, how far it is, and where everyone stands, in chunks.

Laws: a chunk and the position it is told with are of one moment: every change that can be seen in it has its
position by then, and every later change of that customer gets a greater one. An attempt that was overtaken can note
nothing any more.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.feeds import Feed, FullSnapshot, SnapshotChunk
from segmentation.storage.assessed import SNAPSHOTS, snapshot_from_row
from segmentation.storage.audit import note_deeds
from segmentation.storage.engine import transaction
from segmentation.storage.feeds import place_some
from segmentation.storage.reader import FULL_SNAPSHOT_COLUMNS as _COLUMNS
from segmentation.storage.reader import full_snapshot_from_row

_PLACED_AT_ONCE = 500

_ONE_ASKS = text("LOCK TABLE full_snapshots IN SHARE ROW EXCLUSIVE MODE")
_ASKED_FOR = text(f"SELECT {_COLUMNS} FROM full_snapshots WHERE begun_at IS NULL ORDER BY id LIMIT 1")  # noqa: S608 - names of our own
_ASK = text(f"INSERT INTO full_snapshots DEFAULT VALUES RETURNING {_COLUMNS}")  # noqa: S608 - names of our own
_FIND = text(f"SELECT {_COLUMNS} FROM full_snapshots WHERE id = :id")  # noqa: S608 - names of our own
_WANTED = text(f"SELECT {_COLUMNS} FROM full_snapshots WHERE done_at IS NULL ORDER BY id LIMIT 1")  # noqa: S608 - names of our own
_IS_DUE = text("""
    SELECT coalesce((SELECT requested_at FROM full_snapshots ORDER BY id DESC LIMIT 1),
                    (SELECT recorded_at FROM changes ORDER BY sequence LIMIT 1))
           + make_interval(secs => CAST(:hours AS double precision) * 3600) <= now()
""")
_BEGIN = text(
    "UPDATE full_snapshots SET attempt = attempt + 1, begun_at = clock_timestamp(), customers = 0 "  # noqa: S608 - names of our own
    f"WHERE id = :id RETURNING {_COLUMNS}"
)
_NOTE = text("""
    UPDATE full_snapshots SET customers = :customers, done_at = CASE WHEN :done THEN clock_timestamp() END
    WHERE id = :id AND attempt = :attempt AND done_at IS NULL RETURNING id
""")
_NEXT = text(f"{SNAPSHOTS} WHERE customer_id > :after ORDER BY customer_id LIMIT :limit")


class PostgresFullSnapshots:
    """`segmentation.ledger.FullSnapshots` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def ask(self, *, by: Actor = ANYONE) -> FullSnapshot:
        async with transaction(self._engine) as connection:
            found = await _ask(connection)
            # Also of one that waits already: two people asked.
            await note_deeds(connection, by, [Deed(Action.SNAPSHOT_ASKED, str(found.id))])
            return found

    async def find(self, snapshot_id: int) -> FullSnapshot | None:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, {"id": snapshot_id})).one_or_none()
            return None if row is None else full_snapshot_from_row(row)

    async def wanted(self, *, every_hours: float) -> FullSnapshot | None:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_WANTED)).one_or_none()
            if row is not None:
                return full_snapshot_from_row(row)
            if every_hours and await connection.scalar(_IS_DUE, {"hours": every_hours}):
                return await _ask(connection)
            return None

    async def begin(self, snapshot_id: int) -> FullSnapshot:
        async with transaction(self._engine) as connection:
            return full_snapshot_from_row((await connection.execute(_BEGIN, {"id": snapshot_id})).one())

    async def chunk_after(self, customer_id: str, *, limit: int) -> SnapshotChunk | None:
        # What the first statement sees is what all of them see: no change can come between the two.
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            placed, added = await place_some(connection, Feed.CHANGES, limit=_PLACED_AT_ONCE)
            if added == _PLACED_AT_ONCE:
                return None
            rows = await connection.execute(_NEXT, {"after": customer_id, "limit": limit})
            return SnapshotChunk(placed, [snapshot_from_row(row) for row in rows])

    async def note(self, snapshot: FullSnapshot, *, customers: int, done: bool) -> bool:
        noted = {"id": snapshot.id, "attempt": snapshot.attempt, "customers": customers, "done": done}
        async with transaction(self._engine) as connection:
            return await connection.scalar(_NOTE, noted) is not None


async def _ask(connection: AsyncConnection) -> FullSnapshot:
    await connection.execute(_ONE_ASKS)
    row = (await connection.execute(_ASKED_FOR)).one_or_none()
    return full_snapshot_from_row(row if row is not None else (await connection.execute(_ASK)).one())
