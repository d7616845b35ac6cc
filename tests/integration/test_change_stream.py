"""`GET /changes` over a real socket: from any id without a hole, for many, and for slow ones within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.access import SOMEBODY, Watch, authenticator_of, bearer, new_key
from tests.support.api import context_of
from tests.support.builders import an_order, as_message
from tests.support.event_streams import Reader, Told, all_of, following, serving
from tests.support.histories import NOW
from tests.support.ledgers import PostgresStore, Worker, in_postgres, settle
from tests.support.oracle import Setting

from segment_api.app import Door, create_app
from segment_api.authenticating import REVOKED_WITHIN_SECONDS
from segment_api.change_hub import ChangeHub
from segment_api.routes import changes
from segment_api.tokens import LEEWAY_SECONDS, TokenReader, TokenRules
from segmentation import messages
from segmentation.access import ApiKey, Scope, read_key
from segmentation.errors import StoreUnavailable
from segmentation.storage.engine import create_engine
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.keys import PostgresKeys

SETTING = Setting()
SECONDS = 120
DOCS: Final = Path(__file__).resolve().parents[2] / "docs" / "streams.md"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, application_name="tests", pool_size=8)
    yield engine
    await engine.dispose()


@pytest.fixture
async def store(engine: AsyncEngine) -> PostgresStore:
    return await in_postgres(engine, SETTING)


@contextlib.asynccontextmanager
async def api(
    engine: AsyncEngine, *, door: Door | None = None, **bounds: float
) -> AsyncIterator[tuple[httpx.AsyncClient, ChangeHub]]:
    context = context_of(engine, SETTING, lambda: NOW)
    hub = ChangeHub(PostgresFeeds(engine), **bounds)  # type: ignore[arg-type]
    object.__setattr__(context, "changes", hub)
    async with serving(create_app(context, door)) as client:
        yield client, hub


async def order(worker: Worker, *customers: str, amount: str = "100.00", tag: str = "o") -> None:
    """An order of each customer, recorded in one transaction: each change is of its customer's lifecycle or tier."""
    await worker.read(
        [
            as_message(an_order(customer_id=who, event_id=f"{tag}-{who}", order_id=f"{tag}-{who}", amount=amount))
            for who in customers
        ]
    )


async def written(store: PostgresStore) -> list[dict[str, object]]:
    """Every change as the topic would have it."""
    rows = await store.rows("SELECT position, payload FROM changes WHERE position IS NOT NULL ORDER BY position")
    return [messages.change_message(row.position, row.payload).model_dump(mode="json", by_alias=True) for row in rows]


