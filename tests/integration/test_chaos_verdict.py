"""The reckoning at the end of a campaign finds what is wrong: each kind of damage, done by hand, is told."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest
from chaos import verdict
from chaos.load import ERASED, Traffic
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.ledgers import NO_GRACE, TOPIC, Worker, in_postgres, settle

from local_stack.topics import Topics
from segmentation.fields import CustomerId
from segmentation.outcomes import Partition
from segmentation.storage.engine import transaction

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def recorded(engine: AsyncEngine) -> verdict.Topic:
    """Some of a campaign's load, recorded as it should be."""
    store = await in_postgres(engine, verdict.SETTING, NO_GRACE)
    for customer_id in ERASED:
        await store.suppress(CustomerId(customer_id))
    worker = Worker(store)
    await worker.read([placed.message for placed in islice(Traffic(4, Topics.of({}), 4), 400)], now=NOW)
    await settle(store, now=NOW)
    return {Partition(TOPIC, 0): list(enumerate(worker.placed[Partition(TOPIC, 0)]))}


async def test_what_is_right_has_no_difference(engine: AsyncEngine) -> None:
    assert await verdict.differences(engine, await recorded(engine), NOW) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE partitions SET duplicate = duplicate + 1", "counts:"),
        ("UPDATE partitions SET next_offset = next_offset - 1", "counts:"),
        ("DELETE FROM events WHERE ctid = (SELECT min(ctid) FROM events)", "counts:"),
        ("DELETE FROM dead_letters WHERE id = (SELECT min(id) FROM dead_letters)", "quarantine:"),
        ("UPDATE day_buckets SET orders = orders + 1", "metrics:"),
        ("UPDATE snapshots SET computed_tier = 'unrated'", "tier:"),
        ("UPDATE snapshots SET segment = 'nobody'", "decision:"),
        ("UPDATE house SET as_of = as_of - 1", "as_of:"),
    ],
)
async def test_what_is_wrong_is_told(engine: AsyncEngine, damage: str, told: str) -> None:
    log = await recorded(engine)
    async with transaction(engine) as connection:
        await connection.execute(text(damage))
    assert any(difference.startswith(told) for difference in await verdict.differences(engine, log, NOW))


async def test_a_message_that_nobody_read_is_told(engine: AsyncEngine) -> None:
    log = await recorded(engine)
    ((partition, messages),) = log.items()
    more = {partition: [*messages, (len(messages), messages[0][1])]}
    assert any(difference.startswith("counts:") for difference in await verdict.differences(engine, more, NOW))
