"""What a worker says of itself: who waits for what since when, and when a new process would do better."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from ingest_worker.condition import (
    REBUILDS_IN_VAIN,
    STALL_SECONDS,
    Awaited,
    Condition,
    Obstacle,
    Part,
    awaited_after,
)
from ingest_worker.consumer import ConsumerSilent, PositionOutOfRange
from segmentation.errors import NotReady, PartitionLost, StoreUnavailable
from segmentation.outcomes import Partition

BEGAN: Final = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@dataclass
class Clocks:
    """Both clocks, moved by hand."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def condition(clocks: Clocks) -> Condition:
    return Condition(now=clocks.now, monotonic=clocks.monotonic)


def waits(condition: Condition) -> list[tuple[str, str, float]]:
    return [(wait.part, wait.awaited, (wait.since - BEGAN).total_seconds()) for wait in condition.waiting]


def test_a_worker_begins_by_waiting_for_its_partitions(condition: Condition) -> None:
    assert waits(condition) == [("consumer", "partitions", 0)]
    condition.works(Part.CONSUMER)
    assert waits(condition) == []


def test_since_when_stays_while_a_part_waits_for_the_same(condition: Condition, clocks: Clocks) -> None:
    """Whatever its last words on it are."""
    condition.waits(Part.CONSUMER, Awaited.DATABASE, "first")
    clocks.seconds = 30
    condition.waits(Part.CONSUMER, Awaited.DATABASE, "second")
    assert waits(condition) == [("consumer", "database", 0)]
    assert condition.waiting[0].detail == "second"
    condition.waits(Part.CONSUMER, Awaited.BROKER, "third")
    assert waits(condition) == [("consumer", "broker", 30)]
    condition.works(Part.CONSUMER)
    clocks.seconds = 40
    condition.waits(Part.CONSUMER, Awaited.BROKER, "fourth")
    assert waits(condition) == [("consumer", "broker", 40)]


def test_parts_wait_independently(condition: Condition) -> None:
    condition.waits(Part.RELAY, Awaited.BROKER, "")
    condition.waits(Part.KEEPER, Awaited.DATABASE, "")
    assert [part for part, _, _ in waits(condition)] == ["consumer", "keeper", "relay"]
    condition.works(Part.KEEPER)
    condition.works(Part.KEEPER)
    assert [part for part, _, _ in waits(condition)] == ["consumer", "relay"]


def test_a_wait_is_described_for_people(condition: Condition, clocks: Clocks) -> None:
    clocks.seconds = 1.5
    condition.waits(Part.CONSUMER, Awaited.TOPICS, "missing: a")
    assert condition.waiting[0].described() == {
        "part": "consumer",
        "for": "topics",
        "since": "2026-11-22T08:00:01.500Z",
        "detail": "missing: a",
    }


def test_a_loop_that_does_not_turn_is_an_ailment(condition: Condition, clocks: Clocks) -> None:
    """The loop itself is measured: that the process answers proves nothing."""
    clocks.seconds = STALL_SECONDS
    assert condition.ailment() is None
    clocks.seconds += 1
    assert "301 s" in (condition.ailment() or "")
    condition.turned()
    assert condition.ailment() is None
    assert condition.seconds_since_turn == 0


def test_waiting_is_no_ailment(condition: Condition, clocks: Clocks) -> None:
    """A new process would have to wait as well."""
    for part in Part:
        condition.waits(part, Awaited.DATABASE, "")
    clocks.seconds = 10 * STALL_SECONDS
    condition.turned()
    assert condition.ailment() is None


def test_rebuilding_in_vain_is_an_ailment(condition: Condition) -> None:
    condition.rebuilds_in_vain = REBUILDS_IN_VAIN - 1
    assert condition.ailment() is None
    condition.rebuilds_in_vain = REBUILDS_IN_VAIN
    assert "in vain" in (condition.ailment() or "")


def test_what_is_held_is_a_copy(condition: Condition) -> None:
    lags = {Partition("t", 0): 3}
    condition.holds(lags)
    lags.clear()
    assert condition.lags == {Partition("t", 0): 3}


@pytest.mark.parametrize(
    ("error", "awaited"),
    [
        (StoreUnavailable("x"), Awaited.DATABASE),
        (NotReady("x"), Awaited.DATABASE),
        (PartitionLost([("t", 0)]), Awaited.PARTITIONS),
        (PositionOutOfRange("x"), Awaited.POSITION),
        (ConsumerSilent("x"), Awaited.MESSAGES),
        (KafkaConnectionError("x"), Awaited.BROKER),
        (KafkaTimeoutError("x"), Awaited.BROKER),
        (ConnectionRefusedError("x"), Awaited.BROKER),
    ],
)
def test_each_failure_says_what_is_waited_for(error: Exception, awaited: Awaited) -> None:
    assert awaited_after(error) is awaited


def test_every_obstacle_says_what_is_waited_for() -> None:
    assert {each.awaited for each in Obstacle.__subclasses__()} == {Awaited.POSITION, Awaited.MESSAGES}
