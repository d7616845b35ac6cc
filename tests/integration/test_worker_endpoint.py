"""What the real worker says of itself while something is away, and how a silent consumer mends itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import an_order, as_message
from tests.support.kafka import new_topics, produce, produce_in_transaction
from tests.support.ledgers import DEFAULT_POLICY
from tests.support.oracle import Message
from tests.support.streams import PARTITIONS, deliver
from tests.support.workers import HOUSE, ROOT, Site, WorkerProcess, command, eventually

from ingest_worker import consumer as consuming
from ingest_worker.condition import Awaited, Condition
from ingest_worker.consumer import Session, consume
from ingest_worker.settings import WorkerSettings
from ingest_worker.telemetry import Metrics
from ingest_worker.waiting import Backoff
from ingest_worker.watchdog import Watchdog
from local_stack.kafka import EmbeddedKafka
from local_stack.ports import free_port
from local_stack.postgres import EmbeddedPostgres
from segmentation.errors import StoreUnavailable
from segmentation.outcomes import Partition
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.foundation import activate_policy, open_house
from segmentation.storage.ledger import PostgresLedger


def orders(count: int, *, first: int = 0) -> list[Message]:
    return [
        as_message(an_order(event_id=f"e-{number}", order_id=f"O-{number}")) for number in range(first, first + count)
    ]


class Endpoint:
    """A worker's own HTTP interface."""

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def settings(self) -> dict[str, str]:
        return {"WORKER_HTTP_PORT": str(self.port)}

    async def ask(self, path: str) -> httpx.Response | None:
        """None while nobody listens."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", trust_env=False) as client:
            with contextlib.suppress(httpx.TransportError):
                return await client.get(path)
        return None

    async def is_ready(self) -> bool:
        answer = await self.ask("/health/ready")
        return answer is not None and answer.status_code == 200

    async def waits_for(self, awaited: str) -> bool:
        answer = await self.ask("/health/ready")
        return (
            answer is not None
            and answer.status_code == 503
            and awaited in {wait["for"] for wait in answer.json()["waiting_for"] if wait["part"] == "consumer"}
        )

    async def figures(self) -> dict[tuple[str, ...], float]:
        answer = await self.ask("/metrics")
        assert answer is not None
        return {
            (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }


@contextlib.asynccontextmanager
async def database(directory: Path) -> AsyncIterator[tuple[EmbeddedPostgres, AsyncEngine]]:
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
async def test_a_worker_says_that_it_waits_for_the_database_and_goes_on_when_it_is_back(
    kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    """Ready, not ready and why, ready again; alive all the time, and nothing lost or counted twice."""
    topics = new_topics(kafka, partitions=PARTITIONS)
    endpoint = Endpoint()
    async with database(tmp_path) as (server, engine):
        with Site.of(
            engine, tmp_path, database_url=server.url, kafka=kafka.bootstrap_servers, topics=topics, house=HOUSE
        ) as site:
            worker = site.start(**endpoint.settings)
            await site.eventually(endpoint.is_ready, "the worker to be ready")
            await deliver(site, kafka, orders(40))
            await site.is_in(40)

            await asyncio.to_thread(server.stop)
            await deliver(site, kafka, orders(40, first=40))
            await site.eventually(lambda: endpoint.waits_for("database"), "the worker to wait for the database")
            live = await endpoint.ask("/health/live")
            assert live is not None
            assert live.status_code == 200
            assert (await endpoint.figures())["tierline_worker_waiting", "database", "consumer"] == 1

            await asyncio.to_thread(server.start)
            await engine.dispose()
            await site.eventually(endpoint.is_ready, "the worker to be ready again")
            await site.is_in(80)
            figures = await endpoint.figures()
            assert figures["tierline_worker_messages_total", "applied"] >= 40
            assert figures["tierline_worker_partitions",] == PARTITIONS * 5
            assert figures["tierline_worker_batch_seconds_count",] == figures["tierline_worker_batches_total",]
            assert await site.read() == 80

            async def heartbeat_says_so() -> bool:
                return [each.waiting_for for each in (await site.status()).workers] == [[]]

            await site.eventually(heartbeat_says_so, "the next sign of life to say that it works")
            assert worker.stop() == 0
            assert (await site.status()).workers == []
            assert await endpoint.ask("/health/live") is None


@pytest.mark.kafka
async def test_a_worker_waits_for_topics_by_name(site: Site, kafka: EmbeddedKafka) -> None:
    endpoint = Endpoint()
    site.start(**endpoint.settings, TOPIC_RETURNS="not.there.yet")

    async def names_the_topic() -> bool:
        answer = await endpoint.ask("/health/ready")
        waits = answer.json()["waiting_for"] if answer is not None else []
        return any(wait["for"] == "topics" and "not.there.yet" in wait["detail"] for wait in waits)

    await site.eventually(names_the_topic, "the worker to name the missing topic")
    # and reads the others meanwhile
    await deliver(site, kafka, orders(20))
    await site.is_in(20)


@pytest.mark.kafka
async def test_nobody_reads_the_partitions_of_a_worker_that_was_killed(site: Site) -> None:
    """Without another one to claim them they stand without a reader soon; the dead one is still told of."""

    async def owned() -> bool:
        partitions = (await site.status()).partitions
        return bool(partitions) and all(worker.owns(each) for each in partitions)

    async def owned_by_nobody() -> bool:
        return all(each.worker is None for each in (await site.status()).partitions)

    worker: WorkerProcess = site.start()
    await site.eventually(owned, "the worker to claim")
    worker.kill()
    await site.eventually(owned_by_nobody, "the dead worker to be known as such")
    (dead,) = (await site.status()).workers
    assert dead.worker == worker.said("worker.started")[0]["owner"]


async def test_a_taken_port_stops_the_start_with_one_line(database_url: str) -> None:
    endpoint = Endpoint()
    with contextlib.closing(await asyncio.start_server(lambda *_: None, "127.0.0.1", endpoint.port)):
        settings = {"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", **endpoint.settings}
        done = await asyncio.to_thread(command, "run", settings=settings)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"WORKER_HTTP_PORT is {endpoint.port}" in done.stderr


# --- the consuming loop in this process ----------------------------------------------------------------------------


class DeafConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """It heartbeats, keeps its partitions, answers every question, and brings nothing."""

    async def getmany(self, *partitions: Any, timeout_ms: int = 0, max_records: int | None = None) -> Mapping[Any, Any]:
        await asyncio.sleep(timeout_ms / 1000)
        return {}


class Consuming:
    """The worker's consuming loop in this process, over the site's database and topics."""

    def __init__(self, site: Site, *, limit_seconds: float) -> None:
        self.site = site
        self.ledger = PostgresLedger(site.engine, HOUSE)
        self.stop = asyncio.Event()
        self.metrics = Metrics()
        self.condition = Condition(now=lambda: datetime.now(UTC), monotonic=time.monotonic)  # noqa: TID251
        self.watchdog = Watchdog(limit_seconds=limit_seconds)
        self.sessions = 0
        self.settings = WorkerSettings(**{name.lower(): value for name, value in site.settings.items()})  # type: ignore[arg-type]

    async def run(self) -> None:
        backoff = Backoff(chance=lambda: 0.0)

        def new_session() -> Session:
            self.sessions += 1
            return Session(
                self.settings,
                self.ledger,
                owner="in-process",
                now=lambda: datetime.now(UTC),  # noqa: TID251 - the tests' own
                stop=self.stop,
                condition=self.condition,
                metrics=self.metrics,
                backoff=backoff,
                watchdog=self.watchdog,
            )

        await consume(new_session, stop=self.stop, condition=self.condition, metrics=self.metrics, backoff=backoff)

    def endings(self, error: str) -> float:
        return self.metrics.registry.get_sample_value("tierline_worker_session_endings_total", {"error": error}) or 0


@contextlib.asynccontextmanager
async def in_process(site: Site, *, limit_seconds: float) -> AsyncIterator[Consuming]:
    await open_house(site.engine, HOUSE)
    await activate_policy(site.engine, DEFAULT_POLICY)
    loop = Consuming(site, limit_seconds=limit_seconds)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(loop.run())
        try:
            yield loop
        finally:
            loop.stop.set()
            await asyncio.wait([task])


@pytest.mark.kafka
async def test_a_worker_without_the_database_keeps_its_partitions_for_a_while_and_then_leaves_them_to_others(
    site: Site, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a short absence it stays in the group; over a long one it leaves, and joins once it has its database."""
    monkeypatch.setattr(consuming, "_HOLD_SECONDS", 3.0)
    joined: list[AIOKafkaConsumer] = []

    class Noted(AIOKafkaConsumer):  # type: ignore[misc]
        async def start(self) -> None:
            joined.append(self)
            await super().start()

    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(consuming, "AIOKafkaConsumer", Noted)
    async with in_process(site, limit_seconds=30.0) as loop:

        async def waits_for_nothing() -> bool:
            return not loop.condition.waiting

        async def waits_for_the_database() -> bool:
            return {wait.awaited for wait in loop.condition.waiting} == {Awaited.DATABASE}

        async def has_tried_to_come_back() -> bool:
            return loop.sessions >= 3

        await eventually(waits_for_nothing, "the consumer to claim")
        with monkeypatch.context() as short:
            short.setattr(loop.ledger, "record", away)
            await deliver(site, kafka, orders(20))
            await eventually(waits_for_the_database, "the database to be missed")
        await eventually(waits_for_nothing, "the consumer to go on")
        assert (loop.sessions, len(joined)) == (1, 1)

        with monkeypatch.context() as long:
            long.setattr(loop.ledger, "record", away)
            long.setattr(loop.ledger, "claim", away)
            await deliver(site, kafka, orders(20, first=20))
            await eventually(has_tried_to_come_back, "the session to end")
            assert len(joined) == 1
            assert loop.condition.lags == {}
            assert await waits_for_the_database()

        async def all_in() -> bool:
            return await _read(site) == 40 and not loop.condition.waiting

        await eventually(all_in, "all to be read once the database is back")
        assert len(joined) == 2
        assert loop.condition.ailment() is None


