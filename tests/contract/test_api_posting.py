"""`POST /events`: an outcome for every event, the same as a message of Kafka would have, in the same books."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import PROBLEM_TYPE, Api, running
from tests.support.builders import a_complaint, an_order, as_message

from segment_api.routes.events import Turns
from segmentation.events import MAX_MESSAGE_BYTES
from segmentation.money import Rate
from segmentation.storage.engine import create_engine

NDJSON = {"Content-Type": "application/x-ndjson"}
NOTHING = {"applied": 0, "duplicate": 0, "rejected": 0, "suppressed": 0}
GOOD = an_order(event_id="good")
BAD = an_order(event_id="bad", amount="-5")


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=8)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        yield api


async def post(api: Api, *, path: str = "/events", **body: Any) -> dict[str, Any]:
    answer = await api.client.post(path, **body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert [each["index"] for each in found["events"]] == list(range(len(found["events"])))
    said = [each["outcome"] for each in found["events"]]
    assert found["outcomes"] == NOTHING | {outcome: said.count(outcome) for outcome in said}
    return found


async def outcomes(api: Api, *events: Any, **request: Any) -> list[tuple[str | None, str, str | None]]:
    found = await post(api, json=list(events), **request)
    return [(each["event_id"], each["outcome"], each["reason"]) for each in found["events"]]


async def status(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = await api.read("/ingest/status")
    return found


async def test_what_is_posted_counts_and_a_reject_stops_nothing(api: Api) -> None:
    found = await post(api, json=[GOOD, BAD, an_order(event_id="more", order_id="O-2", amount="50.00")])
    assert found["outcomes"] == {"applied": 2, "duplicate": 0, "rejected": 1, "suppressed": 0}
    good, bad, _ = found["events"]
    assert good == {
        "index": 0, "event_id": "good", "outcome": "applied", "reason": None, "field": None, "detail": None
    }  # fmt: skip
    assert (bad["event_id"], bad["reason"], bad["field"]) == ("bad", "schema", "amount")
    assert "'-5'" in bad["detail"]
    assert not (await status(api))["tiers"]["current"]
    await api.settle()
    assert (await api.read("/customers/C-1/metrics"))["lifetime"]["net_revenue"] == "150.00"
    assert (await api.segment())["value_tier"] == "A"
    now = await status(api)
    assert now["events"] == found["outcomes"]
    assert (now["customers"], now["lag"], now["tiers"]["current"]) == (1, 0, True)
    assert now["last_applied_at"] is not None
    (row,) = now["partitions"]
    assert (row["topic"], row["partition"], row["worker"], row["halted"]) == ("POST /events", 0, None, None)
    assert row["next_offset"] == row["end_offset"]


async def test_a_reject_is_kept_like_any_other_and_can_be_replayed(api: Api) -> None:
    order = an_order(currency="USD", amount="10.00")
    text = json.dumps(order, indent=1)
    found = await post(api, content=f"[{text}]", headers={"Content-Type": "application/json"})
    assert found["events"][0]["reason"] == "unknown_currency"
    (letter,) = (await api.read("/dead-letters"))["dead_letters"]
    assert (letter["topic"], letter["partition"]) == ("POST /events", 0)
    kept = await api.read(f"/dead-letters/{letter['id']}")
    assert base64.b64decode(kept["value_base64"]).decode() == text
    await api.store.add_rates([Rate("USD", date(2020, 1, 1), 7 * 10**12)])
    replay = (await api.client.post(f"/dead-letters/{letter['id']}/replay")).json()
    assert replay["outcome"] == "applied"
    assert (await status(api))["events"] == NOTHING | {"applied": 1}
    assert await outcomes(api, order) == [("order-1", "duplicate", None)]
    event = await api.read("/events/order-1")
    assert (event["outcome"], event["applied"]["topic"]) == ("applied", "POST /events")


async def test_the_same_again_is_a_duplicate_and_other_content_a_conflict(api: Api) -> None:
    assert await outcomes(api, GOOD, GOOD, GOOD | {"amount": "1.00"}) == [
        ("good", "applied", None), ("good", "duplicate", None), ("good", "rejected", "conflicting_duplicate")
    ]  # fmt: skip
    assert await outcomes(api, GOOD, GOOD | {"amount": 100}) == [
        ("good", "duplicate", None), ("good", "rejected", "conflicting_duplicate")
    ]  # fmt: skip
    assert (await status(api))["events"] == {"applied": 1, "duplicate": 2, "rejected": 2, "suppressed": 0}


async def test_it_makes_no_difference_which_way_an_event_came(api: Api) -> None:
    await api.feed(GOOD)
    assert await outcomes(api, GOOD, a_complaint()) == [("good", "duplicate", None), ("complaint-1", "applied", None)]
    await api.feed(a_complaint())
    assert (await status(api))["events"] == NOTHING | {"applied": 2, "duplicate": 2}


async def test_an_event_of_an_erased_customer_is_suppressed(api: Api) -> None:
    await api.store.suppress(GOOD["customer_id"])
    assert await outcomes(api, GOOD, BAD) == [("good", "suppressed", None), ("bad", "suppressed", None)]
    assert (await api.read("/dead-letters"))["dead_letters"] == []
    assert (await status(api))["events"] == NOTHING | {"suppressed": 2}


async def test_every_event_is_judged_by_its_own_bytes(api: Api) -> None:
    """Amounts beyond doubles, duplicate keys, and what is no JSON: as `docs/events.md` says, event by event."""
    body = (
        b'[{"event_id":"exact","type":"order","customer_id":"C-1","occurred_at":"2026-03-01T12:00:00Z","order_id":"O-1",'
        b'"amount":1,"amount":123456789012.34,"currency":"CNY"}, NaN, {"a":1], "text", null, [[]], '
        + b"[" * 101 + b"]" * 101 + b', {"specversion":"1.0","id":"ce-1","type":"com.example.complaint","source":"/x",'
        b'"time":"2026-03-01T12:00:00Z","subject":"C-1","data":{}}]'
    )  # fmt: skip
    found = await post(api, content=body)
    assert [(each["outcome"], each["reason"]) for each in found["events"]] == [
        ("applied", None),
        ("rejected", "invalid_json"),
        ("rejected", "invalid_json"),
        ("rejected", "schema"),
        ("rejected", "schema"),
        ("rejected", "schema"),
        ("rejected", "invalid_json"),
        ("applied", None),
    ]
    assert (await api.read("/customers/C-1/metrics"))["lifetime"]["net_revenue"] == "123456789012.34"


async def test_lines_do_as_well_and_a_broken_one_spoils_no_other(api: Api) -> None:
    large = json.dumps(a_complaint(event_id="large", text="x" * MAX_MESSAGE_BYTES))
    content = "\r\n".join([json.dumps(GOOD), "", '{"event_id":"', large, json.dumps(BAD), ""])
    found = await post(api, content=content, headers=NDJSON)
    assert [each["reason"] for each in found["events"]] == [None, "invalid_json", "too_large", "schema"]


@pytest.mark.parametrize("body", [{"json": []}, {"json": {"events": []}}, {"content": b"\n", "headers": NDJSON}])
async def test_nothing_posted_is_no_error(api: Api, body: dict[str, Any]) -> None:
    assert (await post(api, **body))["events"] == []
    assert (await status(api))["partitions"] == []


# --- validate_only --------------------------------------------------------------------------------------------------


async def test_a_try_out_says_what_would_be_and_stores_nothing(api: Api) -> None:
    known = an_order(event_id="known", customer_id="C-2")
    await api.fed(known)
    await api.store.suppress("C-3")  # type: ignore[arg-type]
    before = await status(api)
    events = [
        GOOD,
        GOOD,
        GOOD | {"amount": "7.00"},
        known,
        known | {"amount": "7.00"},
        BAD,
        a_complaint(customer_id="C-3"),
        an_order(event_id="late", occurred_at="2999-01-01T00:00:00Z"),
    ]
    tried = await outcomes(api, *events, path="/events?validate_only=true")
    assert [reason or outcome for _, outcome, reason in tried] == [
        "applied",
        "duplicate",
        "conflicting_duplicate",
        "duplicate",
        "conflicting_duplicate",
        "schema",
        "suppressed",
        "future",
    ]
    assert await status(api) == before
    assert (await api.read("/dead-letters"))["dead_letters"] == []
    assert (await api.client.get("/customers/C-1/segment")).status_code == 404
    assert await outcomes(api, *events) == tried


# --- the envelope ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"json": GOOD}, "put a single event into an array"),
        ({"json": [GOOD] * 1_001}, "1,001 events are more than 1,000"),
        ({"content": b"[1,"}, "never closed"),
        ({"content": b"[]", "headers": {"Content-Type": "text/csv"}}, "text/csv"),
    ],
)
async def test_a_bad_envelope_is_refused_and_nothing_of_it_is_read(
    api: Api, request_: dict[str, Any], says: str
) -> None:
    answer = await api.client.post("/events", **request_)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM_TYPE)
    problem = answer.json()
    assert says in problem["detail"]
    assert problem["errors"][0]["field"] == "body"
    assert (await status(api))["events"] == NOTHING


# --- several at once ------------------------------------------------------------------------------------------------


async def test_calls_with_the_same_events_at_once_apply_each_once(api: Api) -> None:
    events = [
        an_order(event_id=f"e-{n}", order_id=f"O-{n}", customer_id=f"C-{n % 7}", amount="1.00") for n in range(40)
    ]

    async def call(turn: int) -> dict[str, Any]:
        return await post(api, json=events[turn:] + events[:turn])

    answers, _ = await asyncio.gather(
        asyncio.gather(*(call(turn * 5) for turn in range(8))),
        api.worker.read([as_message(event) for event in reversed(events)], now=api.clock.now),
    )
    applied = sum(answer["outcomes"]["applied"] for answer in answers)
    now = await status(api)
    assert now["events"] == NOTHING | {"applied": 40, "duplicate": 320}
    assert applied <= 40
    assert now["customers"] == 7
    await api.settle()
    assert (await status(api))["tiers"]["current"]
    rows = await api.store.rows("SELECT count(DISTINCT \"offset\") AS places FROM events WHERE topic = 'POST /events'")
    assert rows[0].places == applied


async def test_only_so_many_calls_wait(api: Api) -> None:
    """Whoever comes too many is told when to come again, and nothing of the call was read."""
    transport = api.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    turns: Turns = transport.app.state.turns  # type: ignore[attr-defined]
    turns._here = 1_000
    answer = await api.client.post("/events", json=[GOOD])
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert (await status(api))["events"] == NOTHING
    turns._here = 0
    assert await outcomes(api, GOOD) == [("good", "applied", None)]
