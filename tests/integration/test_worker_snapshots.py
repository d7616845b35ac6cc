"""Full snapshots by the real worker: on demand and on schedule, on every partition, though it is killed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import client_of
from tests.support.builders import an_order, as_message
from tests.support.follower import Follower, Read, compacted
from tests.support.histories import NOW
from tests.support.oracle import Message, Setting
from tests.support.streams import PARTITIONS, deliver
from tests.support.workers import HOUSE, Site, command

from local_stack.kafka import EmbeddedKafka
from segmentation.storage.engine import transaction

pytestmark = pytest.mark.kafka


class Followed:
    """The topic of changes, read from its beginning."""

    def __init__(self, site: Site, consumer: AIOKafkaConsumer) -> None:
        self._site = site
        self._consumer = consumer
        self.messages: list[Read] = []

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(message.value or b"") for message in self.messages]

    @property
    def pairs(self) -> list[tuple[Read, dict[str, Any]]]:
        return list(zip(self.messages, self.bodies, strict=True))

    def ended(self) -> Counter[str]:
        """By snapshot, on how many partitions it has ended."""
        return Counter(body["snapshot_id"] for body in self.bodies if body["kind"] == "snapshot_end")

    async def until_ended(self, snapshots: int) -> None:
        """Reads until so many snapshots have ended on every partition."""

        async def check() -> bool:
            for records in (await self._consumer.getmany(timeout_ms=200)).values():
                self.messages += [Read(record.partition, record.key, record.value) for record in records]
            return list(self.ended().values()).count(PARTITIONS) >= snapshots

        await self._site.eventually(check, f"{snapshots} full snapshots to end on every partition")


@pytest.fixture
async def followed(site: Site, kafka: EmbeddedKafka) -> Any:
    consumer = AIOKafkaConsumer(
        site.settings["TOPIC_CHANGES"], bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    yield Followed(site, consumer)
    await consumer.stop()


def orders(customers: int, *, first: int = 0, amount: int = 10) -> list[Message]:
    """One order for each customer."""
    return [
        as_message(
            an_order(
                event_id=f"{number}-{amount}",
                customer_id=f"C-{number}",
                order_id=f"O-{number}-{amount}",
                amount=str((number + 1) * amount),
            )
        )
        for number in range(first, first + customers)
    ]


async def answers(site: Site, engine: AsyncEngine) -> dict[str, dict[str, str | bool]]:
    """Where everyone stands, by the HTTP interface."""
    setting = Setting(HOUSE.base_currency, HOUSE.time_zone, HOUSE.clock)
    found: dict[str, dict[str, str | bool]] = {}
    async with client_of(engine, setting, lambda: NOW) as client:
        for customer_id in await site.store.snapshots():
            answer = (await client.get(f"/customers/{customer_id}/segment")).json()
            found[customer_id] = {
                "value_tier": answer["value_tier"],
                "segment": answer["segment"]["code"],
                "service_level": answer["recommended_service_level"]["code"],
                "churn_warning": answer["risk"]["warning"],
            }
    return found


async def forget(engine: AsyncEngine, customer_id: str) -> None:
    """As an erasure will do it, without a word on the topic."""
    async with transaction(engine) as connection:
        for table in ("snapshots", "day_buckets", "orders", "customers"):
            statement = f"DELETE FROM {table} WHERE customer_id = :customer_id"
            await connection.execute(text(statement), {"customer_id": customer_id})


async def test_a_snapshot_on_demand_reaches_every_partition_and_tells_who_is_gone(
    site: Site, kafka: EmbeddedKafka, engine: AsyncEngine, followed: Followed
) -> None:
    site.start(SNAPSHOT_HOURS="0")
    await deliver(site, kafka, orders(30))
    await site.is_in(30)
    await forget(engine, "C-7")
    told = await asyncio.to_thread(command, "snapshot", settings=site.settings)
    assert told.returncode == 0
    assert told.stdout == "Full snapshot 1.1 is on the topic of changes, with its end markers: 29 customers.\n"
    assert told.stderr.startswith("Full snapshot 1")
    await followed.until_ended(1)
    begins = [m.partition for m, body in followed.pairs if body["kind"] == "snapshot_begin"]
    assert sorted(begins) == list(range(PARTITIONS))
    ends = {m.partition: body for m, body in followed.pairs if body["kind"] == "snapshot_end"}
    here = Counter(m.partition for m, body in followed.pairs if body["kind"] == "snapshot")
    assert {partition: end["customers_here"] for partition, end in ends.items()} == {
        n: here[n] for n in range(PARTITIONS)
    }
    assert {end["customers"] for end in ends.values()} == {29}
    for number in range(PARTITIONS):
        kinds = [body["kind"] for m, body in followed.pairs if m.partition == number]
        assert kinds[-1] == "snapshot_end"
        assert set(kinds[kinds.index("snapshot_begin") + 1 : -1]) <= {"snapshot"}
    standing = await answers(site, engine)
    assert "C-7" not in standing
    for seen in (followed.messages, compacted(followed.messages)):
        follower = Follower()
        follower.read(seen)
        assert follower.sides == standing


async def test_a_worker_killed_in_the_middle_begins_anew_and_live_changes_go_on(
    site: Site, kafka: EmbeddedKafka, engine: AsyncEngine, followed: Followed
) -> None:
    """Whoever follows, from the beginning or late, ends where the HTTP interface is."""
    customers = 2_500
    worker = site.start(SNAPSHOT_HOURS="0")
    await deliver(site, kafka, orders(customers))
    await site.is_in(customers)
    assert "asked for" in await asyncio.to_thread(site.command, "snapshot", "--no-wait")

    async def under_way() -> bool:
        return bool(await site.store.rows("SELECT 1 FROM full_snapshots WHERE customers > 0"))

    await site.eventually(under_way, "the snapshot to be under way")
    worker.kill()
    (first,) = await site.store.rows("SELECT attempt, done_at FROM full_snapshots")
    site.start(SNAPSHOT_HOURS="0")
    await deliver(site, kafka, orders(300, first=10, amount=900))
    await site.is_in(customers + 300)
    await followed.until_ended(1)
    (last,) = await site.store.rows("SELECT attempt, customers FROM full_snapshots WHERE done_at IS NOT NULL")
    if first.done_at is None:  # it may have been quicker than the kill
        assert last.attempt > first.attempt
    assert last.customers == customers
    assert (await asyncio.to_thread(command, "snapshot", settings=site.settings)).returncode == 0
    await followed.until_ended(2)
    standing = await answers_of(site)
    late = followed.messages[len(followed.messages) // 2 :]
    for seen in (followed.messages, compacted(followed.messages)):
        follower = Follower()
        follower.read(seen)
        assert follower.sides == standing
    follower = Follower()
    follower.read(late)
    assert follower.sides == standing


async def answers_of(site: Site) -> dict[str, dict[str, str | bool]]:
    """Where everyone stands, by the store: there are too many to ask for each."""
    return {
        customer_id: {
            "value_tier": each.tier,
            "segment": each.segment,
            "service_level": each.service_level,
            "churn_warning": each.churn_warning,
        }
        for customer_id, each in (await site.store.snapshots()).items()
    }


async def test_snapshots_come_on_schedule(site: Site, kafka: EmbeddedKafka, followed: Followed) -> None:
    site.start(SNAPSHOT_HOURS="0.0002")
    await deliver(site, kafka, orders(5))
    await site.is_in(5)
    await followed.until_ended(2)
    assert len(followed.ended()) >= 2
