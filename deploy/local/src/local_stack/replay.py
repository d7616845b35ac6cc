"""The replay of a file of events, one JSON object a line, through Kafka, until everything has its outcome.

Laws: a line is produced as it stands, byte for byte. What was acknowledged is written down, so that a replay goes on
where it stopped and a finished one is not repeated; an interruption repeats nothing, a `kill -9` at most one batch,
which the ledger tells as duplicates. With the in-process broker, which forgets, only what has been *read* counts as
done: no more than one batch is ever unread, and any interruption may repeat it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from local_stack.api import Api, IngestStatus
from local_stack.data_directory import DataDirectory
from local_stack.failures import StackFailed
from local_stack.topics import Topics

BATCH = 2_000
_POLL_SECONDS = 0.25
_FLUSH_SECONDS = 60.0
_REMEMBERED = "replay.json"
_QUIET = logging.getLogger("local_stack.replay.client")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the replay of one file into one cluster has come."""

    sha256: str
    cluster: str
    #: messages acknowledged, from the start of the file
    acknowledged: int = 0
    #: whether all of them had their outcome
    complete: bool = False


class Display(Protocol):
    """Who is told how far it is."""

    def start(self, total: int) -> None:
        """The number of messages in the file."""

    def show(self, produced: int, read: int) -> None:
        """Messages of this file produced, and read by the worker."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to produce."""

    #: what librdkafka's clients need, with `bootstrap.servers`
    client: Mapping[str, str]
    #: nothing is kept, and little is held: see `local_stack.in_process`
    forgets: bool


def starting_point(remembered: Progress | None, *, sha256: str, cluster: str, forgets: bool, read: int) -> Progress:
    """Where to begin: behind what was acknowledged for the same file and cluster, else at the start.

    `read` is what the database has counted: fewer than it should mean that it is another database.
    """
    fresh = Progress(sha256, cluster)
    if remembered is None or remembered.sha256 != sha256:
        return fresh
    in_database = read >= remembered.acknowledged
    if remembered.complete and in_database:
        return remembered
    if remembered.cluster != cluster or (forgets and not in_database):
        return fresh
    return replace(remembered, complete=False)


def is_in(status: IngestStatus, *, expected: int, high_water: Mapping[tuple[str, int], int]) -> bool:
    """Whether everything produced has its outcome, and the tiers cover it."""
    return (
        status.read >= expected
        and status.lag == 0
        and status.tiers_current
        and all(status.next_offsets.get(partition, 0) >= offset for partition, offset in high_water.items())
    )


