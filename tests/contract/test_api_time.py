"""What the passing of time alone does to answers: they are of the current day, or say that they are stale."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any, Final

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, running
from tests.support.builders import a_complaint, a_feedback, a_return, an_order
from tests.support.ledgers import NO_GRACE

from segmentation.storage.engine import create_engine, transaction

START: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine, now=START) as api:
        yield api


def order_of(customer_id: str, amount: str, *, at: str = "2026-03-01T11:00:00Z") -> dict[str, Any]:
    name = f"{customer_id} {at}"
    return an_order(event_id=name, order_id=name, customer_id=customer_id, amount=amount, occurred_at=at)


async def unsettled_for(engine: AsyncEngine, seconds: float) -> None:
    """Puts the oldest event that the ranking does not cover that far back; below 0 for one of this very moment."""
    async with transaction(engine) as connection:
        await connection.execute(
            text(
                "UPDATE partitions SET unsettled_since = clock_timestamp() - make_interval(secs => :seconds) "
                "WHERE unsettled_since IS NOT NULL"
            ),
            {"seconds": seconds},
        )


# --- windows, lifecycle, segment ------------------------------------------------------------------------------------


@pytest.mark.parametrize("swept", [False, True], ids=["before the sweep", "after it"])
async def test_windows_shrink_without_any_event(api: Api, swept: bool) -> None:
    """On every day something leaves; the oracle says what is left."""
    await api.fed(
        order_of("C-1", "100.00"),
        order_of("C-1", "7.77", at="2026-02-20T00:00:00Z"),
        a_return(customer_id="C-1", amount="30.00", occurred_at="2026-02-27T00:00:00Z"),
        a_complaint(customer_id="C-1", occurred_at="2026-02-28T23:59:59Z"),
        a_feedback(customer_id="C-1", occurred_at="2026-02-28T00:00:00Z"),
    )
    seen = []
    for days in (0, 1, 5, 1, 1, 14, 8, 1, 59, 1, 1, 273, 1, 1, 400):
        api.clock.advance(days=days)
        if swept:
            await api.settle()
        answer = await api.read("/customers/C-1/metrics")
        assert answer == api.oracle.metrics("C-1", api.as_of)
        seen.append([answer["windows"][name]["orders"] for name in ("7d", "30d", "90d", "365d")])
    assert seen[0] == [1, 2, 2, 2]
    assert seen[-1] == [0, 0, 0, 0]


@pytest.mark.parametrize("swept", [False, True], ids=["before the sweep", "after it"])
async def test_lifecycle_and_segment_follow_the_days(engine: AsyncEngine, swept: bool) -> None:
    """One order and then silence; nobody but the keeper takes the tier away, so until it comes the answer is stale."""
    async with running(engine, now=START, policy=NO_GRACE) as api:
        await api.fed(order_of("C-1", "100.00"))
        passed = 0
        for day, lifecycle, segment, left in (
            (0, "new", "strategic", "newcomer"),
            (59, "new", "strategic", "newcomer"),
            (60, "active", "strategic", "standard"),
            (90, "active", "strategic", "standard"),
            (91, "at_risk", "key_at_risk", "standard"),
            (180, "at_risk", "key_at_risk", "standard"),
            (181, "dormant", "key_at_risk", "inactive"),
            (365, "dormant", "key_at_risk", "inactive"),
            (366, "lost", "key_at_risk", "inactive"),
        ):
            api.clock.advance(days=day - passed)
            passed = day
            if swept:
                await api.settle()
            answer = await api.segment()
            # On day 365 the order leaves the window that tiers are made of.
            tier, expected = ("unrated", left) if swept and day >= 365 else ("A", segment)
            assert answer["as_of"] == api.as_of.isoformat()
            assert (answer["lifecycle"], answer["value_tier"]) == (lifecycle, tier), day
            assert answer["segment"]["code"] == expected, day
            assert answer["stale"] is (not swept and day > 0), day
            assert (await api.segments("C-1"))["customers"] == [answer]


async def test_since_is_the_day_on_which_it_came_about(api: Api) -> None:
    """Whether the sweep has seen it or not, and however long it lasts."""
    await api.fed(order_of("C-1", "100.00"))
    api.clock.advance(days=91)
    assert (await api.segment())["segment"] | {"name": ""} == {
        "code": "key_at_risk",
        "name": "",
        "since": "2026-05-31",
        "source": "rules",
        "confidence": None,
    }
    await api.settle()
    api.clock.advance(days=20)
    await api.settle()
    answer = await api.segment()
    assert (answer["segment"]["since"], answer["tier"]["since"]) == ("2026-05-31", "2026-03-01")


async def test_a_demotion_takes_its_grace_and_says_when(api: Api) -> None:
    """Overtaken on the second day; on the sixteenth it has held for fourteen that closed."""
    await api.fed(order_of("C-1", "100.00"))
    api.clock.advance(days=1)
    await api.fed(order_of("C-2", "99999.00", at="2026-03-02T11:00:00Z"))
    answer = await api.segment()
    assert (answer["value_tier"], answer["tier"]) == (
        "A",
        {
            "effective": "A",
            "computed": "C",
            "since": "2026-03-01",
            "demotion_due": "2026-03-16",
            "override": None,
        },
    )
    for day, tier, level in ((15, "A", "vip"), (16, "C", "standard")):
        api.clock.now = START.replace(day=day)
        answer = await api.segment()
        assert (answer["value_tier"], answer["tier"]["effective"]) == (tier, tier)
        assert answer["recommended_service_level"]["code"] == level
        assert answer["tier"]["computed"] == "C"
    assert (answer["tier"]["since"], answer["tier"]["demotion_due"]) == ("2026-03-16", None)
    await api.settle()
    settled = await api.segment()
    assert settled["tier"] == answer["tier"]


async def test_the_day_is_the_business_days(engine: AsyncEngine) -> None:
    """Midnight in Shanghai is four in the afternoon in UTC."""
    async with running(engine, now=datetime(2026, 3, 1, 15, 59, 59, tzinfo=UTC), timezone="Asia/Shanghai") as api:
        await api.fed(order_of("C-1", "100.00"))
        assert (await api.segment())["as_of"] == "2026-03-01"
        api.clock.advance(seconds=1)
        for path in ("/customers/C-1/segment", "/customers/C-1/metrics", "/ingest/status"):
            assert (await api.read(path))["as_of"] == "2026-03-02"
        assert (await api.segments("C-1"))["as_of"] == "2026-03-02"


async def test_with_the_events_clock_only_events_move_the_day(engine: AsyncEngine) -> None:
    """Years may pass; a day comes with the first event of it."""
    async with running(engine, now=START, clock="event") as api:
        await api.fed(order_of("C-1", "100.00"))
        api.clock.advance(days=1_000)
        answer = await api.segment()
        assert (answer["as_of"], answer["lifecycle"], answer["stale"]) == ("2026-03-01", "new", False)
        assert (await api.read("/ingest/status"))["clock"] == "event"
        await api.feed(a_complaint(customer_id="C-2", occurred_at="2026-06-01T00:00:00Z"))
        for path in ("/customers/C-1/segment", "/customers/C-1/metrics", "/ingest/status"):
            assert (await api.read(path))["as_of"] == "2026-06-01"
        answer = await api.segment()
        assert (answer["lifecycle"], answer["stale"]) == ("at_risk", True)
        assert await api.read("/customers/C-1/metrics") == api.oracle.metrics("C-1", date(2026, 6, 1))
        await api.settle()
        assert not (await api.segment())["stale"]


# --- stale ----------------------------------------------------------------------------------------------------------


async def test_cut_offs_of_an_older_day_are_stale(api: Api) -> None:
    await api.fed(order_of("C-1", "100.00"))
    assert not (await api.segment())["stale"]
    api.clock.advance(days=1)
    assert (await api.segment())["stale"]
    assert (await api.segments("C-1"))["customers"][0]["stale"]
    await api.settle()
    assert not (await api.segment())["stale"]


async def test_cut_offs_of_a_newer_day_are_not_older(api: Api) -> None:
    """Around midnight the keeper's clock may be ahead of the one that answers."""
    await api.fed(order_of("C-1", "100.00"))
    api.clock.advance(days=1)
    await api.settle()
    api.clock.advance(days=-1)
    answer = await api.segment()
    assert (answer["as_of"], answer["stale"]) == ("2026-03-01", False)


