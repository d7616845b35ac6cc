"""What befalls the real worker: deaths, pauses, a database or a broker that is not what it was, wrong settings."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import a_complaint, an_order, as_message
from tests.support.kafka import new_topics, produce, spread
from tests.support.ledgers import DEFAULT_POLICY, state_of
from tests.support.oracle import Message
from tests.support.streams import PARTITIONS, deliver, require_exactly
from tests.support.workers import HOUSE, ROOT, Site, WorkerProcess, command

from ingest_worker import commands
from local_stack.kafka import EmbeddedKafka
from local_stack.postgres import EmbeddedPostgres
from local_stack.strays import Stray
from segmentation.errors import RatesInvalid
from segmentation.outcomes import Partition
from segmentation.settings import HouseSettings
from segmentation.storage import foundation
from segmentation.storage.audit import operator
from segmentation.storage.engine import create_engine, transaction


def orders(count: int, *, first: int = 0) -> list[Message]:
    """Orders of a few customers, each of another amount."""
    return [
        as_message(
            an_order(
                event_id=f"e-{number}",
                order_id=f"O-{number}",
                customer_id=f"C-{number % 7}",
                amount=f"{number + 1}.00",
            )
        )
        for number in range(first, first + count)
    ]


async def partition_rows(engine: AsyncEngine) -> list[Any]:
    async with transaction(engine) as connection:
        rows = await connection.execute(text("SELECT topic, number, next_offset FROM partitions ORDER BY 1, 2"))
        return [tuple(row) for row in rows]


# --- deaths and pauses ----------------------------------------------------------------------------------------------


@pytest.mark.kafka
async def test_two_workers_share_the_partitions_and_one_takes_over_for_the_other(
    site: Site, kafka: EmbeddedKafka
) -> None:
    """Who comes later gets a part; after `kill -9` of one the other has all; nothing is missing or counted twice."""
    messages = orders(1_500)
    await deliver(site, kafka, messages[:600])
    first = site.start(BATCH_MESSAGES="5")
    await site.has_read(50)
    second = site.start(BATCH_MESSAGES="5")
    await site.is_shared_by(first, second)
    await deliver(site, kafka, messages[600:])
    await site.has_read(650)
    first.kill()
    await site.is_shared_by(second)
    await require_exactly(site, messages)
    assert second.stop() == 0


@pytest.mark.kafka
async def test_a_stop_in_the_middle_of_the_stream_ends_with_0_and_loses_nothing(
    site: Site, kafka: EmbeddedKafka
) -> None:
    messages = orders(2_000)
    await deliver(site, kafka, messages)
    worker = site.start(BATCH_MESSAGES="5")
    await site.has_read(50)
    assert worker.stop() == 0
    assert worker.said("worker.stopped")
    assert await site.read() < len(messages)
    again = site.start()
    await require_exactly(site, messages)
    assert again.stop() == 0


@pytest.mark.kafka
async def test_duties_that_died_are_begun_again_and_the_tiers_are_exact(site: Site, kafka: EmbeddedKafka) -> None:
    messages = orders(1_500)
    await deliver(site, kafka, messages[:700])
    worker = site.start(BATCH_MESSAGES="5")
    for count in (50, 400):
        await site.has_read(count)
        await site.eventually(lambda: _keeps(site), "somebody to keep the tiers")
        died = worker.duties
        assert died is not None
        died.kill()
        await site.eventually(functools.partial(_another, worker, died), "another process of duties")
    await deliver(site, kafka, messages[700:])
    await require_exactly(site, messages)
    assert len(worker.said("duties.ended")) == 2
    left = worker.duties
    assert left is not None
    assert worker.stop() == 0
    assert not Stray(left).alive


async def _keeps(site: Site) -> bool:
    async with transaction(site.engine) as connection:
        found = await connection.scalar(
            text("""
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'ingest-worker-duties'
            """)
        )
    return bool(found)


async def _another(worker: WorkerProcess, died: psutil.Process) -> bool:
    duties = worker.duties
    return duties is not None and duties.pid != died.pid


@pytest.mark.kafka
async def test_a_worker_that_slept_while_its_partitions_moved_writes_nothing_and_goes_on_as_a_member(
    site: Site, kafka: EmbeddedKafka
) -> None:
    messages = orders(3_600)
    await deliver(site, kafka, messages[:3_000])
    sleeper = site.start(BATCH_MESSAGES="5")
    await site.has_read(50)
    await _put_to_sleep(site, sleeper)
    assert await site.read() < 3_000
    other = site.start(BATCH_MESSAGES="100")
    await site.is_shared_by(other)
    await site.has_read(3_000)
    sleeper.signal(signal.SIGCONT)
    await deliver(site, kafka, messages[3_000:])
    await site.is_shared_by(sleeper, other)
    await require_exactly(site, messages)
    assert (sleeper.stop(), other.stop()) == (0, 0)


async def _put_to_sleep(site: Site, worker: WorkerProcess) -> None:
    """SIGSTOP between two transactions: one that is open keeps its locks until the database ends it, a minute later."""
    for attempt in range(1_000):
        worker.signal(signal.SIGSTOP)
        async with transaction(site.engine) as connection:
            busy = await connection.scalar(
                text("""
                    SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'ingest-worker' AND state <> 'idle'
                """)
            )
        if not busy:
            return
        worker.signal(signal.SIGCONT)
        # far enough to get out of this one, and never in step with it
        await asyncio.sleep(0.003 * (1 + attempt % 7))
    raise AssertionError("the worker is never between two transactions")


# --- the database ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _migrated(directory: Path) -> AsyncIterator[tuple[EmbeddedPostgres, AsyncEngine]]:
    """A database server that may be ended, with a migrated database."""
    with EmbeddedPostgres(directory / "postgres", fsync=False) as server:
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "alembic", "-c", "migrations/alembic.ini", "upgrade", "head"],
            check=True,
            cwd=ROOT,
            env=dict(os.environ) | {"DATABASE_URL": server.url},  # noqa: TID251 - handed on
        )
        engine = create_engine(server.url, application_name="tests", pool_size=2)
        yield server, engine
        await engine.dispose()


@pytest.mark.kafka
async def test_the_database_restarts_in_the_middle_of_the_stream(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """In order, and then by a crash: the worker waits for it and goes on by itself."""
    messages = orders(1_500)
    topics = new_topics(kafka, partitions=PARTITIONS)
    async with _migrated(tmp_path) as (server, engine):
        with Site.of(
            engine,
            tmp_path,
            database_url=server.url,
            kafka=kafka.bootstrap_servers,
            topics=topics,
            house=HOUSE,
        ) as site:
            await deliver(site, kafka, messages)
            worker = site.start(BATCH_MESSAGES="10")
            await site.has_read(100)
            port = server.port
            await asyncio.to_thread(server.restart)
            await engine.dispose()
            await site.has_read(400)
            assert await site.read() < len(messages)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            assert server.port == port
            await engine.dispose()
            await require_exactly(site, messages)
            assert worker.said("consumer.waiting")
            assert worker.stop() == 0


def test_a_worker_whose_database_is_out_of_reach_says_so() -> None:
    done = command("run", settings=_settings("postgresql://tierline:s3cr3t@127.0.0.1:1/tierline"))
    _require_refusal(done, "database")
    assert "s3cr3t" not in done.stderr


# --- the broker -----------------------------------------------------------------------------------------------------


async def _is_refused(site: Site, worker: WorkerProcess, partition: Partition, position: int) -> None:
    """Waits until the worker has said twice that it cannot go on there."""

    async def check() -> bool:
        details = [line["detail"] for line in worker.said("session.ended")]
        named = [detail for detail in details if f"{partition.topic}/{partition.number}" in detail]
        return len([detail for detail in named if str(position) in detail]) > 1

    await site.eventually(check, f"{partition} to be refused")


@pytest.mark.kafka
async def test_a_position_that_the_broker_does_not_have_is_never_jumped_over(site: Site, kafka: EmbeddedKafka) -> None:
    """The ledger is ahead of the broker; an operator decides, and what was applied before counts as duplicate."""
    messages = orders(40)
    await deliver(site, kafka, messages)
    worker = site.start()
    await require_exactly(site, messages)
    assert worker.stop() == 0
    partition = Partition(site.settings["TOPIC_ORDERS"], 2)
    async with transaction(site.engine) as connection:
        await connection.execute(
            text("UPDATE partitions SET next_offset = 987654 WHERE topic = :topic AND number = :number"),
            {"topic": partition.topic, "number": partition.number},
        )
    rows = await partition_rows(site.engine)
    await deliver(site, kafka, orders(40, first=40))

    worker = site.start()
    await _is_refused(site, worker, partition, 987_654)
    assert await partition_rows(site.engine) == rows
    assert (await site.read(), worker.running) == (40, True)
    assert worker.stop() == 0

    site.command("reposition", "--to", "earliest")
    site.start()
    await require_exactly(site, [*messages, *orders(80)])


@pytest.mark.kafka
async def test_messages_that_the_broker_has_deleted_unread_are_never_jumped_over(
    site: Site, kafka: EmbeddedKafka
) -> None:
    """The broker is ahead of the ledger."""
    topic = site.settings["TOPIC_ORDERS"]
    await deliver(site, kafka, orders(40))
    worker = site.start()
    await site.is_in(40)
    assert worker.stop() == 0
    rows = await partition_rows(site.engine)
    await deliver(site, kafka, orders(40, first=40))
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for deleted in admin.delete_records([TopicPartition(topic, 1, 15)]).values():
        deleted.result()

    worker = site.start()
    await _is_refused(site, worker, Partition(topic, 1), 10)
    assert await partition_rows(site.engine) == rows
    assert await site.read() == 40
    assert worker.stop() == 0

    site.command("reposition", "--to", "earliest")
    site.start()
    # ten of each partition, once more, and the new ones, without the five that are gone
    status = await site.is_in(40 + 80 - 15)
    assert {outcome.value: number for outcome, number in status.events.items()} == {
        "applied": 75,
        "duplicate": 30,
        "rejected": 0,
        "suppressed": 0,
    }


@pytest.mark.kafka
async def test_the_broker_restarts_in_the_middle_of_the_stream(site: Site, kafka: EmbeddedKafka) -> None:
    """By a crash; the worker waits for it and goes on by itself."""
    messages = orders(2_000)
    await deliver(site, kafka, messages)
    worker = site.start(BATCH_MESSAGES="5")
    await site.has_read(100)
    port = kafka.port
    await asyncio.to_thread(kafka.kill)
    assert await site.read() < len(messages)
    await asyncio.to_thread(kafka.start)
    assert kafka.port == port
    await require_exactly(site, messages)
    assert worker.stop() == 0


@pytest.mark.kafka
async def test_partitions_added_later_are_read_from_their_beginning(site: Site, kafka: EmbeddedKafka) -> None:
    topic = site.settings["TOPIC_ORDERS"]
    messages = orders(60)
    site.start()
    await deliver(site, kafka, messages[:20])
    await site.is_in(20)
    await asyncio.to_thread(_add_partitions, kafka, topic, PARTITIONS + 2)
    await produce(kafka.bootstrap_servers, spread(messages[20:], [topic], PARTITIONS + 2))
    await require_exactly(site, messages)


def _add_partitions(kafka: EmbeddedKafka, topic: str, total: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for added in admin.create_partitions([NewPartitions(topic, total)]).values():
        added.result()


# --- starts that are refused ----------------------------------------------------------------------------------------


def _require_refusal(done: subprocess.CompletedProcess[str], *named: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    for name in named:
        assert name in done.stderr


def _settings(database_url: str, **others: str) -> dict[str, str]:
    # nobody listens there: a start that is refused never gets so far
    return {"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", **others}


@pytest.mark.parametrize("name", ["BUSINESS_TIMEZONE", "BASE_CURRENCY", "DATABASE_URL"])
def test_a_bad_setting_stops_the_start_with_one_line(name: str) -> None:
    settings = _settings("postgresql://tierline@127.0.0.1:1/tierline") | {name: "Mars/Olympus"}
    _require_refusal(command("run", settings=settings), name)


@pytest.mark.parametrize(
    ("name", "value", "built_with"),
    [
        ("CLOCK", "system", "event"),
        ("BASE_CURRENCY", "GBP", "CNY"),
        ("BUSINESS_TIMEZONE", "UTC", "Asia/Shanghai"),
    ],
)
async def test_data_built_with_another_clock_currency_or_zone_is_not_started_on(
    engine: AsyncEngine, database_url: str, name: str, value: str, built_with: str
) -> None:
    await foundation.open_house(engine, HOUSE)
    house = {"CLOCK": "event", "BASE_CURRENCY": "CNY", "BUSINESS_TIMEZONE": "Asia/Shanghai"}
    done = await asyncio.to_thread(command, "run", settings=_settings(database_url, **house) | {name: value})
    _require_refusal(done, name, value, built_with)


@pytest.mark.parametrize(
    "content",
    [None, b"\xff\xfe", b"not a policy", DEFAULT_POLICY.replace("demotion_grace_days = 14", "x = 1").encode()],
    ids=["missing", "no text", "no TOML", "unknown name"],
)
async def test_a_policy_that_cannot_be_used_stops_the_start(
    engine: AsyncEngine, database_url: str, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "policy.toml"
    if content is not None:
        file.write_bytes(content)
    done = await asyncio.to_thread(command, "run", settings=_settings(database_url, POLICY_FILE=str(file)))
    _require_refusal(done, "POLICY_FILE")
    async with transaction(engine) as connection:
        assert await connection.scalar(text("SELECT count(*) FROM policies")) == 0


async def test_a_database_without_tables_stops_every_command(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    async with transaction(engine) as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    file = tmp_path / "rates.csv"
    file.write_text("currency,day,rate\nUSD,2026-01-01,7.25\n", encoding="utf-8")
    for arguments in (("run",), ("load-rates", str(file)), ("reposition", "--to", "earliest")):
        done = await asyncio.to_thread(command, *arguments, settings=_settings(database_url))
        _require_refusal(done, "alembic", "upgrade head")


# --- exchange rates -------------------------------------------------------------------------------------------------


def _house_settings(database_url: str) -> HouseSettings:
    return HouseSettings(
        database_url=SecretStr(database_url), business_timezone="UTC", base_currency="CNY", clock="event"
    )


@pytest.mark.kafka
async def test_a_message_whose_rate_was_missing_is_applied_once_the_rate_is_loaded(
    site: Site, kafka: EmbeddedKafka
) -> None:
    """By the running worker; the first try stays counted as rejected."""
    in_dollars = as_message(an_order(currency="USD", amount="10.01"))
    site.start()
    await deliver(site, kafka, [in_dollars, as_message(a_complaint())])
    await site.is_in(2)
    file = site.directory / "rates.csv"
    file.write_text("currency,day,rate\nUSD,2026-01-01,7.25\nEUR,2026-01-01,8\n", encoding="utf-8")
    assert "2 rates of 2 currencies" in site.command("load-rates", str(file))
    await deliver(site, kafka, [in_dollars])
    status = await site.is_in(3)
    assert Counter({outcome.value: number for outcome, number in status.events.items()}) == Counter(
        applied=2, duplicate=0, rejected=1, suppressed=0
    )
    metrics = (await state_of(site.store)).metrics["C-1"]
    assert metrics["windows"]["7d"]["gross_revenue"] == "72.57"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "rates.csv"),
        (b"\xff\xfe", "rates.csv"),
        (b"", "currency,day,rate"),
        (b"currency,rate\n", "currency,day,rate"),
        (b"currency,day,rate\nUSD,2026-01-01,7\nUSD,2026-01-02,0\n", "line 3"),
        (b"currency,day,rate\nUSD,2026-01-01,7\nXXX,2026-01-02,1\n", "line 3"),
        (b"currency,day,rate\nCNY,2026-01-01,1\n", "CNY"),
    ],
    ids=["missing", "no text", "empty", "other header", "a rate of 0", "no currency", "the base currency"],
)
async def test_rates_that_cannot_be_understood_are_refused_whole(
    engine: AsyncEngine, database_url: str, tmp_path: Path, content: bytes | None, named: str
) -> None:
    file = tmp_path / "rates.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RatesInvalid) as refused:
        await commands.load_rates(_house_settings(database_url), file)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    async with transaction(engine) as connection:
        assert await connection.scalar(text("SELECT count(*) FROM exchange_rates")) == 0


def test_rates_that_cannot_be_understood_end_the_command_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("day,rate\n", encoding="utf-8")
    done = command("load-rates", str(file), settings=_settings("postgresql://tierline@127.0.0.1:1/tierline"))
    _require_refusal(done, "line 1", "currency,day,rate")


async def test_rates_loaded_again_take_the_place_of_those_before(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "rates.csv"
    settings = _house_settings(database_url)
    for rate in ("7.25", "7.125"):
        file.write_bytes(f"\ufeffCurrency, Day ,RATE\r\nUSD,2026-01-01,{rate}\r\n\r\n".encode())
        await commands.load_rates(settings, file)
    async with transaction(engine) as connection:
        rows = (await connection.execute(text("SELECT currency, scaled_rate FROM exchange_rates"))).all()
        by = (await connection.scalars(text("SELECT actor_id FROM audit WHERE action = 'rates.loaded'"))).all()
    assert [tuple(row) for row in rows] == [("USD", 7_125 * 10**9)]
    assert by == [operator().id] * 2
