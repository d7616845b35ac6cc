"""Freshness: from an event's production to its effect in the API, next to the least that Kafka and a disk allow.

As a program (`python -m bench.freshness`), the load and the probes: a process of its own, so that neither the worker
nor the API has to wait for it. Everything is sent when it is due, whatever has come back by then.
"""

import asyncio
import json
import statistics
import sys
import threading
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import uuid4

import asyncpg
import uvloop
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.figures import Results
from bench.ingest import START, traffic
from bench.lookups import serve_api
from bench.site import BenchFailed, Site
from local_stack.simulation import Message

_SHARE: Final = 0.5
"""Of the rate that the worker reaches when it has nothing to wait for."""
_CUSTOMERS: Final = 20_000
_PROBES_A_SECOND: Final = 5
_SECONDS: Final = 40.0
_WARM_SECONDS: Final = 8.0
_PROBED: Final = 200
"""No more than are probed in all, so that none is asked about twice at a time."""
_ASK_SECONDS: Final = 0.004
_CHUNK_SECONDS: Final = 0.01
_LOAD_LINGER_MILLISECONDS: Final = 20
_GIVE_UP_SECONDS: Final = 60.0
_DAY: Final = START.date().isoformat()


@dataclass(frozen=True, slots=True)
class Plan:
    """What the load's process is told."""

    kafka: str
    topic: str
    database_url: str
    port: int
    key: str
    messages: str
    """A file: the load, one message a line; then nothing more is sent."""
    rate: float
    seconds: float
    floor_topic: str
    probe_day: str


def _order(customer: int, day: str) -> bytes:
    """An event that changes what is said of a customer: when it was last assessed."""
    event = {
        "event_id": f"probe-{uuid4().hex}",
        "type": "order",
        "customer_id": f"PROBE-{customer}",
        "occurred_at": f"{day}T12:00:00Z",
        "order_id": f"P-{uuid4().hex[:12]}",
        "amount": "10.00",
        "currency": "CNY",
    }
    return json.dumps(event).encode()


