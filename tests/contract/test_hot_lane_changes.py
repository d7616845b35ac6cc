"""The hot lane follows what changes, lets in whom the others let in, and is not trusted while it cannot follow."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.access import SOMEBODY, bearer, new_key
from tests.support.api import cable_to, running
from tests.support.builders import a_customer, an_order
from tests.support.lanes import Served, Told, a_request, served, wire_to
from tests.support.workers import eventually

from segment_api.app import Door
from segment_api.authenticating import Authenticator, Limits
from segmentation.access import Scope
from segmentation.fields import CustomerId
from segmentation.storage import touched
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.keys import PostgresKeys
from segmentation.storage.touched import Forgetting, tell_touched

OVERRIDE: Final = {"reason": "because", "author": "ops", "expires_on": "2026-12-31"}


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=8)
    yield engine
    await engine.dispose()


# --- who is let in --------------------------------------------------------------------------------------------------


async def test_who_is_not_let_in_gets_nothing_from_memory(engine: AsyncEngine, shared_database_url: str) -> None:
    """A key without the scope, a revoked key, none; and a key's limit holds for what comes from memory too."""
    async with running(engine) as api:
        await api.fed(an_order(event_id="order-C-1", customer_id="C-1"))
        keys = PostgresKeys(engine)
        passed = [1_000.0]
        authenticator = Authenticator(
            keys=keys, tokens=None, now=api.clock, monotonic=lambda: passed[0], limits=Limits()
        )
        reads, sends = await new_key(keys, Scope.READ), await new_key(keys, Scope.INGEST)
        slow = await new_key(keys, Scope.READ, requests_per_second=3.0)
        async with served(engine, shared_database_url, now=api.clock, door=Door(authenticator)) as hot:

            def showing(key: str | None) -> tuple[tuple[str, str], ...]:
                return tuple(bearer(key).items())

            await hot.kept("C-1", *showing(reads))
            before = hot.hits
            assert (await hot.segment("C-1", *showing(None))).status == 401
            assert (await hot.segment("C-1", *showing(reads + "x"))).status == 401
            assert (await hot.segment("C-1", *showing(reads), *showing(reads))).status == 401
            for _ in range(3):
                assert (await hot.segment("C-1", *showing(sends))).status == 403
            assert hot.hits == before
            statuses = [(await hot.segment("C-1", *showing(slow))).status for _ in range(8)]
            assert statuses == [200] * 6 + [429] * 2
            assert hot.hits > before
            (read_id,) = [each.id for each in await keys.all() if each.prefix in reads]
            await keys.revoke(read_id, now=api.clock(), by=SOMEBODY, reason=None)
            passed[0] += 6
            assert (await hot.segment("C-1", *showing(reads))).status == 401


# --- what changes ---------------------------------------------------------------------------------------------------


def answer_of(told: Told) -> dict[str, Any]:
    assert told.status == 200, told.raw
    answer: dict[str, Any] = json.loads(told.body)
    return answer


async def shows(hot: Served, name: str, value: Any, customer_id: str = "C-1") -> None:
    async def seen() -> bool:
        return bool(answer_of(await hot.segment(customer_id))[name] == value)

    await eventually(seen, f"{name} {value}")


async def test_a_change_is_seen_by_every_process(engine: AsyncEngine, shared_database_url: str) -> None:
    """Each with what it keeps for itself; a customer who was unknown a moment ago too."""
    async with running(engine) as api:
        await api.fed(an_order(event_id="order-C-1", customer_id="C-1"))
        async with (
            served(engine, shared_database_url, now=api.clock) as one,
            served(engine, shared_database_url, now=api.clock) as two,
        ):
            for each in (one, two):
                assert answer_of(await each.kept())["value_tier"] == "A"
                assert (await each.segment("C-9")).status == 404
            await api.feed(a_customer(event_id="customer-C-9", customer_id="C-9"))
            answer = await api.client.put("/customers/C-1/override", json=OVERRIDE | {"tier": "C"})
            assert answer.status_code == 200
            for each in (one, two):
                await shows(each, "value_tier", "C")
                await shows(each, "customer_id", "C-9", "C-9")
                await each.kept()
                assert each.count("tierline_lookup_dropped_total") >= 1


