"""Several workers on one real PostgreSQL: exact whatever interleaves, and no worse for lost connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.support.builders import a_complaint, a_customer, a_retraction, a_return, an_order, as_message
from tests.support.histories import NOW
from tests.support.ledgers import (
    TOPIC,
    PostgresStore,
    Worker,
    counts,
    expected,
    house_of,
    in_postgres,
    judged,
    receipt_counts,
    settle,
    state_of,
)
from tests.support.oracle import Message, Oracle, Setting
from tests.support.workers import eventually

from segmentation.errors import PartitionLost, StoreUnavailable
from segmentation.ledger import Place, Receipt
from segmentation.outcomes import Partition
from segmentation.storage import assessed
from segmentation.storage import ledger as postgres_ledger
from segmentation.storage import tiers as postgres_tiers
from segmentation.storage.engine import create_engine, transaction
from segmentation.tiering import Tier

SETTING = Setting()


@asynccontextmanager
async def another(database_url: str) -> AsyncIterator[PostgresStore]:
    """The same ledger as another process has it: with connections and caches of its own."""
    engine = create_engine(database_url, application_name="another", pool_size=4)
    yield PostgresStore(engine, house_of(SETTING))
    await engine.dispose()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    engine = create_engine(database_url, application_name="one", pool_size=4)
    yield await in_postgres(engine, SETTING)
    await engine.dispose()


@pytest.fixture
async def other(store: PostgresStore, database_url: str) -> AsyncIterator[PostgresStore]:
    async with another(database_url) as other:
        yield other


def on_partition(worker: Worker, number: int, messages: Iterable[Message]) -> Any:
    return worker.read(messages, partitions=(number,))


def events_of(number: int) -> list[Message]:
    """A few events of one customer among ten that depend on each other."""
    named = {"customer_id": f"C-{number % 10}", "occurred_at": f"2026-{number % 9 + 1:02}-01T12:00:00Z"}
    return [
        as_message(an_order(**named, event_id=f"o{number}", order_id=f"{number % 3}", amount=str(number))),
        as_message(a_complaint(**named, event_id=f"c{number}")),
        as_message(a_return(**named, event_id=f"r{number}", amount="0.01")),
        as_message(a_retraction(**named, event_id=f"t{number}", retracts=f"c{number - number % 2}")),
        as_message(a_customer(**named, event_id=f"p{number}", name=f"name {number}", region="N")),
    ]


def oracle_of(messages: Iterable[Message]) -> Oracle:
    oracle = Oracle(SETTING)
    judged(oracle, list(messages))
    return oracle


# --- two at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_two_workers_that_read_the_same_events_apply_each_once(
    store: PostgresStore, other: PostgresStore, seed: int
) -> None:
    """Same ids and customers on different partitions, in different orders: exact counts, no deadlock, nothing twice."""
    chance = random.Random(seed)
    messages = [message for number in range(60) for message in events_of(number)]
    orders = [chance.sample(messages, len(messages)) for _ in range(2)]

    async def read(worker: Worker, partition: int, messages: list[Message]) -> list[Receipt]:
        return [
            await worker.read(messages[start : start + 20], partitions=(partition,))
            for start in range(0, len(messages), 20)
        ]

    receipts = await asyncio.gather(
        read(Worker(store, owner="one"), 0, orders[0]), read(Worker(other, owner="another"), 1, orders[1])
    )
    summed = {
        name: sum(receipt_counts(receipt)[name] for each in receipts for receipt in each)
        for name in await counts(store)
    }
    assert summed == await counts(store) == {"applied": 300, "duplicate": 300, "rejected": 0, "suppressed": 0}
    assert (await store.status(now=NOW)).customers == 10
    await settle(store)
    assert await state_of(store) == expected(oracle_of(messages))


async def test_of_two_conflicting_events_exactly_one_is_applied(store: PostgresStore, other: PostgresStore) -> None:
    """Which one is chance; the other is rejected, and the state is that of the one applied."""
    one, another = (as_message(an_order(amount=amount)) for amount in ("1", "2"))
    await asyncio.gather(on_partition(Worker(store), 0, [one]), on_partition(Worker(other), 1, [another]))
    assert await counts(store) == {"applied": 1, "duplicate": 0, "rejected": 1, "suppressed": 0}
    (reject,) = (await store.rejects()).values()
    assert reject[0] == "conflicting_duplicate"
    applied = one if reject[1] == another.value else another
    await settle(store)
    assert await state_of(store) == expected(oracle_of([applied]))


async def test_workers_and_keepers_never_wait_for_each_other_in_a_circle(
    store: PostgresStore, other: PostgresStore
) -> None:
    """Batches over many partitions and customers while a keeper sweeps and settles: nothing is ever refused."""
    messages = [message for number in range(80) for message in events_of(number)]
    done = asyncio.Event()

    async def read(worker: Worker, partitions: tuple[int, ...], messages: list[Message]) -> None:
        for start in range(0, len(messages), 10):
            await worker.read(messages[start : start + 10], partitions=partitions)

    async def keep(store: PostgresStore) -> None:
        async with store.ledger.leading(Place.KEEPER) as leads:
            while not done.is_set():
                if await leads():
                    await store.ledger.sweep(now=NOW, limit=3)
                    await store.ledger.settle_tiers(now=NOW)
                await asyncio.sleep(0)

    async def work() -> None:
        try:
            await asyncio.gather(
                read(Worker(store, owner="one"), (3, 0, 2, 1), messages[::2]),
                read(Worker(other, owner="another"), (4, 7, 5, 6), messages[1::2]),
            )
        finally:
            done.set()

    await asyncio.gather(work(), keep(store), keep(other))
    await settle(store)
    assert await counts(store) == {"applied": 400, "duplicate": 0, "rejected": 0, "suppressed": 0}
    assert await state_of(store) == expected(oracle_of(messages))
    assert (await store.status(now=NOW)).tiers_current


# --- zombies --------------------------------------------------------------------------------------------------------


async def test_a_zombie_writes_nothing(store: PostgresStore, other: PostgresStore) -> None:
    """A worker whose partition was claimed by another loses its batch, whenever it comes to write it."""
    zombie, heir = Worker(store, owner="zombie"), Worker(other, owner="heir")
    await zombie.read([as_message(an_order())])
    heir.placed = zombie.placed
    await heir.resume()
    before = await state_of(store), await counts(store), await store.changes()
    with pytest.raises(PartitionLost):
        await zombie.read([as_message(a_complaint()), Message(b"?")])
    assert (await state_of(store), await counts(store), await store.changes()) == before
    assert await store.rejects() == {}
    await heir.resume()
    assert await counts(store) == {"applied": 2, "duplicate": 0, "rejected": 1, "suppressed": 0}


async def test_a_claim_in_the_middle_of_a_batch_makes_a_zombie_of_its_worker(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is the last step, so a claim that comes after the first steps is seen."""
    quarantine = postgres_ledger._quarantine

    async def claimed_meanwhile(*arguments: Any) -> None:
        await other.ledger.claim([Partition(TOPIC, 0)], owner="heir")
        await quarantine(*arguments)

    monkeypatch.setattr(postgres_ledger, "_quarantine", claimed_meanwhile)
    with pytest.raises(PartitionLost):
        await Worker(store, owner="zombie").read([as_message(an_order()), Message(b"?")])
    assert await counts(store) == {"applied": 0, "duplicate": 0, "rejected": 0, "suppressed": 0}
    assert (await store.profiles(), await store.rejects(), await store.changes()) == ({}, {}, [])


