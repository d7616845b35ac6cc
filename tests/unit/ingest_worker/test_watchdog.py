"""When a consumer is silent, and above all when it is not."""

from __future__ import annotations

from typing import Final

import pytest

from ingest_worker.watchdog import Watchdog
from segmentation.outcomes import Partition

ONE, OTHER = Partition("orders", 0), Partition("orders", 1)
LIMIT: Final = 30.0


@pytest.fixture
def watchdog() -> Watchdog:
    watchdog = Watchdog(limit_seconds=LIMIT)
    watchdog.begin([ONE, OTHER])
    return watchdog


def stand(
    watchdog: Watchdog, *, seconds: range, position: int = 5, end: int = 6, brought: tuple[Partition, ...] = ()
) -> list[Partition]:
    """Partition ONE stands there while polls go on; what was found silent at the end."""
    silent: list[Partition] = []
    for second in seconds:
        watchdog.polled([ONE, OTHER], brought, had_room=True, at=second)
        silent = watchdog.look({ONE: position, OTHER: 0}, {ONE: end, OTHER: 0}, at=second)
    return silent


def test_messages_that_do_not_come_for_the_whole_limit_are_silence(watchdog: Watchdog) -> None:
    assert stand(watchdog, seconds=range(30)) == []
    assert stand(watchdog, seconds=range(30, 31)) == [ONE]


def test_a_partition_read_to_its_end_is_not_silent(watchdog: Watchdog) -> None:
    """At the isolation level in force: what an open transaction holds back is no end."""
    assert stand(watchdog, seconds=range(1_000), position=6, end=6) == []


def test_a_message_after_a_long_quiet_has_the_whole_limit_to_come(watchdog: Watchdog) -> None:
    stand(watchdog, seconds=range(1_000), position=6, end=6)
    assert stand(watchdog, seconds=range(1_000, 1_030), position=6, end=7) == []
    assert stand(watchdog, seconds=range(1_030, 1_031), position=6, end=7) == [ONE]


def test_a_partition_that_moves_is_not_silent_however_far_behind(watchdog: Watchdog) -> None:
    for second in range(200):
        assert stand(watchdog, seconds=range(second, second + 1), position=second // 29, end=10_000) == []


def test_a_partition_that_waits_its_turn_behind_others_is_not_silent(watchdog: Watchdog) -> None:
    """Polls that came back full say nothing of what they had no room for."""
    for second in range(1_000):
        watchdog.polled([ONE, OTHER], [OTHER], had_room=False, at=second)
        assert watchdog.look({ONE: 5}, {ONE: 6}, at=second) == []


def test_a_batch_that_takes_long_is_no_silence(watchdog: Watchdog) -> None:
    """While the loop records, or waits for the database, it does not poll."""
    stand(watchdog, seconds=range(1))
    assert watchdog.look({ONE: 5}, {ONE: 6}, at=1_000) == []
    watchdog.polled([ONE, OTHER], [ONE], had_room=True, at=1_001)
    assert watchdog.look({ONE: 6}, {ONE: 6}, at=1_002) == []


def test_a_partition_that_is_paused_is_not_looked_at(watchdog: Watchdog) -> None:
    stand(watchdog, seconds=range(29))
    assert watchdog.look({OTHER: 0}, {ONE: 6, OTHER: 0}, at=500) == []
    # and has the whole limit again once it goes on
    assert stand(watchdog, seconds=range(500, 530)) == []


def test_a_new_claim_begins_anew(watchdog: Watchdog) -> None:
    stand(watchdog, seconds=range(30))
    watchdog.begin([ONE, OTHER])
    assert stand(watchdog, seconds=range(30, 60)) == []


def test_silence_of_the_same_partition_again_is_in_vain_until_it_brings_something(watchdog: Watchdog) -> None:
    for times in (1, 2, 3):
        assert stand(watchdog, seconds=range(31)) == [ONE]
        assert watchdog.rebuilds_in_vain == times
        watchdog.begin([ONE, OTHER])
    watchdog.polled([ONE, OTHER], [OTHER], had_room=True, at=40)
    assert watchdog.rebuilds_in_vain == 3
    watchdog.polled([ONE, OTHER], [ONE], had_room=True, at=41)
    assert watchdog.rebuilds_in_vain == 0


def test_a_partition_that_went_to_another_worker_is_forgotten(watchdog: Watchdog) -> None:
    stand(watchdog, seconds=range(31))
    watchdog.begin([OTHER])
    assert watchdog.rebuilds_in_vain == 0