async def several(hot: Served, *customer_ids: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{hot.port}") as client:
        answer = await client.post("/customers/segments", json={"customer_ids": customer_ids})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_several_at_once_are_answered_by_what_is_kept_and_fill_it(
    engine: AsyncEngine, shared_database_url: str
) -> None:
    """The same answers as one by one; who is unknown, malformed or named twice is answered as ever."""
    async with running(engine) as api:
        await api.fed(*(an_order(event_id=f"order-C-{each}", customer_id=f"C-{each}") for each in range(1, 4)))
        asked = ["C-2", "C-9", "C-1", "not an id", "C-2"]
        async with served(engine, shared_database_url, now=api.clock) as hot:
            one = answer_of(await hot.kept("C-1"))
            assert await several(hot, *asked) == (await api.segments(*asked))
            assert (await several(hot, "C-1"))["customers"] == [one]

            async def all_are_kept() -> bool:
                before = hot.hits
                await several(hot, "C-1", "C-2")
                return hot.hits == before + 2

            await eventually(all_are_kept, "both from memory")
            override = await api.client.put("/customers/C-2/override", json=OVERRIDE | {"tier": "C"})
            assert override.status_code == 200
            await shows(hot, "value_tier", "C", "C-2")
            assert await several(hot, *asked) == (await api.segments(*asked))
            api.clock.advance(days=1)
            assert await several(hot, *asked) == (await api.segments(*asked))


async def test_who_was_erased_is_forgotten(engine: AsyncEngine, shared_database_url: str) -> None:
    async with running(engine) as api:
        await api.fed(an_order(event_id="order-C-1", customer_id="C-1"), an_order(event_id="two", customer_id="C-2"))
        async with served(engine, shared_database_url, now=api.clock) as hot:
            await hot.kept("C-1")
            assert (await api.client.delete("/customers/C-1")).status_code == 200

            async def is_gone() -> bool:
                return (await hot.segment("C-1")).status == 404

            await eventually(is_gone, "unknown")
            answer = await several(hot, "C-1", "C-2")
            assert [each["customer_id"] for each in answer["unknown"]] == ["C-1"]


async def test_a_new_day_and_a_new_policy_count_at_once(engine: AsyncEngine, shared_database_url: str) -> None:
    async with running(engine) as api:
        await api.fed(an_order(event_id="order-C-1", customer_id="C-1"))
        async with served(engine, shared_database_url, now=api.clock) as hot:
            before = answer_of(await hot.kept())
            api.clock.advance(days=1)
            after = answer_of(await hot.segment())
            assert after["as_of"] == (api.clock.now.date()).isoformat() != before["as_of"]
            assert after["stale"]  # nobody has settled the tiers of this day
            kept = await hot.kept()
            assert answer_of(kept)["stale"]
            assert kept.lasting == (await hot.segment()).lasting
            await api.settle()
            await shows(hot, "stale", value=False)
            async with transaction(engine) as connection:
                await connection.execute(
                    text("INSERT INTO policies (version, source) SELECT 2, source FROM policies WHERE version = 1")
                )
                await connection.execute(text("UPDATE house SET policy_version = 2"))
            await shows(hot, "versions", {"policy": 2, "model": None})


async def test_tiers_that_fall_behind_make_kept_answers_stale_by_the_clock_alone(
    engine: AsyncEngine, shared_database_url: str
) -> None:
    async with running(engine) as api:
        await api.fed(an_order(event_id="order-C-1", customer_id="C-1"))
        async with served(engine, shared_database_url, now=api.clock) as hot:
            fresh = await hot.kept()
            assert not answer_of(fresh)["stale"]
            await api.feed(an_order(event_id="order-C-2", customer_id="C-2"))  # and nobody settles
            await shows(hot, "stale", value=True)
            stale = await hot.kept()
            assert stale.header("etag") != fresh.header("etag")
            assert answer_of(stale) == answer_of(fresh) | {"stale": True}
            await api.settle()
            await shows(hot, "stale", value=False)


async def test_the_unknown_fill_no_memory(engine: AsyncEngine, shared_database_url: str) -> None:
    async with running(engine) as api:
        await api.fed(an_order(event_id="order-C-1", customer_id="C-1"))
        async with served(engine, shared_database_url, now=api.clock) as hot:
            await hot.kept()
            before = hot.count("tierline_lookup_bytes")
            async with wire_to(hot.port) as wire:
                for number in range(300):
                    assert (await wire.ask(a_request(f"/customers/X-{number}/segment"))).status == 404
            assert hot.count("tierline_lookup_customers") == 1
            assert hot.count("tierline_lookup_bytes") == before


# --- when something fails -------------------------------------------------------------------------------------------


async def test_a_cut_feed_is_not_trusted_and_begins_anew(engine: AsyncEngine, shared_database_url: str) -> None:
    """The connection that follows is ended again and again while customers change: none is older than the change."""
    async with running(engine) as api:
        await api.fed(an_order(event_id="order-C-1", customer_id="C-1"))
        async with served(engine, shared_database_url, now=api.clock) as hot:
            for tier in ("B", "C", "A", "B"):
                await hot.kept()
                ended = await api.store.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'segment-api feed' AND datname = current_database()"
                )
                assert len(ended) == 1
                await asyncio.sleep(0.6)  # longer than a look is trusted
                answer = await api.client.put("/customers/C-1/override", json=OVERRIDE | {"tier": tier})
                assert answer.status_code == 200
                await shows(hot, "value_tier", tier)
                assert answer_of(await hot.kept())["value_tier"] == tier


