"""A real Apache Kafka of the stack's own: one node, broker and controller at once (KRaft), on loopback.

Laws: what was acknowledged is found again by the next start, with the same cluster id and the same offsets. A directory
holds formatted storage or none: it is made beside its place and renamed. Nothing listens but 127.0.0.1.

    directory/
    ├── data/              the log, with the cluster id
    ├── server.properties  written anew by each start
    └── kafka.log
"""

from __future__ import annotations

import base64
import logging
import shutil
import signal
import socket
import threading
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from local_stack import strays
from local_stack.failures import ChildDied, StackFailed
from local_stack.kafka_distribution import LOG4J_CONFIGURATION, KafkaDistribution
from local_stack.ports import LOOPBACK, free_port, require_free
from local_stack.processes import Child, failure, run, wait_until

_START_SECONDS = 120
_STOP_SECONDS = 30
_REQUEST_SECONDS = 5.0
_CONTROLLER_SECONDS = 15.0
_PORT_ATTEMPTS = 3
_HEAP = ("-Xms96m", "-Xmx384m")
_QUIET = logging.getLogger("local_stack.kafka.client")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False  # a client that meets a broker still starting complains by the second

_SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    # one node: nothing can be kept twice
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # small and quick to start
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # after a kill the broker is let in again when its former self has timed out
    "broker.session.timeout.ms": "5000",
    "broker.heartbeat.interval.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "16777216",
    # a misspelt topic is an error to be seen
    "auto.create.topics.enable": "false",
    # nothing is deleted by age: the business dates lie years back, and replays start at the beginning
    "log.message.timestamp.type": "LogAppendTime",
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
}


