"""How long it takes until an order shows in another customer's tier, under half of the load that a worker can take."""

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, timedelta
from functools import partial
from itertools import chain, islice
from typing import Final, Self

import httpx
import msgspec

from bench.figures import Results
from bench.ingest import START, traffic
from bench.keeper import seed
from bench.site import BenchFailed, Database, Site
from local_stack.ports import free_port
from local_stack.processes import Child
from local_stack.simulation import Message
from local_stack.topics import Topics
from segmentation.storage.engine import create_engine

_WARM_UP_EVENTS: Final = 20_000
"""Ingested first, as fast as it goes: half of that rate is the load."""
_PROBES: Final = 60
"""Each makes two measurements: there and back."""
_MARGIN: Final = 300
"""So many places from the cut-off is the one that is watched, so that the load does not move it meanwhile."""
_LOAD_SECONDS: Final = 90.0
"""So much of the load is made before; the rest meanwhile."""
_CHUNK_SECONDS: Final = 0.05
_POLL_SECONDS: Final = 0.02
_LIMIT_SECONDS: Final = 60.0
_PROBE: Final = "PROBE-1"

_LAST_OF_A = """
    SELECT customer_id, value::bigint FROM snapshots WHERE computed_tier = 'A'
    ORDER BY value, customer_id DESC LIMIT $1
"""
_SCALE = """
    -- As rich as countries: what somebody orders in the load moves nobody past the one who is watched. Much richer,
    -- and the order that moves the cut-off would be larger than an amount may be, where there are few customers.
    WITH richer AS (UPDATE day_buckets SET gross_revenue = gross_revenue * 100000)
    UPDATE snapshots SET value = value * 100000
"""
_APPLIED = "SELECT sum(applied)::bigint FROM partitions"
_COVERED = "SELECT coalesce((SELECT covered FROM tier_state), 0)"
_LAG = "SELECT coalesce(sum(greatest(end_offset - next_offset, 0)), 0)::bigint FROM partitions"


async def measure_following(site: Site, results: Results, *, customers: int) -> None:
    """`tier_follow_seconds`."""
    database = await site.database("following")
    topics = site.topics("following")
    engine = create_engine(database.url, application_name="bench", pool_size=1)
    try:
        site.say(f"Following: storing {customers:,} customers …")
        await seed(engine, customers)
    finally:
        await engine.dispose()
    async with database.connect() as connection:
        await connection.execute(_SCALE)
        await connection.execute("VACUUM ANALYZE")
    stream = traffic(customers)
    site.say(f"How fast the worker is with {customers:,} customers in store …")
    site.produce(islice(stream, _WARM_UP_EVENTS), topics)
    run = await database.ingest(topics, _WARM_UP_EVENTS)
    rate = run.per_second / 2
    site.say(f"{2 * _PROBES} tiers followed while {rate:,.0f} events/s come …")
    # Made before: what it takes to make them is not taken from whoever is measured.
    made = list(islice(stream, int(rate * _LOAD_SECONDS)))
    port = free_port()
    with database.worker(topics), database.api(port) as api:
        await _until(partial(_is_up, api, port), "the API did not come up")
        with _Load(site, topics, chain(made, stream), rate) as load:
            seconds = await _follow(site, database, topics, port)
        async with database.connect() as connection:
            lag = await connection.fetchval(_LAG)
    results.figures["tier_follow_seconds"] = round(_percentile(seconds, 99), 3)
    results.details["tier_follow"] = {
        "customers": customers,
        "measurements": len(seconds),
        "median_seconds": round(statistics.median(seconds), 3),
        "longest_seconds": round(max(seconds), 3),
        "events_per_second_wanted": round(rate, 1),
        "events_per_second_produced": round(load.per_second, 1),
        "messages_not_yet_read_at_the_end": lag,
    }


