"""Webhooks over real sockets: in order, at least once, signed, given up and taken up again, never into a network."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import socket
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.support.api import client_of
from tests.support.builders import an_order, as_message
from tests.support.histories import NOW
from tests.support.ledgers import PostgresStore, Worker, in_postgres, settle
from tests.support.oracle import Setting

from ingest_worker import webhooks as delivering
from ingest_worker.condition import Condition
from ingest_worker.outbound import NotSent, Outbound
from ingest_worker.telemetry import DutyMetrics
from ingest_worker.waiting import Backoff
from ingest_worker.webhooks import Deliverer
from segmentation import messages
from segmentation.storage.engine import create_engine
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.webhooks import PostgresWebhooks
from segmentation.streams import ChangeFilter
from segmentation.webhooks import WantedWebhook, Webhook, WebhookRules, new_secret

SETTING = Setting()
SECONDS = 120
INSIDE = WebhookRules(allow_http=True, allow_private=True)
OUTSIDE = WebhookRules(allow_http=True, allow_private=False)


@dataclass
class Receiver:
    """Takes messages, or refuses them as it is told to."""

    url: str = ""
    secret: str = ""
    answer: Callable[[], int] = lambda: 204
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        body, headers = await request.body(), request.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = hmac.new(b64decode(self.secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + b64encode(expected).decode()
        assert headers["host"] in self.url
        self.seen.append((headers["webhook-id"], body))
        status = self.answer()
        if status < 300:
            self.taken.append(json.loads(body))
        return Response(status_code=status, headers={"location": self.url + "elsewhere"})

    @property
    def changes(self) -> list[dict[str, Any]]:
        return [change for message in self.taken for change in message["data"]]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, application_name="tests", pool_size=8)
    yield engine
    await engine.dispose()


@pytest.fixture
async def store(engine: AsyncEngine) -> PostgresStore:
    return await in_postgres(engine, SETTING)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver(secret=new_secret(b"s" * 32))
    app = Starlette(routes=[Route("/{rest:path}", receiver.take, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    receiver.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield receiver
    server.should_exit = True
    await task
    listener.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again come at once; how they grow is a matter of tests/unit/segmentation/test_webhooks.py."""
    monkeypatch.setattr(delivering, "retry_seconds", lambda failures, chance: 0.05)


@contextlib.asynccontextmanager
async def deliverer(
    engine: AsyncEngine, store: PostgresStore, *, outbound: Outbound | None = None, hours: float = 24
) -> AsyncIterator[Deliverer]:
    stop = asyncio.Event()
    made = Deliverer(
        store.ledger,
        PostgresFeeds(engine),
        PostgresWebhooks(engine),
        outbound or Outbound(INSIDE),
        give_up_hours=hours,
        now=lambda: datetime.now(UTC),  # noqa: TID251 - as the worker's wiring
        chance=lambda: 0.5,
        stop=stop,
        condition=Condition(now=lambda: NOW, monotonic=lambda: 0.0),
        metrics=DutyMetrics(),
        backoff=Backoff(chance=lambda: 0.0),
    )
    task = asyncio.create_task(made.run())
    yield made
    stop.set()
    await task


async def added(engine: AsyncEngine, receiver: Receiver, *, after: int = 0, **wanted: Any) -> Webhook:
    webhook = WantedWebhook(receiver.url, None, ChangeFilter(**{name: frozenset(of) for name, of in wanted.items()}))
    found = await PostgresWebhooks(engine).add(webhook, receiver.secret, after=after)
    assert found is not None
    return found


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await check():  # noqa: ASYNC110 - it is the product's state that is waited for
            await asyncio.sleep(0.05)


async def order(store: PostgresStore, *customers: str, tag: str = "o") -> None:
    await Worker(store, owner=tag).read(
        [as_message(an_order(customer_id=who, event_id=f"{tag}-{who}", order_id=tag)) for who in customers],
        partitions=(sum(map(ord, tag)) % 50,),
    )


async def written(store: PostgresStore) -> list[dict[str, Any]]:
    rows = await store.rows("SELECT position, payload FROM changes WHERE position IS NOT NULL ORDER BY position")
    return [messages.change_message(row.position, row.payload).model_dump(mode="json", by_alias=True) for row in rows]


async def standing(engine: AsyncEngine, webhook: Webhook) -> Webhook:
    found = await PostgresWebhooks(engine).find(webhook.id)
    assert found is not None
    return found


