"""A bad network between the real worker and its servers, and a database that has no room: it waits, and goes on."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from chaos.network import BOTH, Direction, Link
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import an_order, as_message
from tests.support.kafka import new_topics
from tests.support.oracle import Message
from tests.support.servers import migrated_server
from tests.support.streams import PARTITIONS, deliver, require_exactly
from tests.support.workers import HOUSE, Site, WorkerProcess, eventually

from ingest_worker import wiring
from local_stack.kafka import EmbeddedKafka
from local_stack.postgres import EmbeddedPostgres
from segmentation.errors import StoreUnavailable
from segmentation.ledger import Place
from segmentation.storage import engine as engines
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.ledger import PostgresLedger

_MEGABYTE: Final = 1024 * 1024


def orders(count: int, *, first: int = 0, long: bool = False) -> list[Message]:
    """Orders of a few customers; long ones take room."""
    return [
        as_message(
            an_order(
                event_id=f"n-{number}",
                order_id=f"N-{number}",
                customer_id=f"C-{number % 7}",
                amount=f"{number + 1}.00",
                # what cannot be compressed
                **({"note": os.urandom(20_000).hex()} if long else {}),
            )
        )
        for number in range(first, first + count)
    ]


async def waits(site: Site, worker: WorkerProcess) -> None:
    """Until the worker has said that its database is not to be had."""

    async def check() -> bool:
        ended = any(line["error"] == "StoreUnavailable" for line in worker.said("session.ended"))
        return ended or bool(worker.said("consumer.waiting"))

    await site.eventually(check, "the worker to say what it waits for")


def through(url: str, link: Link) -> str:
    """The address of a database by way of a link."""
    before, _, rest = url.partition("@127.0.0.1:")
    return f"{before}@127.0.0.1:{link.port}/{rest.partition('/')[2]}"


@asynccontextmanager
async def linked(database_url: str) -> AsyncIterator[tuple[Link, str]]:
    port = int(database_url.partition("@127.0.0.1:")[2].partition("/")[0])
    async with Link(port) as link:
        yield link, through(database_url, link)


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.kafka
async def test_a_slow_database_link_in_both_directions_costs_nothing_but_time(
    site: Site, kafka: EmbeddedKafka, database_url: str
) -> None:
    messages = orders(120)
    async with linked(database_url) as (link, url):
        worker = site.start(DATABASE_URL=url, BATCH_MESSAGES="20")
        await deliver(site, kafka, messages[:40])
        await site.has_read(20)
        link.slow(delay_seconds=0.02, bytes_a_second=500_000)
        await deliver(site, kafka, messages[40:])
        await require_exactly(site, messages)
        # the link lives in this loop, and the worker says good-bye through it
        assert await asyncio.to_thread(worker.stop) == 0


@pytest.mark.kafka
@pytest.mark.parametrize("direction", Direction)
async def test_commits_whose_outcome_nobody_hears_of_count_once(
    site: Site, kafka: EmbeddedKafka, database_url: str, direction: Direction
) -> None:
    """The link loses what comes next in one direction, again and again, in the middle of the stream."""
    messages = orders(400)
    async with linked(database_url) as (link, url):
        worker = site.start(DATABASE_URL=url, BATCH_MESSAGES="5")
        await deliver(site, kafka, messages)
        for part in range(1, 5):
            await site.has_read(part * 20)
            link.swallow(direction)
            await asyncio.sleep(0.3)
            link.heal()
        await require_exactly(site, messages)
        assert worker.said("consumer.waiting") or worker.said("session.ended")
        # the link lives in this loop, and the worker says good-bye through it
        assert await asyncio.to_thread(worker.stop) == 0


@pytest.mark.kafka
async def test_a_stalled_database_link_holds_the_worker_up_and_no_longer(
    site: Site, kafka: EmbeddedKafka, database_url: str
) -> None:
    messages = orders(200)
    async with linked(database_url) as (link, url):
        worker = site.start(DATABASE_URL=url, BATCH_MESSAGES="10")
        await deliver(site, kafka, messages[:100])
        await site.has_read(20)
        link.stall(*BOTH)
        await deliver(site, kafka, messages[100:])
        await asyncio.sleep(2)
        assert await site.read() < len(messages)
        link.heal()
        await require_exactly(site, messages)
        # the link lives in this loop, and the worker says good-bye through it
        assert await asyncio.to_thread(worker.stop) == 0


@pytest.mark.parametrize("moment", ["first statement", "later statement", "commit"])
async def test_a_connection_that_is_alive_and_dumb_is_given_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """TCP never notices one; without a limit of our own a worker would wait on it for ever."""
    monkeypatch.setattr(engines, "_ANSWER_SECONDS", 0.5)
    async with linked(database_url) as (link, url):
        engine = create_engine(url, application_name="tests", pool_size=1)
        async with transaction(engine) as connection:
            await connection.execute(text("SELECT 1"))

        async def one() -> None:
            if moment == "first statement":
                link.stall(Direction.ANSWERS)
            async with transaction(engine) as connection:
                await connection.execute(text("SELECT 1"))
                if moment == "later statement":
                    link.stall(*BOTH)
                await connection.execute(text("SELECT 1"))
                if moment == "commit":
                    link.stall(Direction.REQUESTS)

        with pytest.raises(StoreUnavailable, match="TimeoutError"):
            await asyncio.wait_for(one(), 60)
        link.heal()
        async with transaction(engine) as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
        await engine.dispose()


async def test_a_leader_whose_connection_is_dumb_loses_its_place(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_ANSWER_SECONDS", 0.5)
    async with linked(database_url) as (link, url):
        engine = create_engine(url, application_name="tests", pool_size=1)

        async def lead() -> None:
            async with PostgresLedger(engine, HOUSE).leading(Place.KEEPER) as elected:
                assert await elected()
                link.stall(*BOTH)
                await elected()

        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(lead(), 60)
        link.heal()
        await engine.dispose()


async def test_a_stop_while_the_database_is_away_is_a_stop_like_any_other(
    engine: AsyncEngine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever claims the partitions next does not ask who had them."""
    async with linked(database_url) as (link, url):
        away = create_engine(url, application_name="tests", pool_size=1)
        link.cut()
        await wiring._release(PostgresLedger(away, HOUSE), "worker-1")
        await away.dispose()
    assert "worker.not_released" in caplog.messages


