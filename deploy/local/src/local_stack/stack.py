"""The stack, from preflight to the last process stopped: the one conductor of this package.

Laws: things start in the order PostgreSQL, Kafka, topics, migrations, worker, API, replay, simulation,
and stop in the opposite one. Whatever has been started is stopped again, however far the start came. What ends unasked
is started again.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from rich.console import Console

from local_stack import environment as environments
from local_stack import summary
from local_stack.api import Api, IngestStatus
from local_stack.data_directory import DataDirectory
from local_stack.failures import KafkaUnavailable, StackFailed
from local_stack.in_process import InProcessBroker
from local_stack.kafka import EmbeddedKafka, create_topics
from local_stack.kafka_distribution import KafkaDistribution, find_distribution
from local_stack.live import Simulation, Wanted
from local_stack.ports import LOOPBACK, free_port, require_free
from local_stack.postgres import EmbeddedPostgres
from local_stack.processes import Child, failure, pause, run, wait_until
from local_stack.replay import Broker, Replay
from local_stack.simulation import CURRENCY
from local_stack.supervision import Supervision
from local_stack.topics import Topics

BrokerKind = Literal["kafka", "in-process"]
#: asks the database for the ids of the largest customers by 365-day net revenue, largest first
LargestCustomers = Callable[[str], Awaitable[list[str]]]
#: asks the database what one unit of each currency with a rate on a day is worth in the base currency
RatesInForce = Callable[[str, date], Awaitable[dict[str, float]]]
Answer = TypeVar("Answer")

BUNDLED_EVENTS = Path("data") / "online_retail_ii.ndjson.gz"
_READY_SECONDS = 120
_SERVICE_STOP_SECONDS = 20
_WATCH_SECONDS = 0.5
_REMEMBERED = "stack-settings.json"
_KEY_FILE = "api.key"
_KEY_MARK = "tierline_"
_ADDRESSES = "stack.json"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose; None leaves it to the stack."""

    data_directory: Path
    #: the file of events to replay, None for none
    events: Path | None
    broker: BrokerKind | None
    http_port: int | None
    postgres_port: int | None
    kafka_port: int | None
    partitions: int
    #: synthetic events a second, None for none
    simulate: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked of the database itself."""

    largest_customers: LargestCustomers
    rates_in_force: RatesInForce


@dataclass(frozen=True, slots=True)
class _Kafka:
    """The broker in use."""

    bootstrap_servers: str
    kind: BrokerKind
    #: whether this stack has started it
    own: bool


class Stack:
    """One run of the local stack."""

    def __init__(
        self,
        options: Options,
        *,
        environment: Mapping[str, str],
        repository: Path,
        console: Console,
        stopping: threading.Event,
        questions: Questions,
    ) -> None:
        """`stopping` is set when the user asks the stack to stop."""
        self._options = options
        self._environment = environment
        self._repository = repository
        self._console = console
        self._stopping = stopping
        self._questions = questions
        self._topics = Topics.of(environment)
        self._supervision = Supervision(self._say)

    def run(self) -> None:
        """Start everything, stay up until stopped, stop everything. Raises StackFailed or Interrupted."""
        with DataDirectory(self._options.data_directory) as directory, ExitStack() as started:
            directory.remove(_ADDRESSES)
            http_port, worker_port = self._preflight()
            distribution = self._find_kafka()
            started.callback(self._say, "Stopping …")
            database_url = self._start_postgres(started, directory)
            kafka = self._start_kafka(started, directory, distribution)
            remembered = directory.read(_REMEMBERED)
            replaying = self._options.events is not None
            lasting = environments.lasting_settings(self._environment, remembered, replaying=replaying)
            self._require_replayable(lasting)
            services = environments.service_environment(
                self._environment,
                database_url=database_url,
                bootstrap_servers=kafka.bootstrap_servers,
                own_kafka=kafka.own,
                http_port=http_port,
                worker_port=worker_port or free_port(),
                lasting=lasting,
            )
            self._migrate(directory, services, kafka)
            key_file = self._make_key(directory, services)
            api = self._start_services(started, directory, services, key_file)
            self._supervision.begin()
            directory.write(_REMEMBERED, dict(lasting))
            if self._options.events is not None:
                self._replay(self._options.events, kafka, api, directory)
            worker = _address(services.get("WORKER_HTTP_HOST") or LOOPBACK, services["WORKER_HTTP_PORT"])
            key_said = None if key_file is None else str(key_file)
            addresses = summary.Addresses(api.url, kafka.bootstrap_servers, database_url, kafka.kind, worker, key_said)
            simulation = self._prepare_simulation(kafka, api, directory, database_url, lasting)
            self._conclude(api, addresses, services, simulation)
            directory.write(_ADDRESSES, {name: said for name, said in asdict(addresses).items() if said is not None})
            started.callback(directory.remove, _ADDRESSES)
            if simulation is not None:
                self._simulate(simulation)
            while True:
                self._pause(_WATCH_SECONDS)

    def _say(self, text: str) -> None:
        self._console.print(text)

    def _pause(self, seconds: float) -> None:
        """Wait, look after the processes, and raise when the stack is to stop or one of them keeps ending."""
        pause(seconds, self._stopping)
        self._supervision.check()

    def _watch(
        self,
        started: ExitStack,
        child: Callable[[], Child],
        stop: Callable[[], None],
        *,
        start_again: Callable[[], None] | None,
    ) -> None:
        release = self._supervision.watch(child, start_again=start_again)

        def end() -> None:
            release()
            stop()

        started.callback(end)

    def _preflight(self) -> tuple[int, int | None]:
        """What can be known to fail before anything is started; the API's port, and the worker's if one is chosen."""
        environments.require_closed(self._environment)
        port, moved = environments.choose_http_port(self._environment, self._options.http_port)
        if moved:
            self._say(f"Port 8080 is taken, so the API takes {port} (--http-port chooses another).")
        for chosen, what, option in (
            (self._options.postgres_port, "PostgreSQL", "--postgres-port"),
            (self._options.kafka_port, "Kafka", "--kafka-port"),
        ):
            if chosen is not None:
                require_free(chosen, what=what, remedy=option)
        if self._options.events is not None and not self._options.events.is_file():
            raise StackFailed(
                f"There is no file {self._options.events}: choose another with --data, or start with --no-replay."
            )
        return port, environments.find_worker_port(self._environment)

    def _require_replayable(self, lasting: Mapping[str, str]) -> None:
        bundled = self._options.events is not None and self._options.events.name == BUNDLED_EVENTS.name
        chosen = self._environment.get("BASE_CURRENCY") or environments.BUNDLED_CURRENCY
        if bundled and lasting.get("BASE_CURRENCY") != chosen:
            raise StackFailed(
                f"The data in {self._options.data_directory} is not in {environments.BUNDLED_CURRENCY}, so the bundled "
                "events cannot be replayed into it: go on with --no-replay, or choose another --data-dir."
            )

    def _uses_other_kafka(self) -> bool:
        return bool(self._environment.get("KAFKA_BOOTSTRAP_SERVERS")) and self._options.broker != "in-process"

    def _find_kafka(self) -> KafkaDistribution | None:
        """What a real Kafka takes; None when the in-process broker takes its place, or somebody else's is used."""
        if self._uses_other_kafka() or self._options.broker == "in-process":
            return None
        try:
            return find_distribution(self._environment, say=self._say, stopping=self._stopping)
        except KafkaUnavailable as unavailable:
            if self._options.broker == "kafka":
                raise StackFailed(f"{unavailable} Or look around without it: --broker in-process.") from unavailable
            self._say(f"No real Kafka here, so the in-process broker takes its place: {unavailable}")
            return None

    def _start_postgres(self, started: ExitStack, directory: DataDirectory) -> str:
        if url := self._environment.get("DATABASE_URL"):
            self._say("PostgreSQL: the one of DATABASE_URL")
            return url
        postgres = EmbeddedPostgres(
            directory.path / "postgres", port=self._options.postgres_port, stopping=self._stopping
        )
        self._say("Starting PostgreSQL …")
        # registered first: a start that is interrupted half-way leaves something to stop
        started.callback(postgres.stop)
        postgres.start()
        self._watch(started, lambda: postgres.process, postgres.stop, start_again=partial(_start_anew, postgres))
        self._say(f"PostgreSQL: {LOOPBACK}:{postgres.port}")
        return postgres.url

    def _start_kafka(
        self, started: ExitStack, directory: DataDirectory, distribution: KafkaDistribution | None
    ) -> _Kafka:
        partitions = dict.fromkeys(self._topics.all, self._options.partitions)
        if self._uses_other_kafka():
            servers = self._environment["KAFKA_BOOTSTRAP_SERVERS"]
            self._say("Kafka: the one of KAFKA_BOOTSTRAP_SERVERS")
            client = environments.kafka_client(self._environment, servers, own_kafka=False)
            create_topics(client, partitions, compacted=self._topics.compacted)
            return _Kafka(servers, "kafka", own=False)
        if distribution is None:
            stand_in = InProcessBroker(directory.path / "in-process", topics=self._topics.all, stopping=self._stopping)
            started.callback(stand_in.stop)
            stand_in.start()
            # It forgets everything when it ends, so another one would be no help.
            self._watch(started, lambda: stand_in.process, stand_in.stop, start_again=None)
            self._say(f"In-process broker: {stand_in.bootstrap_servers}")
            return _Kafka(stand_in.bootstrap_servers, "in-process", own=True)
        kafka = EmbeddedKafka(
            directory.path / "kafka", distribution, port=self._options.kafka_port, stopping=self._stopping
        )
        self._say(f"Starting Kafka {distribution.version} …")
        started.callback(kafka.stop)
        kafka.start()
        self._watch(started, lambda: kafka.process, kafka.stop, start_again=partial(_start_anew, kafka))
        kafka.create_topics(partitions, compacted=self._topics.compacted)
        self._say(f"Kafka: {kafka.bootstrap_servers}")
        return _Kafka(kafka.bootstrap_servers, "kafka", own=True)

    def _migrate(self, directory: DataDirectory, services: Mapping[str, str], kafka: _Kafka) -> None:
        alembic = [sys.executable, "-m", "alembic", "-c", str(self._repository / "migrations" / "alembic.ini")]
        name = (
            "The migration of the database of DATABASE_URL"
            if self._environment.get("DATABASE_URL")
            else "The migration"
        )
        self._command(name, [*alembic, "upgrade", "head"], directory, services)
        if kafka.kind == "in-process":
            # its offsets begin again at 0 with every start
            reposition = [program("ingest-worker"), "reposition", "--to", "earliest"]
            self._command("ingest-worker reposition", reposition, directory, services)

    def _command(
        self, name: str, command: Sequence[str], directory: DataDirectory, services: Mapping[str, str]
    ) -> None:
        log = directory.logs / f"{name.replace(' ', '-').lower()}.log"
        log.unlink(missing_ok=True)
        code = run(command, name=name, log=log, stopping=self._stopping, environment=services, cwd=self._repository)
        if code != 0:
            raise failure(log, f"{name} failed with exit code {code}")

    def _make_key(self, directory: DataDirectory, services: Mapping[str, str]) -> Path | None:
        """The file of a key to ask the API with, where it asks for one."""
        if services["AUTH"] == "off":
            return None
        create = ["keys", "create", "--name", "local stack", "--scopes", "operate", "--expires", "30d"]
        log = directory.logs / "segment-api-keys-create.log"
        self._command("segment-api keys create", [program("segment-api"), *create], directory, services)
        key = next((line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith(_KEY_MARK)), None)
        log.unlink()
        if key is None:
            raise StackFailed("segment-api keys create made no key: run `make setup`, so that all is of one version.")
        file = directory.logs.parent / _KEY_FILE
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(key + "\n", encoding="utf-8")
        self._say(f"AUTH={services['AUTH']}: a key that may read and operate is in {file}")
        return file

    def _start_services(
        self, started: ExitStack, directory: DataDirectory, services: Mapping[str, str], key_file: Path | None
    ) -> Api:
        worker, server = (
            _Service(name, directory.logs / f"{name}.log", services, self._repository)
            for name in ("ingest-worker", "segment-api")
        )
        for service in (worker, server):
            service.start()
            self._watch(started, partial(getattr, service, "child"), service.stop, start_again=service.start)
        key = None if key_file is None else key_file.read_text(encoding="utf-8").strip()
        api = started.enter_context(Api(_address(services["HTTP_HOST"], services["HTTP_PORT"]), key))
        self._say("Starting the worker and the API …")
        self._await("the API to say that it is ready", api.is_ready, directory.logs / "segment-api.log")
        self._await(
            "the worker to take its partitions",
            lambda: _claimed_by(worker.child.pid, api.find_status()),
            directory.logs / "ingest-worker.log",
        )
        return api

    def _await(self, what: str, ready: Callable[[], bool], log: Path) -> None:
        wait_until(
            ready,
            seconds=_READY_SECONDS,
            otherwise=lambda: failure(log, f"The stack waited {_READY_SECONDS} s in vain for {what}"),
            check=lambda: self._pause(0),
            stopping=self._stopping,
        )

    def _replay(self, events: Path, kafka: _Kafka, api: Api, directory: DataDirectory) -> None:
        terminal = self._console.is_terminal
        display = summary.BarDisplay(self._console) if terminal else summary.PlainDisplay(self._console)
        replay = Replay(
            events,
            topics=self._topics,
            broker=self._broker(kafka),
            api=api,
            directory=directory,
            display=display,
            pause=self._pause,
        )
        self._say(f"Replaying {events.name} …")
        try:
            if not replay.run():
                self._say("It has been replayed before: nothing to do.")
        finally:
            display.close()

    def _broker(self, kafka: _Kafka) -> Broker:
        client = environments.kafka_client(self._environment, kafka.bootstrap_servers, own_kafka=kafka.own)
        return Broker(client, forgets=kafka.kind == "in-process")

    def _prepare_simulation(
        self, kafka: _Kafka, api: Api, directory: DataDirectory, database_url: str, lasting: Mapping[str, str]
    ) -> Simulation | None:
        if self._options.simulate is None:
            return None
        wanted = Wanted(
            self._options.simulate,
            self._options.seed,
            clock=lasting.get("CLOCK", "system"),
            currency=lasting.get("BASE_CURRENCY", CURRENCY),
        )
        return Simulation(
            wanted,
            topics=self._topics,
            broker=self._broker(kafka),
            api=api,
            directory=directory,
            rates=lambda day: _ask(self._questions.rates_in_force(database_url, day)),
            now=_now,
            pause=self._pause,
        )

    def _simulate(self, simulation: Simulation) -> None:
        terminal = self._console.is_terminal
        display = summary.LiveLine(self._console) if terminal else summary.PlainLines(self._console)
        try:
            simulation.run(display)
        finally:
            display.close()

    def _conclude(
        self, api: Api, addresses: summary.Addresses, services: Mapping[str, str], simulation: Simulation | None
    ) -> None:
        status = api.find_status()
        customer_ids: list[str] = []
        if status is not None and status.read:
            customer_ids = _ask(self._questions.largest_customers(addresses.database_url))
            currency = services.get("BASE_CURRENCY", "")
            summary.print_outcome(self._console, api, status, currency=currency, largest=customer_ids)
        if simulation is not None and not customer_ids:
            customer_ids = simulation.largest(2)
        summary.print_addresses(
            self._console, addresses, auth=services["AUTH"], customer_ids=customer_ids, simulation=simulation
        )