class Replay:
    """One file on its way through one broker into one API's database."""

    def __init__(
        self,
        file: Path,
        *,
        topics: Topics,
        broker: Broker,
        api: Api,
        directory: DataDirectory,
        display: Display,
        pause: Callable[[float], None],
    ) -> None:
        """`pause` waits, and raises when the stack is to stop or one of its processes has died."""
        self._file = file
        self._topics = topics
        self._broker = broker
        self._api = api
        self._directory = directory
        self._display = display
        self._pause = pause
        self._high_water: dict[tuple[str, int], int] = {}
        self._refused: list[str] = []

    def run(self) -> bool:
        """Produce what is left, and wait until all is in; False when there was nothing left to do."""
        sha256, total = measure(self._file)
        producer = Producer(producer_settings(self._broker), logger=_QUIET)
        read_before = self._status().read
        progress = starting_point(
            self._remembered(),
            sha256=sha256,
            cluster=self._cluster(producer),
            forgets=self._broker.forgets,
            read=read_before,
        )
        if progress.complete:
            return False
        start = progress.acknowledged
        self._display.start(total)
        messages = itertools.islice(_messages(self._file), start, None)
        while batch := list(itertools.islice(messages, BATCH)):
            self._pause(0)
            self._produce(producer, batch)
            produced = progress.acknowledged + len(batch)
            if self._broker.forgets:
                self._await_read(
                    read_before + produced - start, produced=produced, start=start, read_before=read_before
                )
            progress = replace(progress, acknowledged=produced)
            self._remember(progress)
            self._display.show(produced, self._read_of_file(start, read_before))
        self._await_all(progress.acknowledged, start=start, read_before=read_before)
        self._remember(replace(progress, complete=True))
        return True

    def _produce(self, producer: Producer, batch: list[bytes]) -> None:
        for line in batch:
            topic, key = self._topics.route(line)
            try:
                producer.produce(topic, line, key=key, on_delivery=self._delivered)
            except KafkaException as refused:  # larger than the client sends
                self._refused.append(str(refused.args[0]))
        unsent = producer.flush(_FLUSH_SECONDS)
        if unsent or self._refused:
            reason = self._refused[0] if self._refused else f"no answer within {_FLUSH_SECONDS:.0f} s"
            raise StackFailed(
                f"Kafka did not take {max(unsent, len(self._refused))} messages of {self._file} ({reason}): "
                "see Kafka's log and start again; the replay goes on where it stopped."
            )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused.append(error.str())
            return
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if topic is not None and partition is not None and offset is not None:
            self._high_water[topic, partition] = offset + 1

    def _await_read(self, expected: int, *, produced: int, start: int, read_before: int) -> None:
        while self._status().read < expected:
            self._display.show(produced, self._read_of_file(start, read_before))
            self._pause(_POLL_SECONDS)

    def _await_all(self, produced: int, *, start: int, read_before: int) -> None:
        # a broker that forgets begins again at offset 0, and the database may not: there the counts must do
        high_water = {} if self._broker.forgets else self._high_water
        expected = max(produced, read_before + produced - start)
        while not is_in(self._status(), expected=expected, high_water=high_water):
            self._display.show(produced, self._read_of_file(start, read_before))
            self._pause(_POLL_SECONDS)
        self._display.show(produced, produced)

    def _read_of_file(self, start: int, read_before: int) -> int:
        """For display only: others may produce as well."""
        return max(0, self._status().read - max(0, read_before - start))

    def _status(self) -> IngestStatus:
        while (status := self._api.find_status()) is None:
            self._pause(_POLL_SECONDS)
        return status

    def _cluster(self, producer: Producer) -> str:
        if self._broker.forgets:
            return "in-process"
        try:
            return producer.list_topics(timeout=_FLUSH_SECONDS).cluster_id or ""
        except KafkaException as failed:
            raise StackFailed(
                f"Kafka at {self._broker.client['bootstrap.servers']} does not answer: {failed}."
            ) from failed

    def _remembered(self) -> Progress | None:
        content = self._directory.read(_REMEMBERED)
        try:
            return None if content is None else Progress(**content)
        except TypeError:
            raise StackFailed(
                f"The file {self._directory.path / _REMEMBERED} is damaged: remove it, and start again."
            ) from None

    def _remember(self, progress: Progress) -> None:
        self._directory.write(_REMEMBERED, asdict(progress))


def measure(file: Path) -> tuple[str, int]:
    """The SHA-256 of a file's bytes and the number of its messages."""
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return digest, sum(1 for _ in _messages(file))
    except (OSError, EOFError) as failed:
        reason = getattr(failed, "strerror", None) or failed
        raise StackFailed(
            f"The events in {file} cannot be read ({reason}): choose another file with --data."
        ) from failed


def _messages(file: Path) -> Iterator[bytes]:
    with _opened(file) as content:
        for line in content:
            if stripped := line.rstrip(b"\r\n"):
                yield stripped


def _opened(file: Path) -> BinaryIO | io.BufferedReader:
    if file.name.endswith(".gz"):
        return io.BufferedReader(gzip.open(file))
    return file.open("rb")


def producer_settings(broker: Broker) -> dict[str, str | int | bool]:
    """What a producer of events is made with."""
    return {
        **broker.client,
        "log_level": 0,
        "enable.idempotence": True,
        "linger.ms": 5,
        # where the Java and Python clients would send it, so that a customer stays in one partition
        "partitioner": "murmur2_random",
    }