# --- a database without room ----------------------------------------------------------------------------------------


@asynccontextmanager
async def site_on(
    server: EmbeddedPostgres, engine: AsyncEngine, kafka: EmbeddedKafka, directory: Path
) -> AsyncIterator[Site]:
    topics = new_topics(kafka, partitions=PARTITIONS)
    with Site.of(
        engine, directory, database_url=server.url, kafka=kafka.bootstrap_servers, topics=topics, house=HOUSE
    ) as site:
        yield site


@pytest.mark.kafka
async def test_a_database_without_free_connections_is_waited_for(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    messages = orders(200)
    async with (
        migrated_server(tmp_path, {"max_connections": "20"}) as (server, engine),
        site_on(server, engine, kafka, tmp_path) as site,
    ):
        worker = site.start(BATCH_MESSAGES="10")
        await deliver(site, kafka, messages[:100])
        await site.has_read(20)
        taken: list[Any] = []
        more = messages[100:]
        try:
            while more or not _says_no_connection(worker):
                if more and len(worker.said("relay.waiting")) > 1:
                    # the consumer asks the database only when there is something to record
                    await deliver(site, kafka, more)
                    more = []
                try:
                    taken.append(await asyncpg.connect(server.url))
                except asyncpg.TooManyConnectionsError:
                    # those that the worker has are ended, and taken before it comes back
                    await taken[0].execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name LIKE 'ingest-worker%'"
                    )
                    await asyncio.sleep(0.05)
        finally:
            for connection in taken:
                await connection.close()
        await require_exactly(site, messages)
        # the link lives in this loop, and the worker says good-bye through it
        assert await asyncio.to_thread(worker.stop) == 0


def _says_no_connection(worker: WorkerProcess) -> bool:
    # a session holds its partitions for a while before it ends
    return len(worker.said("consumer.waiting")) > 1


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size, or the end of the test where none may be mounted."""
    place = directory / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("a small file system may not be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.kafka
async def test_a_full_disk_is_waited_for(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """PostgreSQL refuses, or even ends: once there is room again the worker goes on, and nothing is missing."""
    with small_disk(tmp_path, 320) as place:
        small = {"max_wal_size": "64MB", "min_wal_size": "32MB", "shared_buffers": "16MB"}
        async with (
            migrated_server(place, small) as (server, engine),
            site_on(server, engine, kafka, tmp_path) as site,
        ):
            messages = orders(300, long=True)
            worker = site.start(BATCH_MESSAGES="10")
            await deliver(site, kafka, messages[:40])
            await site.has_read(40)
            ballast = place / "ballast"
            with ballast.open("wb", buffering=0) as filling:
                try:
                    while True:
                        filling.write(bytes(_MEGABYTE))
                except OSError:
                    pass
            await deliver(site, kafka, messages[40:])
            await waits(site, worker)
            ballast.unlink()

            async def answers() -> bool:
                await asyncio.to_thread(server.start)
                await engine.dispose()
                try:
                    async with transaction(engine):
                        return True
                except StoreUnavailable:
                    return False

            await eventually(answers, "the database to be there again")
            await require_exactly(site, messages)
            # the link lives in this loop, and the worker says good-bye through it
            assert await asyncio.to_thread(worker.stop) == 0
