"""How far partitions were read, and by whom: their rows, as claims and batches move them.

Law: a batch counts only where its claim still holds and nobody has moved on; that is checked in the
statement that moves the offsets, in the batch's own transaction.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation.errors import PartitionLost
from segmentation.intake import POSTED
from segmentation.ledger import Batch, Claim
from segmentation.outcomes import Outcome, Partition, Settled
from segmentation.storage.budgets import halt_from_row, places

_CLAIM = text("""
    -- A claim raises the epoch, so that whatever the former owner still holds can no longer commit.
    INSERT INTO partitions AS stored (topic, number, epoch, owner) VALUES (:topic, :number, 1, :owner)
    ON CONFLICT (topic, number) DO UPDATE SET epoch = stored.epoch + 1, owner = EXCLUDED.owner
    RETURNING epoch, next_offset, halted_at, halted_offset, halted_because, halted_reasons
""")
_REPOSITION = text("""
    UPDATE partitions SET epoch = epoch + 1, owner = NULL, next_offset = NULL, end_offset = NULL
    WHERE topic <> :posted
""")
_ADVANCE = text("""
    -- Compare-and-set: the batch counts only if this worker still holds the claim and nobody moved on.
    UPDATE partitions AS stored SET
        next_offset = given.next_offset,
        end_offset = greatest(stored.end_offset, given.end_offset),
        applied = stored.applied + given.applied,
        duplicate = stored.duplicate + given.duplicate,
        rejected = stored.rejected + given.rejected,
        suppressed = stored.suppressed + given.suppressed,
        new_customers = stored.new_customers + given.new_customers,
        last_applied_at = CASE WHEN given.applied > 0 THEN clock_timestamp() ELSE stored.last_applied_at END,
        unsettled_since = CASE WHEN given.applied > 0 THEN coalesce(stored.unsettled_since, clock_timestamp())
                               ELSE stored.unsettled_since END
    FROM unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[]), CAST(:epochs AS bigint[]),
                CAST(:begins AS bigint[]), CAST(:next_offsets AS bigint[]), CAST(:end_offsets AS bigint[]),
                CAST(:applied AS bigint[]), CAST(:duplicate AS bigint[]), CAST(:rejected AS bigint[]),
                CAST(:suppressed AS bigint[]), CAST(:new_customers AS bigint[]))
      AS given(topic, number, epoch, began, next_offset, end_offset,
               applied, duplicate, rejected, suppressed, new_customers)
    WHERE stored.topic = given.topic AND stored.number = given.number AND stored.owner = :owner
      AND stored.epoch = given.epoch AND stored.next_offset IS NOT DISTINCT FROM given.began
    RETURNING stored.topic, stored.number
""")
_ADD_POSTED = text("""
    -- Read as soon as it is there: it has no lag, and nobody claims it.
    INSERT INTO partitions AS stored (topic, number, epoch, next_offset, end_offset, applied, duplicate, rejected,
        suppressed, new_customers, last_applied_at, unsettled_since)
    SELECT :topic, :number, 0, given.next_offset, given.next_offset, given.applied, :duplicate, :rejected, :suppressed,
        :new_customers, CASE WHEN given.applied > 0 THEN clock_timestamp() END,
        CASE WHEN given.applied > 0 THEN clock_timestamp() END
    FROM (SELECT CAST(:next_offset AS bigint) AS next_offset, CAST(:applied AS bigint) AS applied) AS given
    ON CONFLICT (topic, number) DO UPDATE SET
        next_offset = greatest(stored.next_offset, EXCLUDED.next_offset),
        end_offset = greatest(stored.end_offset, EXCLUDED.end_offset),
        applied = stored.applied + EXCLUDED.applied,
        duplicate = stored.duplicate + EXCLUDED.duplicate,
        rejected = stored.rejected + EXCLUDED.rejected,
        suppressed = stored.suppressed + EXCLUDED.suppressed,
        new_customers = stored.new_customers + EXCLUDED.new_customers,
        last_applied_at = coalesce(EXCLUDED.last_applied_at, stored.last_applied_at),
        unsettled_since = coalesce(stored.unsettled_since, EXCLUDED.unsettled_since)
