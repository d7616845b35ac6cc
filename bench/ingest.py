"""Ingestion: what the real worker applies, next to COPY, to a plain ORM consumer, and to itself with more in store."""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Final
from uuid import uuid4

from confluent_kafka import Consumer
from sqlalchemy import BigInteger, LargeBinary, Numeric, Text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.figures import Results
from bench.site import BenchFailed, Database, Site
from local_stack.simulation import Message, simulate
from local_stack.topics import Topics
from segmentation.storage.engine import driver_url

START: Final = datetime(2025, 1, 6, tzinfo=UTC)
_SEED: Final = 20_250_106
_INGEST_CUSTOMERS: Final = 20_000
_COPIES: Final = 3
_ORM_SHARE: Final = 20
"""The ORM reads one of so many events."""
_GROWTH_CUSTOMERS: Final = 2_000
_GROWTH_SHARE: Final = 3
"""One of so many events of ingestion is in store before; as many are measured."""

_RAW = """
    CREATE TABLE raw_events (
        event_id text PRIMARY KEY, type text NOT NULL, customer_id text NOT NULL, value bytea NOT NULL
    )
"""
_RAW_COLUMNS = ("event_id", "type", "customer_id", "value")


def traffic(customers: int) -> Iterator[Message]:
    """One event a customer and day on average."""
    return simulate(seed=_SEED, customers=customers, start=START, events_per_day=customers)


async def measure_ingestion(site: Site, results: Results, *, events: int, wanted: frozenset[str]) -> None:
    """`ingest_vs_copy`, `ingest_vs_orm`."""
    database = await site.database("ingestion")
    messages = list(islice(traffic(_INGEST_CUSTOMERS), events))
    topics = site.topics("ingestion")
    site.say(f"Producing {events:,} events …")
    site.produce(messages, topics)
    site.say("Ingesting them …")
    run = await database.ingest(topics, events)
    results.details["ingestion"] = {"customers_simulated": _INGEST_CUSTOMERS, "messages": events, **run.told()}
    site.say(f"… {run.per_second:,.0f} events/s")
    if "ingest_vs_copy" in wanted:
        site.say("The same rows with COPY …")
        rows_per_second = await _copy(database, messages)
        results.figures["ingest_vs_copy"] = round(run.per_second / rows_per_second, 4)
        results.details["copy"] = {"rows_per_second": round(rows_per_second, 1)}
    if "ingest_vs_orm" in wanted:
        sample = max(100, events // _ORM_SHARE)
        site.say(f"{sample:,} of them through an ORM, event by event …")
        each = await _through_orm(site, database, topics, sample, commit_every=1)
        some = await _through_orm(site, database, topics, sample, commit_every=500)
        results.figures["ingest_vs_orm"] = round(run.per_second / each, 2)
        results.details["orm"] = {
            "messages": sample,
            "events_per_second": round(each, 1),
            "events_per_second_with_a_commit_every_500": round(some, 1),
        }


async def measure_growth(site: Site, results: Results, *, events: int) -> None:
    """`growth_events_x10`: the same customers, a deeper history."""
    database = await site.database("growth")
    topics = site.topics("growth")
    stream = traffic(_GROWTH_CUSTOMERS)
    little = events // _GROWTH_SHARE
    runs = []
    site.say(f"Growth: {little:,} events more, with {little:,} and with {10 * little:,} in store …")
    for fill in (little, 8 * little):
        # the sample before is in store as well
        site.produce(islice(stream, fill), topics)
        await database.ingest(topics, fill)
        site.produce(islice(stream, little), topics)
        runs.append(await database.ingest(topics, little))
    before, after = runs
    results.figures["growth_events_x10"] = round(before.per_second / after.per_second, 3)
    results.details["growth_events"] = {
        "customers_simulated": _GROWTH_CUSTOMERS,
        "messages_in_store": [little, 10 * little],
        "before": before.told(),
        "after": after.told(),
    }


async def _copy(database: Database, messages: Sequence[Message]) -> float:
    # a repeated message is the same row
    rows = list(
        {_event_id(each): (_event_id(each), each.type, each.customer_id, each.value) for each in messages}.values()
    )
    seconds = []
    async with database.connect() as connection:
        for _ in range(_COPIES):
            await connection.execute("DROP TABLE IF EXISTS raw_events")
            await connection.execute(_RAW)
            begin = time.perf_counter()
            await connection.copy_records_to_table("raw_events", records=rows, columns=_RAW_COLUMNS)
            seconds.append(time.perf_counter() - begin)
    return len(rows) / statistics.median(seconds)


def _event_id(message: Message) -> str:
    return str(json.loads(message.value)["event_id"])


class _Base(DeclarativeBase):
    pass


class _PlainEvent(_Base):
    __tablename__ = "plain_events"

    event_id: Mapped[str] = mapped_column(Text, primary_key=True)
    customer_id: Mapped[str] = mapped_column(Text)
    type: Mapped[str] = mapped_column(Text)
    value: Mapped[bytes] = mapped_column(LargeBinary)


class _PlainCustomer(_Base):
    __tablename__ = "plain_customers"

    customer_id: Mapped[str] = mapped_column(Text, primary_key=True)
    events: Mapped[int] = mapped_column(BigInteger)
    revenue: Mapped[Decimal] = mapped_column(Numeric)


async def _through_orm(site: Site, database: Database, topics: Topics, count: int, *, commit_every: int) -> float:
    """Events a second of a consumer that keeps each event once and a total for each customer, and no more."""
    engine = create_async_engine(driver_url(database.url))
    consumer = Consumer(
        {
            "bootstrap.servers": site.kafka.bootstrap_servers,
            "group.id": f"orm-{uuid4().hex}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_Base.metadata.drop_all)
            await connection.run_sync(_Base.metadata.create_all)
        consumer.subscribe(topics.inputs)
        waiting = _consume(consumer, count)  # the clock starts when the consumer has its messages
        begin = time.perf_counter()
        async with async_sessionmaker(engine, expire_on_commit=False)() as session:
            for number, value in enumerate(waiting, 1):
                await _upsert(session, value)
                if number % commit_every == 0:
                    await session.commit()
                    session.expunge_all()
            await session.commit()
        return count / (time.perf_counter() - begin)
    finally:
        consumer.close()
        await engine.dispose()


def _consume(consumer: Consumer, count: int) -> list[bytes]:
    values: list[bytes] = []
    deadline = time.monotonic() + 60
    while len(values) < count:
        if time.monotonic() > deadline:
            raise BenchFailed(f"only {len(values)} of {count} messages came from Kafka")
        values += [message.value() or b"" for message in consumer.consume(count - len(values), timeout=1.0)]
    return values


async def _upsert(session: AsyncSession, value: bytes) -> None:
    event = json.loads(value)
    if await session.get(_PlainEvent, event["event_id"]) is not None:
        return
    customer_id = event["customer_id"]
    session.add(_PlainEvent(event_id=event["event_id"], customer_id=customer_id, type=event["type"], value=value))
    customer = await session.get(_PlainCustomer, customer_id)
    if customer is None:
        customer = _PlainCustomer(customer_id=customer_id, events=0, revenue=Decimal(0))
        session.add(customer)
    customer.events += 1
    if event["type"] == "order":
        customer.revenue += Decimal(event["amount"])
