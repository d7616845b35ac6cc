"""The reject budgets of partitions, as their rows keep them: remembered, exceeded, begun anew.

Law: what a budget remembers moves in the transaction that records the batch, so neither a restart nor a rebalance
forgets it, and no message is charged twice.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation.access import Action, Actor, Deed
from segmentation.budget import Breach, RecentOutcomes, RejectBudget, charge_batch, commonest
from segmentation.ledger import Batch, Halt
from segmentation.outcomes import Partition, Settled
from segmentation.storage.audit import note_deeds

_RECENT = text("""
    SELECT stored.topic, stored.number, stored.recent_messages, stored.recent_rejects, stored.reject_run,
           stored.halted_at
    FROM partitions AS stored
    JOIN unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[])) AS given(topic, number)
      ON stored.topic = given.topic AND stored.number = given.number
""")
_REMEMBER = text("""
    UPDATE partitions AS stored SET
        recent_messages = given.messages, recent_rejects = given.rejects, reject_run = given.run
    FROM unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[]), CAST(:messages AS integer[]),
                CAST(:rejects AS bytea[]), CAST(:runs AS integer[]))
      AS given(topic, number, messages, rejects, run)
    WHERE stored.topic = given.topic AND stored.number = given.number
""")
_LATEST_REASONS = text("""
    -- The rejects that exceeded the budget are the latest ones of the partition; how far back is looked is bounded.
    SELECT reason FROM (
        SELECT topic, partition, reason FROM dead_letters ORDER BY id DESC LIMIT 100000
    ) AS latest
    WHERE topic = :topic AND partition = :number LIMIT :rejects
""")
_HALT = text("""
    UPDATE partitions SET
        halted_at = clock_timestamp(), halted_offset = :offset, halted_because = :sentence,
        halted_reasons = CAST(:reasons AS jsonb)
    WHERE topic = :topic AND number = :number
""")
_LOCK_HALTED = text("""
    SELECT topic, number, halted_at, halted_offset, halted_because, halted_reasons FROM partitions
    WHERE CAST(:topics AS text[]) IS NULL AND halted_at IS NOT NULL
       OR (topic, number) IN (SELECT * FROM unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[])))
    ORDER BY topic, number FOR UPDATE
""")
_RESUME = text("""
    UPDATE partitions SET
        recent_messages = 0, recent_rejects = '', reject_run = 0,
        halted_at = NULL, halted_offset = NULL, halted_because = NULL, halted_reasons = NULL
    WHERE topic = :topic AND number = :number
""")
_HALTS = text("""
    SELECT topic, number, halted_at, halted_offset, halted_because, halted_reasons FROM partitions
    WHERE halted_at IS NOT NULL
      AND (topic, number) IN (SELECT * FROM unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[])))
""")


async def charge(
    connection: AsyncConnection, batch: Batch, settled: Settled, budget: RejectBudget
) -> Collection[Partition]:
    """Charges a batch to the budgets of its partitions, whose rows are locked; returns those that halt with it.

    Raises:
        RejectBudgetExceeded: the batch goes on beyond the message after which a partition is to halt.
    """
    recent: dict[Partition, RecentOutcomes | None] = {}
    for row in await connection.execute(_RECENT, places(batch.progress)):
        remembered = RecentOutcomes.from_bytes(row.recent_messages, row.recent_rejects, row.reject_run)
        recent[Partition(row.topic, row.number)] = None if row.halted_at is not None else remembered
    charges = charge_batch(batch.readings, settled, recent=recent, budget=budget)
    changed = {partition: each.recent for partition, each in charges.items() if each.recent != recent[partition]}
    if changed:
        await connection.execute(
            _REMEMBER,
            places(changed)
            | {
                "messages": [each.messages for each in changed.values()],
                "rejects": [each.to_bytes() for each in changed.values()],
                "runs": [each.run for each in changed.values()],
            },
        )
    halted = {partition: each.breach for partition, each in charges.items() if each.breach is not None}
    for partition, breach in halted.items():
        await _halt(connection, partition, _last_offset(batch, partition), breach)
    return halted.keys()


async def _halt(connection: AsyncConnection, partition: Partition, offset: int, breach: Breach) -> None:
    where = partition._asdict()
    reasons = commonest(await connection.scalars(_LATEST_REASONS, where | {"rejects": breach.rejects}))
    told = {"offset": offset, "sentence": breach.sentence, "reasons": json.dumps(list(reasons.items()))}
    await connection.execute(_HALT, where | told)


async def resume(
    connection: AsyncConnection, partitions: Iterable[Partition] | None, by: Actor
) -> dict[Partition, Halt | None]:
    """Ends halts and begins their budgets anew; see `Ledger.resume`."""
    asked = {"topics": None, "numbers": None} if partitions is None else places(partitions)
    found = {
        Partition(row.topic, row.number): halt_from_row(row) for row in await connection.execute(_LOCK_HALTED, asked)
    }
    for partition, halt in found.items():
        if halt is not None:
            await connection.execute(_RESUME, partition._asdict())
            detail = {"offset": halt.offset, "rejects": dict(halt.reasons)}
            named = f"{partition.topic}/{partition.number}"
            await note_deeds(connection, by, [Deed(Action.PARTITION_RESUMED, named, detail=detail)])
    return found


async def halts(connection: AsyncConnection, partitions: Iterable[Partition]) -> dict[Partition, Halt]:
    """The halts of those that stand halted."""
    rows = await connection.execute(_HALTS, places(partitions))
    found = {Partition(row.topic, row.number): halt_from_row(row) for row in rows}
    return {partition: halt for partition, halt in found.items() if halt is not None}


def halt_from_row(row: Any) -> Halt | None:  # noqa: ANN401 - a row of partitions
    """The halt that a partition's row tells of."""
    if row.halted_at is None:
        return None
    return Halt(row.halted_at, row.halted_offset, row.halted_because, dict(row.halted_reasons))


def _last_offset(batch: Batch, partition: Partition) -> int:
    return max(each.delivery.offset for each in batch.readings if each.delivery.partition == partition)


def places(partitions: Iterable[Partition] | Mapping[Partition, object]) -> dict[str, list[Any]]:
    """Partitions as parameters, a column each."""
    listed = list(partitions)
    return {"topics": [each.topic for each in listed], "numbers": [each.number for each in listed]}
