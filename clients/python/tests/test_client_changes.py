"""Following changes: whatever is cut, nothing is missed and nothing comes twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from clients.python.tests.conftest import Kind

import tierline

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def side(tier: str) -> dict[str, Any]:
    return {"value_tier": tier, "segment": "core", "service_level": "stable", "churn_warning": False}


def change(sequence: int, *, before: str | None = "B", after: str = "A", reason: str = "tier A") -> bytes:
    told = {
        "schema": 1,
        "kind": "change",
        "sequence": sequence,
        "customer_id": f"C-{sequence}",
        "as_of": "2026-11-22",
        "before": before and side(before),
        "after": side(after),
        "reasons": [reason],
        "versions": {"policy": 1, "model": None},
    }
    text = json.dumps(told, ensure_ascii=False)
    return f"event: change\nid: {sequence}\ndata: {text}\n\n".encode()


def refusal(status: int, detail: str, *headers: str) -> bytes:
    body = json.dumps({"status": status, "detail": detail}).encode()
    head = [f"HTTP/1.1 {status} No", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Streams:
    """A server that answers each request with the next of what it was given, and cuts the connection."""

    def __init__(self, *connections: bytes) -> None:
        self._connections = list(connections)
        self.requests: list[str] = []
        self.url = ""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self._connections.pop(0) if self._connections else refusal(422, "no more"))
            await writer.drain()
        writer.close()

    def asked_after(self) -> list[str | None]:
        """The last id that each request gave."""
        heads = [dict(line.lower().split(": ", 1) for line in each.split("\r\n")[1:] if line) for each in self.requests]
        return [head.get("last-event-id") for head in heads]

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Streams]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self


async def followed(kind: Kind, streams: Streams, **options: Any) -> tuple[list[int], Any, Exception]:
    """The sequences that came until the error at the end."""
    found: list[int] = []
    client = kind.client(streams.url)
    changes = client.changes(**options)
    try:
        while True:
            found.append((await kind.next(changes)).sequence)
    except tierline.TierlineError as error:
        return found, changes.position, error
    finally:
        await kind.close(changes)
        await kind.close(client)


async def test_after_a_cut_it_goes_on_from_where_it_was(kind: Kind) -> None:
    first = STREAM + b"retry: 1\nid: 10\n\n" + change(11) + change(12)[:60]
    second = STREAM + b"retry: 1\nid: 11\n\n" + change(12) + b": alive\nid: 15\n\n"
    async with Streams(first, second, STREAM + change(16)).served() as streams:
        found, position, error = await followed(kind, streams)
        assert found == [11, 12, 16]
        assert position == 16
        assert isinstance(error, tierline.Invalid)
        assert streams.asked_after() == [None, "11", "15", "16"]


async def test_one_begins_where_one_says_and_with_filters(kind: Kind) -> None:
    async with Streams(STREAM + change(4)).served() as streams:
        found, _, _ = await followed(kind, streams, after=3, tier=["A", "B"], customer_id="C-1")
        assert found == [4]
        assert streams.asked_after()[0] == "3"
        assert "GET /changes?tier=A&tier=B&customer_id=C-1 " in streams.requests[0]


async def test_a_busy_service_is_asked_again_when_it_says(kind: Kind) -> None:
    busy = refusal(503, "away", "Retry-After: 0")
    async with Streams(busy, b"", STREAM + change(1)).served() as streams:
        found, _, _ = await followed(kind, streams)
        assert found == [1]


async def test_who_wants_to_gives_up(kind: Kind) -> None:
    async with Streams(*[refusal(503, "away", "Retry-After: 0")] * 5).served() as streams:
        found, _, error = await followed(kind, streams, tries=2)
        assert (found, len(streams.requests)) == ([], 2)
        assert isinstance(error, tierline.Unavailable)


@pytest.mark.parametrize(
    "ending",
    [
        refusal(410, "dropped for their age"),
        STREAM + b'event: end\nid: 7\ndata: {"reason":"dropped","detail":"dropped for their age"}\n\n',
    ],
)
async def test_a_hole_is_told_and_not_jumped_over(kind: Kind, ending: bytes) -> None:
    async with Streams(STREAM + change(5), ending).served() as streams:
        found, position, error = await followed(kind, streams)
        assert (found, position) == ([5], 5)
        assert isinstance(error, tierline.ChangesDropped)
        assert "for their age" in str(error)


async def test_an_end_for_another_reason_is_a_cut(kind: Kind) -> None:
    lagging = STREAM + change(5) + b'event: end\nid: 6\ndata: {"reason":"lagging","resume_after":6}\n\n'
    async with Streams(lagging, STREAM + change(7)).served() as streams:
        found, _, _ = await followed(kind, streams)
        assert found == [5, 7]
        assert streams.asked_after()[1] == "6"


async def test_who_was_erased_is_told_and_forgotten(kind: Kind) -> None:
    gone = b'event: erased\nid: 9\ndata: {"schema":1,"kind":"erased","sequence":9,"customer_id":"C-1"}\n\n'
    async with Streams(STREAM + gone).served() as streams:
        client = kind.client(streams.url)
        client._talk.memory.keep("C-1", '"t"', None)
        changes = client.changes()
        told = await kind.next(changes)
        assert (told.customer_id, told.erased, told.tier, told.promoted) == ("C-1", True, None, False)
        assert len(client._talk.memory) == 0
        await kind.close(changes)
        await kind.close(client)


async def test_lines_end_where_the_protocol_says_and_nowhere_else(kind: Kind) -> None:
    odd = "a\u2028b\x85c"
    crlf = change(2, reason=odd).replace(b"\n", b"\r\n")
    async with Streams(STREAM + change(1, reason=odd) + crlf + b"event: unheard_of\ndata: x\n\n").served() as streams:
        client = kind.client(streams.url)
        changes = client.changes()
        for _ in range(2):
            assert (await kind.next(changes)).reasons == [odd]
        await kind.close(changes)
        await kind.close(client)


@pytest.mark.parametrize(
    ("before", "after", "promoted"),
    [
        ("B", "A", True),
        ("unrated", "C", True),
        ("A", "B", False),
        ("A", "A", False),
        (None, "A", False),
        ("Z", "A", False),
    ],
)
async def test_a_promotion_is_known_as_one(before: str | None, after: str, promoted: bool) -> None:
    async with (
        Streams(STREAM + change(1, before=before, after=after)).served() as streams,
        tierline.AsyncTierline(streams.url) as client,
        client.changes() as changes,
    ):
        assert (await anext(changes)).promoted is promoted
