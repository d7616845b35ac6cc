"""A real Kafka for tests: where it comes from, topics of a test's own, and what fills them.

Laws: without Java, Maven or the jars the tests that need Kafka are skipped with that reason, and fail with `CI=true`;
messages are produced to the partition that is named, in the order given, byte for byte.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from local_stack.failures import KafkaUnavailable
from local_stack.kafka import EmbeddedKafka
from local_stack.kafka_distribution import KafkaDistribution, find_distribution
from segmentation.outcomes import Partition

from .oracle import Message

TOPIC_SETTINGS: Final = ("TOPIC_ORDERS", "TOPIC_RETURNS", "TOPIC_COMPLAINTS", "TOPIC_FEEDBACK", "TOPIC_CUSTOMERS")
"""Of the topics that are read."""
OUTPUT_SETTINGS: Final = ("TOPIC_CHANGES", "TOPIC_DEAD_LETTERS")
COMPRESSIONS: Final = (None, "gzip", "snappy", "lz4", "zstd")
_LONGEST_REQUEST: Final = 4 * 1024 * 1024

Placed = tuple[Partition, Message]
"""A message and where it goes."""


def require_distribution() -> KafkaDistribution:
    """What it takes to start Kafka, or the end of the test."""
    try:
        return find_distribution(os.environ)  # noqa: TID251 - the tests' own
    except KafkaUnavailable as unavailable:
        if os.environ.get("CI") == "true":  # noqa: TID251 - the tests' own
            raise
        pytest.skip(str(unavailable))


def new_topics(kafka: EmbeddedKafka, *, partitions: int) -> dict[str, str]:
    """Creates one topic for each setting that names one; by setting, under names nobody else has."""
    suffix = uuid4().hex[:12]
    settings = TOPIC_SETTINGS + OUTPUT_SETTINGS
    names = {setting: f"{setting.removeprefix('TOPIC_').lower()}.{suffix}" for setting in settings}
    kafka.create_topics(dict.fromkeys(names.values(), partitions))
    return names


def spread(messages: Iterable[Message], topics: Iterable[str], partitions: int) -> list[Placed]:
    """The messages on all partitions of the topics in turn."""
    everywhere = itertools.cycle([Partition(topic, number) for number in range(partitions) for topic in topics])
    return list(zip(everywhere, messages, strict=False))


async def produce(servers: str, placed: Sequence[Placed], *, compression: str | None = None) -> None:
    """Produces the messages and waits until the broker has them."""
    async with _producer(servers, compression_type=compression, enable_idempotence=True) as producer:
        await _send(producer, placed)


async def produce_in_transaction(
    servers: str, placed: Sequence[Placed], *, commit: bool, compression: str | None = None
) -> None:
    """Produces the messages as one transaction, and commits it or takes it back."""
    async with _producer(servers, compression_type=compression, transactional_id=uuid4().hex) as producer:
        await producer.begin_transaction()
        await _send(producer, placed)
        if commit:
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()


async def produce_with_header_name(servers: str, partition: Partition, value: bytes, name: bytes) -> None:
    """Produces one message with a header whose name may be any bytes: no client makes names that are not UTF-8."""
    stand_in = "?" * len(name)
    async with _producer(servers) as producer:
        batch = producer.create_batch()
        batch.append(key=b"C-1", value=value, timestamp=None, headers=[(stand_in, b"")])
        batch.close()
        content = bytearray(bytes(batch._build()).replace(stand_in.encode(), name))
        # the checksum stands at byte 17 and covers what follows it
        content[17:21] = struct.pack(">I", calc_crc32c(bytes(content[21:])))
        batch._buffer = content
        await (await producer.send_batch(batch, partition.topic, partition=partition.number))


@asynccontextmanager
async def _producer(servers: str, **settings: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=servers, max_request_size=_LONGEST_REQUEST, **settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, placed: Sequence[Placed]) -> None:
    # the client refuses a record that has neither key nor value
    sent = [
        await producer.send(
            partition.topic, message.value, key=b"C-1", partition=partition.number, headers=list(message.headers)
        )
        for partition, message in placed
    ]
    await asyncio.gather(*sent)