async def test_without_the_database_what_is_kept_goes_on_as_stale(
    engine: AsyncEngine, shared_database_url: str
) -> None:
    """The rest is refused for the moment; when it is back, answers are read anew."""
    async with running(engine) as api, cable_to(shared_database_url) as (cable, cut):
        await api.fed(
            an_order(event_id="order-C-1", customer_id="C-1"), an_order(event_id="order-C-2", customer_id="C-2")
        )
        async with served(cut, cable.url, now=api.clock) as hot:
            fresh = await hot.kept()
            await cable.cut()

            async def gone() -> bool:
                return bool(answer_of(await hot.segment())["stale"])

            await eventually(gone, "the database to be missed")
            for _ in range(3):
                stale = await hot.segment()
                assert answer_of(stale) == answer_of(fresh) | {"stale": True}
                assert stale.header("etag") != fresh.header("etag")
                known = await hot.segment("C-1", ("If-None-Match", stale.header("etag") or ""))
                assert known.status == 304
            refused = await hot.segment("C-2")
            assert refused.status == 503
            assert refused.header("retry-after") == "2"
            assert hot.count("tierline_lookups_total", outcome="away") >= 3
            answer = await api.client.put("/customers/C-1/override", json=OVERRIDE | {"tier": "C"})
            assert answer.status_code == 200
            await cable.plug()
            await shows(hot, "value_tier", "C")
            assert not answer_of(await hot.kept())["stale"]


# --- the feed -------------------------------------------------------------------------------------------------------


async def test_what_commits_late_is_seen_all_the_same(engine: AsyncEngine, shared_database_url: str) -> None:
    """A transaction that told first and committed last, beside others that were quicker: each is seen exactly once."""
    async with running(engine) as api:
        await api.fed(an_order(event_id="order-C-1", customer_id="C-1"))
        seen: list[str] = []
        looks = touched.PostgresWatch(engine).looks()
        first = await anext(looks)
        assert first.anew

        async def follow() -> None:
            async for look in looks:
                assert not look.anew
                seen.extend(look.touched)

        following = asyncio.create_task(follow())
        async with transaction(engine) as slow:
            await tell_touched(slow, [CustomerId("slow")])
            for number in range(20):
                async with transaction(engine) as quick:
                    await tell_touched(quick, [CustomerId(f"quick-{number}")])

            async def all_quick() -> bool:
                return len(seen) == 20

            await eventually(all_quick, "the quick ones")
            assert "slow" not in seen

        async def slow_too() -> bool:
            return "slow" in seen

        await eventually(slow_too, "the slow one")
        assert sorted(seen) == sorted(["slow", *(f"quick-{number}" for number in range(20))])
        following.cancel()
        await asyncio.wait([following])
        await looks.aclose()


async def test_what_everyone_has_seen_is_dropped_and_no_sooner(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(engine) as api:
        forgetting = Forgetting(engine)

        async def told() -> list[str]:
            return [row.customer_ids for row in await api.store.rows("SELECT customer_ids FROM touched ORDER BY id")]

        async with transaction(engine) as slow:
            await tell_touched(slow, [CustomerId("slow")])
            async with transaction(engine) as connection:
                await tell_touched(connection, [CustomerId("old")])
            await forgetting.step()
        async with transaction(engine) as connection:
            await tell_touched(connection, [CustomerId("new")])
        await forgetting.step()
        assert await told() == ["slow", "old", "new"]
        monkeypatch.setattr(touched, "KEPT_SECONDS", 0.0)
        await forgetting.step()
        assert await told() == ["slow", "new"]  # what committed after the first step has not been there long enough
        await forgetting.step()
        assert await told() == []


async def test_a_change_wakes_who_follows(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the next look of the clock's."""
    monkeypatch.setattr(touched, "_LOOK_SECONDS", timedelta(hours=1).total_seconds())
    async with running(engine):
        looks = touched.PostgresWatch(engine).looks()
        await anext(looks)
        began = time.monotonic()
        waiting = asyncio.ensure_future(anext(looks))
        async with transaction(engine) as connection:
            await tell_touched(connection, ["C-1"])  # type: ignore[list-item]
        look = await asyncio.wait_for(waiting, 60)
        assert list(look.touched) == ["C-1"]
        assert look.asked_at >= began
        await looks.aclose()
