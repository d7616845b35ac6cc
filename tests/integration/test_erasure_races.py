"""Erasures among workers, keepers and rebuilds: whatever interleaves, nobody comes back, and everyone else is exact.

Each side is stopped at a chosen place and the other let go; several processes are several ledgers with connections and
caches of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.builders import a_complaint, an_order, as_message
from tests.support.histories import NOW
from tests.support.ledgers import (
    PostgresStore,
    Worker,
    counts,
    expected,
    house_of,
    in_postgres,
    judged,
    settle,
    state_of,
)
from tests.support.oracle import Message, Oracle, Setting
from tests.support.workers import eventually

from segmentation.errors import StoreUnavailable
from segmentation.feeds import Feed
from segmentation.fields import CustomerId
from segmentation.ledger import Batch
from segmentation.outcomes import Partition
from segmentation.storage import erasing, recount, suppression, tables
from segmentation.storage import ledger as postgres_ledger
from segmentation.storage import tiers as postgres_tiers
from segmentation.storage.books import Books
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.erasing import PostgresPrivacy
from segmentation.storage.feeds import PostgresFeeds

SETTING = Setting()
GONE = CustomerId("Gone-1")
BAD = as_message(an_order(customer_id=GONE, event_id="bad", amount="much"))


def an_event(number: int, customer_id: str = GONE) -> Message:
    return as_message(an_order(customer_id=customer_id, event_id=f"{customer_id}-{number}", order_id=f"{number}"))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    engine = create_engine(database_url, application_name="one", pool_size=8)
    yield await in_postgres(engine, SETTING)
    await engine.dispose()


@pytest.fixture
async def other(store: PostgresStore, database_url: str) -> AsyncIterator[PostgresStore]:
    """The same data as another process has it."""
    engine = create_engine(database_url, application_name="another", pool_size=8)
    yield PostgresStore(engine, house_of(SETTING))
    await engine.dispose()


class Stop:
    """Holds a function up before its first call goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self.reached, self._go_on = asyncio.Event(), asyncio.Event()
        original: Callable[..., Coroutine[Any, Any, Any]] = getattr(module, name)

        async def held_up(*arguments: Any, **named: Any) -> Any:
            if not self.reached.is_set():
                self.reached.set()
                await self._go_on.wait()
            return await original(*arguments, **named)

        monkeypatch.setattr(module, name, held_up)

    def go_on(self) -> None:
        self._go_on.set()


async def waits_for_a_lock(store: PostgresStore, application: str) -> None:
    """Until a connection of that process waits for another's lock: then its place in the order is certain."""

    async def check() -> bool:
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = :name "
            "AND datname = current_database()"
        )
        return bool(await store.rows(waiting, name=application))

    await eventually(check, f"a connection of {application} to wait for a lock")


async def stands(store: PostgresStore, needle: str = GONE) -> list[str]:
    """Tables in which anything of the customer stands, but for the announcement."""
    found = []
    for table in tables.metadata.sorted_tables:
        rows = await store.rows(f"SELECT to_jsonb(t)::text AS row FROM {table.name} AS t")
        if any(needle in row.row and '"erased": true' not in row.row for row in rows):
            found.append(table.name)
    return found


def told(*messages: Message, erased: bool = True) -> Oracle:
    oracle = Oracle(SETTING)
    judged(oracle, messages)
    if erased:
        oracle.erase(GONE)
    return oracle


async def sound(store: PostgresStore) -> None:
    """Everything follows from the events that are there."""
    assert await Books(store._engine, store.house).check() == []
    recounted = recount.Recount(store._engine, store.house)
    customer_ids = [customer_id for customer_id, _ in await recounted.page("", limit=1_000)]
    assert GONE not in customer_ids
    assert await recounted.check(customer_ids) == []


