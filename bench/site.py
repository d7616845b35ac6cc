"""Where it is measured: PostgreSQL and Kafka of its own, a database a measurement, the real worker as a process.

Laws: PostgreSQL keeps its defaults, fsync included; nothing of the caller's settings reaches a worker; only processes
started here are ended.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import psutil
from confluent_kafka import KafkaError, Producer

from ingest_worker.settings import WorkerSettings
from local_stack.kafka import EmbeddedKafka
from local_stack.kafka_distribution import find_distribution
from local_stack.postgres import EmbeddedPostgres
from local_stack.processes import Child
from local_stack.simulation import Message
from local_stack.topics import Topics
from segment_api.settings import ApiSettings
from segmentation.ledger import House

HOUSE: Final = House("event", "CNY", "UTC")
PARTITIONS: Final = 4
"""Of each topic."""
_ROOT: Final = Path(__file__).resolve().parents[1]
_PROGRAMS: Final = Path(sys.executable).parent
_SETTINGS: Final = frozenset(name.upper() for name in (*WorkerSettings.model_fields, *ApiSettings.model_fields))
_LIMIT_SECONDS: Final = 600.0
_SAMPLE_SECONDS: Final = 0.02
_ASK_SECONDS: Final = 0.25
_STOP_SECONDS: Final = 30.0
_FLUSH_SECONDS: Final = 60.0
_QUEUED_MESSAGES: Final = 20_000
_MEGABYTE: Final = 1024 * 1024

_READ = "SELECT coalesce(sum(applied + duplicate + rejected + suppressed), 0)::bigint FROM partitions"
_APPLIED = "SELECT coalesce(sum(applied), 0)::bigint FROM partitions"
_LAST = "SELECT extract(epoch FROM max(last_applied_at))::double precision FROM partitions"


class BenchFailed(Exception):
    """Something that was to be measured did not happen."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one worker did with what waited for it."""

    applied: int
    seconds: float
    """From its partitions' claim to the commit of the last batch."""
    cpu_seconds: float
    """Of the worker's two processes, their start included."""
    peak_rss_mb: float
    """Of both together."""

    @property
    def per_second(self) -> float:
        return self.applied / self.seconds

    def told(self) -> dict[str, float]:
        return {
            "events_applied": self.applied,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.per_second, 1),
            "worker_cpu_seconds": round(self.cpu_seconds, 2),
            "worker_peak_rss_mb": round(self.peak_rss_mb, 1),
        }


class Site:
    """The servers, started when first asked for."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self.say = say
        self.directory = directory
        self._started = ExitStack()
        self._postgres: EmbeddedPostgres | None = None
        self._kafka: EmbeddedKafka | None = None
        self._environment = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - what a process of ours is started with
            if name.upper() not in _SETTINGS
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    @property
    def kafka(self) -> EmbeddedKafka:
        if self._kafka is None:
            distribution = find_distribution(self._environment, say=self.say)
            self.say(f"Starting Kafka {distribution.version} …")
            self._kafka = self._started.enter_context(EmbeddedKafka(self.directory / "kafka", distribution))
        return self._kafka

    async def database(self, name: str) -> "Database":
        """A new database with our tables."""
        if self._postgres is None:
            self.say("Starting PostgreSQL …")
            self._postgres = self._started.enter_context(EmbeddedPostgres(self.directory / "postgres"))
        connection = await asyncpg.connect(self._postgres.url)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        url = f"{self._postgres.url.rpartition('/')[0]}/{name}"
        await asyncio.to_thread(self._migrate, url)
        return Database(self, name, url)

    def topics(self, prefix: str) -> Topics:
        """New, empty topics."""
        topics = Topics({setting: f"{prefix}.{name}" for setting, name in Topics.of({}).names.items()})
        self.kafka.create_topics(dict.fromkeys(topics.all, PARTITIONS), compacted=topics.compacted)
        return topics

    def produce(self, messages: Iterable[Message], topics: Topics) -> None:
        """Sends messages to the partitions of their customers, and waits until all are acknowledged."""
        self.sender(topics, linger_milliseconds=20).send(messages)

    def sender(self, topics: Topics, *, linger_milliseconds: int) -> "Sender":
        """A producer that stays: the first message of a new one waits half a second for its connection and its id."""
        return Sender(self.kafka.bootstrap_servers, topics, linger_milliseconds)

    def start_worker(self, settings: Mapping[str, str], log: str) -> Child:
        return self.start("ingest-worker", [self.program("ingest-worker"), "run"], settings, log)

    def start(self, name: str, command: Sequence[str], settings: Mapping[str, str], log: str) -> Child:
        """Starts a program; whoever starts it ends it, see `running`."""
        return Child.start(name, command, log=self.directory / log, environment=self.environment(settings), cwd=_ROOT)

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """What a program of ours is started with: nothing of the caller's settings, but these."""
        return {**self._environment, **settings}

    @staticmethod
    def program(name: str) -> str:
        """Where it is."""
        return str(_PROGRAMS / name)

    @staticmethod
    def running() -> ExitStack:
        """Takes what is to be ended when it ends."""
        return ExitStack()

    async def await_port(self, child: Child, port: int) -> None:
        """Waits until a server answers there."""
        deadline = time.monotonic() + _LIMIT_SECONDS
        while True:
            child.check()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if time.monotonic() > deadline:
                    raise BenchFailed(f"{child.name} does not answer: {child.last_lines()}") from None
                await asyncio.sleep(_SAMPLE_SECONDS)
                continue
            writer.close()
            return

    def _migrate(self, url: str) -> None:
        done = subprocess.run(  # noqa: S603 - a program of ours
            [sys.executable, "-m", "alembic", "-c", str(_ROOT / "migrations" / "alembic.ini"), "upgrade", "head"],
            check=False,
            capture_output=True,
            text=True,
            env=self._environment | {"DATABASE_URL": url},
            cwd=_ROOT,
        )
        if done.returncode:
            raise BenchFailed(f"The migration failed:\n{done.stderr}")


