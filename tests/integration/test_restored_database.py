"""A database that was restored to an earlier point announces with numbers that were never given out before."""

from __future__ import annotations

from typing import Final

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import an_order, as_message
from tests.support.ledgers import PostgresStore, Worker, in_postgres, settle
from tests.support.oracle import Message, Setting

from ingest_worker import commands
from segmentation.access import Action
from segmentation.feeds import Feed
from segmentation.settings import HouseSettings
from segmentation.storage.audit import PostgresAudit, operator
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.full_snapshots import PostgresFullSnapshots

SETTING: Final = Setting(base_currency="CNY", timezone="UTC", clock="event")


@pytest.fixture
def settings(database_url: str) -> HouseSettings:
    return HouseSettings(
        database_url=SecretStr(database_url), clock="event", base_currency="CNY", business_timezone="UTC"
    )


async def announced(store: PostgresStore, feeds: PostgresFeeds) -> tuple[set[int], set[int]]:
    """Positions of changes, and ids of dead letters."""
    await settle(store)
    for feed in Feed:
        await feeds.place(feed, limit=100)
    changes = await feeds.changes_after(0, limit=100)
    letters = await feeds.dead_letters_after(0, limit=100)
    return {change.position for change in changes}, {letter.id for _, letter in letters}


async def test_nothing_is_announced_under_a_number_that_others_have_seen(
    engine: AsyncEngine, settings: HouseSettings
) -> None:
    """What came after the backup is gone from the database, not from the memory of those who follow it."""
    store = await in_postgres(engine, SETTING)
    feeds = PostgresFeeds(engine)
    worker = Worker(store)
    await worker.read([as_message(an_order(event_id="a", customer_id="C-1")), Message(b"{")])
    backed_up = await announced(store, feeds)
    await worker.read([as_message(an_order(event_id="b", customer_id="C-2")), Message(b"[")])
    seen = await announced(store, feeds)
    assert all(more > fewer for more, fewer in zip(seen, backed_up, strict=True))
    # as the backup had it
    await store.rows(
        "WITH gone AS (DELETE FROM changes WHERE position > :placed) "
        "UPDATE feeds SET placed = :placed WHERE name = 'changes' RETURNING 1",
        placed=max(backed_up[0]),
    )
    await store.rows("DELETE FROM dead_letters WHERE id > :last RETURNING 1", last=max(backed_up[1]))
    await store.rows("SELECT setval(pg_get_serial_sequence('dead_letters', 'id'), :last)", last=max(backed_up[1]))

    told = await commands.restored(settings)

    await worker.read([as_message(an_order(event_id="c", customer_id="C-3")), Message(b"0")])
    positions, letters = await announced(store, feeds)
    news = positions - backed_up[0], letters - backed_up[1]
    assert all(news)
    assert min(news[0]) > max(seen[0])
    assert min(news[1]) > max(seen[1])
    assert f"sequence {min(news[0])}," in told
    assert await PostgresFullSnapshots(engine).find(1) is not None
    done = await PostgresAudit(engine).entries(action=None, customer_id=None, before_id=None, limit=9)
    assert [(each.by, each.deed.action) for each in done] == [
        (operator(), Action.SNAPSHOT_ASKED),
        (operator(), Action.DATABASE_RESTORED),
    ]
