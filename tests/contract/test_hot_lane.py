"""The hot lane says what the ordinary route says, byte for byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, running
from tests.support.builders import a_customer, an_order
from tests.support.lanes import Served, Told, a_request, ask, served, wire_to
from tests.support.workers import eventually

from segmentation.storage.engine import create_engine

OVERRIDE: Final = {
    "tier": "A",
    "reason": 'they say "stale":false and \\"stale\\":false, 也说',
    "author": "ops",
    "expires_on": "2026-12-31",
}
ASKED: Final = (
    "C-1",
    "C-2",
    "C-3",
    "c-1",
    "C-1 ",
    "C%2D1",
    "C-%31",
    "nobody",
    "C-1/x",
    "..",
    "%2e%2e",
    "C-1?",
    "%00",
    "",
)


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=8)
    yield engine
    await engine.dispose()


@dataclass
class Both:
    api: Api
    hot: Served
    ordinary: Served

    async def compare(self, request: bytes) -> Told:
        """What both say to it; the hot lane twice, for the second time it knows the header lines."""
        said = [await ask(self.ordinary.port, request)] + [await ask(self.hot.port, request) for _ in range(3)]
        for told in said[1:]:
            assert told.lasting == said[0].lasting
        return said[0]


@pytest.fixture(scope="module")
async def both(engine: AsyncEngine, shared_database_url: str) -> AsyncIterator[Both]:
    async with running(engine) as api:
        await api.fed(
            an_order(event_id="order-C-1", customer_id="C-1"),
            a_customer(event_id="customer-C-1", customer_id="C-1", name="一号", industry="pharma"),
            an_order(event_id="order-C-2", customer_id="C-2"),
            a_customer(event_id="customer-C-3", customer_id="C-3"),
        )
        answer = await api.client.put("/customers/C-2/override", json=OVERRIDE)
        assert answer.status_code == 200, answer.text
        async with (
            served(engine, shared_database_url, now=api.clock) as hot,
            served(engine, shared_database_url, now=api.clock, hot=False) as ordinary,
        ):
            for customer_id in ("C-1", "C-2", "C-3"):
                await hot.kept(customer_id)
                await hot.kept(customer_id, ("Accept-Language", "zh"))
            yield Both(api, hot, ordinary)


async def test_an_answer_from_memory_is_the_ordinary_one(both: Both) -> None:
    """Seen to come from memory, on the wire and through the application, in both languages, and unchanged."""
    for language in ("en", "zh", "zh-CN;q=0.9, en;q=0.1", "fr"):
        headers = [("Accept-Language", language)]
        for customer_id in ("C-1", "C-2", "C-3"):
            before = both.hot.hits
            told = await both.compare(a_request(f"/customers/{customer_id}/segment", *headers))
            assert told.status == 200
            assert both.hot.hits == before + 3
            tag = told.header("etag") or ""
            known = await both.compare(
                a_request(f"/customers/{customer_id}/segment", *headers, ("If-None-Match", f'"x", W/{tag}'))
            )
            assert (known.status, known.body) == (304, b"")
            assert both.hot.hits == before + 6


header_values = st.sampled_from(
    (
        ("Accept-Language", "zh"), ("Accept-Language", "en;q=0, *"), ("ACCEPT-LANGUAGE", "zh-Hant"),
        ("Accept-Language", "\xe4\xb8\xad"), ("Accept-Language", ""),
        ("If-None-Match", "*"), ("If-None-Match", '"nothing"'), ("If-None-Match", "\xff"), ("If-None-Match", ""),
        ("X-Request-ID", "mine"), ("X-Request-ID", "not sane"), ("X-Request-ID", "second"),
        ("Authorization", "Bearer x"), ("Connection", "close"), ("Connection", "keep-alive"),
        ("Content-Length", "0"), ("Accept", "text/html"), ("X-Long", "x" * 33_000), ("X-Forwarded-For", "10.0.0.1"),
        ("Cookie", "a=b"),
    )
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(asked="C-1", headers=[("Content-Length", "0")], method="GET", query="", version="1.1")
@example(asked="C-1", headers=[("Authorization", "Bearer x")] * 2, method="GET", query="", version="1.1")
@example(
    asked="C-2", headers=[("Accept-Language", "zh"), ("Accept-Language", "en")], method="GET", query="", version="1.1"
)
@example(asked="C-1", headers=[], method="GET", query="?as_of=2026-11-21", version="1.1")
@example(asked="C-1", headers=[], method="GET", query="", version="1.0")
@given(
    asked=st.sampled_from(ASKED),
    headers=st.lists(header_values, max_size=4),
    # Not DELETE: with a question mark in the id it erases the customer whom the others ask for.
    method=st.sampled_from(("GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "PATCH")),
    query=st.sampled_from(("", "", "", "?", "?as_of=2026-11-22", "?as_of=never", "?x")),
    version=st.sampled_from(("1.1", "1.1", "1.0")),
)
async def test_whatever_is_asked_the_lane_says_what_the_ordinary_route_says(  # noqa: PLR0917
    both: Both, asked: str, headers: list[tuple[str, str]], method: str, query: str, version: str
) -> None:
    """Status, headers and body: odd ids, percent-encoding, queries, other methods, repeated and strange headers."""
    if " " in asked:
        asked = asked.replace(" ", "%20")
    request = a_request(f"/customers/{asked}/segment{query}", *headers, method=method)
    await both.compare(request.replace(b" HTTP/1.1\r\n", f" HTTP/{version}\r\n".encode(), 1))


async def test_a_request_in_pieces_and_several_at_once_are_taken_apart_as_ever(both: Both) -> None:
    """What looks like a request inside another one is none."""
    plain = a_request()
    for served_by in (both.hot, both.ordinary):
        async with wire_to(served_by.port) as wire:
            whole = await wire.ask(plain)
            for at in range(1, len(plain), 7):
                assert (await wire.ask(plain[:at], plain[at:])).lasting == whole.lasting
            assert (await wire.ask(plain + plain)).lasting == whole.lasting
            assert (await wire.read()).lasting == whole.lasting
            inside = await wire.ask(b"GET /health/live HTTP/1.1\r\nHost: tierline\r\nX-Inside: ", plain)
            assert inside.status == 200
            assert b'"live"' in inside.body
            body = a_request("/customers/segments", ("Content-Length", str(len(plain))), method="POST")
            assert (await wire.ask(body, plain)).status == 422
            assert (await wire.ask(plain)).lasting == whole.lasting


async def test_every_answer_has_an_id_of_its_own_and_a_line_of_the_log(both: Both) -> None:
    both.hot.said.clear()
    told = [await both.hot.kept() for _ in range(20)]
    mine = await both.hot.kept("C-1", ("X-Request-ID", "mine"))
    ids = [each.header("x-request-id") for each in told]
    assert len(set(ids)) == 20
    assert mine.header("x-request-id") == "mine"

    async def written() -> bool:
        return b"mine" in b"".join(both.hot.said)

    await eventually(written, "the log")
    lines = [json.loads(line) for line in b"".join(both.hot.said).splitlines()]
    said = {line["request_id"]: line for line in lines}
    assert said.keys() >= {*ids, "mine"}
    line = said["mine"]
    assert line.pop("at")
    assert 0 <= line.pop("milliseconds") < 60_000
    assert line == {
        "level": "info",
        "event": "request.answered",
        "request_id": "mine",
        "method": "GET",
        "route": "/customers/{customer_id}/segment",
        "status": 200,
        "bytes": len(mine.body),
        "by": "anyone",
        "client": "127.0.0.1",
    }


async def test_hits_are_counted_like_any_answer(both: Both) -> None:
    route = {"route": "/customers/{customer_id}/segment"}

    def counts() -> tuple[float, float, float]:
        return (
            both.hot.count("tierline_http_requests_total", **route, status="200"),
            both.hot.count("tierline_http_requests_total", **route, status="304"),
            both.hot.count("tierline_http_request_seconds_count", **route),
        )

    before = counts()
    tag = (await both.hot.kept()).header("etag") or ""
    await both.hot.kept("C-1", ("If-None-Match", tag))
    after = counts()
    grown = [b - a for a, b in zip(before, after, strict=True)]
    assert grown[0] >= 1
    assert grown[1] >= 1
    assert grown[2] == grown[0] + grown[1]
    shown = (await ask(both.hot.port, a_request("/metrics"))).body.decode()
    names = {family.name for family in text_string_to_metric_families(shown)}
    assert names >= {"tierline_lookups", "tierline_lookup_bytes", "tierline_feed_looked_at_seconds"}