class Sender:
    """A producer of messages."""

    def __init__(self, bootstrap_servers: str, topics: Topics, linger_milliseconds: int) -> None:
        self._topics = topics
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "log_level": 0,
                "enable.idempotence": True,
                "linger.ms": linger_milliseconds,
                "partitioner": "murmur2_random",
            }
        )

    def send(self, messages: Iterable[Message]) -> None:
        """Sends to the partitions of the messages' customers, and waits until all are acknowledged."""
        refused: list[str] = []

        def delivered(error: KafkaError | None, _: object) -> None:
            if error is not None:
                refused.append(error.str())

        for number, message in enumerate(messages):
            topic, key = self._topics.route(message.value)
            self._producer.produce(topic, message.value, key=key, on_delivery=delivered)
            if number % _QUEUED_MESSAGES == 0:
                self._producer.flush(_FLUSH_SECONDS)
        unsent = self._producer.flush(_FLUSH_SECONDS)
        if unsent or refused:
            raise BenchFailed(f"Kafka did not take {max(unsent, len(refused))} messages: {refused[:1]}")


class Database:
    """One database of a site."""

    def __init__(self, site: Site, name: str, url: str) -> None:
        self.url = url
        self._site = site
        self._name = name
        self._runs = 0

    @property
    def settings(self) -> dict[str, str]:
        """What a service needs to work on it."""
        return {
            "DATABASE_URL": self.url,
            "CLOCK": HOUSE.clock,
            "BASE_CURRENCY": HOUSE.base_currency,
            "BUSINESS_TIMEZONE": HOUSE.time_zone,
        }

    def worker_settings(self, topics: Topics) -> dict[str, str]:
        """The same, and what a worker reads from."""
        return {
            **self.settings,
            "KAFKA_BOOTSTRAP_SERVERS": self._site.kafka.bootstrap_servers,
            "KAFKA_GROUP_ID": f"bench-{self._name}",
            **topics.names,
        }

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            yield connection
        finally:
            await connection.close()

    @contextmanager
    def worker(self, topics: Topics) -> Iterator[Child]:
        """A worker that reads the topics, as long as this is open."""
        self._runs += 1
        log = f"worker-{self._name}-{self._runs}.log"
        with self._site.running() as running:
            worker = self._site.start_worker(self.worker_settings(topics), log)
            running.callback(worker.stop, seconds=_STOP_SECONDS)
            yield worker

    @contextmanager
    def api(self, port: int) -> Iterator[Child]:
        """The API over this database, as long as this is open."""
        settings = self.settings | {"HTTP_PORT": str(port), "AUTH": "off"}
        with self._site.running() as running:
            command = [self._site.program("segment-api"), "run"]
            api = self._site.start("segment-api", command, settings, f"api-{self._name}.log")
            running.callback(api.stop, seconds=_STOP_SECONDS)
            yield api

    async def ingest(self, topics: Topics, count: int) -> Run:
        """Has a fresh worker read the next `count` messages, which wait on the topics already."""
        async with self.connect() as connection:
            read, applied = await connection.fetchval(_READ), await connection.fetchval(_APPLIED)
            with self.worker(topics) as worker:
                watch = _Watch(worker)
                await watch.until_claimed()
                while await connection.fetchval(_READ) < read + count:
                    await watch.look(_ASK_SECONDS)
            seconds = await connection.fetchval(_LAST) - watch.claimed_at
            applied = await connection.fetchval(_APPLIED) - applied
        return Run(applied, seconds, watch.cpu_seconds, watch.peak_rss / _MEGABYTE)


class _Watch:
    """Looks at a worker while it runs."""

    def __init__(self, worker: Child) -> None:
        self.claimed_at = 0.0
        self.peak_rss = 0
        self.cpu_seconds = 0.0
        self._worker = worker
        self._processes = [psutil.Process(worker.pid)]
        self._deadline = time.monotonic() + _LIMIT_SECONDS

    async def until_claimed(self) -> None:
        while not _has_claimed(self._worker.log):
            await self.look(_SAMPLE_SECONDS)
        # the database's clock is this machine's, and tells when the last batch was committed
        self.claimed_at = time.time()  # noqa: TID251 - a measurement

    async def look(self, seconds: float) -> None:
        """Notes memory and time used for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._worker.check()
            if time.monotonic() > self._deadline:
                raise BenchFailed(f"The worker was not done after {_LIMIT_SECONDS:.0f} s: {self._worker.last_lines()}")
            if len(self._processes) == 1:  # to look for the other one is not for nothing
                self._processes += self._processes[0].children()
            self.peak_rss = max(self.peak_rss, sum(process.memory_info().rss for process in self._processes))
            used = [process.cpu_times() for process in self._processes]
            self.cpu_seconds = sum(each.user + each.system for each in used)
            await asyncio.sleep(_SAMPLE_SECONDS)


def _has_claimed(log: Path) -> bool:
    # the last line may be half written
    lines = log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]
    return any(line["event"] == "partitions.claimed" and line["partitions"] for line in said)