async def _follow(site: Site, database: Database, topics: Topics, port: int) -> list[float]:
    seconds: list[float] = []
    sender = site.sender(topics, linger_milliseconds=0)
    async with (
        database.connect() as connection,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=_LIMIT_SECONDS) as client,
    ):

        async def timed(event: Message, customer_id: str, before: str, after: str) -> float:
            await _until(partial(_is, client, customer_id, before), f"{customer_id} was not in {before}")
            begin = time.perf_counter()
            await asyncio.to_thread(sender.send, [event])
            try:
                await _until(partial(_is, client, customer_id, after), f"{customer_id} did not follow to {after}")
            except BenchFailed as failed:
                status = (await client.get("/ingest/status")).json()
                behind = f"{status['lag']:,} messages are not read, tiers {status['tiers']} as of {status['as_of']}"
                raise BenchFailed(f"{failed}, after {len(seconds)} did; {behind}") from None
            return time.perf_counter() - begin

        async def settled() -> None:
            """Whoever is watched moves before the last who cross do."""
            applied = await connection.fetchval(_APPLIED)

            async def covered() -> bool:
                return bool(await connection.fetchval(_COVERED) >= applied)

            await _until(covered, "tiers did not settle")

        # What is measured is not how long the producer's first connection takes, nor a new keeper's look at everyone.
        # To cancel what was never ordered moves nobody.
        begun = await connection.fetchval(_COVERED)
        await asyncio.to_thread(sender.send, [_cancellation(_PROBES)])

        async def taken_over() -> bool:
            return bool(await connection.fetchval(_COVERED) > begun)

        await _until(taken_over, "the new worker did not settle tiers")
        await settled()
        last = await connection.fetch(_LAST_OF_A, 2 * _MARGIN)
        watched = last[_MARGIN]["customer_id"]
        # Who orders more moves the cut-off up by a fifth of that: the share beyond A's 80 %.
        amount = 5 * sum(row["value"] for row in last)
        for number in range(_PROBES):
            await settled()
            seconds.append(await timed(_order(number, amount), watched, "A", "B"))
            await settled()
            seconds.append(await timed(_cancellation(number), watched, "B", "A"))
    return seconds


async def _is_up(api: Child, port: int) -> bool:
    api.check()
    try:
        async with httpx.AsyncClient(timeout=_LIMIT_SECONDS) as client:
            return (await client.get(f"http://127.0.0.1:{port}/health/ready")).is_success
    except httpx.TransportError:
        return False


async def _is(client: httpx.AsyncClient, customer_id: str, tier: str) -> bool:
    answer = await client.get(f"/customers/{customer_id}/segment")
    return bool(answer.is_success and answer.json()["tier"]["computed"] == tier)


async def _until(holds: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    deadline = time.perf_counter() + _LIMIT_SECONDS
    while not await holds():
        if time.perf_counter() > deadline:
            raise BenchFailed(f"{otherwise} within {_LIMIT_SECONDS:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)


def _order(number: int, minor_units: int) -> Message:
    return _message(number, "order", amount=f"{minor_units // 100}.{minor_units % 100:02d}", currency="CNY")


def _cancellation(number: int) -> Message:
    return _message(number, "order_cancelled")


def _message(number: int, kind: str, **fields: str) -> Message:
    at = START + timedelta(seconds=2 * number + (kind != "order"))
    event = {
        "event_id": f"probe-{number}-{kind}",
        "type": kind,
        "customer_id": _PROBE,
        "order_id": f"probe-{number}",
        "occurred_at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **fields,
    }
    return Message(kind, _PROBE, msgspec.json.encode(event), at)


class _Load:
    """Produces a steady stream in the background, as long as it is open."""

    def __init__(self, site: Site, topics: Topics, stream: Iterator[Message], rate: float) -> None:
        self._sender, self._stream, self._rate = site.sender(topics, linger_milliseconds=20), stream, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce, daemon=True)
        self._produced = 0
        self._begun = self._ended = 0.0

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_LIMIT_SECONDS)
        self._ended = time.perf_counter()

    @property
    def per_second(self) -> float:
        return self._produced / (self._ended - self._begun)

    def _produce(self) -> None:
        while not self._stop.wait(_CHUNK_SECONDS):
            wanted = int((time.perf_counter() - self._begun) * self._rate) - self._produced
            if wanted > 0:
                self._sender.send(islice(self._stream, wanted))
                self._produced += wanted


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
