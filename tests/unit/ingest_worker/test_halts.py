"""What a session does about partitions that stand halted: it says so again and again, and asks whether they go on."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.histories import NOW
from tests.support.ledgers import TOPIC, Worker, in_memory
from tests.support.oracle import Message, Setting
from tests.support.workers import eventually

from ingest_worker import consumer
from ingest_worker.condition import Condition
from ingest_worker.settings import WorkerSettings
from ingest_worker.telemetry import Metrics
from ingest_worker.waiting import Backoff
from ingest_worker.watchdog import Watchdog
from segmentation.budget import RejectBudget
from segmentation.outcomes import Partition

P0, P1 = Partition(TOPIC, 0), Partition(TOPIC, 1)
BAD = Message(b"{")


class Client:
    """What the session asks of its Kafka client meanwhile."""

    def __init__(self, **_: Any) -> None:
        self.end = 7

    async def end_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(partitions, self.end)


async def test_a_halt_is_said_again_and_again_until_it_is_resumed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Meanwhile the lag is kept up; once resumed, the session claims anew, which is how it goes on."""
    monkeypatch.setattr(consumer, "AIOKafkaConsumer", Client)
    monkeypatch.setattr(consumer, "_ASK_HALTS_SECONDS", 0.01)
    monkeypatch.setattr(consumer, "_PAGE_SECONDS", 0.02)
    store = await in_memory(Setting(), budget=RejectBudget(consecutive=2))
    await Worker(store).read([BAD] * 4, partitions=(0, 1))
    settings = WorkerSettings(database_url="postgresql://a@b/c", kafka_bootstrap_servers="nowhere:1")
    clock = lambda: datetime(2026, 3, 1, tzinfo=UTC)  # noqa: E731
    session = consumer.Session(
        settings,
        store.ledger,
        owner="worker-1",
        now=clock,
        stop=asyncio.Event(),
        condition=Condition(now=clock, monotonic=lambda: 0.0),
        metrics=Metrics(),
        backoff=Backoff(chance=lambda: 0.0),
        watchdog=Watchdog(),
    )
    session._halts = dict(await store.ledger.halts([P0, P1]))
    assert set(session.halts) == {P0, P1}

    def said(partition: Partition) -> int:
        fields = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "partition.halted"]
        return sum((each["topic"], each["partition"]) == partition for each in fields)

    async def said_thrice() -> bool:
        return min(said(P0), said(P1)) >= 3

    async def claims_anew() -> bool:
        return session._claiming.is_set()

    with caplog.at_level(logging.ERROR, logger="ingest_worker"):
        watching = asyncio.create_task(session._watch_halts())
        await eventually(said_thrice, "both halts to be said again and again")
        assert not session._claiming.is_set()
        assert [row.lag for row in (await store.status(now=NOW)).partitions] == [5, 5]
        await store.ledger.resume([P1])
        await eventually(claims_anew, "the session to claim what was resumed")
        watching.cancel()
    fields = vars(caplog.records[0])["fields"]
    assert fields["reasons"] == {"invalid_json": 2}
    assert fields["because"] == "2 messages in a row were rejected; 2 are too many"
    assert fields["remedy"].endswith(f"`ingest-worker resume {fields['topic']}/{fields['partition']}`")
