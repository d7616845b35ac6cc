"""Changes and rejected messages reach their topics: all of them, in order, whatever happens to the worker."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from tests.support.builders import an_order, as_message
from tests.support.kafka import TOPIC_SETTINGS, produce, spread
from tests.support.oracle import Message
from tests.support.workers import Site

from local_stack.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka


async def _everything_on(servers: str, topic: str, *, count: int) -> list[Any]:
    """At least so many messages of a topic, and whatever else is there."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    try:
        async with asyncio.timeout(120):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += records
    finally:
        await consumer.stop()
    return found


def _orders(customers: int, orders: int) -> list[Message]:
    return [
        as_message(
            an_order(
                event_id=f"{customer}-{order}",
                customer_id=f"C-{customer}",
                order_id=f"{order}",
                amount=str(100 * (customer + 1) * (order + 1) % 9_700),
            )
        )
        for order in range(orders)
        for customer in range(customers)
    ]


async def test_every_change_is_announced_in_order_though_the_worker_is_killed(site: Site, kafka: EmbeddedKafka) -> None:
    """At least once, positions without holes, the last of each customer as it stands."""
    messages = _orders(customers=20, orders=10)
    topics = [site.settings[setting] for setting in TOPIC_SETTINGS]
    worker = site.start(BATCH_MESSAGES="7")
    await produce(kafka.bootstrap_servers, spread(messages, topics, 4))
    await site.has_read(40)
    worker.kill()
    site.start(BATCH_MESSAGES="13")
    await site.is_in(len(messages))
    count = len(await site.store.changes())
    records = await _everything_on(kafka.bootstrap_servers, site.settings["TOPIC_CHANGES"], count=count)
    changes = [json.loads(record.value) for record in records]
    assert sorted({change["sequence"] for change in changes}) == list(range(1, count + 1))
    last: dict[str, Mapping[str, Any]] = {}
    for record, change in zip(records, changes, strict=True):
        assert record.key.decode() == change["customer_id"]
        if change["sequence"] > last.get(change["customer_id"], {"sequence": 0})["sequence"]:
            before = last.get(change["customer_id"], {"after": None})["after"]
            assert change["before"] == before, change
            last[change["customer_id"]] = change
    tiers = {customer: change["after"]["value_tier"] for customer, change in last.items()}
    assert tiers == {customer: snapshot.tier for customer, snapshot in (await site.store.snapshots()).items()}


async def test_a_rejected_message_is_announced_with_its_bytes_reason_and_origin(
    site: Site, kafka: EmbeddedKafka
) -> None:
    """Even one that has neither key nor value, or is too large to be sent on."""
    topic = site.settings["TOPIC_ORDERS"]
    large = b'{"text":"' + b"x" * 300_000 + b'"}'
    rejected = [Message(b"nonsense", (("trace", b"1"),)), Message(None), Message(b""), Message(large)]
    site.start()
    await produce(kafka.bootstrap_servers, spread(rejected, [topic], 1))
    await site.is_in(len(rejected))
    records = await _everything_on(kafka.bootstrap_servers, site.settings["TOPIC_DEAD_LETTERS"], count=len(rejected))
    told = {int(dict(record.headers)["tierline-offset"]): record for record in records}
    assert [dict(told[offset].headers)["tierline-reason"] for offset in range(4)] == [
        b"invalid_json", b"empty", b"empty", b"too_large"
    ]  # fmt: skip
    assert [told[offset].value for offset in range(4)] == [b"nonsense", b"", b"", large]
    headers = dict(told[0].headers)
    assert (headers["tierline-topic"], headers["tierline-partition"], headers["trace"]) == (topic.encode(), b"0", b"1")


async def test_changes_older_than_they_are_kept_go_once_they_are_on_their_topic(
    site: Site, kafka: EmbeddedKafka
) -> None:
    """From the oldest on, and it is said up to where."""
    worker = site.start()
    await produce(kafka.bootstrap_servers, spread(_orders(customers=9, orders=1), [site.settings["TOPIC_ORDERS"]], 4))
    await site.is_in(9)
    count = len(await site.store.changes())
    await _everything_on(kafka.bootstrap_servers, site.settings["TOPIC_CHANGES"], count=count)
    assert worker.stop() == 0
    await site.store.rows("UPDATE changes SET recorded_at = now() - interval '3 days' WHERE position <= 5 RETURNING 1")
    site.start(RETAIN_CHANGES_DAYS="2")

    async def dropped() -> bool:
        (row,) = await site.store.rows(
            "SELECT dropped, (SELECT min(position) FROM changes) AS first FROM feeds WHERE name = 'changes'"
        )
        return (row.dropped, row.first) == (5, 6)

    await site.eventually(dropped, "old changes to be dropped")
