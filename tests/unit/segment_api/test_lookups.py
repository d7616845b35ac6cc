"""What is kept and what is not: by a clock and a store of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from prometheus_client import CollectorRegistry
from tests.unit.segment_api.test_presenting import ANSWER, DAY, NOW, POLICY, SNAPSHOT

from segment_api.lookups import AWAY_SECONDS, TRUSTED_SECONDS, Lookups
from segment_api.replies import render
from segment_api.telemetry import LookupFigures
from segmentation.answers import Answers
from segmentation.errors import StoreUnavailable
from segmentation.fields import CustomerId
from segmentation.ledger import House
from segmentation.overrides import Override
from segmentation.watching import Look

C1: Final = CustomerId("C-1")
LOOK: Final = Look(
    asked_at=0.0,
    anew=True,
    touched=(),
    basis="one",
    as_of=DAY,
    erasures=0,
    policy_version=3,
    tiers_as_of=DAY,
    unsettled_seconds=None,
)


class Bench:
    """The clock, the store, and what is kept of it."""

    def __init__(self, most_bytes: int = 1_000_000) -> None:
        self.passed = 1_000.0
        self.customers = {C1: ANSWER}
        self.reads: list[list[CustomerId]] = []
        self.hold: asyncio.Event | None = None
        self.failure: Exception | None = None
        self.registry = CollectorRegistry()
        self.lookups = Lookups(
            self,  # type: ignore[arg-type]  # all that it is asked for
            House("event", "CNY", "UTC"),
            now=lambda: NOW,
            monotonic=lambda: self.passed,
            most_bytes=most_bytes,
            figures=LookupFigures(self.registry),
        )

    async def answers(self, customer_ids: Iterable[CustomerId], *, now: datetime) -> Answers:
        assert now == NOW
        asked = list(customer_ids)
        self.reads.append(asked)
        found = {each: self.customers[each] for each in asked if each in self.customers}
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return Answers(DAY, found, POLICY)

    def look(self, **what: Any) -> None:
        self.lookups.take(replace(LOOK, asked_at=self.passed, anew=False) if not what else self._look(**what))

    def _look(self, **what: Any) -> Look:
        return replace(LOOK, **({"asked_at": self.passed, "anew": False} | what))

    def is_kept(self, customer_id: CustomerId = C1, language: str = "en") -> bool:
        return self.lookups.hit(customer_id, language) is not None

    async def ask(self, customer_id: CustomerId = C1, language: str = "en") -> bytes | None:
        reply = await self.lookups.reply(customer_id, language)
        return None if reply is None else reply.body

    @property
    def size(self) -> float:
        return self.registry.get_sample_value("tierline_lookup_bytes") or 0.0


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.look(anew=True)
    return bench


async def test_nothing_is_kept_before_the_first_look() -> None:
    bench = Bench()
    assert await bench.ask() is not None
    bench.look(anew=True)
    assert not bench.is_kept()


async def test_what_was_read_is_kept_in_its_language_until_it_is_touched(bench: Bench) -> None:
    read = await bench.ask()
    assert await bench.ask() == read
    assert bench.reads == [[C1]]
    assert not bench.is_kept(language="zh")
    bench.look(touched=["C-2"])
    assert bench.is_kept()
    bench.look(touched=["C-1"])
    assert not bench.is_kept()


@pytest.mark.parametrize("what", [{"anew": True}, {"basis": "two"}, {"as_of": DAY + timedelta(days=1)}])
async def test_nothing_of_before_counts_when_everything_may_have_changed(bench: Bench, what: dict[str, Any]) -> None:
    await bench.ask()
    assert bench.is_kept()
    bench.look(**what)
    assert not bench.is_kept()


async def test_the_age_of_the_last_look_counts_at_the_moment_of_the_answer(bench: Bench) -> None:
    """Whatever kept the process from looking, or from answering."""
    await bench.ask()
    bench.passed += TRUSTED_SECONDS
    assert bench.is_kept()
    bench.passed += 0.001
    assert not bench.is_kept()
    await bench.ask()
    assert len(bench.reads) == 2
    bench.look()
    assert bench.is_kept()


async def test_an_answer_read_before_a_touch_that_is_known_by_now_is_not_kept(bench: Bench) -> None:
    for what in ({"touched": ["C-1"]}, {"anew": True}, {"basis": "another"}, {"policy_version": 4}):
        bench.hold = asyncio.Event()
        asked = asyncio.create_task(bench.ask())
        await asyncio.sleep(0.01)
        assert bench.reads
        bench.look(**what)
        bench.hold.set()
        assert await asked is not None
        bench.look(**({"basis": "another"} if "basis" in what else {}))
        assert not bench.is_kept(), what
        bench.hold = None
        bench.reads.clear()
        bench.look(anew=True)


async def test_who_asks_during_a_read_is_answered_by_the_next_one(bench: Bench) -> None:
    """Nobody gets an answer that is older than the question; and many who ask at once are one question."""
    bench.hold = asyncio.Event()
    asked = [asyncio.create_task(bench.ask()) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert bench.reads[0] == [C1]
    others = [asyncio.create_task(bench.ask(CustomerId(f"X-{number}"))) for number in range(20)]
    await asyncio.sleep(0.01)
    bench.hold.set()
    assert len(set(await asyncio.gather(*asked))) == 1
    assert set(await asyncio.gather(*others)) == {None}
    assert len(bench.reads) < 10


async def test_memory_is_bounded_and_who_was_not_asked_for_goes_first() -> None:
    one = render(ANSWER, "en").size
    bench = Bench(most_bytes=3 * one + 100)
    bench.look(anew=True)
    ids = [CustomerId(f"C-{number}") for number in range(1, 7)]
    bench.customers = {each: replace(ANSWER, snapshot=structs.replace(SNAPSHOT, customer_id=each)) for each in ids}
    for each in ids[:3]:
        await bench.ask(each)
    assert bench.is_kept(C1)  # asked for, so the next one is the oldest
    await bench.ask(ids[3])
    assert [bench.is_kept(each) for each in ids] == [True, False, True, True, False, False]
    assert 0 < bench.size <= 3 * one + 100
    for each in ids:
        bench.look(touched=[each])
    assert bench.size == 0
    for number in range(100):
        assert await bench.ask(CustomerId(f"nobody-{number}")) is None
    assert bench.size == 0


async def test_tiers_that_are_behind_make_what_is_kept_stale_and_back(bench: Bench) -> None:
    bench.customers[C1] = replace(ANSWER, stale=True)  # it was read while they were behind
    assert await bench.ask() == render(replace(ANSWER, stale=True), "en").body
    fresh = bench.lookups.hit(C1, "en")
    assert fresh is not None
    assert fresh.body == render(ANSWER, "en").body
    bench.look(unsettled_seconds=0.9)
    assert bench.lookups.hit(C1, "en") == fresh
    bench.passed += 0.2
    for what in ({}, {"tiers_as_of": None}, {"tiers_as_of": DAY - timedelta(days=1)}):
        stale = bench.lookups.hit(C1, "en")
        assert stale is not None
        assert stale.tag != fresh.tag
        assert stale.body == render(replace(ANSWER, stale=True), "en").body
        bench.look(**({"tiers_as_of": None} | what))
    bench.look()
    assert bench.lookups.hit(C1, "en") == fresh


async def test_while_the_store_is_away_what_is_kept_goes_on_as_stale_for_a_while(bench: Bench) -> None:
    await bench.ask()
    bench.failure = StoreUnavailable("away")
    bench.passed += TRUSTED_SECONDS + 1
    for _ in range(5):
        assert await bench.ask() == render(replace(ANSWER, stale=True), "en").body
    assert len(bench.reads) == 2  # it is not asked again and again
    with pytest.raises(StoreUnavailable):
        await bench.ask(CustomerId("C-2"))
    bench.passed += AWAY_SECONDS
    with pytest.raises(StoreUnavailable):
        await bench.ask()


async def test_of_the_erased_nothing_is_left_for_worse_days(bench: Bench) -> None:
    await bench.ask()
    bench.look(erasures=1, basis="two")
    bench.failure = StoreUnavailable("away")
    bench.passed += TRUSTED_SECONDS + 1
    with pytest.raises(StoreUnavailable):
        await bench.ask()


async def test_who_turns_out_to_be_unknown_is_dropped(bench: Bench) -> None:
    await bench.ask()
    bench.look(basis="two")
    del bench.customers[C1]
    assert await bench.ask() is None
    bench.failure = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await bench.ask()


async def test_a_store_that_says_nothing_keeps_nobody_waiting_who_could_be_answered(bench: Bench) -> None:
    await bench.ask()
    bench.hold = asyncio.Event()
    bench.passed += TRUSTED_SECONDS + 1
    assert await bench.ask() == render(replace(ANSWER, stale=True), "en").body
    bench.hold.set()


texts = st.text(max_size=40) | st.sampled_from(['"stale":false', '\\"stale\\":false', '","stale":false,"'])


@given(texts, texts, st.sampled_from(("en", "zh")))
def test_gone_stale_is_the_rendering_of_the_same_answer_that_is_stale(reason: str, author: str, language: str) -> None:
    override = Override(
        tier=None, service_level="vip", reason=reason, author=author, expires_on=DAY + timedelta(days=9), set_at=NOW
    )
    answer = replace(ANSWER, snapshot=structs.replace(SNAPSHOT, override=override))
    assert render(answer, language).gone_stale() == render(replace(answer, stale=True), language)
