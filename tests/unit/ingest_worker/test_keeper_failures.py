"""What goes wrong beside the tiers does not keep them waiting."""

import asyncio
from datetime import UTC, datetime

import pytest
from tests.support.ledgers import in_memory
from tests.support.oracle import Setting

from ingest_worker.condition import Condition
from ingest_worker.keeper import Keeper
from ingest_worker.telemetry import DutyMetrics
from ingest_worker.waiting import Backoff

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Broken:
    """Retention that fails each time."""

    attempts = 0

    async def drop_expired(self, *, days: int, now: datetime, limit: int) -> bool:
        self.attempts += 1
        raise ValueError((days, now, limit))

    async def forget_touched(self) -> None:
        pass


async def test_dropping_that_fails_is_not_tried_again_at_once() -> None:
    retention, stop = Broken(), asyncio.Event()
    stop.set()
    keeper = Keeper(
        await in_memory(Setting()),
        now=lambda: NOW,
        stop=stop,
        condition=Condition(now=lambda: NOW, monotonic=lambda: 0.0),
        metrics=DutyMetrics(),
        backoff=Backoff(chance=lambda: 0.0),
        retention=retention,
        retain_days=30,
    )
    with pytest.raises(ValueError, match="30"):
        await keeper._keep()
    for _ in range(3):
        await keeper._keep()
    assert retention.attempts == 1
