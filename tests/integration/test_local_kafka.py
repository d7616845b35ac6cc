"""The stack's own Kafka: real, kept across restarts, and one that aiokafka gets on with."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from local_stack.failures import KafkaUnavailable, StackFailed
from local_stack.in_process import InProcessBroker
from local_stack.kafka import EmbeddedKafka
from local_stack.kafka_distribution import KafkaDistribution, find_distribution


@pytest.fixture(scope="module")
def distribution() -> KafkaDistribution:
    try:
        return find_distribution(os.environ)  # noqa: TID251 - the tests' own
    except KafkaUnavailable as unavailable:
        if os.environ.get("CI") == "true":  # noqa: TID251 - the tests' own
            raise
        pytest.skip(str(unavailable))


@pytest.fixture(scope="module")
def kafka(distribution: KafkaDistribution, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), distribution) as broker:
        yield broker


@pytest.fixture
def topic(kafka: EmbeddedKafka) -> str:
    name = f"test.{uuid4().hex}"
    kafka.create_topics({name: 4})
    return name


@contextlib.asynccontextmanager
async def _consumer(servers: str, topic: str, group: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        metadata_max_age_ms=1_000,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _produce(servers: str, topic: str, count: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True) as producer:
        sent = [await producer.send(topic, b"%d" % number, key=b"C-%d" % (number % 7)) for number in range(count)]
        await asyncio.gather(*sent)


async def _take(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    values: list[bytes] = []
    while len(values) < count:
        for messages in (await consumer.getmany(timeout_ms=200)).values():
            values += [message.value for message in messages]
    return values


async def test_a_group_reads_all_and_its_offsets_are_kept(kafka: EmbeddedKafka, topic: str) -> None:
    await _produce(kafka.bootstrap_servers, topic, 100)
    async with _consumer(kafka.bootstrap_servers, topic, topic) as consumer:
        assert sorted(map(int, await _take(consumer, 100))) == list(range(100))
        await consumer.commit()
        ends = await consumer.end_offsets(list(consumer.assignment()))
        assert {partition: await consumer.committed(partition) or 0 for partition in ends} == ends
    await _produce(kafka.bootstrap_servers, topic, 1)
    async with _consumer(kafka.bootstrap_servers, topic, topic) as consumer:
        assert await _take(consumer, 1) == [b"0"]


async def test_messages_carry_the_time_at_which_the_broker_got_them(kafka: EmbeddedKafka, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"x", timestamp_ms=1)
    async with _consumer(kafka.bootstrap_servers, topic, topic) as consumer:
        message = await consumer.getone()
    assert (message.timestamp_type, message.timestamp > 1) == (1, True)


async def test_a_consumer_reads_again_from_where_it_seeks(kafka: EmbeddedKafka, topic: str) -> None:
    await _produce(kafka.bootstrap_servers, topic, 50)
    async with _consumer(kafka.bootstrap_servers, topic, topic) as consumer:
        first = await _take(consumer, 50)
        for partition in consumer.assignment():
            consumer.seek(partition, 0)
        assert sorted(await _take(consumer, 50)) == sorted(first)


async def test_two_consumers_share_the_partitions_and_one_takes_over(kafka: EmbeddedKafka, topic: str) -> None:
    async def until(*consumers: AIOKafkaConsumer, shares: list[int]) -> None:
        while sorted(len(consumer.assignment()) for consumer in consumers) != shares:
            await asyncio.gather(*(consumer.getmany(timeout_ms=100) for consumer in consumers))

    everything = {TopicPartition(topic, number) for number in range(4)}
    async with _consumer(kafka.bootstrap_servers, topic, topic) as one:
        await until(one, shares=[4])
        async with _consumer(kafka.bootstrap_servers, topic, topic) as two:
            await until(one, two, shares=[2, 2])
            assert one.assignment() | two.assignment() == everything
        await until(one, shares=[4])
        await _produce(kafka.bootstrap_servers, topic, 20)
        assert len(await _take(one, 20)) == 20


async def test_topics_are_created_once_and_compacted_where_asked(kafka: EmbeddedKafka) -> None:
    name = f"test.{uuid4().hex}"
    kafka.create_topics({name: 3}, compacted={name})
    kafka.create_topics({name: 3}, compacted={name})
    async with _consumer(kafka.bootstrap_servers, name, name) as consumer:
        assert consumer.partitions_for_topic(name) == {0, 1, 2}


def test_a_topic_that_cannot_be_created_is_named(kafka: EmbeddedKafka) -> None:
    with pytest.raises(StackFailed, match="'no good'"):
        kafka.create_topics({"no good": 1})


@pytest.mark.timeout(300)
async def test_data_and_offsets_survive_restart_and_kill(distribution: KafkaDistribution, tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path, distribution) as broker:
        broker.create_topics({"kept": 4})
        await _produce(broker.bootstrap_servers, "kept", 40)
        async with _consumer(broker.bootstrap_servers, "kept", "group") as consumer:
            await _take(consumer, 40)
            await consumer.commit()
        # from a thread that ends before the broker does
        await asyncio.to_thread(broker.restart)
        await _produce(broker.bootstrap_servers, "kept", 2)
        broker.kill()
        broker.start()
        async with _consumer(broker.bootstrap_servers, "kept", "group") as consumer:
            assert sorted(await _take(consumer, 2)) == [b"0", b"1"]
        async with _consumer(broker.bootstrap_servers, "kept", "another") as consumer:
            assert len(await _take(consumer, 42)) == 42


@pytest.mark.timeout(300)
async def test_a_consumer_lives_through_a_restart_of_the_broker(
    distribution: KafkaDistribution, tmp_path: Path
) -> None:
    with EmbeddedKafka(tmp_path, distribution) as broker:
        broker.create_topics({"kept": 4})
        async with _consumer(broker.bootstrap_servers, "kept", "group") as consumer:
            await _produce(broker.bootstrap_servers, "kept", 10)
            assert len(await _take(consumer, 10)) == 10
            port = broker.port
            await asyncio.to_thread(broker.restart)
            assert broker.port == port
            await _produce(broker.bootstrap_servers, "kept", 10)
            assert len(await _take(consumer, 10)) == 10


async def test_the_in_process_broker_serves_a_group_of_one(tmp_path: Path) -> None:
    with InProcessBroker(tmp_path, topics=["here"]) as broker:
        await _produce(broker.bootstrap_servers, "here", 100)
        async with _consumer(broker.bootstrap_servers, "here", "group") as consumer:
            assert sorted(map(int, await _take(consumer, 100))) == list(range(100))
            await consumer.commit()
            for partition in consumer.assignment():
                consumer.seek(partition, 0)
            assert len(await _take(consumer, 100)) == 100
        process = broker.process
    assert not process.running