# --- a batch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["_insert_events", "lock_customers", "assess_customers", "_quarantine", "advance"])
@pytest.mark.parametrize("known", [False, True])
async def test_a_batch_under_way_ends_first_and_the_erasure_takes_what_it_recorded(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch, step: str, known: bool
) -> None:
    worker = Worker(store)
    before = [an_event(0), an_event(0, "C-2")] if known else [an_event(0, "C-2"), BAD]
    await worker.read(before)
    stop = Stop(monkeypatch, postgres_ledger, step)
    batch = [an_event(1), an_event(1, "C-2"), BAD]
    recording = asyncio.create_task(worker.read(batch))
    await stop.reached.wait()
    erasing_it = asyncio.create_task(other.privacy.erase(GONE))
    await waits_for_a_lock(store, "another")
    stop.go_on()
    await recording
    assert (await erasing_it) is not None
    assert await stands(store) == []
    await settle(store)
    assert await state_of(store) == expected(told(*before, *batch))
    await sound(store)
    assert (await counts(store))["suppressed"] == 0
    await Worker(other, owner="worker-2").read(batch, partitions=(1,))
    assert await counts(store) == {"applied": 3 + known, "duplicate": 1, "rejected": 2 - known, "suppressed": 2}
    assert await stands(store) == []


@pytest.mark.parametrize("messages", [[an_event(1)], [BAD], [an_event(1), BAD, an_event(1, "C-2")]])
async def test_a_batch_that_comes_while_an_erasure_is_under_way_finds_the_customer_erased(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch, messages: list[Message]
) -> None:
    """In a worker that has recorded the customer before, and has whatever it may remember of it."""
    worker = Worker(other)
    await worker.read([an_event(0)])
    stop = Stop(monkeypatch, erasing, "take_back")
    erasing_it = asyncio.create_task(store.privacy.erase(GONE))
    await stop.reached.wait()
    recording = asyncio.create_task(worker.read(messages))
    await waits_for_a_lock(store, "another")
    stop.go_on()
    await asyncio.gather(erasing_it, recording)
    assert await stands(store) == []
    suppressed = sum(GONE.encode() in (message.value or b"") for message in messages)
    assert (await counts(store))["suppressed"] == suppressed
    await settle(other)
    await sound(store)


