"""The audit trail: who changed what by hand, when and why, in the transaction of the change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.access import Closed, bearer, closed
from tests.support.api import running
from tests.support.builders import an_order
from tests.support.ledgers import DEFAULT_POLICY
from tests.support.oracle import Message

from segmentation.access import ANYONE, Action, Actor, ActorKind, AuditEntry, Deed, Scope, read_key
from segmentation.money import Rate
from segmentation.outcomes import Partition
from segmentation.storage import books, feeds, foundation
from segmentation.storage.audit import PostgresAudit
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.full_snapshots import PostgresFullSnapshots
from segmentation.storage.ledger import PostgresLedger
from segmentation.storage.retention import PostgresRetention

A_WEBHOOK: Final = {"url": "https://tms.example.com:8443/in?token=let-me", "tiers": ["A"], "customer_ids": ["C-1"]}
LI_WEI: Final = Actor(ActorKind.COMMAND, "li.wei", "li.wei")
AN_OVERRIDE: Final = {"tier": "A", "reason": "contract", "expires_on": "2027-01-01"}


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


class Desk:
    """A key with a name, and what it does."""

    def __init__(self, site: Closed, key: str) -> None:
        self.site = site
        self.key = key
        self.id = (read_key(key) or ("", ""))[0]

    async def do(self, method: str, path: str, status: int = 200, **request: Any) -> httpx.Response:
        headers = bearer(self.key) | {"X-Request-ID": "request-1"}
        answer = await self.site.api.client.request(method, path, headers=headers, **request)
        assert answer.status_code == status, answer.text
        return answer

    async def trail(self, path: str = "/audit") -> list[dict[str, Any]]:
        """Of what was done with it, without how it came to be."""
        entries = (await self.do("GET", path)).json()["entries"]
        return [each for each in entries if each["action"] != "key.created"]


@pytest.fixture
async def desk(engine: AsyncEngine) -> AsyncIterator[Desk]:
    async with closed(engine) as site:
        await site.api.fed(an_order(), Message(b"{"))
        yield Desk(site, await site.key(Scope.ADMIN, name="operations desk"))


def the(entry: dict[str, Any], *names: str) -> list[Any]:
    return [entry[name] for name in names]


async def test_an_override_names_the_key_and_whoever_is_said_to_have_decided(desk: Desk) -> None:
    await desk.do("PUT", "/customers/C-1/override", json=AN_OVERRIDE | {"author": "li.wei"})
    await desk.do("DELETE", "/customers/C-1/override?reason=over&author=wang")
    ended, stood = await desk.trail()
    assert the(stood, "action", "customer_id", "author", "reason") == ["override.set", "C-1", "li.wei", "contract"]
    assert stood["detail"] == {"tier": "A", "service_level": None, "expires_on": "2027-01-01"}
    assert the(ended, "action", "customer_id", "author", "reason") == ["override.ended", "C-1", "wang", "over"]
    for entry in (ended, stood):
        assert entry["by"] == {"kind": "key", "id": desk.id, "name": "operations desk"}
        assert entry["request_id"] == "request-1"


async def test_who_names_no_author_is_the_author(desk: Desk) -> None:
    answer = (await desk.do("PUT", "/customers/C-1/override", json=AN_OVERRIDE)).json()
    assert answer["tier"]["override"]["author"] == "operations desk"
    bulk = {"overrides": [AN_OVERRIDE | {"customer_id": "C-1"}]}
    assert (await desk.do("PUT", "/customers/overrides", json=bulk)).json()["set"] == 1
    await desk.do("DELETE", "/customers/C-1/override")
    assert [entry["author"] for entry in await desk.trail()] == ["operations desk"] * 3


async def test_without_authentication_an_author_has_to_be_named(engine: AsyncEngine) -> None:
    async with running(engine) as api:
        await api.fed(an_order())
        answer = await api.client.put("/customers/C-1/override", json=AN_OVERRIDE)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "body.author"
        rows = {"overrides": [AN_OVERRIDE | {"customer_id": "C-1"}]}
        (outcome,) = (await api.client.put("/customers/overrides", json=rows)).json()["outcomes"]
        assert (outcome["outcome"], outcome["field"]) == ("invalid", "author")
        await api.client.put("/customers/C-1/override", json=AN_OVERRIDE | {"author": "li.wei"})
        (entry,) = await entries(api.client)
        assert entry["by"] == {"kind": "anyone", "id": "", "name": ""}
        assert entry["author"] == "li.wei"


async def entries(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/audit")).json()["entries"]
    return found


async def test_a_policy_is_drafted_scheduled_taken_back_and_activated(desk: Desk) -> None:
    await desk.do("PUT", "/policies/2", json={"source": DEFAULT_POLICY + "# again", "note": "try"})
    await desk.do("POST", "/policies/2/activate", json={"on": "2030-01-01", "reason": "later"})
    await desk.do("DELETE", "/policies/2/activate")
    await desk.do("DELETE", "/policies/2/activate")  # nothing is left to take back
    await desk.do("POST", "/policies/2/activate", json={"author": "li.wei"})
    activated, cancelled, scheduled, drafted = await desk.trail()
    named = ("action", "subject", "author", "reason")
    assert the(drafted, *named) == ["policy.drafted", "2", "operations desk", "try"]
    assert the(scheduled, *named) == ["policy.scheduled", "2", "operations desk", "later"]
    assert scheduled["detail"] == {"on": "2030-01-01", "in_force": 1}
    assert the(cancelled, *named) == ["policy.cancelled", "2", None, None]
    assert the(activated, *named) == ["policy.activated", "2", "li.wei", None]
    assert "again" not in str([activated, cancelled, scheduled, drafted])


async def test_a_replay_says_what_came_of_it(desk: Desk) -> None:
    await desk.do("POST", "/dead-letters/1/replay")
    (entry,) = await desk.trail()
    assert the(entry, "action", "subject") == ["dead_letter.replayed", "1"]
    assert entry["detail"] == {"outcome": "rejected", "rejected_for": "invalid_json"}


async def test_what_is_done_with_webhooks_says_where_to_and_neither_a_secret_nor_whose(desk: Desk) -> None:
    new = (await desk.do("POST", "/webhooks", 201, json=A_WEBHOOK | {"after": 0})).json()
    path = f"/webhooks/{new['id']}"
    await desk.do("POST", f"{path}/test")
    await desk.do("POST", f"{path}/enable")
    await desk.do("POST", f"{path}/replay", json={"after": 1})
    await desk.do("DELETE", path)
    trail = await desk.trail()
    host = {"host": "tms.example.com:8443"}
    wanted = {"tiers": ["A"], "segments": [], "service_levels": [], "customers": 1, "after": 0}
    assert [the(entry, "action", "subject", "detail") for entry in reversed(trail)] == [
        ["webhook.created", new["id"], host | wanted],
        ["webhook.tested", new["id"], host],
        ["webhook.enabled", new["id"], host | {"after": 0}],
        ["webhook.replayed", new["id"], host | {"after": 1}],
        ["webhook.deleted", new["id"], host],
    ]
    for entry in trail:
        assert entry["by"] == {"kind": "key", "id": desk.id, "name": "operations desk"}
        assert entry["request_id"] == "request-1"
    for hidden in (new["secret"], "let-me", "C-1"):
        assert hidden not in str(trail)


async def noted(engine: AsyncEngine, action: Action) -> list[AuditEntry]:
    return list(await PostgresAudit(engine).entries(action=action, customer_id=None, before_id=None, limit=50))


async def test_what_the_commands_of_the_worker_change_names_who_ran_them(engine: AsyncEngine) -> None:
    async with running(engine) as api:
        old = {"occurred_at": "2020-05-01T12:00:00Z"}
        await api.fed(*(an_order(event_id=f"e-{each}", order_id=each, **old) for each in "abc"), Message(b"{"))
        house, ledger = api.store.house, PostgresLedger(engine, api.store.house)
        (place,) = await api.store.rows("SELECT topic, number FROM partitions")
        halted = "UPDATE partitions SET halted_at = now(), halted_offset = 3, halted_because = 'so', halted_reasons = "
        await api.store.rows(halted + """'[["invalid_json", 1]]' RETURNING 1""")
        asked = [Partition(place.topic, place.number), Partition("unheard", 0)]
        for _ in range(2):  # the second time there is nothing to resume
            await ledger.resume(asked, by=LI_WEI)
        await ledger.reposition(by=LI_WEI)
        rates = [Rate(currency, date(2026, 1, 1), 7 * 10**12) for currency in ("USD", "EUR")]
        await foundation.add_rates(engine, rates, by=LI_WEI)
        await books.Books(engine, house).mend_clock(missing=2, accept_missing=True, by=LI_WEI)
        placed = await feeds.leap(engine, by=LI_WEI)
        snapshot = await PostgresFullSnapshots(engine).ask(by=LI_WEI)
        retention = PostgresRetention(engine, house)
        await retention.drop(date(2020, 1, 1), limit=9, by=LI_WEI)  # there is none so old
        await retention.drop_expired(days=365, now=api.clock.now, limit=1)  # by itself
        await retention.drop(date(2021, 1, 1), limit=9, by=LI_WEI)
    resumed = Deed(
        Action.PARTITION_RESUMED, f"{place.topic}/{place.number}", detail={"offset": 3, "rejects": {"invalid_json": 1}}
    )
    for deed in (
        resumed,
        Deed(Action.PARTITIONS_REPOSITIONED, detail={"to": "earliest"}),
        Deed(Action.RATES_LOADED, detail={"rates": 2, "currencies": ["EUR", "USD"]}),
        Deed(Action.REBUILD_BEGUN, detail={"accept_missing_events": True, "missing_events": 2}),
        Deed(Action.DATABASE_RESTORED, detail={"after": placed}),
        Deed(Action.SNAPSHOT_ASKED, str(snapshot.id)),
        Deed(Action.EVENTS_DROPPED, detail={"before": "2021-01-01"}),
    ):
        (entry,) = await noted(engine, Action(deed.action))
        assert (entry.by, entry.deed) == (LI_WEI, deed)


async def test_what_is_refused_leaves_nothing(desk: Desk) -> None:
    await desk.do("PUT", "/customers/nobody/override", 404, json=AN_OVERRIDE)
    await desk.do("PUT", "/customers/C-1/override", 422, json=AN_OVERRIDE | {"expires_on": "2020-01-01"})
    await desk.do("DELETE", "/customers/C-1/override")  # there is none
    await desk.do("PUT", "/policies/9", 409, json={"source": DEFAULT_POLICY})
    await desk.do("POST", "/policies/9/activate", 404)
    await desk.do("POST", "/dead-letters/9/replay", 404)
    await desk.do("POST", "/webhooks", 422, json=A_WEBHOOK | {"after": 99})
    await desk.do("DELETE", "/webhooks/9", 404)
    for deed in ("test", "enable"):
        await desk.do("POST", f"/webhooks/9/{deed}", 404)
    await desk.do("POST", "/webhooks/9/replay", 404, json={"after": 0})
    await desk.do("POST", "/policies/dry-run", json={"version": 1})
    assert await desk.trail() == []


async def test_without_its_entry_a_change_is_not_made(desk: Desk, engine: AsyncEngine) -> None:
    """One transaction: a trail that cannot be written takes the change back."""
    async with transaction(engine) as connection:
        await connection.execute(text("ALTER TABLE audit ADD CONSTRAINT full_up CHECK (action LIKE 'key%')"))
    try:
        await desk.do("PUT", "/customers/C-1/override", 500, json=AN_OVERRIDE)
        await desk.do("PUT", "/policies/2", 500, json={"source": DEFAULT_POLICY + "# again"})
        answer = (await desk.do("GET", "/customers/C-1/segment")).json()
        assert answer["tier"]["override"] is None
        await desk.do("GET", "/policies/2", 404)
        await desk.do("POST", "/webhooks", 500, json=A_WEBHOOK)
        assert (await desk.do("GET", "/webhooks")).json() == {"webhooks": []}
        for change in (
            foundation.add_rates(engine, [Rate("USD", date(2026, 1, 1), 7 * 10**12)]),
            PostgresLedger(engine, desk.site.api.store.house).reposition(),
            PostgresFullSnapshots(engine).ask(),
            PostgresRetention(engine, desk.site.api.store.house).drop(date(2030, 1, 1), limit=9, by=ANYONE),
        ):
            with pytest.raises(IntegrityError, match="full_up"):
                await change
        for table, rows in (("exchange_rates", 0), ("full_snapshots", 0), ("events", 1)):
            (kept,) = await desk.site.api.store.rows(f"SELECT count(*) FROM {table}")
            assert kept.count == rows, table
    finally:
        async with transaction(engine) as connection:
            await connection.execute(text("ALTER TABLE audit DROP CONSTRAINT full_up"))


async def test_the_trail_comes_in_pages_without_a_hole(desk: Desk) -> None:
    for number in range(5):
        await desk.do("PUT", "/customers/C-1/override", json=AN_OVERRIDE | {"reason": f"reason {number}"})
    asked, seen = "/audit?limit=2&action=override.set&customer_id=C-1", list[str]()
    while asked:
        page = (await desk.do("GET", asked)).json()
        seen += [entry["reason"] for entry in page["entries"]]
        asked = page["next"]
    assert seen == [f"reason {number}" for number in (4, 3, 2, 1, 0)]


async def test_what_a_newer_version_has_written_is_told_as_it_stands(desk: Desk, engine: AsyncEngine) -> None:
    """Both run side by side during an upgrade; one entry that this one has no word for hides none of the others."""
    async with transaction(engine) as connection:
        await connection.execute(
            text(
                "INSERT INTO audit (actor_kind, actor_id, actor_name, action, detail) "
                "VALUES ('robot', 'r-1', 'R', 'customer.merged', '{}')"
            )
        )
    await desk.do("PUT", "/customers/C-1/override", json=AN_OVERRIDE)
    known, unknown = await desk.trail()
    assert (known["action"], known["by"]["kind"]) == ("override.set", "key")
    assert (unknown["action"], unknown["by"]) == ("customer.merged", {"kind": "robot", "id": "r-1", "name": "R"})


async def test_the_trail_is_for_admins(desk: Desk) -> None:
    operate = await desk.site.key(Scope.OPERATE)
    assert await desk.site.status(operate, "/audit") == 403
