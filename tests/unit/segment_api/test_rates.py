"""Token buckets: a rate is kept, a burst is let through, memory has an end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_api.rates import Buckets


class Watch:
    passed = 100.0

    def __call__(self) -> float:
        return self.passed


def test_a_burst_is_let_through_and_then_the_rate_holds() -> None:
    watch = Watch()
    buckets = Buckets(watch)
    assert [buckets.take("a", rate=2, burst=4) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    watch.passed += 0.5
    assert [buckets.take("a", rate=2, burst=4) for _ in range(2)] == [0, 0.5]
    watch.passed += 3_600
    assert [buckets.take("a", rate=2, burst=4) for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_asking_takes_nothing() -> None:
    buckets = Buckets(Watch())
    for _ in range(10):
        assert buckets.wait("a", rate=1, burst=1) == 0
    assert buckets.take("a", rate=1, burst=1) == 0
    assert buckets.wait("a", rate=1, burst=1) == pytest.approx(1)


def test_callers_do_not_meet_each_other() -> None:
    buckets = Buckets(Watch())
    assert buckets.take("a", rate=1, burst=1) == 0
    assert buckets.take("b", rate=1, burst=1) == 0


def test_memory_has_an_end_and_the_longest_silent_are_forgotten() -> None:
    buckets = Buckets(Watch(), most=3)
    for caller in "abcd":
        buckets.take(caller, rate=1, burst=1)
    assert len(buckets) == 3
    assert buckets.wait("a", rate=1, burst=1) == 0  # forgotten
    assert buckets.wait("d", rate=1, burst=1) > 0


@given(st.lists(st.floats(0, 2), max_size=60))
def test_nobody_gets_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    watch = Watch()
    buckets = Buckets(watch)
    let_in = 0
    for pause in pauses:
        watch.passed += pause
        let_in += buckets.take("a", rate=3, burst=5) == 0
    assert let_in <= 5 + 3 * sum(pauses) + 1e-6
