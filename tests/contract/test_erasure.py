"""Erasing and exporting a customer: one set, found by looking for the customer in every column of every table.

Laws: the customer here has a row in every table that customers can be in, and a marker in everything that was sent;
what is looked for is looked for in the whole database, not in what the product says it keeps.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, misfits, running
from tests.support.builders import (
    a_cancellation,
    a_complaint,
    a_customer,
    a_delivery,
    a_feedback,
    a_retraction,
    a_return,
    an_order,
    as_message,
)
from tests.support.histories import NOW
from tests.support.ledgers import TOPIC, counts
from tests.support.oracle import Message

from segmentation.errors import SettingInvalid
from segmentation.feeds import Feed
from segmentation.fields import CustomerId
from segmentation.outcomes import Partition
from segmentation.storage import tables
from segmentation.storage.books import Books
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.erasing import PostgresPrivacy
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.foundation import open_house
from segmentation.storage.full_snapshots import PostgresFullSnapshots
from segmentation.storage.ledger import PostgresLedger
from segmentation.storage.personal import PERSONAL, Fate
from segmentation.storage.recount import Recount
from segmentation.storage.retention import PostgresRetention

ERASED = CustomerId("Zo-e.77:x")
FIRST = CustomerId("C-1")
MARKER = "Quetzalcoatl"
KEY = "k" * 40
TODAY = {"occurred_at": "2026-11-20T12:00:00Z"}


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=6)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        yield api


def of(customer_id: str, *, old: bool) -> list[Any]:
    """Something of every type, all of it with the marker."""
    when = {"occurred_at": "2020-03-01T12:00:00Z"} if old else TODAY
    n = f"{customer_id}-{old}"
    said = {"customer_id": customer_id, "note": MARKER, **when}
    return [
        an_order(event_id=f"{n}-1", order_id=f"{MARKER}-{n}", region=MARKER, channel=MARKER, services=[MARKER], **said),
        a_delivery(event_id=f"{n}-2", order_id=f"{MARKER}-{n}", **said),
        a_cancellation(event_id=f"{n}-3", order_id=f"other-{n}", reason=MARKER, **said),
        a_return(event_id=f"{n}-4", **said),
        a_complaint(event_id=f"{n}-5", text=MARKER, **said),
        a_feedback(event_id=f"{n}-6", **said),
        a_customer(
            event_id=f"{n}-7",
            name=MARKER,
            industry="retail",
            needs={"basic": [MARKER]},
            attributes={"a": MARKER},
            **said,
        ),
        a_retraction(event_id=f"{n}-8", retracts=f"{n}-5", **said),
    ]


BROKEN = [
    as_message(an_order(event_id=f"{MARKER}-bad", customer_id=ERASED, amount=MARKER)),
    Message(json.dumps({"customer_id": ERASED, "type": "order"}).encode()[:-1] + b"," + MARKER.encode()),
    Message(b"{" + MARKER.encode(), (("ce_specversion", b"1.0"), ("ce_subject", ERASED.encode()))),
]
"""Refused, each with the id somewhere: in the field, in bytes that cannot be read, in a header of such."""


async def fill(api: Api, engine: AsyncEngine) -> None:
    """Lets the customer leave something everywhere, and others beside it."""
    await api.fed(*of(ERASED, old=True), *of("C-1", old=True), *of(ERASED, old=False), *of("C-1", old=False), *BROKEN)
    await api.feed(a_complaint(event_id="bad", customer_id="C-1", severity=9))
    step = await PostgresRetention(engine, api.store.house).drop(date(2021, 1, 1), limit=1_000)
    assert step.dropped == 16
    for customer_id in (ERASED, "C-1"):
        order = {"tier": "A", "reason": MARKER, "author": MARKER, "expires_on": "2030-01-01"}
        assert (await api.client.put(f"/customers/{customer_id}/override", json=order)).status_code == 200
        wanted = {"url": "https://tms.example/changes", "customer_ids": [customer_id], "description": "TMS"}
        assert (await api.client.post("/webhooks", json=wanted)).status_code == 201
    # Settled with the customer as the last of its tier, and moved again since.
    await api.fed(an_order(event_id="giant", order_id="giant", customer_id=ERASED, amount="90000.00", **TODAY))
    await api.feed(an_order(event_id="late", order_id="late", customer_id=ERASED, amount="1.00", note=MARKER, **TODAY))
    await PostgresFeeds(engine).place(Feed.CHANGES, limit=1)
    async with transaction(engine) as connection:
        await connection.execute(text("INSERT INTO suppressed_customers (customer_id) VALUES (:id)"), {"id": ERASED})


async def found(engine: AsyncEngine, *needles: str) -> dict[str, int]:
    """In which tables anything of it stands, in any column and in any form that we know of."""
    forms = set(needles)
    forms |= {base64.b64encode(each.encode()).decode() for each in needles}
    forms |= {each.encode().hex() for each in needles}
    where: dict[str, int] = {}
    async with transaction(engine) as connection:
        for table in tables.metadata.sorted_tables:
            rows = await connection.scalars(text(f"SELECT to_jsonb(t)::text FROM {table.name} AS t"))
            hits = sum(any(form in row for form in forms) for row in rows)
            if hits:
                where[table.name] = hits
    return where


IN_TABLES = {name for name, holding in PERSONAL.items() if holding.fate is not Fate.KEPT}


async def test_an_erasure_leaves_nothing_of_the_customer_in_any_column(api: Api, engine: AsyncEngine) -> None:
    await fill(api, engine)
    assert set(await found(engine, ERASED)) == IN_TABLES
    before = await counts(api.store)
    totals = await api.read("/ingest/totals?from=2026-11-01&to=2026-11-30")

    answer = await api.client.delete(
        f"/customers/{ERASED}", params={"author": "li.wei", "reason": "asked on the phone"}
    )

    assert answer.status_code == 200, answer.text
    erased = answer.json()
    assert (erased["customer_id"], erased["already"]) == (ERASED, False)
    assert set(erased["rows"]) == IN_TABLES
    assert erased["rows"]["dead_letters"] == 3
    # What others are still to be told is all that names it, and it says nothing else.
    assert await found(engine, ERASED) == {"changes": 1}
    assert await counts(api.store) == before
    assert (await api.read("/ingest/totals?from=2026-11-01&to=2026-11-30")) == totals
    await PostgresFeeds(engine).place(Feed.CHANGES, limit=1_000)
    (told,) = [each for each in await PostgresFeeds(engine).changes_after(0, limit=1_000) if each.customer_id == ERASED]
    assert told.erased
    assert told.payload == {"erased": True}
    await PostgresFeeds(engine).mark_relayed(Feed.CHANGES, told.position)
    assert await PostgresFeeds(engine).forget_erasures(hours=1) == 0
    assert await PostgresFeeds(engine).forget_erasures(hours=0) == 1
    assert await found(engine, ERASED) == {}
    # The others' markers are where they were.
    markers = await found(engine, MARKER)
    assert "events" in markers
    async with transaction(engine) as connection:
        letters = (await connection.execute(text("SELECT * FROM dead_letters WHERE erased_at IS NOT NULL"))).all()
    assert {(row.value, row.headers, row.event_id, row.field, row.customer_id) for row in letters} == {(None,) * 5}
    assert await found(engine, f"{MARKER}-bad") == {}


async def test_what_is_exported_is_what_an_erasure_takes(api: Api, engine: AsyncEngine) -> None:
    await fill(api, engine)
    exported = await api.read(f"/customers/{ERASED}/data")
    schema = (await api.read("/openapi.json"))["components"]["schemas"]["ExportAnswer"]
    assert list(misfits(exported, schema, await api.read("/openapi.json"))) == []
    assert exported["as_of"] == (await api.read(f"/customers/{ERASED}/segment"))["as_of"]
    assert set(exported["data"]) == IN_TABLES
    for name, part in exported["data"].items():
        assert part["rows"], name
        assert part["purpose"] == PERSONAL[name].purpose
    assert "C-1" not in {row.get("customer_id") for part in exported["data"].values() for row in part["rows"]}
    message = next(row for row in exported["data"]["events"]["rows"] if row["event_id"] == "giant")
    assert json.loads(message["value"])["amount"] == "90000.00"
    assert message["occurred_at"] == "2026-11-20T12:00:00Z"

    rows = {name: len(part["rows"]) for name, part in exported["data"].items()}
    answer = (await api.client.delete(f"/customers/{ERASED}")).json()
    assert answer["as_of"] == exported["as_of"]
    assert rows == answer["rows"]
    assert (await api.client.get(f"/customers/{ERASED}/data")).status_code == 404


@pytest.mark.parametrize("path", [f"/customers/{ERASED}/", f"/customers/{ERASED}%2F"])
async def test_an_id_with_a_slash_behind_it_is_nobodys(api: Api, engine: AsyncEngine, path: str) -> None:
    await fill(api, engine)
    assert (await api.client.delete(path, follow_redirects=True)).status_code == 404
    assert (await api.client.get(f"/customers/{ERASED}/segment")).status_code == 200


async def test_every_answer_about_an_erased_customer_is_as_if_it_had_never_been(api: Api, engine: AsyncEngine) -> None:
    await fill(api, engine)
    await api.client.delete(f"/customers/{ERASED}")
    asked = {"X-Request-ID": "the-same-for-both"}
    never = {
        name: await api.client.get(f"/customers/never/{name}", headers=asked)
        for name in ("segment", "metrics", "history", "data")
    }
    for name, theirs in never.items():
        ours = await api.client.get(f"/customers/{ERASED}/{name}", headers=asked)
        assert ours.status_code == 404
        assert ours.text.replace(ERASED, "never") == theirs.text
    assert (await api.client.get(f"/customers/{ERASED}/segment?as_of=2026-11-20")).status_code == 404
    assert (await api.segments(ERASED))["customers"] == []
    assert (await api.client.get("/events/giant")).status_code == 404


async def test_letters_of_others_that_only_have_the_id_as_a_word_stay(api: Api, engine: AsyncEngine) -> None:
    """An id may be any word, so also an amount; of what cannot be read only the place of the id tells whose it is."""
    await api.fed(an_order(customer_id="100"))
    theirs = b'{"event_id": "x", "customer_id": "C-9", "amount": "100", broken'
    ours = b'{"event_id": "y", "customer_id" : "100", broken'
    await api.feed(Message(theirs), Message(ours))
    erased = (await api.client.delete("/customers/100")).json()
    assert erased["rows"]["dead_letters"] == 1
    async with transaction(engine) as connection:
        kept = list(await connection.scalars(text("SELECT value FROM dead_letters WHERE erased_at IS NULL")))
    assert kept == [theirs]


async def test_erasing_once_more_does_nothing_and_says_so(api: Api) -> None:
    await api.fed(an_order())
    first = (await api.client.delete("/customers/C-1")).json()
    again = (await api.client.delete("/customers/C-1")).json()
    assert again == {**first, "already": True, "rows": {}}


@pytest.mark.parametrize("customer_id", ["nobody", "-", "a" * 65, "%E5%AE%A2"])
async def test_nobody_is_404(api: Api, customer_id: str) -> None:
    await api.fed(an_order())
    for answer in (
        await api.client.delete(f"/customers/{customer_id}"),
        await api.client.get(f"/customers/{customer_id}/data"),
    ):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_reason_that_names_the_customer_would_outlive_it(api: Api, engine: AsyncEngine) -> None:
    await api.fed(an_order())
    answer = await api.client.delete("/customers/C-1", params={"reason": "C-1 asked"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "query.reason"
    assert (await api.client.get("/customers/C-1/segment")).status_code == 200


async def test_later_events_are_suppressed_and_counted_whatever_else_is_wrong_with_them(
    api: Api, engine: AsyncEngine
) -> None:
    await api.fed(an_order(), an_order(event_id="other", customer_id="C-2"))
    await api.client.delete("/customers/C-1")
    api.oracle.erase("C-1")
    await api.fed(an_order(), an_order(event_id="e-2"), an_order(event_id="e-3", amount="-1"), Message(b"{"))
    status = await api.read("/ingest/status")
    assert status["events"] == api.oracle.counts == {"applied": 2, "duplicate": 0, "rejected": 1, "suppressed": 3}
    assert status["customers"] == 1
    assert await found(engine, '"C-1"') == {"changes": 1}
    # Its ids are forgotten with it, and free for others.
    await api.fed(an_order(customer_id="C-3"))
    assert (await api.read("/ingest/status"))["events"]["applied"] == 3


async def test_the_ranking_of_everyone_else_is_made_without_the_customer(api: Api, engine: AsyncEngine) -> None:
    """The giant made everybody else a C; without it there is an A again. The keeper is one that knows everyone."""
    for number, amount in enumerate(("10000.00", "50.00", "30.00", "20.00"), 1):
        event = an_order(
            event_id=f"o-{number}", order_id=f"o-{number}", customer_id=f"C-{number}", amount=amount, **TODAY
        )
        await api.fed(event)
    tiers = await api.read("/tiers")
    assert (tiers["cutoffs"]["A"]["customer_id"], tiers["total"]) == ("C-1", "10100.00")
    await api.client.delete("/customers/C-1")
    # Named as a cut-off it may not stay, so until the keeper has been there is none.
    assert "C-1" not in (await api.client.get("/tiers")).text
    assert (await api.read("/ingest/status"))["tiers"]["current"] is False
    api.oracle.erase("C-1")
    await api.settle()
    tiers = await api.read("/tiers")
    assert {each["tier"]: each["customers"] for each in tiers["tiers"]} == {"A": 2, "B": 1, "C": 0, "unrated": 0}
    assert tiers["total"] == "100.00"
    assert {each: (await api.segment(each))["tier"]["computed"] for each in ("C-2", "C-3", "C-4")} == (
        api.oracle.computed_tiers(api.as_of)
    )
    assert (await api.read("/ingest/status"))["tiers"]["current"] is True


async def test_a_check_of_everything_finds_nothing_after_an_erasure(api: Api, engine: AsyncEngine) -> None:
    await fill(api, engine)
    await api.client.delete(f"/customers/{ERASED}")
    await api.settle()
    house = api.store.house
    assert await Books(engine, house).check() == []
    assert await Books(engine, house).missing_events() == 0
    assert await Books(engine, house).misplaced(now=NOW) == []
    assert await Recount(engine, house).check([FIRST, ERASED]) == []


@pytest.mark.parametrize("letter", [1, 2, 3])
async def test_a_replay_of_what_an_erased_customer_sent_is_suppressed(
    api: Api, engine: AsyncEngine, letter: int
) -> None:
    await api.feed(*BROKEN)
    await api.client.delete(f"/customers/{ERASED}")
    detail = await api.read(f"/dead-letters/{letter}")
    assert (detail["customer_id"], detail["event_id"], detail["field"]) == (None, None, None)
    assert MARKER not in json.dumps(detail)
    answer = await api.client.post(f"/dead-letters/{letter}/replay")
    assert answer.json()["outcome"] == "suppressed"
    assert await counts(api.store) == {"applied": 0, "duplicate": 0, "rejected": 2, "suppressed": 1}
    assert await Books(engine, api.store.house).check() == []


async def test_a_customer_of_whom_nothing_was_ever_accepted_can_be_erased(api: Api, engine: AsyncEngine) -> None:
    """And nobody is told: nobody was ever told of it."""
    await api.feed(BROKEN[0])
    assert (await api.client.delete(f"/customers/{ERASED}")).json()["rows"] == {"dead_letters": 1}
    assert await found(engine, ERASED, MARKER) == {}
    await api.feed(BROKEN[0])
    assert await counts(api.store) == {"applied": 0, "duplicate": 0, "rejected": 1, "suppressed": 1}


async def test_a_rebuild_brings_nobody_back(api: Api, engine: AsyncEngine) -> None:
    await fill(api, engine)
    await api.client.delete(f"/customers/{ERASED}")
    assert await Recount(engine, api.store.house).mend([FIRST, ERASED], now=NOW) == []
    assert await found(engine, ERASED) == {"changes": 1}


async def test_a_full_snapshot_has_everybody_but_the_erased(api: Api, engine: AsyncEngine) -> None:
    await api.fed(an_order(), an_order(event_id="e-2", customer_id="C-2"))
    await api.client.delete("/customers/C-1")
    chunk = await PostgresFullSnapshots(engine).chunk_after("", limit=10)
    assert chunk is not None
    assert [each.customer_id for each in chunk.snapshots] == ["C-2"]


async def test_positions_go_on_without_repeats_where_announcements_were_taken_back(
    api: Api, engine: AsyncEngine
) -> None:
    feeds = PostgresFeeds(engine)
    await api.feed(an_order())
    await feeds.place(Feed.CHANGES, limit=10)
    await api.feed(an_order(event_id="e-2", customer_id="C-2"))
    await api.client.delete("/customers/C-2")
    await api.feed(an_order(event_id="e-3", customer_id="C-3"))
    await feeds.place(Feed.CHANGES, limit=10)
    told = [(each.customer_id, each.erased) for each in await feeds.changes_after(0, limit=10)]
    assert told == [("C-1", False), ("C-2", True), ("C-3", False)]
    await api.client.delete("/customers/C-1")
    await feeds.place(Feed.CHANGES, limit=10)
    after = await feeds.changes_after(0, limit=10)
    assert [(each.customer_id, each.erased) for each in after] == [("C-2", True), ("C-3", False), ("C-1", True)]
    assert [each.position for each in after] == [2, 3, 4]


# --- the key --------------------------------------------------------------------------------------------------------


async def started(engine: AsyncEngine, api: Api, key: str | None) -> PostgresPrivacy:
    """Another start on the same data, with a key of its own or none."""
    house = dataclasses.replace(api.store.house, erasure_key=key)
    await open_house(engine, house)
    return PostgresPrivacy(engine, house)


async def kept_key(api: Api) -> str | None:
    (row,) = await api.store.rows("SELECT erasure_key FROM house")
    key: str | None = row.erasure_key
    return key


async def test_without_a_key_the_data_has_one_from_the_first_start_on(api: Api) -> None:
    assert len(await kept_key(api) or "") == 64


async def test_a_key_of_the_settings_is_not_kept(api: Api, engine: AsyncEngine) -> None:
    privacy = await started(engine, api, KEY)
    assert await kept_key(api) is None
    await api.feed(an_order())
    await privacy.erase(FIRST)
    assert await found(engine, KEY) == {}
    again = await (await started(engine, api, KEY)).erase(FIRST)
    assert again is not None
    assert again.already


@pytest.mark.parametrize("key", ["z" * 40, None])
async def test_a_start_with_another_key_is_refused_in_one_line(api: Api, engine: AsyncEngine, key: str | None) -> None:
    privacy = await started(engine, api, KEY)
    await api.feed(an_order())
    await privacy.erase(FIRST)
    with pytest.raises(SettingInvalid, match=r"\AERASURE_KEY is [^\n]+\Z") as refused:
        await started(engine, api, key)
    assert KEY not in str(refused.value)
    # And whoever was running with it records nothing more.
    ledger = PostgresLedger(engine, dataclasses.replace(api.store.house, erasure_key=key))
    claims = await ledger.claim([Partition(TOPIC, 0)], owner="worker-1")
    batch = api.worker.batch([as_message(an_order(event_id="e-2", customer_id="C-2"))], claims=claims)
    with pytest.raises(SettingInvalid):
        await ledger.record(batch, owner="worker-1", now=NOW)


async def test_the_datas_own_key_can_be_taken_out_of_it(api: Api, engine: AsyncEngine) -> None:
    """Set as the setting it is the same key, and from then on it is not kept."""
    await api.feed(an_order())
    await api.client.delete("/customers/C-1")
    key = await kept_key(api)
    privacy = await started(engine, api, key)
    assert await kept_key(api) is None
    again = await privacy.erase(FIRST)
    assert again is not None
    assert again.already


async def test_only_the_keyed_hash_stays(api: Api) -> None:
    await api.feed(an_order())
    await api.client.delete("/customers/C-1")
    (row,) = await api.store.rows("SELECT * FROM erasures")
    assert len(row.digest) == 32
    assert (row.author, row.reason) == (None, None)


async def test_a_list_of_erasures_is_done_again_on_a_restored_database(api: Api, engine: AsyncEngine) -> None:
    await api.fed(an_order(), an_order(event_id="e-2", customer_id="C-2"))
    await api.client.delete("/customers/C-1")
    check, erasures = await api.store.privacy.listed()
    assert check is not None
    # As a backup from before the erasure has it.
    async with transaction(engine) as connection:
        await connection.execute(text("DELETE FROM erasures"))
        await connection.execute(text("UPDATE house SET erasures = 0, customers_erased = 0"))
        await connection.execute(text("UPDATE partitions SET new_customers = new_customers - 1, applied = applied - 1"))
        await connection.execute(text("DELETE FROM changes"))
        await connection.execute(text("TRUNCATE dropped_totals"))
    await api.worker.read([as_message(an_order())], now=NOW)
    assert (await api.client.get("/customers/C-1/segment")).status_code == 200

    await api.store.privacy.adopt(check, erasures)
    assert await api.store.privacy.returned("", limit=1) == (["C-1"], "C-1")
    assert await api.store.privacy.returned("C-1", limit=1) == ([], "C-2")
    assert await api.store.privacy.returned("C-2", limit=1) == ([], None)
    await api.client.delete("/customers/C-1")
    await api.settle()
    assert (await api.client.get("/customers/C-1/segment")).status_code == 404
    assert (await api.read("/ingest/status"))["customers"] == 1
    assert await Books(engine, api.store.house).check() == []


async def test_the_day_of_an_erased_customers_last_event_stays_as_of(engine: AsyncEngine) -> None:
    async with running(engine, clock="event") as api:
        await api.fed(
            an_order(occurred_at="2026-11-01T00:00:00Z", customer_id="C-2", event_id="e-2"),
            an_order(occurred_at="2026-11-09T00:00:00Z"),
        )
        await api.client.delete("/customers/C-1")
        assert (await api.segment("C-2"))["as_of"] == "2026-11-09"
        assert await Books(engine, api.store.house).check() == []
        assert (await api.segment("C-2"))["as_of"] == "2026-11-09"
        assert api.clock.now - NOW == timedelta(0)