class _Service:
    """One of our own services, as a process that can be started again."""

    def __init__(self, name: str, log: Path, environment: Mapping[str, str], cwd: Path) -> None:
        self._begin = partial(Child.start, name, [program(name), "run"], log=log, environment=environment, cwd=cwd)

    def start(self) -> None:
        self.child = self._begin()

    def stop(self) -> None:
        self.child.stop(seconds=_SERVICE_STOP_SECONDS)


def _start_anew(server: EmbeddedPostgres | EmbeddedKafka) -> None:
    server.kill()  # what is left of it
    server.start()


def _address(host: str, port: str) -> str:
    reachable = LOOPBACK if host in ("0.0.0.0", "localhost") else host  # noqa: S104 - asked for by name
    return f"http://{reachable}:{port}"


def program(name: str) -> str:
    """A console command of ours: beside the interpreter that runs the stack, else on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise StackFailed(f"The command {name} is not installed here: run `make setup`.")
    return found


def _claimed_by(pid: int, status: IngestStatus | None) -> bool:
    """Whether the worker of this process reads the partitions: its name holds its process id."""
    return status is not None and any(f"-{pid}-" in worker for worker in status.workers)


def _ask(answer: Awaitable[Answer]) -> Answer:
    async def awaited() -> Answer:
        return await answer

    return asyncio.run(awaited())


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the stack's one look at the clock
