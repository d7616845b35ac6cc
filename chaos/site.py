"""Where it happens: PostgreSQL, Kafka, real workers, and a link of its own between each worker and each server.

Laws: nothing of the caller's settings reaches a process; only processes started here are signalled, each by its own id,
and none outlives the campaign. Whoever produces or looks does so past the links.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import asyncpg
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage
from tests.support.ledgers import NO_GRACE
from tests.support.oracle import Message

from chaos.load import Placed
from chaos.network import LOOPBACK, Link
from ingest_worker.settings import WorkerSettings
from local_stack.kafka import EmbeddedKafka
from local_stack.kafka_distribution import KafkaDistribution
from local_stack.ports import free_port
from local_stack.postgres import EmbeddedPostgres
from local_stack.processes import Child
from local_stack.topics import Topics
from segment_api.settings import ApiSettings
from segmentation.ledger import House

HOUSE: Final = House("event", "CNY", "Asia/Shanghai")
PARTITIONS: Final = 4
"""Of each topic that is read."""
BATCH_MESSAGES: Final = 25
"""Small, so that a fault finds a transaction open."""
CONNECTIONS: Final = 50
"""That PostgreSQL has."""
_ROOT: Final = Path(__file__).resolve().parents[1]
_PROGRAMS: Final = Path(sys.executable).parent
_SETTINGS: Final = frozenset(name.upper() for name in [*WorkerSettings.model_fields, *ApiSettings.model_fields])
_STOP_SECONDS: Final = 60.0
_FLUSH_SECONDS: Final = 120.0
_READ_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 1.0
_WATCH_SECONDS: Final = 0.2


class CampaignFailed(Exception):
    """The campaign itself did not come off: nothing can be said of the workers."""


@dataclass(slots=True)
class Slot:
    """A place for one worker at a time, with the links that lead from it."""

    number: int
    database: Link
    broker: Link
    wanted: bool = False
    """Whether a worker should run there now; who finds none starts one."""
    worker: Child | None = None
    starts: int = 0


@dataclass(slots=True)
class Site:
    """The servers and the workers of one campaign."""

    directory: Path
    postgres: EmbeddedPostgres
    kafka: EmbeddedKafka
    topics: Topics
    slots: list[Slot]
    environment: Mapping[str, str]
    refused_starts: int = 0
    """A worker that finds no database when it starts says so and ends; whoever keeps it running tries again."""
    unforeseen: list[str] = field(default_factory=list)
    """What a worker did that it should not have done."""

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, distribution: KafkaDistribution, *, workers: int) -> AsyncIterator["Site"]:
        """Starts the servers, with one place more than there are workers, for one that joins."""
        inherited = {name: value for name, value in os.environ.items() if name.upper() not in _SETTINGS}  # noqa: TID251
        topics = Topics.of({})
        # the death of the machine is no part of this, so nothing has to wait for the disk
        settings = {"max_connections": str(CONNECTIONS)}
        postgres = EmbeddedPostgres(directory / "postgres", port=free_port(), fsync=False, settings=settings)
        postgres_links = [Link(postgres.port) for _ in range(workers + 1)]
        broker_ports = [free_port() for _ in range(workers + 1)]
        broker_links = [Link(port) for port in broker_ports]
        for link in (*postgres_links, *broker_links):
            await link.open()
        kafka = _kafka(directory / "kafka", distribution, broker_ports, [link.port for link in broker_links])
        slots = [
            Slot(number, *links) for number, links in enumerate(zip(postgres_links, broker_links, strict=True), start=1)
        ]
        site = cls(directory, postgres, kafka, topics, slots, inherited)
        try:
            await asyncio.to_thread(site._start_servers)
            yield site
        finally:
            for slot in slots:
                if slot.worker is not None:
                    slot.worker.kill()
            for link in (*postgres_links, *broker_links):
                await link.close()
            # one that was frozen when somebody gave up
            kafka.kill()
            postgres.kill()

    def _start_servers(self) -> None:
        self.directory.chmod(0o755)  # PostgreSQL may have to run as another user
        (self.directory / "policy.toml").write_text(NO_GRACE, encoding="utf-8")
        self.postgres.start()
        self.kafka.start()
        self.kafka.create_topics(dict.fromkeys(self.topics.all, PARTITIONS))
        self.command([sys.executable, "-m", "alembic", "-c", str(_ROOT / "migrations/alembic.ini"), "upgrade", "head"])

    # workers

    def settings(self, slot: Slot | None = None) -> dict[str, str]:
        """What a process is told; with a slot, by way of its links."""
        url, broker = self.postgres.url, self.kafka.bootstrap_servers
        if slot is not None:
            url = url.replace(f":{self.postgres.port}/", f":{slot.database.port}/")
            broker = f"{LOOPBACK}:{slot.broker.port}"
        return {
            **self.environment,
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": broker,
            "KAFKA_GROUP_ID": "chaos",
            "CLOCK": HOUSE.clock,
            "BASE_CURRENCY": HOUSE.base_currency,
            "BUSINESS_TIMEZONE": HOUSE.time_zone,
            "BATCH_MESSAGES": str(BATCH_MESSAGES),
            "POLICY_FILE": str(self.directory / "policy.toml"),
            **self.topics.names,
        }

    def start_worker(self, slot: Slot) -> None:
        slot.wanted = True
        if slot.worker is None:
            slot.starts += 1
            slot.worker = Child.start(
                f"worker {slot.number}",
                [str(_PROGRAMS / "ingest-worker"), "run"],
                log=self.directory / f"worker-{slot.number}-{slot.starts}.log",
                environment=self.settings(slot),
            )

    def kill_worker(self, slot: Slot) -> None:
        slot.wanted = False
        if slot.worker is not None:
            slot.worker.kill()
            slot.worker = None

    async def stop_worker(self, slot: Slot) -> None:
        """SIGTERM: it has to end by itself, with 0."""
        slot.wanted = False
        worker, slot.worker = slot.worker, None
        if worker is None:
            return
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
        if not await asyncio.to_thread(_ends, worker, _STOP_SECONDS):
            self.unforeseen.append(f"{worker.log.name}: still runs {_STOP_SECONDS:.0f} s after SIGTERM")
        elif worker.exit_code and said(worker.log, "worker.started"):
            self.unforeseen.append(f"{worker.log.name}: {worker.how_it_ended()} after SIGTERM")
        worker.kill()

    async def watch(self) -> None:
        """Keeps workers where they are wanted, as whatever runs them in production does."""
        while True:
            for slot in self.slots:
                worker = slot.worker
                if worker is not None and not worker.running:
                    slot.worker = None
                    if said(worker.log, "worker.started"):
                        self.unforeseen.append(f"{worker.log.name}: {worker.how_it_ended()} by itself")
                    else:
                        self.refused_starts += 1
                    await asyncio.sleep(_AGAIN_SECONDS)
                if slot.wanted:
                    self.start_worker(slot)
            await asyncio.sleep(_WATCH_SECONDS)

    def command(self, command: list[str]) -> str:
        """Runs a program of ours to its end, past the links; what it printed.

        Raises:
            CampaignFailed: it ended with another code than 0.
        """
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=self.settings(), cwd=_ROOT, timeout=_FLUSH_SECONDS
        )
        if done.returncode:
            raise CampaignFailed(f"{Path(command[0]).name} {command[1]} ended with {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def ingest_worker(self, *arguments: str) -> str:
        """Runs a command of `ingest-worker`."""
        return self.command([str(_PROGRAMS / "ingest-worker"), *arguments])

    def times_said(self, event: str) -> int:
        """How many lines of an event all workers' logs have."""
        logs = self.directory.glob("worker-*.log")
        return sum(log.read_text(encoding="utf-8", errors="replace").count(_line(event)) for log in logs)

    def start_api(self, port: int) -> Child:
        return Child.start(
            "segment-api",
            [str(_PROGRAMS / "segment-api"), "run"],
            log=self.directory / "segment-api.log",
            environment=self.settings() | {"HTTP_PORT": str(port), "HTTP_HOST": LOOPBACK},
        )

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.postgres.url, timeout=10)
        try:
            yield connection
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=5)