class EmbeddedKafka:
    """A Kafka broker below a directory; `start` and `stop` it, or use it in a `with` statement."""

    def __init__(
        self,
        directory: Path,
        distribution: KafkaDistribution,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        """`settings` are broker properties that take the place of ours."""
        self._directory = directory.absolute()
        self._distribution = distribution
        self._chosen_port = port
        self._port = port or 0
        self._settings = dict(settings or {})
        self._stopping = stopping
        self._child: Child | None = None

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._port

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def process(self) -> Child:
        """The running broker process."""
        if self._child is None:
            raise StackFailed("Kafka has not been started.")
        return self._child

    def start(self) -> None:
        """Format the storage if there is none, start the broker, and wait until it answers."""
        if self._child is not None and self._child.running:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            # a broker of this directory whose stack was killed holds the lock of the data
            strays.end_all(strays.started_with(str(self._properties)), grace_seconds=_STOP_SECONDS)
            if not self._data.exists():
                self._format()
            if not (self._data / "meta.properties").is_file():
                raise StackFailed(
                    f"{self._data} is no Kafka data directory (it has no file meta.properties): restore it, or remove "
                    f"{self._directory} to start with an empty Kafka."
                )
            if self._chosen_port is not None:
                require_free(self._chosen_port, what="Kafka", remedy="--kafka-port")
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                self._port = self._chosen_port or free_port(self._port or None)
                try:
                    self._launch()
                except ChildDied as died:
                    # between finding a port free and listening on it, another program may come
                    if attempt == _PORT_ATTEMPTS or "Address already in use" not in str(died):
                        raise self.process.failure(
                            f"Kafka does not start: restore {self._data}, or remove {self._directory} "
                            "to start with an empty Kafka"
                        ) from died
                else:
                    return
        except PermissionError as denied:
            raise StackFailed(
                f"Kafka's directory {denied.filename or self._directory} belongs to another user: "
                "start the stack as that user, or choose another place with --data-dir."
            ) from denied

    def stop(self) -> None:
        """Shut down cleanly; idempotent."""
        if self._child is not None:
            self._child.stop(seconds=_STOP_SECONDS)
            self._child = None

    def restart(self) -> None:
        """Stop cleanly and start again, on the same port if it is still free."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End it at once, as a crash would; idempotent."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def create_topics(self, partitions: Mapping[str, int], *, compacted: Collection[str] = ()) -> None:
        """Create the topics that are not there yet."""
        create_topics(_client(self.bootstrap_servers), partitions, compacted=compacted)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _properties(self) -> Path:
        return self._directory / "server.properties"

    @property
    def _log(self) -> Path:
        return self._directory / "kafka.log"

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        return [
            str(self._distribution.java),
            *_HEAP,
            # one small node on few cores; G1 would start more threads than the broker itself
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={LOG4J_CONFIGURATION.as_uri()}",
            "-cp",
            f"{self._distribution.jars}/*",
            main_class,
            *arguments,
        ]

    def _format(self) -> None:
        fresh = self._directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)  # of a start that was interrupted here
        self._write_properties(data=fresh, port=1, controller_port=2)  # nothing listens yet
        code = run(
            self._java(
                "kafka.tools.StorageTool", "format", f"--cluster-id={_cluster_id()}", f"--config={self._properties}"
            ),
            name="Kafka's storage tool",
            log=self._log,
            stopping=self._stopping,
        )
        if code != 0:
            raise failure(self._log, f"Kafka could not format {self._data}")
        fresh.rename(self._data)

    def _write_properties(self, *, data: Path, port: int, controller_port: int) -> None:
        listener = f"PLAINTEXT://{LOOPBACK}:{port}"
        settings = {
            **_SETTINGS,
            "listeners": f"{listener},CONTROLLER://{LOOPBACK}:{controller_port}",
            "advertised.listeners": listener,
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
            "log.dirs": str(data),
            **self._settings,
        }
        # a properties file escapes by backslash
        lines = (f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in settings.items())
        self._properties.write_text("".join(lines), encoding="utf-8")

    def _launch(self) -> None:
        self._write_properties(data=self._data, port=self._port, controller_port=free_port())
        child = self._child = Child.start(
            "Kafka",
            self._java("kafka.Kafka", str(self._properties)),
            log=self._log,
            # it ends by itself, and after a clean end the next start is quicker
            death_signal=signal.SIGTERM,
        )
        admin: list[AdminClient] = []

        def answers() -> bool:
            # librdkafka waits longer after each refusal, so it is not asked before somebody listens
            if not admin and _listens(self._port):
                admin.append(_admin(_client(self.bootstrap_servers)))
            return bool(admin) and _is_ready(admin[0])

        wait_until(
            answers,
            seconds=_START_SECONDS,
            otherwise=lambda: child.failure(f"Kafka did not answer within {_START_SECONDS} s"),
            check=child.check,
            stopping=self._stopping,
        )


def create_topics(client: Mapping[str, str], partitions: Mapping[str, int], *, compacted: Collection[str] = ()) -> None:
    """Create the topics that are not there yet; an existing one is left as it is."""
    topics = [
        NewTopic(name, num_partitions=count, replication_factor=-1, config=_topic_settings(compacted=name in compacted))
        for name, count in partitions.items()
    ]
    if not topics:
        return
    admin = _admin(client)  # in a variable: without its client an answer never comes
    try:
        admin.list_topics(timeout=_CONTROLLER_SECONDS)
    except KafkaException:
        servers = client["bootstrap.servers"]
        raise StackFailed(f"Kafka at {servers} does not answer: correct KAFKA_BOOTSTRAP_SERVERS.") from None
    for name, created in admin.create_topics(topics, operation_timeout=30).items():
        try:
            created.result()
        except KafkaException as refused:
            error = refused.args[0]
            if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise StackFailed(
                    f"Kafka at {client['bootstrap.servers']} does not create the topic {name!r} ({error.str()}): "
                    "create it by hand, or correct the TOPIC_ setting."
                ) from None


def _topic_settings(*, compacted: bool) -> dict[str, str]:
    return {"cleanup.policy": "compact"} if compacted else {}


def _client(bootstrap_servers: str) -> dict[str, str]:
    return {"bootstrap.servers": bootstrap_servers}


def _admin(client: Mapping[str, str]) -> AdminClient:
    return AdminClient({**client, "log_level": 0}, logger=_QUIET)


def _is_ready(admin: AdminClient) -> bool:
    """It knows itself as a broker, and every partition has found its leader again."""
    try:
        metadata = admin.list_topics(timeout=_REQUEST_SECONDS)
    except KafkaException:
        return False
    partitions = (partition for topic in metadata.topics.values() for partition in topic.partitions.values())
    return bool(metadata.brokers) and all(partition.leader >= 0 for partition in partitions)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _cluster_id() -> str:
    """A random one, in the form that Kafka gives its own: 16 bytes in URL-safe base64, no dash in front."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return text
