"""Lookups: many customers in one call next to one customer a call, of the real API as a process of its own."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Final, Self

from bench.figures import Results
from bench.ingest import traffic
from bench.site import HOUSE, BenchFailed, Database, Site
from local_stack.ports import LOOPBACK, free_port
from segmentation.storage.engine import create_engine
from segmentation.storage.ledger import PostgresLedger

_EVENTS: Final = 20_000
_CUSTOMERS: Final = 2_000
_AT_ONCE: Final = 1_000
"""Ids in one call."""
_CALLERS: Final = 4
"""Connections, each of which asks again as soon as it is answered."""
_ROUNDS: Final = 3
_SECONDS: Final = 2.0
"""Of each round of each kind."""
_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""A whole answer, so that the caller does not hold it up."""
_START_SECONDS: Final = 60.0
_NOW: Final = datetime(2025, 6, 1, tzinfo=UTC)
"""The clock is the events'; of the machine's nothing is asked."""


async def measure_bulk(site: Site, results: Results) -> None:
    """`bulk_vs_single`."""
    database = await site.database("lookup")
    topics = site.topics("lookup")
    site.say(f"Ingesting {_EVENTS:,} events of {_CUSTOMERS:,} customers to look up …")
    site.produce(islice(traffic(_CUSTOMERS), _EVENTS), topics)
    await database.ingest(topics, _EVENTS)
    await _come_to_rest(database)
    async with database.connect() as connection:
        ids = [row["customer_id"] for row in await connection.fetch("SELECT customer_id FROM customers")]
    if len(ids) < _AT_ONCE:
        raise BenchFailed(f"only {len(ids)} customers are known")
    port = free_port()
    api = site.start(
        "segment-api",
        [site.program("segment-api"), "run"],
        database.settings | {"HTTP_PORT": str(port), "AUTH": "off"},
        "api-lookup.log",
    )
    try:
        await _until_ready(port, api.check)
        site.say("Single and bulk lookups in turn …")
        singles = [_get(f"/customers/{each}/segment") for each in ids]
        bulk = [_post("/customers/segments", {"customer_ids": ids[:_AT_ONCE]})]
        rates: dict[str, list[float]] = {"single": [], "bulk": []}
        for requests in (singles, bulk):
            await _answers_a_second(port, requests, _SECONDS / 2)  # connections, statements and what is made once
        for _ in range(_ROUNDS):
            rates["single"].append(await _answers_a_second(port, singles, _SECONDS))
            rates["bulk"].append(_AT_ONCE * await _answers_a_second(port, bulk, _SECONDS))
    finally:
        api.stop(seconds=30)
    single, many = statistics.median(rates["single"]), statistics.median(rates["bulk"])
    results.figures["bulk_vs_single"] = round(many / single, 2)
    results.details["bulk"] = {
        "customers": len(ids),
        "ids_in_a_call": _AT_ONCE,
        "connections": _CALLERS,
        "single_lookups_per_second": round(single, 1),
        "bulk_customers_per_second": round(many, 1),
    }


async def _come_to_rest(database: Database) -> None:
    """Everybody assessed for the last day, as a worker leaves them that is not stopped at once."""
    engine = create_engine(database.url, application_name="bench", pool_size=2)
    try:
        ledger = PostgresLedger(engine, HOUSE)
        while await ledger.sweep(now=_NOW, limit=500) or await ledger.settle_tiers(now=_NOW):
            pass
    finally:
        await engine.dispose()


async def _until_ready(port: int, check: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        check()
        try:
            async with _Caller.connected(port) as caller:
                if await caller.ask(_get("/health/ready")) == 200:  # noqa: PLR2004 - OK
                    return
        except OSError:
            pass
        await asyncio.sleep(0.2)
    raise BenchFailed("the API does not become ready")


async def _answers_a_second(port: int, requests: Sequence[bytes], seconds: float) -> float:
    """How many answers so many callers get, each asking again as soon as it is answered."""
    waiting = cycle(requests)
    answered = 0
    begin = time.perf_counter()

    async def call() -> None:
        nonlocal answered
        async with _Caller.connected(port) as caller:
            while time.perf_counter() < begin + seconds:
                status = await caller.ask(next(waiting))
                if status != 200:  # noqa: PLR2004 - OK
                    raise BenchFailed(f"the API answered {status}")
                answered += 1

    await asyncio.gather(*(call() for _ in range(_CALLERS)))
    return answered / (time.perf_counter() - begin)


class _Caller:
    """One connection that is kept, and as little work for an answer as can be: what is measured is the API."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=_BUFFER_BYTES)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def ask(self, request: bytes) -> int:
        """The status of the answer, which is read to its end."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(head.split(None, 2)[1])


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode()


def _post(path: str, question: object) -> bytes:
    body = json.dumps(question).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