async def test_every_change_is_posted_once_in_order_though_the_receiver_refuses_now_and_then(
    engine: AsyncEngine, store: PostgresStore, receiver: Receiver
) -> None:
    chance = random.Random(4)
    receiver.answer = lambda: chance.choice([200, 204, 500, 302, 429])
    await order(store, *(f"C-{number}" for number in range(130)))
    await settle(store)
    webhook = await added(engine, receiver)
    async with deliverer(engine, store):
        await order(store, "later", tag="later")
        await settle(store)

        async def all_taken() -> bool:
            return len(receiver.changes) >= len(await written(store)) > 130

        await until(all_taken)
    assert receiver.changes == await written(store)
    assert all(1 <= len(message["data"]) <= 100 for message in receiver.taken)
    bodies: dict[str, set[bytes]] = {}
    for message_id, body in receiver.seen:
        bodies.setdefault(message_id, set()).add(body)
    assert all(len(each) == 1 for each in bodies.values()), "a message is tried again as it was"
    now = await standing(engine, webhook)
    assert (now.position, now.failures, now.problem) == (len(receiver.changes), 0, None)
    log = await PostgresWebhooks(engine).attempts(webhook.id, before=None, limit=1_000)
    assert [each.message_id for each in reversed(log)] == [message_id for message_id, _ in receiver.seen]
    assert sum(each.changes for each in log if each.problem is None) == len(receiver.changes)


async def test_only_what_is_wanted_is_posted_and_the_rest_is_passed_by(
    engine: AsyncEngine, store: PostgresStore, receiver: Receiver
) -> None:
    await order(store, "a", "b", "c")
    webhook = await added(engine, receiver, customer_ids=["b"])
    async with deliverer(engine, store):

        async def passed_by() -> bool:
            return (await standing(engine, webhook)).position == 3

        await until(passed_by)
    assert [change["customer_id"] for change in receiver.changes] == ["b"]


async def test_who_refuses_for_too_long_is_disabled_says_so_and_goes_on_where_it_stopped(
    engine: AsyncEngine, store: PostgresStore, receiver: Receiver
) -> None:
    receiver.answer = lambda: 503
    await order(store, "a", "b")
    webhook = await added(engine, receiver)
    async with deliverer(engine, store, hours=0.000_01), client_of(engine, SETTING, lambda: NOW) as client:

        async def disabled() -> bool:
            return (await standing(engine, webhook)).disabled_at is not None

        await until(disabled)
        told = (await client.get(f"/webhooks/{webhook.id}")).json()
        assert (told["enabled"], told["position"]) == (False, 0)
        assert "503" in told["disabled_because"]
        tries = len(receiver.seen)
        await order(store, "c", tag="c")
        await asyncio.sleep(1)
        assert len(receiver.seen) == tries
        receiver.answer = lambda: 200
        again = (await client.post(f"/webhooks/{webhook.id}/enable")).json()
        assert (again["enabled"], again["failures"]) == (True, 0)

        async def all_taken() -> bool:
            return len(receiver.changes) == 3

        await until(all_taken)
        log = (await client.get(f"/webhooks/{webhook.id}/deliveries?limit=1")).json()
        assert log["deliveries"][0]["delivered"]
        found = log["deliveries"]
        while log["next"]:
            log = (await client.get(log["next"])).json()
            found += log["deliveries"]
        assert [each["status"] for each in found][-tries:] == [503] * tries
    assert [change["customer_id"] for change in receiver.changes] == ["a", "b", "c"]


async def test_who_is_gone_is_disabled_at_once(engine: AsyncEngine, store: PostgresStore, receiver: Receiver) -> None:
    receiver.answer = lambda: 410
    await order(store, "a")
    webhook = await added(engine, receiver)
    async with deliverer(engine, store):

        async def disabled() -> bool:
            return (await standing(engine, webhook)).disabled_at is not None

        await until(disabled)
    assert len(receiver.seen) == 1


async def test_a_person_tries_it_out_and_has_everything_sent_again(
    engine: AsyncEngine, store: PostgresStore, receiver: Receiver
) -> None:
    await order(store, "a", "b")
    await PostgresFeeds(engine).place_changes(limit=10)
    webhook = await added(engine, receiver, after=2)
    async with deliverer(engine, store), client_of(engine, SETTING, lambda: NOW) as client:
        assert (await client.post(f"/webhooks/{webhook.id}/test")).json()["log"] == f"/webhooks/{webhook.id}/deliveries"

        async def tested() -> bool:
            return bool(receiver.taken)

        await until(tested)
        assert (receiver.taken[0]["type"], receiver.changes) == ("test", [])
        replayed = await client.post(f"/webhooks/{webhook.id}/replay", json={"after": 1})
        assert replayed.json()["position"] == 1

        async def all_taken() -> bool:
            return len(receiver.changes) == 1

        await until(all_taken)
        assert receiver.changes[0]["customer_id"] == "b"
        assert len(receiver.seen) == 2


async def test_the_secret_is_told_once_and_a_webhook_goes_with_all_that_is_kept_of_it(
    engine: AsyncEngine, store: PostgresStore
) -> None:
    async with client_of(engine, SETTING, lambda: NOW) as client:
        new = (await client.post("/webhooks", json={"url": "https://example.com/x", "tiers": ["A", "B"]})).json()
        assert new["secret"].startswith("whsec_")
        assert len(b64decode(new["secret"][6:])) == 32
        listed = (await client.get("/webhooks")).json()["webhooks"]
        assert listed == [{name: value for name, value in new.items() if name != "secret"}]
        refused = await client.post("/webhooks", json={"url": "http://example.com/x"})
        assert refused.status_code == 422
        assert "WEBHOOK_ALLOW_HTTP" in refused.json()["detail"]
        assert (await client.delete(f"/webhooks/{new['id']}")).json() == {"id": new["id"], "removed": True}
        assert (await client.get(f"/webhooks/{new['id']}")).status_code == 404