async def test_an_erasure_gives_way_to_the_others_when_a_worker_stands_still(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks again later, rather than have every worker wait behind it for one that was stopped."""
    worker = Worker(store)
    await worker.read([an_event(0)])
    monkeypatch.setattr(erasing, "_GATE_PATIENCE", text("SET LOCAL lock_timeout = '50ms'"))
    stop = Stop(monkeypatch, postgres_ledger, "assess_customers")
    recording = asyncio.create_task(worker.read([an_event(1)]))
    await stop.reached.wait()
    with pytest.raises(StoreUnavailable):
        await other.privacy.erase(GONE)
    assert "events" in await stands(store)
    stop.go_on()
    await recording
    await other.privacy.erase(GONE)
    assert await stands(store) == []


async def test_a_replay_under_way_and_an_erasure_never_wait_for_each_other_in_a_circle(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Worker(store).read([BAD, an_event(0)])
    stop = Stop(monkeypatch, postgres_ledger.PostgresLedger, "_take_in")
    replaying = asyncio.create_task(store.ledger.replay(1, now=NOW))
    await stop.reached.wait()
    erasing_it = asyncio.create_task(other.privacy.erase(GONE))
    await waits_for_a_lock(store, "another")
    stop.go_on()
    await asyncio.gather(replaying, erasing_it)
    assert await stands(store) == []
    assert await counts(store) == {"applied": 1, "duplicate": 0, "rejected": 1, "suppressed": 0}


# --- several erasures, and one that breaks off ----------------------------------------------------------------------


async def test_of_two_erasures_at_once_one_does_it_and_the_other_says_so(
    store: PostgresStore, other: PostgresStore
) -> None:
    await Worker(store).read([an_event(0), an_event(0, "C-2"), an_event(0, "C-3")])
    done = await asyncio.gather(
        store.privacy.erase(GONE),
        other.privacy.erase(GONE),
        store.privacy.erase(CustomerId("C-2")),
        other.privacy.erase(CustomerId("C-3")),
    )
    assert sorted(each.already for each in done if each) == [False, False, False, True]
    assert (await store.status(now=NOW)).customers == 0
    await settle(store)
    await sound(store)


@pytest.mark.parametrize(
    ("module", "name"),
    [(postgres_tiers, "unsettle"), (erasing, "_hold"), (suppression, "settle_key"), (erasing, "take_back")],
)
async def test_an_erasure_that_breaks_off_has_done_nothing(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    messages = [an_event(0), BAD, an_event(0, "C-2")]
    await Worker(store).read(messages)
    await settle(store)

    async def dies(*_: Any, **__: Any) -> None:
        raise ConnectionError

    async def everything() -> dict[str, list[str]]:
        return {
            table.name: sorted(str(tuple(row)) for row in await store.rows(f"SELECT * FROM {table.name}"))
            for table in tables.metadata.sorted_tables
        }

    before = await everything()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, dies)
        with pytest.raises(StoreUnavailable):
            await store.privacy.erase(GONE)
    assert await everything() == before
    await store.privacy.erase(GONE)
    await settle(store)
    assert await state_of(store) == expected(told(*messages))


# --- the keeper -----------------------------------------------------------------------------------------------------


async def test_a_sweep_that_has_chosen_the_customer_does_not_bring_it_back(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Worker(store).read([an_event(0), an_event(0, "C-2")])
    async with transaction(store._engine) as connection:
        await connection.execute(text("UPDATE snapshots SET due_on = as_of"))
    stop = Stop(monkeypatch, postgres_tiers, "lock_customers")
    sweeping = asyncio.create_task(other.ledger.sweep(now=NOW, limit=10))
    await stop.reached.wait()
    await store.privacy.erase(GONE)
    stop.go_on()
    assert await sweeping == 2
    assert await stands(store) == []
    await settle(other)
    await sound(store)


@pytest.mark.parametrize("step", ["load_roster", "take_moves", "_move_crossers"])
async def test_a_settling_under_way_gives_up_and_the_next_knows_nobody_who_was_erased(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The keeper has everyone in memory; the giant whom it is about to rank goes."""
    worker = Worker(store)
    messages = [an_event(number, f"C-{number}") for number in range(9)]
    giant = as_message(an_order(customer_id=GONE, event_id="giant", order_id="giant", amount="99999.00"))
    await worker.read(messages)
    if step != "load_roster":
        await settle(other)
    await worker.read([giant])
    stop = Stop(monkeypatch, postgres_tiers, step)
    settling = asyncio.create_task(other.ledger.settle_tiers(now=NOW))
    await stop.reached.wait()
    erasing_it = asyncio.create_task(store.privacy.erase(GONE))
    with contextlib.suppress(TimeoutError):
        # Beside it, or after it where it holds what both need.
        await asyncio.wait_for(asyncio.shield(erasing_it), 0.5)
    stop.go_on()
    with contextlib.suppress(StoreUnavailable):  # its moment was overtaken; a keeper tries again
        await settling
    await erasing_it
    await settle(other)
    assert await stands(store) == []
    assert await state_of(store) == expected(told(*messages, giant))
    assert (await store.status(now=NOW)).tiers_current
    await sound(store)


# --- a rebuild ------------------------------------------------------------------------------------------------------


async def test_a_rebuild_under_way_does_not_bring_the_customer_back(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Worker(store).read([an_event(0), an_event(0, "C-2")])
    await settle(store)
    stop = Stop(monkeypatch, recount, "insert_rows")
    mending = asyncio.create_task(recount.Recount(other._engine, other.house).mend([GONE, CustomerId("C-2")], now=NOW))
    await stop.reached.wait()  # it holds the ranking, which an erasure waits for
    erasing_it = asyncio.create_task(store.privacy.erase(GONE))
    await waits_for_a_lock(store, "one")
    stop.go_on()
    assert await mending == []
    await erasing_it
    assert await stands(store) == []
    # The same the other way round.
    assert await recount.Recount(other._engine, other.house).mend([GONE], now=NOW) == []
    assert await stands(store) == []
    await settle(store)
    await sound(store)


async def test_a_first_event_beside_a_rebuild_that_removes_its_customer_is_read_again(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A customer without events stands in a corrupted database; a rebuild removes it just as its first event comes."""
    async with transaction(store._engine) as connection:
        await connection.execute(text("INSERT INTO customers (customer_id) VALUES (:id)"), {"id": GONE})
    worker = Worker(store)
    stop = Stop(monkeypatch, postgres_ledger, "lock_customers")
    recording = asyncio.create_task(worker.read([an_event(0)]))
    await stop.reached.wait()  # the event is in, and the customer, who was there, is about to be locked
    assert len(await recount.Recount(other._engine, other.house).mend([GONE], now=NOW)) == 1
    stop.go_on()
    with pytest.raises(StoreUnavailable, match="read again"):
        await recording
    assert await stands(store) == ["touched"]  # who was removed is told to those who keep answers, for a minute
    await worker.resume()
    await settle(store)
    assert await state_of(store) == expected(told(an_event(0), erased=False))
    assert await Books(store._engine, store.house).check() == []


# --- many -----------------------------------------------------------------------------------------------------------


async def test_two_workers_a_keeper_a_rebuild_and_erasures_beside_each_other(
    store: PostgresStore, other: PostgresStore
) -> None:
    """No deadlock that costs more than a repeat, nobody back, and the others exact."""
    messages = [an_event(number, f"C-{number % 12}") for number in range(240)]
    complaints = [as_message(a_complaint(customer_id=f"C-{n % 12}", event_id=f"c-{n}")) for n in range(240)]
    erased = [CustomerId(f"C-{number}") for number in (1, 5, 9)]
    done = asyncio.Event()

    async def until_it_works(step: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        while True:
            try:
                return await step()
            except StoreUnavailable:
                await asyncio.sleep(0.01)

    async def read(worker: Worker, partition: int, messages: list[Message]) -> None:
        for start in range(0, len(messages), 12):
            claims = await worker._claimed((partition,))
            batch = worker.batch(messages[start : start + 12], partitions=(partition,), claims=claims)

            async def record(batch: Batch = batch) -> None:
                await worker.record(batch)

            await until_it_works(record)

    async def keep() -> None:
        while not done.is_set():
            with contextlib.suppress(StoreUnavailable):
                await settle(other)
            await asyncio.sleep(0)

    async def rebuild() -> None:
        recounting = recount.Recount(store._engine, store.house)
        everyone = [CustomerId(f"C-{number}") for number in range(12)]
        while not done.is_set():
            assert await until_it_works(lambda: recounting.mend(everyone, now=NOW)) == []

    async def erase() -> None:
        for number, customer_id in enumerate(erased):
            await asyncio.sleep(0.15 * (number + 1))
            privacy = PostgresPrivacy((store, other)[number % 2]._engine, store.house)

            async def erased_it(privacy: PostgresPrivacy = privacy, customer_id: CustomerId = customer_id) -> bool:
                return await until_it_works(lambda: privacy.erase(customer_id)) is not None

            # Before its first event there is nobody to erase.
            await eventually(erased_it, f"{customer_id} to be known")

    beside = [asyncio.create_task(keep()), asyncio.create_task(rebuild())]
    await asyncio.gather(
        read(Worker(store, owner="one"), 0, messages), read(Worker(other, owner="two"), 1, complaints), erase()
    )
    done.set()
    await asyncio.gather(*beside)
    await settle(store)
    for customer_id in erased:
        assert await stands(store, f'"{customer_id}"') == []
    oracle = Oracle(SETTING)
    judged(oracle, [*messages, *complaints])
    for customer_id in erased:
        oracle.erase(customer_id)
    assert await state_of(store) == expected(oracle)
    read_of_all = await counts(store)
    assert sum(read_of_all.values()) == 480
    assert read_of_all["rejected"] == read_of_all["duplicate"] == 0
    assert await Books(store._engine, store.house).check() == []
    feeds = PostgresFeeds(store._engine)
    while await feeds.place(Feed.CHANGES, limit=100):
        pass
    announced = await feeds.changes_after(0, limit=10_000)
    for customer_id in erased:
        assert [each.erased for each in announced if each.customer_id == customer_id] == [True]
    assert Partition("logistics.orders", 0) in {each.partition for each in (await store.status(now=NOW)).partitions}
