"""What the store promises of full snapshots: who asks, who makes them, and chunks exact as of a position."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, running
from tests.support.builders import an_order

from segmentation.feeds import Feed
from segmentation.storage.engine import create_engine
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.full_snapshots import PostgresFullSnapshots


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        yield api


@pytest.fixture
def store(engine: AsyncEngine) -> PostgresFullSnapshots:
    return PostgresFullSnapshots(engine)


async def feed(api: Api, *customers: str) -> None:
    await api.fed(*(an_order(customer_id=each, event_id=f"e-{each}", order_id=each) for each in customers))


async def test_who_asks_before_it_begins_gets_the_same_and_afterwards_another(
    api: Api, store: PostgresFullSnapshots
) -> None:
    first = await store.ask()
    assert (await store.ask()).id == first.id
    assert (first.attempt, first.begun_at, first.done_at) == (0, None, None)
    begun = await store.begin(first.id)
    assert (begun.name, begun.begun_at is not None) == (f"{first.id}.1", True)
    second = await store.ask()
    assert second.id > first.id
    assert (await store.wanted(every_hours=0)) == begun
    assert await store.note(begun, customers=3, done=True)
    assert (await store.wanted(every_hours=0)) == second
    told = (await api.read("/ingest/full-snapshots"))["full_snapshots"]
    assert [(each["snapshot_id"], each["customers"], each["done_at"] is None) for each in told] == [
        (None, 0, True),
        (f"{first.id}.1", 3, False),
    ]


async def test_an_attempt_that_was_overtaken_notes_nothing(api: Api, store: PostgresFullSnapshots) -> None:
    asked = await store.ask()
    old = await store.begin(asked.id)
    assert await store.note(old, customers=5, done=False)
    new = await store.begin(asked.id)
    assert (new.name, new.customers) == (f"{asked.id}.2", 0)
    assert not await store.note(old, customers=9, done=True)
    assert await store.find(asked.id) == new
    assert await store.find(asked.id + 1) is None


async def test_the_schedule_counts_from_the_first_change_or_the_last_request(
    api: Api, store: PostgresFullSnapshots
) -> None:
    """An empty house asks for none, and 0 never does."""
    assert await store.wanted(every_hours=1e-9) is None
    await feed(api, "a")
    assert await store.wanted(every_hours=0) is None
    assert await store.wanted(every_hours=1000) is None
    asked = await store.wanted(every_hours=1e-9)
    assert asked is not None
    await store.note(await store.begin(asked.id), customers=1, done=True)
    assert await store.wanted(every_hours=1000) is None
    again = await store.wanted(every_hours=1e-9)
    assert again is not None
    assert again.id > asked.id


async def test_standings_come_in_order_of_ids_as_of_a_position_that_all_their_changes_have(
    api: Api, store: PostgresFullSnapshots, engine: AsyncEngine
) -> None:
    await feed(api, "b", "a", "C", "a.1")
    first = await store.chunk_after("", limit=3)
    assert first is not None
    assert [each.customer_id for each in first.snapshots] == ["C", "a", "a.1"]
    feeds = PostgresFeeds(engine)
    told = await feeds.changes_after(0, limit=100)
    assert [change.position for change in told] == list(range(1, first.position + 1))
    last = {change.customer_id: change.payload["after"] for change in told}
    for each in first.snapshots:
        assert last[each.customer_id]["value_tier"] == each.tier
    assert await feeds.place(Feed.CHANGES, limit=100) == 0
    rest = await store.chunk_after("a.1", limit=3)
    assert rest is not None
    assert ([each.customer_id for each in rest.snapshots], rest.position) == (["b"], first.position)
    assert await feeds.relayed(Feed.CHANGES) == 0


async def test_while_the_feed_is_far_behind_changes_come_first(
    api: Api, store: PostgresFullSnapshots, engine: AsyncEngine
) -> None:
    await api.fed(*(an_order(customer_id=f"c{n}", event_id=f"e-{n}", order_id="o") for n in range(1_001)))
    assert await store.chunk_after("", limit=10) is None
    while (found := await store.chunk_after("", limit=10)) is None:
        pass
    assert found.position > 1_000
    assert len(await PostgresFeeds(engine).changes_after(0, limit=10_000)) == found.position