async def test_from_now_on_begins_behind_what_is_committed_though_nobody_has_numbered_it(
    engine: AsyncEngine, store: PostgresStore
) -> None:
    await order(store, "a", "b")
    assert not await written(store)
    async with client_of(engine, SETTING, lambda: NOW) as client:
        new = (await client.post("/webhooks", json={"url": "https://example.com/x"})).json()
        assert new["position"] == 2
    await order(store, "c", tag="c")
    await PostgresFeeds(engine).place_changes(limit=10)
    later = (await written(store))[new["position"] :]
    assert [change["customer_id"] for change in later] == ["c"]


@pytest.mark.parametrize("value", ["\0", "A\0", "\ud800"])
@pytest.mark.parametrize("field", ["customer_ids", "segments", "service_levels", "description"])
async def test_what_cannot_be_stored_is_refused_by_its_field(
    engine: AsyncEngine, store: PostgresStore, field: str, value: str
) -> None:
    listed = field != "description"
    body = json.dumps({"url": "https://example.com/x", field: ["A", value] if listed else value})
    async with client_of(engine, SETTING, lambda: NOW) as client:
        refused = await client.post("/webhooks", content=body, headers={"Content-Type": "application/json"})
        assert (refused.status_code, (await client.get("/webhooks")).json()) == (422, {"webhooks": []})
    assert [each["field"] for each in refused.json()["errors"]] == [f"body.{field}.1" if listed else f"body.{field}"]


@pytest.mark.parametrize("customer_id", ["-A", "A B", "顺丰"])
async def test_nobody_is_followed_who_cannot_be_there(
    engine: AsyncEngine, store: PostgresStore, customer_id: str
) -> None:
    async with client_of(engine, SETTING, lambda: NOW) as client:
        body = {"url": "https://example.com/x", "customer_ids": [customer_id]}
        refused = await client.post("/webhooks", json=body)
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error == {"field": "body.customer_ids.0", "problem": "no customer can have this id"}


async def test_there_are_only_so_many_webhooks_and_none_begins_before_what_is_kept(
    engine: AsyncEngine, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await order(store, "a", "b")
    await PostgresFeeds(engine).place_changes(limit=10)
    await store.rows("UPDATE feeds SET dropped = 1 WHERE name = 'changes' RETURNING 1")
    monkeypatch.setattr("segmentation.storage.webhooks.MOST_WEBHOOKS", 1)
    async with client_of(engine, SETTING, lambda: NOW) as client:
        body = {"url": "https://example.com/x"}
        for after, status in ((0, 410), (3, 422), (1, 201), (2, 409)):
            assert (await client.post("/webhooks", json=body | {"after": after})).status_code == status
        (webhook,) = (await client.get("/webhooks")).json()["webhooks"]
        assert webhook["position"] == 1
        gone = await client.post(f"/webhooks/{webhook['id']}/replay", json={"after": 0})
        assert gone.status_code == 410
        assert "after 1" in gone.json()["detail"]


# --- into no network ------------------------------------------------------------------------------------------------


async def test_a_name_is_looked_up_once_and_what_was_judged_is_called(receiver: Receiver) -> None:
    """An answer that turns inward the second time (DNS rebinding) is never asked for."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return answers.pop(0)

    port = httpx.URL(receiver.url).port
    receiver.url = f"http://receiver.example.com:{port}/"
    outbound = Outbound(INSIDE, resolve=resolve)
    headers = {"webhook-id": "1", "webhook-timestamp": "1"}
    signature = hmac.new(b"s" * 32, b"1.1.{}", hashlib.sha256).digest()
    headers["webhook-signature"] = "v1," + b64encode(signature).decode()
    assert await outbound.post(receiver.url + "a?b=c", b"{}", headers) == 204
    assert asked == [("receiver.example.com", port)]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["fe80::1%eth0"], []])
async def test_a_name_that_leads_inward_is_not_called(addresses: list[str], receiver: Receiver) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return addresses

    with pytest.raises(NotSent, match="receiver"):
        await Outbound(OUTSIDE, resolve=resolve).post(
            receiver.url.replace("127.0.0.1", "receiver.example.com"), b"{}", {}
        )
    assert receiver.seen == []


async def test_an_address_that_was_allowed_once_is_judged_again(receiver: Receiver) -> None:
    """It may stand in the store from before the operator thought better of it."""
    with pytest.raises(NotSent, match="WEBHOOK_ALLOW_PRIVATE"):
        await Outbound(OUTSIDE).post(receiver.url, b"{}", {})
    assert receiver.seen == []


async def test_a_receiver_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_worker.outbound._WHOLE_SECONDS", 0.3)
    writers: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(NotSent, match="no answer"):
        await Outbound(INSIDE).post(f"http://127.0.0.1:{port}/", b"{}", {})
    server.close()
    await server.wait_closed()


async def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotSent, match="Connect"):
        await Outbound(INSIDE).post(f"http://127.0.0.1:{port}/", b"{}", {})
