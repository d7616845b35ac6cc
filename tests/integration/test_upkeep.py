"""The operators' commands on a real PostgreSQL: what is corrupted is found, told and mended; what is old goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import (
    a_cancellation,
    a_complaint,
    a_customer,
    a_delivery,
    a_feedback,
    a_retraction,
    a_return,
    an_order,
    as_message,
)
from tests.support.kafka import TOPIC_SETTINGS, produce, spread
from tests.support.ledgers import PostgresStore, State, Worker, expected, in_postgres, judged, settle, state_of
from tests.support.oracle import Message, Oracle, Setting
from tests.support.recounting import differences, drop
from tests.support.workers import Site, command

from ingest_worker import commands, upkeep
from ingest_worker.condition import Condition
from ingest_worker.keeper import Keeper
from ingest_worker.telemetry import DutyMetrics
from ingest_worker.waiting import Backoff
from segmentation.access import Action, Actor, Deed
from segmentation.errors import NotHalted, StoreUnavailable, UpkeepRefused
from segmentation.settings import HouseSettings
from segmentation.storage import assessed, recount, retention
from segmentation.storage.audit import PostgresAudit, operator
from segmentation.storage.engine import transaction
from segmentation.storage.retention import PostgresRetention

SETTING: Final = Setting(base_currency="CNY", timezone="Asia/Shanghai", clock="event")
NOW: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)


def now() -> datetime:
    return NOW


def history(count: int = 40) -> list[Message]:
    """Events of ten customers, spread over some two years, that depend on each other."""
    events: list[dict[str, Any]] = []
    for number in range(count):
        day = f"{2025 + number % 2}-{number % 9 + 1:02}-{number % 28 + 1:02}"
        named = {"customer_id": f"C-{number % 10}", "occurred_at": f"{day}T12:00:00Z"}
        events += [
            an_order(
                **named,
                event_id=f"o{number}",
                order_id=f"{number % 3}",
                amount=str(number + 1),
                cost="0.5",
                services=["express"][: number % 2],
                channel="web",
            ),
            a_delivery(**named, event_id=f"d{number}", order_id=f"{number % 4}"),
            a_complaint(**named, event_id=f"c{number}"),
            a_return(**named, event_id=f"r{number}", amount="0.01"),
            a_feedback(**named, event_id=f"f{number}", score=number % 11),
            a_retraction(**named, event_id=f"t{number}", retracts=f"c{number - number % 2}"),
            a_customer(**named, event_id=f"p{number}", name=f"name {number}", region="N", needs={"basic": ["safe"]}),
        ]
    events.append(a_cancellation(customer_id="C-1", event_id="x", order_id="1", occurred_at="2026-09-30T00:00:00Z"))
    return [as_message(event) for event in events]


def said_by_the_oracle(messages: Sequence[Message]) -> State:
    oracle = Oracle(SETTING)
    judged(oracle, messages)
    return expected(oracle)


@pytest.fixture
def settings(database_url: str) -> HouseSettings:
    return HouseSettings(
        database_url=SecretStr(database_url), clock="event", base_currency="CNY", business_timezone="Asia/Shanghai"
    )


@pytest.fixture
async def store(engine: AsyncEngine) -> PostgresStore:
    store = await in_postgres(engine, SETTING)
    await Worker(store).read(history())
    await settle(store)
    return store


async def corrupt(store: PostgresStore, statement: str) -> None:
    changed = await store.rows(f"WITH changed AS ({statement} RETURNING 1) SELECT count(*) AS rows FROM changed")
    assert changed[0].rows > 0


# --- check and rebuild ----------------------------------------------------------------------------------------------

CORRUPTIONS: Final = {
    "UPDATE day_buckets SET gross_revenue = gross_revenue + 7 WHERE customer_id = 'C-3'": "C-3: day 202",
    "DELETE FROM day_buckets WHERE customer_id = 'C-3'": "stored nothing, recounted there",
    "INSERT INTO day_buckets SELECT 'C-3', DATE '2020-02-02', orders, gross_revenue, gross_profit, orders_with_cost, "
    "items, parcels, weight_grams, orders_on_time, orders_with_promise, returns, returned_amount, complaints, "
    "feedbacks, feedback_total FROM day_buckets WHERE customer_id = 'C-4' LIMIT 1": "C-3: day 2020-02-02: stored there",
    "UPDATE orders SET amount = 1 WHERE customer_id = 'C-3' AND order_id = '0'": "C-3: order '0': amount: stored 1, ",
    "DELETE FROM orders WHERE customer_id = 'C-3' AND order_id = '0'": "C-3: order '0': stored nothing",
    "DELETE FROM retractions WHERE customer_id = 'C-2'": "C-2: retraction of the event of key ",
    "INSERT INTO retractions VALUES ('C-2', '\\x00')": "C-2: retraction of the event of key 00: stored there",
    "UPDATE customers SET profile = '{}' WHERE customer_id = 'C-5'": "C-5: profile: name: stored nothing, ",
    "UPDATE customers SET profile = jsonb_set(profile, '{name,2}', '\"other\"') WHERE customer_id = 'C-5'": (
        "C-5: profile: name: stored another value of the same event"
    ),
    "DELETE FROM customers WHERE customer_id = 'C-5'": "C-5: customer: stored nothing, recounted a known one",
    "INSERT INTO customers VALUES ('nobody')": "nobody: customer: stored a known one, recounted nothing",
    "UPDATE snapshots SET value = value + 1 WHERE customer_id = 'C-6'": "C-6: assessment: value: ",
    "UPDATE snapshots SET segment = 'none' WHERE customer_id = 'C-6'": "C-6: assessment: segment: stored none",
    "UPDATE snapshots SET service_reasons = '[]' WHERE customer_id = 'C-6'": "C-6: assessment: service_reasons: ",
    "UPDATE snapshots SET due_on = '2030-01-01' WHERE customer_id = 'C-6'": "C-6: assessment: due_on: stored 2030-01-0",
    "UPDATE snapshots SET region = 'nowhere' WHERE customer_id = 'C-6'": 'C-6: assessment: facets: stored {"region":"n',
    "UPDATE snapshots SET additions = '[[\"credit_hold\", []]]' WHERE customer_id = 'C-6'": (
        'C-6: assessment: additions: stored [["credit_hold", []]]'
    ),
    "UPDATE snapshots SET order_traits = '[null,null,{\"express\": 7}]' WHERE customer_id = 'C-6'": (
        'C-6: assessment: order_traits: stored [null,null,{"express":7}]'
    ),
    "UPDATE customers SET description = '{\"industry\":\"pharma\"}' WHERE customer_id = 'C-5'": (
        "C-5: profile: as decisions look at it: stored another one"
    ),
    "DELETE FROM snapshots WHERE customer_id = 'C-6'": "C-6: assessment: stored nothing, recounted an assessment",
    "UPDATE house SET as_of = '2026-12-31'": "house: as_of: stored 2026-12-31, recounted 2026-0",
}


@pytest.mark.parametrize("statement", CORRUPTIONS)
@pytest.mark.parametrize("old", ["kept", "dropped"])
async def test_what_is_corrupted_is_found_told_and_mended(
    store: PostgresStore,
    settings: HouseSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    statement: str,
    old: str,
) -> None:
    # With a wrong clock the tiers are not settled, and no worker runs here that would settle them.
    monkeypatch.setattr(upkeep, "_SETTLING_SECONDS", 1)
    if old == "dropped":
        assert await drop(store._engine, store.house, date(2026, 3, 1), limit=100) > 100
    assert await upkeep.check(settings, now) == 0
    capsys.readouterr()
    await corrupt(store, statement)
    assert await upkeep.check(settings, now) > 0
    told = capsys.readouterr().out
    assert CORRUPTIONS[statement] in told
    assert "name 1" not in told  # a profile may be personal
    assert ("The tiers were not compared" in told) is statement.startswith("UPDATE house")
    assert await upkeep.rebuild(settings, now, accept_missing=False) == 0
    assert CORRUPTIONS[statement] in capsys.readouterr().out or statement.startswith("UPDATE house")
    await settle(store)
    assert await upkeep.check(settings, now) == 0
    assert await state_of(store) == said_by_the_oracle(history())


async def test_a_tier_that_the_ranking_does_not_give_is_found_and_mended(
    store: PostgresStore, engine: AsyncEngine, settings: HouseSettings
) -> None:
    """No recount of one customer can tell: a tier is relative."""
    await corrupt(
        store, "UPDATE snapshots SET computed_tier = 'A', tier = 'A' WHERE value IS NULL OR computed_tier <> 'A'"
    )
    found = await differences(engine, store.house)
    assert any("computed tier: stored A, recounted " in each for each in found)
    assert await upkeep.rebuild(settings, now, accept_missing=False) == 0
    assert not (await store.status(now=NOW)).tiers_current
    await settle(store)
    assert await differences(engine, store.house) == []


async def test_counters_are_held_against_the_rows_they_count(
    store: PostgresStore, settings: HouseSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    await Worker(store, owner="another").read([Message(b"?")], partitions=(1,))
    await corrupt(store, "UPDATE partitions SET rejected = rejected + 2 WHERE number = 0")
    assert await upkeep.check(settings, now) == 1
    said = "partitions: rejected: stored 3, recounted 1 (dead letters that are still rejected)"
    assert said in capsys.readouterr().out
    assert await upkeep.rebuild(settings, now, accept_missing=False) == 1


async def test_a_rebuild_refuses_to_take_back_what_missing_events_counted(
    store: PostgresStore, settings: HouseSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    before = await state_of(store)
    await corrupt(store, "DELETE FROM events WHERE event_id IN ('o1', 'c3')")
    with pytest.raises(UpkeepRefused, match="2 applied events are neither stored nor dropped"):
        await upkeep.rebuild(settings, now, accept_missing=False)
    assert await state_of(store) == before
    assert await upkeep.rebuild(settings, now, accept_missing=True) == 1
    assert "partitions: applied: stored 281, recounted 279" in capsys.readouterr().out
    await settle(store)
    assert await state_of(store) != before


async def test_a_customer_with_an_unreadable_event_is_told_and_left_alone(
    store: PostgresStore, engine: AsyncEngine, settings: HouseSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither mended nor dropped: what cannot be read cannot be counted again."""
    before = await state_of(store)
    await corrupt(store, "UPDATE events SET value = '{}' WHERE event_id = 'o2'")
    assert await upkeep.check(settings, now) == 1
    assert "C-2: raw event 'o2': stored applied, recounted unreadable" in capsys.readouterr().out
    assert await upkeep.rebuild(settings, now, accept_missing=False) == 1
    flags = {"accept_missing_events": False, "missing_events": 0}
    assert await done(engine) == [(operator(), Deed(Action.REBUILD_BEGUN, detail=flags))]
    await settle(store)
    assert await state_of(store) == before
    assert await drop(engine, store.house, date(2026, 11, 1), limit=10) == 280
    assert [row.event_id for row in await store.rows("SELECT event_id FROM events")] == ["o2"]


