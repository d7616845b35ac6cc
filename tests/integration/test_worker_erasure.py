"""Erasures as a whole site meets them: two workers, the topic of changes, the commands, a start with another key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import text
from tests.support.builders import a_complaint, an_order, as_message
from tests.support.kafka import TOPIC_SETTINGS, produce, spread
from tests.support.workers import Site, command, eventually

from local_stack.kafka import EmbeddedKafka
from segmentation.storage.engine import transaction

pytestmark = pytest.mark.kafka

GONE = "Gone-1"
KEY = "a key that is long enough to be one"


async def records_until_tombstone(servers: str, topic: str) -> list[Any]:
    """Of the customer, all that is on the topic up to its tombstone and a while after it."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    try:
        async with asyncio.timeout(120):
            while not any(record.value is None for record in found):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [record for record in records if record.key == GONE.encode()]
            for records in (await consumer.getmany(timeout_ms=2_000)).values():
                found += [record for record in records if record.key == GONE.encode()]
    finally:
        await consumer.stop()
    return found


async def test_a_tombstone_ends_what_is_told_of_a_customer_and_no_worker_brings_it_back(
    site: Site, kafka: EmbeddedKafka
) -> None:
    topics = [site.settings[setting] for setting in TOPIC_SETTINGS]
    messages = [
        as_message(an_order(customer_id=customer, event_id=f"{customer}-{n}", order_id=str(n), amount=str(10**n)))
        for n in range(4)
        for customer in (GONE, "C-2", "C-3")
    ]
    workers = site.start(BATCH_MESSAGES="3"), site.start(BATCH_MESSAGES="3")
    await site.is_shared_by(*workers)
    await produce(kafka.bootstrap_servers, spread(messages, topics, 4))
    await site.is_in(len(messages))

    said = site.command("erase", GONE, "--author", "li.wei", "--reason", "asked for it")
    assert said.startswith(f"{GONE}: erased (")
    assert "4 events" in said

    later = [
        as_message(a_complaint(customer_id=customer, event_id=f"{customer}-late-{n}"))
        for n in range(4)
        for customer in (GONE, "C-2")
    ]
    await produce(kafka.bootstrap_servers, spread([*later, *messages], topics, 4))
    status = await site.is_in(len(messages) * 2 + len(later))
    assert dict(status.events) == {"applied": 16, "duplicate": 8, "rejected": 0, "suppressed": 8}
    assert status.customers == 2
    records = await records_until_tombstone(kafka.bootstrap_servers, site.settings["TOPIC_CHANGES"])
    assert [record.value is None for record in records] == [False] * (len(records) - 1) + [True]
    positions = [json.loads(record.value)["sequence"] for record in records[:-1]]
    headers = dict(records[-1].headers)
    assert int(headers["tierline-sequence"]) > max(positions)
    assert site.command("check")


async def test_a_list_of_erasures_survives_a_restore(site: Site, kafka: EmbeddedKafka, tmp_path: Path) -> None:
    site.start()
    order = [as_message(an_order(customer_id=GONE)), as_message(an_order(customer_id="C-2", event_id="e-2"))]
    await produce(kafka.bootstrap_servers, spread(order, [site.settings["TOPIC_ORDERS"]], 1))
    await site.is_in(2)
    site.command("erase", GONE)
    listed = tmp_path / "erasures.csv"
    listed.write_text(site.command("erasures"))
    assert GONE not in listed.read_text()
    for worker in site.workers:
        worker.kill()
    # As a backup from before the erasure has it: the customer, and no word of the erasure.
    async with transaction(site.engine) as connection:
        await connection.execute(text("DELETE FROM erasures"))
        await connection.execute(text("UPDATE house SET erasures = 0, customers_erased = 0"))
        await connection.execute(text("INSERT INTO customers (customer_id) VALUES (:id)"), {"id": GONE})
    done = command("erasures", "--apply", str(listed), settings=site.settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 erasures are known now; 1 customers of them were there, and are erased again.\n"
    assert "was erased before" in site.command("erase", GONE)

    listed.write_text(listed.read_text().replace(",key", ",kay"))
    refused = command("erasures", "--apply", str(listed), settings=site.settings)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert "nothing was done" in refused.stderr


async def test_a_start_with_another_key_is_refused_in_one_line(site: Site) -> None:
    one, other = site.settings | {"ERASURE_KEY": KEY}, site.settings | {"ERASURE_KEY": KEY[::-1]}
    site.start(ERASURE_KEY=KEY)
    await site.status()
    async with transaction(site.engine) as connection:
        await connection.execute(text("INSERT INTO customers (customer_id) VALUES (:id)"), {"id": GONE})
    assert command("erase", GONE, settings=one).returncode == 0
    for settings in (other, site.settings):
        refused = command("run", settings=settings)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("ingest-worker: ERASURE_KEY is ")
        assert KEY not in refused.stderr
    unknown = command("erase", "nobody", "-", settings=one)
    assert (unknown.returncode, unknown.stdout.count("nobody of that id was ever heard of")) == (1, 2)
    named = command("erase", GONE, "--reason", f"{GONE} asked", settings=one)
    assert (named.returncode, named.stdout) == (1, "")


async def test_an_erasure_is_told_while_nobody_relays_and_relayed_later(site: Site, kafka: EmbeddedKafka) -> None:
    """What waits to be relayed is taken back: the topic never hears of it."""
    worker = site.start()
    topic = site.settings["TOPIC_ORDERS"]
    await produce(kafka.bootstrap_servers, spread([as_message(an_order(customer_id="C-2"))], [topic], 1))
    await site.is_in(1)

    async def relayed() -> bool:
        rows = await site.store.rows("SELECT relayed FROM feeds WHERE name = 'changes'")
        return bool(rows) and rows[0].relayed > 0

    await eventually(relayed, "the first change to be relayed")
    worker.kill()
    async with transaction(site.engine) as connection:
        await connection.execute(text("INSERT INTO customers (customer_id) VALUES (:id)"), {"id": GONE})
        await connection.execute(
            text("INSERT INTO changes (customer_id, payload) VALUES (:id, '{}'::jsonb)"), {"id": GONE}
        )
    site.command("erase", GONE)
    site.start()
    records = await records_until_tombstone(kafka.bootstrap_servers, site.settings["TOPIC_CHANGES"])
    assert [record.value for record in records] == [None]