def _kafka(directory: Path, distribution: KafkaDistribution, ports: list[int], advertised: list[int]) -> EmbeddedKafka:
    """A broker with a listener more for every link, which names the link as the way to come back."""
    own, controller = free_port(), free_port()
    names = [f"LINK{number}" for number in range(1, len(ports) + 1)]
    listeners = [f"{name}://{LOOPBACK}:{port}" for name, port in zip(names, ports, strict=True)]
    ways = [f"{name}://{LOOPBACK}:{port}" for name, port in zip(names, advertised, strict=True)]
    plain = f"PLAINTEXT://{LOOPBACK}:{own}"
    settings = {
        "listeners": ",".join([plain, *listeners, f"CONTROLLER://{LOOPBACK}:{controller}"]),
        "advertised.listeners": ",".join([plain, *ways]),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *names)),
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
    }
    return EmbeddedKafka(directory, distribution, port=own, settings=settings)


def said(log: Path, event: str) -> bool:
    """Whether a worker's log has a line of this event."""
    return _line(event) in log.read_text(encoding="utf-8", errors="replace")


def _line(event: str) -> str:
    return f'"event": {json.dumps(event)}'


def _ends(worker: Child, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while worker.running and time.monotonic() < deadline:
        time.sleep(_WATCH_SECONDS)
    return not worker.running


class Production:
    """Produces at a steady rate in a thread of its own, and keeps what Kafka acknowledged."""

    def __init__(self, servers: str, traffic: Iterable[Placed], *, per_second: float) -> None:
        self.acknowledged: dict[tuple[str, int, int], Message] = {}
        """By topic, partition and offset."""
        self.refused: list[str] = []
        self._traffic = iter(traffic)
        self._per_second = per_second
        self._stop = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "log_level": 0,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 0,  # a broker that is away is waited for
                "socket.timeout.ms": 10_000,
                "reconnect.backoff.max.ms": 1_000,
            }
        )
        self._thread = threading.Thread(target=self._produce, name="production")

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Produces no more, and waits until all is acknowledged."""
        self._stop.set()
        self._thread.join()
        if unsent := self._producer.flush(_FLUSH_SECONDS):
            raise CampaignFailed(f"Kafka did not acknowledge {unsent} messages within {_FLUSH_SECONDS:.0f} s")
        if self.refused:
            raise CampaignFailed(f"Kafka did not take {len(self.refused)} messages: {self.refused[0]}")

    def _produce(self) -> None:
        began, count = time.monotonic(), 0
        while not self._stop.is_set():
            due = int((time.monotonic() - began) * self._per_second)
            for placed in (next(self._traffic) for _ in range(due - count)):
                self._send(placed)
            count = max(count, due)
            self._producer.poll(0.02)

    def _send(self, placed: Placed) -> None:
        self._producer.produce(
            placed.topic,
            placed.message.value,
            key=placed.key,
            partition=placed.partition,
            headers=list(placed.message.headers),
            on_delivery=self._delivered(placed.message),
        )

    def _delivered(self, message: Message) -> Callable[[KafkaError | None, KafkaMessage], None]:
        def delivered(error: KafkaError | None, record: KafkaMessage) -> None:
            if error is not None:
                self.refused.append(error.str())
            else:
                place = (str(record.topic()), record.partition() or 0, record.offset() or 0)
                self.acknowledged[place] = message

        return delivered


@dataclass(frozen=True, slots=True)
class Record:
    """What is on a topic."""

    partition: int
    offset: int
    key: bytes | None
    message: Message


def read_topic(servers: str, topic: str) -> list[Record]:
    """Everything on a topic, partition by partition in order."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "chaos-reader", "enable.auto.commit": False, "log_level": 0}
    )
    records: list[Record] = []
    try:
        left: dict[int, int] = {}
        for number in range(PARTITIONS):
            first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_READ_SECONDS)
            if end > first:
                left[number] = end
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        deadline = time.monotonic() + _READ_SECONDS
        while left:
            if time.monotonic() > deadline:
                raise CampaignFailed(f"{topic} could not be read to its end within {_READ_SECONDS:.0f} s: {left}")
            for record in consumer.consume(1_000, timeout=0.5):
                if record.error() is not None:
                    continue
                number, offset = record.partition() or 0, record.offset() or 0
                named = cast("list[tuple[str, bytes | None]]", record.headers() or [])
                headers = tuple((name, value or b"") for name, value in named)
                records.append(Record(number, offset, record.key(), Message(record.value(), headers)))
                if offset + 1 >= left.get(number, 0):
                    left.pop(number, None)
    finally:
        consumer.close()
    return sorted(records, key=lambda record: (record.partition, record.offset))
