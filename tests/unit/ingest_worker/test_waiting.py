"""How long is waited after failures."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.waiting import Backoff


def backoff(chance: float) -> Backoff:
    return Backoff(chance=lambda: chance, first_seconds=0.5, longest_seconds=15)


def test_each_wait_is_twice_as_long_up_to_the_limit() -> None:
    longest = backoff(1.0)
    assert [longest.next() for _ in range(8)] == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_half_of_it_is_left_to_chance() -> None:
    """So it is never nothing, and workers who failed together come back apart."""
    shortest = backoff(0.0)
    assert [shortest.next() for _ in range(7)] == [0.25, 0.5, 1, 2, 4, 7.5, 7.5]


def test_success_begins_anew() -> None:
    waits = backoff(1.0)
    for _ in range(20):
        waits.next()
    waits.reset()
    assert [waits.next(), waits.next()] == [0.5, 1]


@given(st.integers(0, 2**32), st.integers(1, 5_000))
def test_no_wait_is_longer_than_the_limit_or_shorter_than_half_the_first(seed: int, failures: int) -> None:
    waits = Backoff(chance=random.Random(seed).random, first_seconds=0.5, longest_seconds=15)
    assert all(0.25 <= waits.next() <= 15 for _ in range(failures))