""")
_LOCK = text("""
    -- In one order for all who update several of them.
    SELECT FROM partitions AS stored
    JOIN unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[])) AS given(topic, number)
      ON stored.topic = given.topic AND stored.number = given.number
    ORDER BY stored.topic, stored.number FOR UPDATE OF stored
""")
_LOCK_ALL = text("SELECT FROM partitions ORDER BY topic, number FOR UPDATE")
_LOCK_OWN = text("SELECT FROM partitions WHERE owner = :owner ORDER BY topic, number FOR UPDATE")
_RELEASE = text("UPDATE partitions SET owner = NULL WHERE owner = :owner")
_NOTE_ENDS = text("""
    UPDATE partitions AS stored SET end_offset = given.end_offset
    FROM unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[]), CAST(:end_offsets AS bigint[]))
      AS given(topic, number, end_offset)
    WHERE stored.topic = given.topic AND stored.number = given.number AND stored.owner = :owner
      AND stored.end_offset IS DISTINCT FROM given.end_offset
""")


async def claim(connection: AsyncConnection, partitions: Iterable[Partition], owner: str) -> dict[Partition, Claim]:
    """Takes partitions over, in one order."""
    claims: dict[Partition, Claim] = {}
    for partition in sorted(partitions):
        row = (await connection.execute(_CLAIM, partition._asdict() | {"owner": owner})).one()
        claims[partition] = Claim(row.epoch, row.next_offset, halt_from_row(row))
    return claims


async def reposition(connection: AsyncConnection) -> None:
    """Forgets how far every partition of the broker was read; counts stay."""
    await connection.execute(_LOCK_ALL)
    await connection.execute(_REPOSITION, {"posted": POSTED.topic})


async def release(connection: AsyncConnection, owner: str) -> None:
    """Gives up whatever the owner holds."""
    await connection.execute(_LOCK_OWN, {"owner": owner})
    await connection.execute(_RELEASE, {"owner": owner})


async def note_ends(connection: AsyncConnection, end_offsets: Mapping[Partition, int], owner: str) -> None:
    """Keeps where the owner's partitions end."""
    given = places(end_offsets)
    await connection.execute(_LOCK, given)
    await connection.execute(_NOTE_ENDS, given | {"end_offsets": list(end_offsets.values()), "owner": owner})


async def add_posted(connection: AsyncConnection, settled: Settled, first_heard: int, next_offset: int) -> None:
    """Adds what was posted to the exact counters."""
    counts = settled.totals()
    await connection.execute(
        _ADD_POSTED,
        POSTED._asdict()
        | {"next_offset": next_offset, "new_customers": first_heard}
        | {outcome.value: counts[outcome] for outcome in Outcome},
    )


async def advance(
    connection: AsyncConnection, batch: Batch, settled: Settled, first_heard: Counter[Partition], owner: str
) -> None:
    """Adds to the exact counters and moves the next offsets.

    Raises:
        PartitionLost: names the partitions whose claim no longer holds.
    """
    partitions = sorted(batch.progress)
    progress = [batch.progress[partition] for partition in partitions]
    counts = [settled.counts.get(partition, Counter()) for partition in partitions]
    given = places(partitions)
    await connection.execute(_LOCK, given)
    held = await connection.execute(
        _ADVANCE,
        given
        | {
            "owner": owner,
            "epochs": [each.claim.epoch for each in progress],
            "begins": [each.claim.next_offset for each in progress],
            "next_offsets": [each.next_offset for each in progress],
            "end_offsets": [each.end_offset for each in progress],
            "new_customers": [first_heard[partition] for partition in partitions],
        }
        | {outcome.value: [count[outcome] for count in counts] for outcome in Outcome},
    )
    lost = set(partitions) - {Partition(row.topic, row.number) for row in held}
    if lost:
        raise PartitionLost(lost)
