"""Server-sent events for tests: the application behind a real socket, and a reader that goes by the standard.

Laws: the reader takes a stream apart as the HTML standard says: an id without data is no event, and moves the place to
come again with all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The application behind a socket on loopback, and a client of it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5)
    )
    # The handlers of signals belong to the test run.
    with contextlib.ExitStack() as stack:
        server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        stack.callback(listener.close)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            app.state.context.changes.close()
            await task


@dataclass
class Told:
    """An event of a stream."""

    id: int
    kind: str
    data: dict[str, Any]


@dataclass
class Reader:
    """What a client knows of a stream."""

    last_id: int | None = None
    signs: int = 0
    """Comments so far."""
    events: list[Told] = field(default_factory=list)

    def headers(self) -> dict[str, str]:
        return {} if self.last_id is None else {"Last-Event-ID": str(self.last_id)}

    async def read(self, answer: httpx.Response) -> AsyncIterator[Told]:
        """The events of one answer, as they come."""
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines: list[str] = []
        async for line in answer.aiter_lines():
            if line:
                lines.append(line)
                continue
            for told in self._block(lines):
                self.events.append(told)
                yield told
            lines = []

    def _block(self, lines: list[str]) -> Iterator[Told]:
        kind, data = "message", ""
        for line in lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.signs += 1
            elif name == "id":
                assert self.last_id is None or int(value) >= self.last_id
                self.last_id = int(value)
            elif name == "event":
                kind = value
            elif name == "data":
                data += value
            else:
                assert name == "retry"
        if data:
            assert self.last_id is not None
            yield Told(self.last_id, kind, json.loads(data))


@contextlib.asynccontextmanager
async def following(client: httpx.AsyncClient, reader: Reader, query: str = "") -> AsyncIterator[AsyncIterator[Told]]:
    """The reader's next answer, from where it is."""
    async with client.stream("GET", f"/changes{query}", headers=reader.headers()) as answer:
        yield reader.read(answer)


async def all_of(client: httpx.AsyncClient, query: str) -> list[Told]:
    """What an answer that ends by itself tells, its end left out."""
    reader = Reader()
    async with following(client, reader, query) as events:
        found = [told async for told in events]
    assert found[-1].kind == "end"
    return found[:-1]
