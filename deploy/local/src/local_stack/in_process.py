"""librdkafka's in-process broker in a process of its own: a stand-in for Kafka where there is no Java, for looking
around.

Laws: it keeps nothing across restarts, and it is not Kafka: it drops the head of a partition beyond 5 MiB or 100,000
messages, refuses a second member of a group, and gives every topic four partitions. Whoever produces to it must not run
far ahead of its reader. It ends when the process that started it does.

`python -m local_stack.in_process --address-file FILE [--topic NAME …]` writes its address to FILE once it answers.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, Producer

from local_stack.failures import StackFailed
from local_stack.processes import Child, wait_until

_START_SECONDS = 60
_STOP_SECONDS = 5
_REQUEST_SECONDS = 10.0
_QUIET = logging.getLogger("local_stack.in_process.client")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class InProcessBroker:
    """The stand-in as a child process; `start` and `stop` it, or use it in a `with` statement."""

    def __init__(
        self, directory: Path, *, topics: Collection[str] = (), stopping: threading.Event | None = None
    ) -> None:
        """`topics` are there from the start; any other comes into being when it is first asked for."""
        self._directory = directory.absolute()
        self._topics = tuple(topics)
        self._stopping = stopping
        self._address = ""
        self._child: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to."""
        return self._address

    @property
    def process(self) -> Child:
        """The running broker process."""
        if self._child is None:
            raise StackFailed("The in-process broker has not been started.")
        return self._child

    def start(self) -> None:
        """Start it and wait for its address."""
        self._directory.mkdir(parents=True, exist_ok=True)
        address_file = self._directory / "address"
        address_file.unlink(missing_ok=True)
        topics = [argument for topic in self._topics for argument in ("--topic", topic)]
        child = self._child = Child.start(
            "The in-process broker",
            [sys.executable, "-m", "local_stack.in_process", "--address-file", str(address_file), *topics],
            log=self._directory / "in-process.log",
        )
        wait_until(
            address_file.exists,
            seconds=_START_SECONDS,
            otherwise=lambda: child.failure("The in-process broker did not start"),
            check=child.check,
            stopping=self._stopping,
        )
        self._address = address_file.read_text(encoding="ascii")

    def stop(self) -> None:
        """End it, and all that it held; idempotent."""
        if self._child is not None:
            self._child.stop(seconds=_STOP_SECONDS)
            self._child = None

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


def serve(address_file: Path, topics: Sequence[str], ended: threading.Event) -> None:
    """Be the broker until told to end, or until the process that started it is gone."""
    parent = os.getppid()
    # The broker lives inside a client; this one is kept for nothing else
    client = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "replaced:1", "log_level": 0}, logger=_QUIET)
    brokers = client.list_topics(timeout=_REQUEST_SECONDS).brokers.values()
    for topic in topics:
        client.list_topics(topic, timeout=_REQUEST_SECONDS)  # to ask for a topic is to create it
    written = address_file.with_suffix(".new")
    written.write_text(",".join(f"{broker.host}:{broker.port}" for broker in brokers), encoding="ascii")
    written.replace(address_file)
    while not ended.wait(1) and os.getppid() == parent:
        client.poll(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m local_stack.in_process", description=__doc__)
    parser.add_argument("--address-file", type=Path, required=True, help="where to write host:port once it answers")
    parser.add_argument("--topic", action="append", default=[], help="a topic to create at once; may be repeated")
    chosen = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        serve(chosen.address_file, chosen.topic, ended)
    except KafkaException as failed:
        sys.stderr.write(f"The in-process broker does not answer: {failed}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