@pytest.mark.kafka
async def test_a_silent_consumer_is_rebuilt_until_it_hears(
    site: Site, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session ends with a name for it and the next begins; several in vain are an ailment, until it hears."""
    monkeypatch.setattr(consuming, "_WATCH_SECONDS", 0.2)
    monkeypatch.setattr(consuming, "AIOKafkaConsumer", DeafConsumer)
    await deliver(site, kafka, orders(40))
    async with in_process(site, limit_seconds=1.0) as loop:

        async def is_ill() -> bool:
            return loop.condition.ailment() is not None

        await eventually(is_ill, "the rebuilding in vain to be noticed")
        assert loop.endings("ConsumerSilent") >= 3
        assert await _read(site) == 0
        monkeypatch.setattr(consuming, "AIOKafkaConsumer", AIOKafkaConsumer)

        async def is_well() -> bool:
            return await _read(site) == 40 and loop.condition.ailment() is None and not loop.condition.waiting

        await eventually(is_well, "the consumer to hear again")


@pytest.mark.kafka
async def test_partitions_that_are_paused_or_wait_for_a_transaction_are_not_silent(
    site: Site, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor those that are read: with a limit of a second, nothing is ever rebuilt."""
    monkeypatch.setattr(consuming, "_WATCH_SECONDS", 0.2)
    topic = site.settings["TOPIC_ORDERS"]
    made: list[AIOKafkaConsumer] = []

    class Noted(AIOKafkaConsumer):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            made.append(self)

    monkeypatch.setattr(consuming, "AIOKafkaConsumer", Noted)
    async with in_process(site, limit_seconds=1.0) as loop:

        async def works() -> bool:
            return not loop.condition.waiting

        await eventually(works, "the consumer to claim")
        (client,) = made
        paused = next(each for each in client.assignment() if (each.topic, each.partition) == (topic, 1))
        client.pause(paused)
        for number, committed in ((2, False), (3, True)):
            placed = [(Partition(topic, number), message) for message in orders(5, first=10 * number)]
            await produce_in_transaction(kafka.bootstrap_servers, placed, commit=committed)
        async with _open_transaction(kafka, Partition(topic, 0), orders(5, first=100)):
            await produce(kafka.bootstrap_servers, [(Partition(topic, 1), each) for each in orders(5)])
            await asyncio.sleep(3.0)  # three times the limit: silence has no event to wait for
            assert (loop.sessions, await _read(site)) == (1, 5)
            assert loop.condition.rebuilds_in_vain == 0
        client.resume(paused)

        async def all_in() -> bool:
            return await _read(site) == 15

        await eventually(all_in, "all that was held back to be read")
        assert loop.sessions == 1
        assert loop.condition.waiting == []


@contextlib.asynccontextmanager
async def _open_transaction(kafka: EmbeddedKafka, partition: Partition, messages: list[Message]) -> AsyncIterator[None]:
    """Messages of a transaction that is committed at the end of the block."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=partition.topic)
    await producer.start()
    try:
        async with producer.transaction():
            for message in messages:
                await producer.send_and_wait(partition.topic, message.value, partition=partition.number)
            yield
    finally:
        await producer.stop()


async def _read(site: Site) -> int:
    async with transaction(site.engine) as connection:
        counted = await connection.scalar(text("SELECT sum(applied + duplicate + rejected) FROM partitions"))
        return int(counted or 0)