# --- while tiers are settled ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [0, 1, 400])
async def test_a_batch_recorded_while_tiers_are_settled_is_not_covered_by_them(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """Cut-offs say how many events they cover; the next look at everyone covers the rest, even if as_of moved on."""
    first = [as_message(an_order(event_id=name, customer_id=name, amount="10")) for name in "abc"]
    moment = (NOW.replace(year=2026, month=3, day=1) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    late = as_message(an_order(event_id="c2", order_id="O-2", customer_id="c", amount="900", occurred_at=moment))
    move = postgres_tiers._move_crossers
    now = NOW + timedelta(days=days)

    async def recorded_meanwhile(*arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(postgres_tiers, "_move_crossers", move)
        await Worker(other, owner="another").read([late], partitions=(1,), now=now)
        await move(*arguments, **named)

    await Worker(store).read(first)
    monkeypatch.setattr(postgres_tiers, "_move_crossers", recorded_meanwhile)
    assert await store.ledger.settle_tiers(now=now)
    status = await store.status(now=now)
    assert not status.tiers_current
    await settle(store, now=now)
    assert (await store.status(now=now)).tiers_current
    oracle = Oracle(SETTING)
    judged(oracle, [*first, late], now)
    assert await state_of(store, now) == expected(oracle, now)


@pytest.mark.parametrize("most", [0, postgres_tiers._MOST_MOVES_BYTES])
async def test_values_that_moved_are_taken_in_or_read_with_everyone(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """What has moved since the last settling may be more than everyone is; either way nothing of it is left."""
    monkeypatch.setattr(postgres_tiers, "_MOST_MOVES_BYTES", most)
    worker, messages = Worker(store), []
    for number, amount in enumerate(("10", "500", "20", "7000")):
        named = {"event_id": str(number), "order_id": str(number), "customer_id": f"C-{number % 3}"}
        messages.append(as_message(an_order(**named, amount=amount)))
        await worker.read(messages[-1:])
        await settle(store)
        assert await state_of(store) == expected(oracle_of(messages))
        assert not await store.rows("SELECT id FROM value_moves")


async def test_a_keeper_that_was_overtaken_leaves_no_tier_wrong_for_good(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper may lose its place in the middle of its work; what it still writes must not outlast its successor's."""
    move = postgres_tiers._move_crossers
    worker = Worker(store)
    messages = [
        as_message(an_order(event_id=name, customer_id=name, amount=amount))
        for name, amount in (("a", "80"), ("b", "20"))
    ]
    messages.append(as_message(an_order(event_id="b2", order_id="O-2", customer_id="b", amount="900")))
    overtaken, first_may_go_on, first_is_done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def first_moves(*arguments: Any, **named: Any) -> None:
        overtaken.set()
        await first_may_go_on.wait()
        await move(*arguments, **named)

    async def second_moves(*arguments: Any, **named: Any) -> None:
        first_may_go_on.set()
        await first_is_done.wait()
        await move(*arguments, **named)

    async def first() -> None:
        await store.ledger.settle_tiers(now=NOW)
        first_is_done.set()

    await worker.read(messages[:2])
    monkeypatch.setattr(postgres_tiers, "_move_crossers", first_moves)
    slow = asyncio.create_task(first())
    await overtaken.wait()
    await worker.read(messages[2:])
    monkeypatch.setattr(postgres_tiers, "_move_crossers", move)
    await other.ledger.settle_tiers(now=NOW)
    await worker.read([as_message(a_complaint())])
    monkeypatch.setattr(postgres_tiers, "_move_crossers", second_moves)
    await other.ledger.settle_tiers(now=NOW)
    await slow
    monkeypatch.setattr(postgres_tiers, "_move_crossers", move)
    await settle(other)
    assert await state_of(store) == expected(oracle_of([*messages, as_message(a_complaint())]))


# --- lost connections -----------------------------------------------------------------------------------------------


async def end_backend(store: PostgresStore, connection: AsyncConnection) -> None:
    """Ends the server's side of a connection, as an administrator or a fail-over would."""
    pid = await connection.scalar(text("SELECT pg_backend_pid()"))
    await store.rows("SELECT pg_terminate_backend(:pid, 10000)", pid=pid)


@pytest.mark.parametrize("step", ["insert_rows", "lock_customers", "assess_customers", "_quarantine", "advance"])
async def test_a_connection_killed_in_a_batch_leaves_nothing_and_the_worker_recovers(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """StoreUnavailable, and claiming again is all it takes to go on."""
    function = getattr(postgres_ledger, step)

    async def killed_then(connection: AsyncConnection, *arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(postgres_ledger, step, function)
        await end_backend(other, connection)
        return await function(connection, *arguments, **named)

    messages = [message for number in range(5) for message in events_of(number)]
    worker = Worker(store)
    await worker.read(messages[:5])
    before = await state_of(store), await counts(store), await store.changes()
    monkeypatch.setattr(postgres_ledger, step, killed_then)
    with pytest.raises(StoreUnavailable):
        await worker.read([*messages[5:], Message(b"?")])
    assert (await state_of(store), await counts(store), await store.changes()) == before
    receipt = await worker.resume()
    assert receipt_counts(receipt) == {"applied": 20, "duplicate": 0, "rejected": 1, "suppressed": 0}
    await settle(store)
    assert await state_of(store) == expected(oracle_of(messages))


async def test_who_crossed_does_not_wait_for_who_is_held_by_a_batch(store: PostgresStore, database_url: str) -> None:
    """A batch at work holds one of the customers until it commits; everyone else's tier moves meanwhile."""
    messages = [as_message(an_order(event_id=name, customer_id=name, amount="10")) for name in "abcdef"]
    await Worker(store).read(messages)
    tiers = expected(oracle_of(messages)).computed_tiers

    async def others_moved() -> bool:
        stand = {name: each.history.computed for name, each in (await store.snapshots()).items()}
        return stand == {**tiers, "a": Tier.UNRATED}

    engine = create_engine(database_url, application_name="a batch", pool_size=1)
    async with transaction(engine) as connection:
        await connection.execute(text("SELECT FROM customers WHERE customer_id = 'a' FOR UPDATE"))
        settling = asyncio.create_task(store.ledger.settle_tiers(now=NOW))
        await eventually(others_moved, "all but one to have their tiers")
        assert not settling.done()
    await engine.dispose()
    assert await settling
    await settle(store)
    assert await state_of(store) == expected(oracle_of(messages))


async def test_a_connection_killed_while_tiers_are_settled_is_made_good_by_settling_again(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the customers have moved when the connection goes."""
    messages = [as_message(an_order(event_id=name, customer_id=name, amount="10")) for name in "abcdef"]
    await Worker(store).read(messages)
    function, calls = assessed.assess_customers, iter(range(3))

    async def killed_at_last(connection: AsyncConnection, *arguments: Any, **named: Any) -> Any:
        if next(calls, None) is None:
            monkeypatch.setattr(postgres_tiers, "assess_customers", function)
            await end_backend(other, connection)
        return await function(connection, *arguments, **named)

    monkeypatch.setattr(postgres_tiers, "_CROSSERS_AT_ONCE", 1)
    monkeypatch.setattr(postgres_tiers, "assess_customers", killed_at_last)
    with pytest.raises(StoreUnavailable):
        await store.ledger.settle_tiers(now=NOW)
    await settle(store)
    assert await state_of(store) == expected(oracle_of(messages))


async def test_connections_killed_while_idle_are_replaced_unnoticed(store: PostgresStore, other: PostgresStore) -> None:
    """Between batches nobody waits for an answer, so nothing is lost and nobody hears of it."""
    worker = Worker(store)
    await worker.read([as_message(an_order())])
    await other.rows("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'one'")
    await worker.read([as_message(a_complaint())])
    assert (await counts(store))["applied"] == 2


async def test_a_leader_whose_connection_is_killed_leads_no_more(store: PostgresStore, other: PostgresStore) -> None:
    """Its place is free for another, and asking it again says so."""
    async with other.ledger.leading(Place.KEEPER) as second:
        try:
            async with store.ledger.leading(Place.KEEPER) as first:
                assert [await first(), await second()] == [True, False]
                await other.rows(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'one'"
                )
                assert await second()
                with pytest.raises(StoreUnavailable):
                    await first()
        except StoreUnavailable:
            pass
        assert await second()