async def until(condition: Callable[[], bool], *, seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it is the product's state that is waited for
            await asyncio.sleep(0.02)


# --- what is told ---------------------------------------------------------------------------------------------------


async def test_a_change_is_told_as_it_happens_in_the_words_of_the_topic(
    engine: AsyncEngine, store: PostgresStore
) -> None:
    async with api(engine) as (client, _), asyncio.timeout(SECONDS):
        reader = Reader()
        async with following(client, reader) as events:
            worker = Worker(store)
            await order(worker, "C-1")
            told = await anext(events)
            assert told.kind == "change"
            assert (told.data["customer_id"], told.data["before"]) == ("C-1", None)
            await settle(store)
            promoted = await anext(events)
            assert promoted.data["after"]["value_tier"] == "A"
        assert [each.data for each in reader.events] == await written(store)
        assert [each.id for each in reader.events] == [each.data["sequence"] for each in reader.events]


async def test_without_an_id_it_begins_now_and_with_one_where_that_was(
    engine: AsyncEngine, store: PostgresStore
) -> None:
    worker = Worker(store)
    await order(worker, "C-1", "C-2")
    async with api(engine) as (client, _), asyncio.timeout(SECONDS):
        assert await all_of(client, "?wait=0") == []
        both = await all_of(client, "?wait=0&after=0")
        assert [each.data["customer_id"] for each in both] == ["C-1", "C-2"]
        assert await all_of(client, f"?wait=0&after={both[0].id}") == both[1:]
        assert await all_of(client, f"?wait=0&after={both[1].id}") == []
        reader = Reader(last_id=both[0].id)
        async with following(client, reader, "?after=0&wait=0") as events:
            assert (await anext(events)).id == both[1].id, "the header wins"


async def test_filters_tell_who_comes_and_who_goes(engine: AsyncEngine, store: PostgresStore) -> None:
    worker = Worker(store)
    await order(worker, "a", "b", "c")
    await settle(store)
    await order(worker, "c", amount="900.00", tag="more")
    await settle(store)
    async with api(engine) as (client, _), asyncio.timeout(SECONDS):
        everything = await all_of(client, "?wait=0&after=0")

        def matching(**wanted: str) -> list[int]:
            return [
                told.id
                for told in everything
                if any(
                    side and all(side[name] == code for name, code in wanted.items())
                    for side in (told.data["before"], told.data["after"])
                )
            ]

        async def ids(query: str) -> list[int]:
            return [told.id for told in await all_of(client, f"?wait=0&after=0&{query}")]

        levels = {told.data["after"]["service_level"] for told in everything}
        segments = {told.data["after"]["segment"] for told in everything}
        assert await ids("tier=A") == matching(value_tier="A")
        assert await ids("tier=unrated") == matching(value_tier="unrated")
        assert set(await ids("tier=A&tier=unrated")) == {*matching(value_tier="A"), *matching(value_tier="unrated")}
        for level in levels:
            assert await ids(f"service_level={level}") == matching(service_level=level)
        for segment in segments:
            assert await ids(f"segment={segment}&tier=A") == matching(segment=segment, value_tier="A")
        assert await ids("customer_id=b") == [t.id for t in everything if t.data["customer_id"] == "b"]
        assert 0 < len(await ids("tier=A")) < len(everything)


async def test_a_quiet_stream_gives_signs_of_life_with_a_place_to_come_again_with(
    engine: AsyncEngine, store: PostgresStore
) -> None:
    """What the filters keep back moves the place too: coming again does not read it all once more."""
    async with api(engine, heartbeat_seconds=0.05) as (client, _), asyncio.timeout(SECONDS):
        reader = Reader()

        async def read() -> None:
            async with following(client, reader, "?customer_id=nobody") as events:
                async for _ in events:
                    pytest.fail("nobody changed")

        task = asyncio.create_task(read())
        await until(lambda: reader.signs >= 2)
        await order(Worker(store), "C-1")
        await until(lambda: reader.last_id == 1)
        task.cancel()


async def test_the_example_in_the_docs_follows_the_stream(engine: AsyncEngine, store: PostgresStore) -> None:
    (example,) = re.findall(r"^```python\n(import json.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(DOCS), "exec"), names)
    await order(Worker(store), "C-1", "C-2")
    async with api(engine) as (client, _), asyncio.timeout(SECONDS):

        def first_two(position: int) -> list[tuple[int, dict[str, Any]]]:
            told = names["follow"](str(client.base_url).rstrip("/"), position)
            found = [next(told), next(told)]
            told.close()
            return found

        found = await asyncio.to_thread(first_two, 0)
        assert [(position, change["customer_id"]) for position, change in found] == [(1, "C-1"), (2, "C-2")]
        standing: dict[str, Any] = {}
        for _, change in found:
            names["take_in"](standing, change)
        assert standing == {change["customer_id"]: change["after"] for _, change in found}

        # Of the erased customer nothing is left to tell but that.
        assert (await client.delete("/customers/C-1")).status_code == 200
        await order(Worker(store), "C-3")
        found = await asyncio.to_thread(first_two, 2)
        assert found[0] == (3, {"schema": 1, "kind": "erased", "sequence": 3, "customer_id": "C-1"})
        for _, change in found:
            names["take_in"](standing, change)
        assert sorted(standing) == ["C-2", "C-3"]


# --- without a hole -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_broken_off_anywhere_under_writers_each_change_comes_once_in_order(
    database_url: str, store: PostgresStore, seed: int
) -> None:
    """Several writers at once, readers that leave and come again at random points, one with hardly any memory kept."""
    chance = random.Random(seed)
    written_all, finished = asyncio.Event(), asyncio.Event()
    writers = [Worker(store, owner=f"w{number}") for number in range(3)]

    async def write(number: int) -> None:
        for turn in range(25):
            customers = chance.sample([f"C-{each}" for each in range(12)], 3)
            batch = [
                as_message(
                    an_order(
                        customer_id=who,
                        event_id=f"{number}-{turn}-{who}",
                        order_id=f"{number}-{turn}",
                        amount=str(chance.randrange(1, 2_000)),
                    )
                )
                for who in customers
            ]
            await writers[number].read(batch, partitions=(number,))
            await asyncio.sleep(chance.random() / 50)

    async def keep() -> None:
        while not written_all.is_set():
            await settle(store)
            await asyncio.sleep(0.01)

    async def read(client: httpx.AsyncClient, reader: Reader, pause: float) -> None:
        while True:
            leave_after, last_time = chance.randrange(1, 40), finished.is_set()
            with contextlib.suppress(httpx.HTTPError):
                async with following(client, reader, "?wait=0" if last_time else "?wait=0.3") as events:
                    async for told in events:
                        if last_time and told.kind == "end" and told.data["reason"] == "done":
                            return
                        leave_after -= 1
                        if not last_time and leave_after <= 0:
                            break
                        await asyncio.sleep(chance.random() * pause)

    async def write_all() -> None:
        async with asyncio.TaskGroup() as writing:
            for number in range(3):
                writing.create_task(write(number))
        written_all.set()

    # Connections of their own for those who read: whoever waits for one is told so after five seconds.
    apart = create_engine(database_url, application_name="readers", pool_size=10)
    async with api(apart, kept=7, heartbeat_seconds=0.05) as (client, hub), asyncio.timeout(SECONDS):
        readers = [Reader(last_id=0) for _ in range(4)]
        # Together: when one fails the others end, too.
        async with asyncio.TaskGroup() as group:
            for reader, pause in zip(readers, (0, 0, 0.01, 0.05), strict=True):
                group.create_task(read(client, reader, pause))
            async with asyncio.TaskGroup() as writing:
                writing.create_task(keep())
                writing.create_task(write_all())
            await settle(store)
            finished.set()
        everything = await written(store)
        assert len(everything) > 12, "everybody has changed at least once"
        for reader in readers:
            changes = [told for told in reader.events if told.kind == "change"]
            assert [told.data for told in changes] == everything
            standing: dict[str, object] = {}
            for told in changes:
                who = told.data["customer_id"]
                assert told.data["before"] == standing.get(who)
                standing[who] = told.data["after"]
        await until(lambda: hub.listeners == 0 and hub._looking is None)
    await apart.dispose()


async def test_many_listeners_share_one_look_at_the_database(engine: AsyncEngine, store: PostgresStore) -> None:
    looks: list[int] = []
    async with api(engine) as (client, hub), asyncio.timeout(SECONDS):
        page_after = hub._stream.page_after

        async def counting(position: int, *, limit: int) -> object:
            if limit:
                looks.append(position)
            return await page_after(position, limit=limit)

        hub._stream.page_after = counting  # type: ignore[method-assign, assignment]
        readers = [Reader() for _ in range(30)]

        async def first(reader: Reader) -> Told:
            async with following(client, reader) as events:
                return await anext(events)

        tasks = [asyncio.create_task(first(reader)) for reader in readers]
        await until(lambda: hub.listeners == 30 and hub._floor is not None)
        await asyncio.sleep(0.5)
        looks.clear()
        await order(Worker(store), "C-1")
        told = await asyncio.gather(*tasks)
        assert {each.id for each in told} == {1}
        assert len(looks) < 30
        await until(lambda: hub.listeners == 0 and hub._looking is None)


# --- bounds ---------------------------------------------------------------------------------------------------------


async def test_who_reads_too_slowly_is_told_where_to_come_again_and_misses_nothing(
    engine: AsyncEngine, store: PostgresStore
) -> None:
    worker = Worker(store)
    async with api(engine, kept=3) as (_, hub), asyncio.timeout(SECONDS):
        pieces = hub.follow(await hub.begin(None))
        coming = asyncio.ensure_future(anext(pieces))
        await until(lambda: hub._floor is not None)
        await order(worker, "first")
        piece = await coming
        assert [change.customer_id for change in piece.changes] == ["first"]
        for number in range(10):
            await order(worker, f"C-{number}")
        await until(lambda: hub._floor is not None and hub._floor > piece.position)
        last = await anext(pieces)
        assert (last.ending, last.position) == ("lagging", piece.position)
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        again = hub.follow(await hub.begin(last.position), wait_seconds=0)
        found = [change.customer_id async for piece in again for change in piece.changes]
        assert found == [f"C-{number}" for number in range(10)]


async def test_what_was_dropped_for_its_age_is_gone_not_skipped(engine: AsyncEngine, store: PostgresStore) -> None:
    feeds = PostgresFeeds(engine)
    await order(Worker(store), *(f"C-{number}" for number in range(6)))
    await feeds.place_changes(limit=100)
    await store.rows("UPDATE changes SET recorded_at = now() - interval '9 days' WHERE position <= 4 RETURNING 1")
    assert await feeds.drop_changes(days=7, limit=100) == 0, "not on the topic yet"
    await feeds.relayed("changes")  # type: ignore[arg-type]
    await feeds.mark_relayed("changes", 3)  # type: ignore[arg-type]
    assert [await feeds.drop_changes(days=7, limit=2) for _ in range(3)] == [2, 1, 0]
    async with api(engine) as (client, _), asyncio.timeout(SECONDS):
        answer = await client.get("/changes", headers={"Last-Event-ID": "2"})
        assert answer.status_code == 410
        assert "header.Last-Event-ID" in answer.json()["detail"]
        assert "after 3" in answer.json()["detail"]
        assert [told.id for told in await all_of(client, "?wait=0&after=3")] == [4, 5, 6]


@pytest.mark.parametrize("given", ["7", "-1", "+1", "01", "1.0", "x", "9" * 19, "9" * 30])
async def test_an_id_that_was_never_given_out_is_refused(engine: AsyncEngine, store: PostgresStore, given: str) -> None:
    await order(Worker(store), "C-1")
    async with api(engine) as (client, _):
        answer = await client.get("/changes", params={"after": given})
        assert answer.status_code == 422
        assert "query.after" in answer.json()["detail"]


async def test_only_so_many_follow_at_once(engine: AsyncEngine, store: PostgresStore) -> None:
    async with api(engine, most_listeners=1) as (client, hub), asyncio.timeout(SECONDS):
        async with client.stream("GET", "/changes") as first:
            assert first.status_code == 200
            await until(lambda: hub.listeners == 1)
            second = await client.get("/changes")
            assert (second.status_code, second.headers["Retry-After"]) == (429, "10")
        await until(lambda: hub.listeners == 0)
        async with client.stream("GET", "/changes") as third:
            assert third.status_code == 200


async def test_the_end_of_the_service_ends_every_stream_and_says_so(engine: AsyncEngine, store: PostgresStore) -> None:
    async with api(engine) as (client, hub), asyncio.timeout(SECONDS):
        reader = Reader()
        async with following(client, reader) as events:
            await until(lambda: hub.listeners == 1)
            hub.close()
            told = [each async for each in events]
        assert [(each.kind, each.data["reason"], each.data["resume_after"]) for each in told] == [("end", "closing", 0)]


async def test_a_database_that_is_away_for_a_while_costs_nobody_a_change(
    engine: AsyncEngine, store: PostgresStore
) -> None:
    async with api(engine, heartbeat_seconds=0.05) as (client, hub), asyncio.timeout(SECONDS):
        reader, worker = Reader(), Worker(store)
        async with following(client, reader) as events:
            await order(worker, "C-1")
            assert (await anext(events)).data["customer_id"] == "C-1"
            page_after, failures = hub._stream.page_after, list[int]()

            async def away(position: int, *, limit: int) -> object:
                if len(failures) < 2:
                    failures.append(position)
                    raise ConnectionError("gone")
                return await page_after(position, limit=limit)

            hub._stream.page_after = away  # type: ignore[method-assign, assignment]
            await order(worker, "C-2")
            assert (await anext(events)).data["customer_id"] == "C-2"
            assert len(failures) == 2


# --- whoever counts no more -----------------------------------------------------------------------------------------


def tokens_of(key: Ed25519PrivateKey, file: Path) -> TokenReader:
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    rules = TokenRules("https://issuer.example", "tierline", ("EdDSA",), "scope", "")
    return TokenReader(rules, file, complain=pytest.fail)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("how", ["revoked key", "expired key", "expired token"])
async def test_a_stream_ends_with_its_key_or_token_and_tells_nothing_after(
    engine: AsyncEngine, store: PostgresStore, tmp_path: Path, how: str, quiet: bool
) -> None:
    watch, keys, issuer = Watch(), PostgresKeys(engine), Ed25519PrivateKey.generate()
    door = Door(authenticator_of(keys, watch, tokens=tokens_of(issuer, tmp_path / "keys.pem")))
    ends = watch.now() + timedelta(seconds=60)
    claims = {"iss": "https://issuer.example", "aud": "tierline", "sub": "tms-7", "scope": "read"}
    if how == "expired token":
        credential = jwt.encode(claims | {"iat": watch.now(), "exp": ends}, issuer, algorithm="EdDSA")
    else:
        credential = await new_key(keys, Scope.READ, expires_at=ends if how == "expired key" else None)
    worker = Worker(store)
    async with api(engine, door=door, heartbeat_seconds=0.05 if quiet else 15.0) as (client, hub):
        async with asyncio.timeout(SECONDS):
            client.headers.update(bearer(credential))
            reader = Reader()
            async with following(client, reader) as events:
                await until(lambda: hub.listeners == 1)
                await order(worker, "C-1")
                assert (await anext(events)).data["customer_id"] == "C-1"
                if how == "revoked key":
                    key_id, _ = read_key(credential) or ("", "")
                    await keys.revoke(key_id, by=SOMEBODY, reason="left", now=watch.now())
                    watch.passed += REVOKED_WITHIN_SECONDS
                else:
                    watch.passed += 60 + LEEWAY_SECONDS
                if not quiet:
                    await order(worker, "C-2")
                told = [each async for each in events]
            assert [(each.kind, each.data["reason"], each.data["resume_after"]) for each in told] == [
                ("end", "unauthorized", 1)
            ]
            assert reader.last_id == 1
            assert (await client.get("/changes")).status_code == 401
            if quiet:
                await order(worker, "C-2")
            client.headers.update(bearer(await new_key(keys, Scope.READ)))
            assert [each.data["customer_id"] for each in await all_of(client, "?wait=0&after=1")] == ["C-2"]


async def test_what_nobody_can_tell_whether_it_may_be_told_waits_and_is_not_lost(
    engine: AsyncEngine, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys cannot be looked up, for longer than one counts without: the stream stays open and says nothing."""
    monkeypatch.setattr(changes, "_ASK_AGAIN_SECONDS", 0.02)
    watch, keys, reader = Watch(), PostgresKeys(engine), Reader()
    async with (
        api(engine, door=Door(authenticator_of(keys, watch))) as (client, hub),
        asyncio.timeout(SECONDS),
    ):
        client.headers.update(bearer(await new_key(keys, Scope.READ)))
        async with following(client, reader) as events:
            await until(lambda: hub.listeners == 1)
            find, asked = keys.find, list[str]()

            async def away(key_id: str) -> ApiKey | None:
                asked.append(key_id)
                raise StoreUnavailable("away")

            keys.find = away  # type: ignore[method-assign]
            watch.passed += 1_000
            await order(Worker(store), "C-1")
            coming = asyncio.ensure_future(anext(events))
            await until(lambda: len(asked) >= 3 and reader.signs >= 2)
            assert not coming.done()
            assert reader.last_id == 0
            keys.find = find  # type: ignore[method-assign]
            assert (await coming).data["customer_id"] == "C-1"