async def test_cut_offs_more_than_a_second_behind_the_events_are_stale(api: Api, engine: AsyncEngine) -> None:
    """Anyone's event can move anyone's tier, so it makes everyone's answer stale."""
    await api.fed(order_of("C-1", "100.00"))
    await api.feed(order_of("C-2", "1.00"))
    await unsettled_for(engine, -60)
    assert not (await api.segment())["stale"]
    await unsettled_for(engine, 1.001)
    assert (await api.segment())["stale"]
    assert (await api.segment("C-2"))["stale"]
    await api.settle()
    assert not (await api.segment())["stale"]
    assert not (await api.segment("C-2"))["stale"]


async def test_a_message_that_is_not_applied_makes_nothing_stale(api: Api, engine: AsyncEngine) -> None:
    await api.fed(order_of("C-1", "100.00"))
    await api.feed(order_of("C-1", "100.00"), order_of("C-1", "-1", at="2026-03-01T10:00:00Z"))
    await unsettled_for(engine, 60)
    assert not (await api.segment())["stale"]


# --- tags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swept", [False, True], ids=["before the sweep", "after it"])
async def test_the_tag_covers_the_day(api: Api, swept: bool) -> None:
    """Nothing else changes from the second day to the third."""
    await api.fed(order_of("C-1", "100.00"))
    tags: list[str] = []
    for _ in range(3):
        api.clock.advance(days=1)
        if swept:
            await api.settle()
        answer = await api.ask("/customers/C-1/segment", headers={"If-None-Match": tags[-1]} if tags else {})
        tags.append(answer.headers["etag"])
    assert len(set(tags)) == 3


async def test_asking_again_on_a_new_day_is_304_also_before_the_sweep(api: Api) -> None:
    """Something has come due; the tag is for what the answer says, not for when somebody asked."""
    await api.fed(order_of("C-1", "100.00"))
    api.clock.advance(days=91)
    first = await api.ask("/customers/C-1/segment")
    assert first.json()["lifecycle"] == "at_risk"
    api.clock.advance(seconds=5)
    await api.ask("/customers/C-1/segment", status=304, headers={"If-None-Match": first.headers["etag"]})


async def test_updated_at_is_the_moment_of_the_assessment(api: Api) -> None:
    """Whoever asks later sees no later time."""
    await api.fed(order_of("C-1", "100.00"))
    api.clock.advance(hours=1, microseconds=1_999)
    assert (await api.segment())["updated_at"] == "2026-03-01T12:00:00.000Z"
    await api.fed(order_of("C-1", "1.00", at="2026-03-01T12:30:00Z"))
    assert (await api.segment())["updated_at"] == "2026-03-01T13:00:00.001Z"
