"""Generated histories: raw events come and are dropped, and what is counted is always what they amount to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.histories import NOW, agreeable, histories, settings_for_histories, shuffles
from tests.support.ledgers import Worker, expected, in_postgres, settle, state_of
from tests.support.oracle import Message, Oracle, Setting
from tests.support.recounting import differences, drop, rebuild

from segmentation.storage.engine import create_engine

few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
days_back = st.sampled_from((-1, 0, 1, 7, 30, 90, 180, 365, 800))
"""Before which day raw events are dropped, by its distance to now; None: nothing is."""
drops = st.lists(st.one_of(st.none(), days_back), min_size=6, max_size=6)

DERIVED = ("customers", "orders", "retractions", "day_buckets", "snapshots", "tier_state")


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


def day_before(days: int) -> date:
    return NOW.date() - timedelta(days=days)


@few
@given(st.data(), histories(), settings_for_histories(), drops)
async def test_dropping_raw_events_touches_nothing_that_is_counted(
    engine: AsyncEngine, data: st.DataObject, history: list[Message], setting: Setting, drops: Sequence[int | None]
) -> None:
    """Repeats, late versions, deliveries and retractions of what was dropped come before and after, in any order."""
    applied = agreeable(history, setting)
    oracle = Oracle(setting)
    for message in applied:
        oracle.read(message, now=NOW)
    store = await in_postgres(engine, setting)
    worker = Worker(store)
    for batch, days in zip(data.draw(shuffles(applied)), drops, strict=False):
        await worker.read(batch)
        if days is not None:
            await drop(engine, store.house, day_before(days))
    await settle(store)
    assert await differences(engine, store.house) == []
    assert await state_of(store) == expected(oracle)


@few
@given(histories(), settings_for_histories(), drops, st.integers(1, 12))
async def test_live_state_is_what_a_recount_gives_whatever_comes_and_goes(
    engine: AsyncEngine, history: list[Message], setting: Setting, drops: Sequence[int | None], size: int
) -> None:
    """Also where a conflict is no longer recognised as one, since the event it conflicts with was dropped."""
    store = await in_postgres(engine, setting)
    worker = Worker(store)
    batches = [history[start : start + size] for start in range(0, len(history), size)]
    for number, batch in enumerate(batches):
        await worker.read(batch)
        days = drops[number % len(drops)]
        if days is not None:
            await drop(engine, store.house, day_before(days))
    await settle(store)
    assert await differences(engine, store.house) == []
    before = await state_of(store), await store.changes()
    assert await rebuild(engine, store.house) == []
    await settle(store)
    assert (await state_of(store), await store.changes()) == before


@few
@given(st.data(), histories(), settings_for_histories(), drops)
async def test_everything_derived_can_be_rebuilt_from_raw_events_and_baseline(
    engine: AsyncEngine, data: st.DataObject, history: list[Message], setting: Setting, drops: Sequence[int | None]
) -> None:
    """Emptied tables, some or all, fill again, and nothing is left to mend."""
    applied = agreeable(history, setting)
    oracle = Oracle(setting)
    for message in applied:
        oracle.read(message, now=NOW)
    store = await in_postgres(engine, setting)
    worker = Worker(store)
    for batch, days in zip(data.draw(shuffles(applied)), drops, strict=False):
        await worker.read(batch)
        if days is not None:
            await drop(engine, store.house, day_before(days))
    await settle(store)
    for table in data.draw(st.lists(st.sampled_from(DERIVED), min_size=1, unique=True)):
        await store.rows(f"WITH gone AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM gone")
    await rebuild(engine, store.house)
    await settle(store)
    assert await differences(engine, store.house) == []
    assert await state_of(store) == expected(oracle)