async def test_stopping_a_rebuild_anywhere_costs_nothing(
    store: PostgresStore, settings: HouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is all or nothing, and the next run takes up what is left."""
    steps = 0
    assess = assessed.assess_customers

    async def stopped(*arguments: Any, **named: Any) -> int:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        return await assess(*arguments, **named)

    monkeypatch.setattr(recount, "assess_customers", stopped)
    monkeypatch.setattr(upkeep, "_EVENTS_AT_ONCE", 1)
    await corrupt(store, "DELETE FROM day_buckets")
    with pytest.raises(KeyboardInterrupt):
        await upkeep.rebuild(settings, now, accept_missing=False)
    owners = await store.rows("SELECT DISTINCT customer_id FROM day_buckets ORDER BY 1")
    assert [row.customer_id for row in owners] == ["C-0", "C-1"]
    assert not (await store.status(now=NOW)).tiers_current
    assert await upkeep.rebuild(settings, now, accept_missing=False) == 0
    await settle(store)
    assert await state_of(store) == said_by_the_oracle(history())


async def test_a_passing_failure_is_waited_for(
    store: PostgresStore, settings: HouseSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(upkeep, "_PATIENCE_SECONDS", (0,))
    check, failed = recount.Recount.check, False

    async def fails_once(self: recount.Recount, *arguments: Any) -> Any:
        nonlocal failed
        if not failed:
            failed = True
            raise StoreUnavailable("the database is not available: LockNotAvailable")
        return await check(self, *arguments)

    monkeypatch.setattr(recount.Recount, "check", fails_once)
    assert await upkeep.check(settings, now) == 0
    output = capsys.readouterr()
    assert output.out == "10 customers recounted: no difference.\n"
    assert output.err == "the database is not available: LockNotAvailable; trying again in 0 s\n"


# --- dropping -------------------------------------------------------------------------------------------------------


async def test_dropped_events_are_told_of_and_change_nothing(
    store: PostgresStore, engine: AsyncEngine, settings: HouseSettings
) -> None:
    day = date(2026, 3, 1)
    before = (
        await state_of(store),
        await store.changes(),
        await store._reader.totals(date(2025, 1, 1), date(2026, 12, 1)),
    )
    assert (await store.status(now=NOW)).events_known_since is None
    said = await upkeep.drop_events(settings, day, now)
    (gone,) = await store.rows("SELECT sum(events)::bigint AS events FROM dropped_totals")
    assert said.startswith(f"{gone.events} raw events of days before 2026-03-01 were dropped; what they counted stays.")
    assert gone.events > 100
    after = (
        await state_of(store),
        await store.changes(),
        await store._reader.totals(date(2025, 1, 1), date(2026, 12, 1)),
    )
    assert after == before
    status = await store.status(now=NOW)
    assert (status.events_known_since, status.tiers_current) == (day, True)
    (left,) = await store.rows("SELECT min(business_day) AS day FROM events")
    assert left.day >= day
    assert await upkeep.drop_events(settings, day, now) == (
        "0 raw events of days before 2026-03-01 were dropped; what they counted stays. "
        "Rejected messages are kept at any age."
    )
    assert await done(engine) == [(operator(), Deed(Action.EVENTS_DROPPED, detail={"before": "2026-03-01"}))]


async def test_what_is_resumed_repositioned_and_asked_for_names_the_account(
    store: PostgresStore, engine: AsyncEngine, settings: HouseSettings
) -> None:
    halted = "UPDATE partitions SET halted_at = now(), halted_offset = 3, halted_because = 'so', halted_reasons = '[]'"
    (place,) = await store.rows(f"{halted} RETURNING topic, number")
    await commands.resume(settings, None)
    with pytest.raises(NotHalted):
        await commands.resume(settings, None)
    await commands.reposition(settings)
    await commands.snapshot(settings, wait=False)
    named, detail = f"{place.topic}/{place.number}", {"offset": 3, "rejects": {}}
    assert await done(engine) == [
        (operator(), Deed(Action.SNAPSHOT_ASKED, "1")),
        (operator(), Deed(Action.PARTITIONS_REPOSITIONED, detail={"to": "earliest"})),
        (operator(), Deed(Action.PARTITION_RESUMED, named, detail=detail)),
    ]


async def done(engine: AsyncEngine) -> list[tuple[Actor, Deed]]:
    found = await PostgresAudit(engine).entries(action=None, customer_id=None, before_id=None, limit=9)
    return [(entry.by, entry.deed) for entry in found]


async def test_repeats_of_dropped_events_change_no_figure(store: PostgresStore, engine: AsyncEngine) -> None:
    """They are applied again, as nobody knows better; a retraction still finds what it takes back."""
    before = await state_of(store)
    await drop(engine, store.house, date(2026, 11, 1), limit=100)
    worker = Worker(store, owner="another")
    receipt = await worker.read(history(), partitions=(1,))
    assert receipt.counts == {"applied": 281}
    await settle(store)
    assert await state_of(store) == before
    late = as_message(
        a_retraction(customer_id="C-7", event_id="late", retracts="r7", occurred_at="2026-09-01T00:00:00Z")
    )
    await drop(engine, store.house, date(2026, 11, 1), limit=100)
    await worker.read([late], partitions=(1,))
    await settle(store)
    assert await differences(engine, store.house) == []
    assert await state_of(store) == said_by_the_oracle([*history(), late])


async def test_an_order_that_counts_on_an_old_day_stays_while_its_event_is_recent(engine: AsyncEngine) -> None:
    """Duplicates are known of everything that occurred since the day, and totals of everything that counts since."""
    store = await in_postgres(engine, SETTING)
    await Worker(store).read(
        [
            as_message(
                an_order(event_id="late", ordered_at="2025-01-01T00:00:00Z", occurred_at="2026-08-01T00:00:00Z")
            ),
            as_message(
                an_order(event_id="early", ordered_at="2026-08-01T00:00:00Z", occurred_at="2025-01-01T00:00:00Z")
            ),
            as_message(a_complaint(event_id="edge", occurred_at="2026-02-28T16:00:00Z")),
            as_message(a_complaint(event_id="old", occurred_at="2026-02-28T15:59:59Z")),
        ]
    )
    assert await drop(engine, store.house, date(2026, 3, 1)) == 1
    assert {row.event_id for row in await store.rows("SELECT event_id FROM events")} == {"late", "early", "edge"}


async def test_stopping_a_drop_anywhere_costs_nothing(
    store: PostgresStore, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    add_totals = retention._add_totals

    async def stopped(*arguments: Any) -> None:
        nonlocal steps
        steps += 1
        await add_totals(*arguments)
        if steps == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(retention, "_add_totals", stopped)
    with pytest.raises(KeyboardInterrupt):
        await drop(engine, store.house, date(2026, 11, 1), limit=20)
    (left,) = await store.rows("SELECT count(*) AS events FROM events")
    assert left.events == 281 - 2 * 20
    assert await differences(engine, store.house) == []
    assert await drop(engine, store.house, date(2026, 11, 1), limit=20) == left.events
    assert await differences(engine, store.house) == []


async def test_recent_events_are_not_dropped_by_a_slip(store: PostgresStore, settings: HouseSettings) -> None:
    (latest,) = await store.rows("SELECT as_of FROM house")
    with pytest.raises(
        UpkeepRefused, match="--before is 2026-09-15, less than 30 days before the current business day"
    ):
        await upkeep.drop_events(settings, date(2026, 9, 15), now)
    assert latest.as_of < date(2026, 10, 15)
    assert (await store.status(now=NOW)).events_known_since is None


async def test_the_keeper_drops_what_has_grown_too_old(store: PostgresStore, engine: AsyncEngine) -> None:
    """In small steps, until nothing old is left; without the setting it drops nothing."""
    (as_of,) = await store.rows("SELECT as_of FROM house")
    old = "SELECT count(*) AS events FROM events WHERE business_day < :day"
    day = date.fromordinal(as_of.as_of.toordinal() - 200)
    for days, expected_left in ((None, False), (200, True)):
        stop = asyncio.Event()
        keeper = Keeper(
            store.ledger,
            now=now,
            stop=stop,
            condition=Condition(now=now, monotonic=lambda: 0.0),
            metrics=DutyMetrics(),
            backoff=Backoff(chance=lambda: 0.0),
            retention=PostgresRetention(engine, store.house),
            retain_days=days,
        )
        await keeper._keep()
        stop.set()
        (left,) = await store.rows(old, day=day)
        assert (left.events == 0) is expected_left
    assert (await store.status(now=NOW)).events_known_since == day
    assert await differences(engine, store.house) == []


# --- the commands, beside running workers ---------------------------------------------------------------------------


async def test_the_commands_say_what_they_did_and_end_with_a_code(
    store: PostgresStore, settings: HouseSettings
) -> None:
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "CLOCK": "event",
        "BUSINESS_TIMEZONE": "Asia/Shanghai",
    }
    sound = command("check", settings=environment)
    assert (sound.returncode, sound.stdout, sound.stderr) == (0, "10 customers recounted: no difference.\n", "")
    await corrupt(store, "DELETE FROM retractions WHERE customer_id = 'C-2'")
    found = command("check", settings=environment)
    assert (found.returncode, found.stdout.splitlines()[-1]) == (1, "10 customers recounted: 4 differences.")
    mended = command("rebuild", settings=environment)
    assert (mended.returncode, mended.stderr) == (0, "")
    assert mended.stdout.startswith(found.stdout.rpartition("\n10 customers")[0])
    refused = command("drop-events", "--before", "2026-11-01", settings=environment)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("ingest-worker: --before is 2026-11-01, less than 30 days")
    assert command("drop-events", "--before", "soon", settings=environment).returncode == 2


@pytest.mark.kafka
async def test_a_rebuild_beside_two_workers_ends_as_the_oracle_says(site: Site, engine: AsyncEngine) -> None:
    """Most of what is derived goes while they consume, and old events are dropped; nothing is lost or counted twice."""
    messages = history(120)
    placed = spread(messages, [site.settings[name] for name in TOPIC_SETTINGS], 4)
    third = len(placed) // 3
    await produce(site.settings["KAFKA_BOOTSTRAP_SERVERS"], placed[:third])
    site.start(BATCH_MESSAGES="7")
    site.start(BATCH_MESSAGES="7")
    await site.has_read(third)
    for part in (placed[third : 2 * third], placed[2 * third :]):
        await produce(site.settings["KAFKA_BOOTSTRAP_SERVERS"], part)
        async with transaction(engine) as connection:
            for table in ("day_buckets", "orders", "retractions", "snapshots"):
                await connection.exec_driver_sql(f"DELETE FROM {table}")
        done = await asyncio.gather(
            asyncio.to_thread(site.command, "rebuild"),
            asyncio.to_thread(site.command, "drop-events", "--before", "2026-02-01"),
        )
        assert "could not be mended" in done[0]
        assert "were dropped" in done[1]
    await site.is_in(len(messages))
    site.command("rebuild")
    await site.is_in(len(messages))
    assert site.command("check").endswith("10 customers recounted: no difference.\n")
    oracle = Oracle(SETTING)
    judged(oracle, messages)
    assert await state_of(site.store) == expected(oracle)
    assert await Site.read(site) == len(messages)