async def measure_freshness(site: Site, results: Results, *, events: int) -> None:
    """`freshness_vs_floor`."""
    database = await site.database("freshness")
    topics = site.topics("freshness")
    stream = traffic(_CUSTOMERS)
    probed = [Message("order", f"PROBE-{each}", _order(each, _DAY), START) for each in range(_PROBED)]
    backlog = [*islice(stream, events // 2), *probed]
    site.produce(backlog, topics)
    site.say("How fast the worker is when everything waits for it …")
    limit = await database.ingest(topics, len(backlog))
    rate = _SHARE * limit.per_second
    site.say(f"… {limit.per_second:,.0f} events/s; now {rate:,.0f} events/s for {_SECONDS:.0f} s …")
    load = list(islice(stream, int(rate * (_SECONDS + _WARM_SECONDS))))
    file = site.directory / "freshness.ndjson"
    file.write_bytes(b"\n".join(message.value for message in load))
    floor_topic = f"floor-{uuid4().hex[:8]}"
    site.kafka.create_topics({floor_topic: 1}, compacted=())
    with site.running() as running:
        worker = site.start_worker(database.worker_settings(topics), "worker-freshness.log")
        running.callback(worker.stop, seconds=30)
        api = await serve_api(site, database, _CUSTOMERS, warm=False)
        running.callback(api.child.stop, seconds=30)
        plan = Plan(
            kafka=site.kafka.bootstrap_servers,
            topic=topics.names["TOPIC_ORDERS"],
            database_url=database.url,
            port=api.port,
            key=api.headers["Authorization"],
            messages=str(file),
            rate=rate,
            seconds=_SECONDS,
            floor_topic=floor_topic,
            probe_day=_DAY,
        )
        told = await _in_a_process(plan)
        worker.check()
    floor = told["kafka"][99] + told["commit"][99]
    results.figures["freshness_vs_floor"] = round(told["visible"][99] / floor, 2)
    idle = told["kafka_idle"][50] + told["commit_idle"][50]
    results.details["freshness"] = {
        "events_per_second": round(rate, 1),
        "events_per_second_at_most": round(limit.per_second, 1),
        "milliseconds": {
            name: {f"p{at}": round(each * 1_000, 2) for at, each in quantiles.items()}
            for name, quantiles in told.items()
        },
        "p50_vs_floor_p50": round(told["visible"][50] / (told["kafka"][50] + told["commit"][50]), 2),
        "p99_vs_idle_floor_p50": round(told["visible"][99] / idle, 2),
    }


async def _in_a_process(plan: Plan) -> dict[str, dict[int, float]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.freshness", json.dumps(asdict(plan)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise BenchFailed("the load of the freshness measurement failed")
    return {name: {int(at): each for at, each in some.items()} for name, some in json.loads(said).items()}


# --- the load's process ---------------------------------------------------------------------------------------------


class _Api:
    """A connection that asks for one customer again and again."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def updated_at(self, customer: int) -> str:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
        self._writer.write(
            f"GET /customers/PROBE-{customer}/segment HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: {self._plan.key}\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
        body = await self._reader.readexactly(length)
        if head[9:12] != b"200":
            raise RuntimeError(body.decode())
        answer: dict[str, str] = json.loads(body)
        return answer["updated_at"]


class _RoundTrips:
    """Sends to a topic of one partition and reads it back."""

    def __init__(self, plan: Plan, producer: Producer) -> None:
        self._topic = plan.floor_topic
        self._producer = producer
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, asyncio.Future[float]] = {}
        self._consumer = Consumer(
            {"bootstrap.servers": plan.kafka, "group.id": uuid4().hex, "auto.offset.reset": "earliest"}
        )
        self._consumer.assign([TopicPartition(self._topic, 0, 0)])
        threading.Thread(target=self._read, daemon=True).start()

    async def measure(self) -> float:
        name = uuid4().bytes
        come: asyncio.Future[float] = self._loop.create_future()
        self._waiting[name] = come
        begin = time.perf_counter()
        self._producer.produce(self._topic, name)
        return await come - begin

    def _read(self) -> None:
        while True:
            message = self._consumer.poll(1.0)
            if message is None or message.error() is not None:
                continue
            self._loop.call_soon_threadsafe(self._come, message.value(), time.perf_counter())

    def _come(self, name: bytes | None, at: float) -> None:
        if name in self._waiting:
            self._waiting.pop(name).set_result(at)


class _Commits:
    """Commits one row at a time, each on the disk before it counts."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    async def measure(self) -> float:
        async with self._lock:
            begin = time.perf_counter()
            await self._connection.execute("INSERT INTO bench_floor VALUES (1)")
            return time.perf_counter() - begin


async def _run(plan: Plan, lines: list[bytes]) -> dict[str, dict[int, float]]:
    # What is measured goes at once; the load as producers of much send it, which leaves the broker more of the cores.
    producer, loader = (_producer(plan, linger_milliseconds=each) for each in (0, _LOAD_LINGER_MILLISECONDS))
    connection = await asyncpg.connect(plan.database_url)
    await connection.execute("CREATE TABLE bench_floor (n int)")
    trips, commits = _RoundTrips(plan, producer), _Commits(connection)
    idle = {"kafka_idle": [], "commit_idle": []}  # type: dict[str, list[float]]
    for _ in range(50):
        idle["kafka_idle"].append(await trips.measure())
        idle["commit_idle"].append(await commits.measure())
    apis = [_Api(plan) for _ in range(_PROBED)]
    found: dict[str, list[float]] = {"visible": [], "kafka": [], "commit": []}

    async def probe(number: int) -> None:
        customer = number % _PROBED
        before = await apis[customer].updated_at(customer)
        begin = time.perf_counter()
        producer.produce(plan.topic, _order(customer, plan.probe_day), key=f"PROBE-{customer}".encode())
        while await apis[customer].updated_at(customer) == before:
            if time.perf_counter() - begin > _GIVE_UP_SECONDS:
                raise RuntimeError(f"PROBE-{customer} has not changed for {_GIVE_UP_SECONDS:.0f} s")
            await asyncio.sleep(_ASK_SECONDS)
        found["visible"].append(time.perf_counter() - begin)

    async def floor() -> None:
        found["kafka"].append(await trips.measure())
        found["commit"].append(await commits.measure())

    begin = time.perf_counter()
    loading = asyncio.create_task(_load(plan, loader, lines, begin))
    await asyncio.sleep(_WARM_SECONDS)
    async with asyncio.TaskGroup() as group:
        for number in range(int(plan.seconds * _PROBES_A_SECOND)):
            due = begin + _WARM_SECONDS + number / _PROBES_A_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(probe(number))
            group.create_task(floor())
    loading.cancel()
    await connection.close()
    return {name: _quantiles(some) for name, some in (found | idle).items()}


def _producer(plan: Plan, *, linger_milliseconds: int) -> Producer:
    producer = Producer(
        {"bootstrap.servers": plan.kafka, "linger.ms": linger_milliseconds, "partitioner": "murmur2_random"}
    )
    threading.Thread(target=_keep_polling, args=(producer,), daemon=True).start()
    return producer


async def _load(plan: Plan, producer: Producer, lines: list[bytes], begin: float) -> None:
    sent = 0
    while sent < len(lines):
        await asyncio.sleep(_CHUNK_SECONDS)
        due = int((time.perf_counter() - begin) * plan.rate)
        for line in lines[sent:due]:
            key = line.partition(b'"customer_id":')[2].lstrip()[1:].partition(b'"')[0]
            producer.produce(plan.topic, line, key=key)
        sent = max(sent, due)


def _keep_polling(producer: Producer) -> None:
    while True:
        producer.poll(0.5)


def _quantiles(seconds: list[float]) -> dict[int, float]:
    seconds = sorted(seconds)
    return {50: statistics.median(seconds), 90: seconds[int(0.9 * len(seconds))], 99: seconds[int(0.99 * len(seconds))]}


if __name__ == "__main__":
    _plan = Plan(**json.loads(sys.argv[1]))
    _lines = Path(_plan.messages).read_bytes().split(b"\n")
    print(json.dumps(uvloop.run(_run(_plan, _lines))))  # noqa: T201 - what it is asked for
