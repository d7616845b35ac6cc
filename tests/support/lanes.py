"""The API on a real socket, with its hot lane and without, asked in bytes.

Laws: both are the product's own application over the same database; what is compared is what came over the wire, whole,
but for the two things that differ from one request to the next: the date, and an id that the caller did not choose.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Clock, context_of
from tests.support.oracle import Setting

from segment_api.app import Door, create_app, open_door, with_hot_lane
from segment_api.hot_lane import HotLane, protocol
from segment_api.lookups import Lookups
from segment_api.telemetry import AccessLog
from segmentation.storage.engine import create_engine
from segmentation.storage.touched import PostgresWatch

_PASSING: Final = re.compile(rb'\r\n(date|x-request-id): [^\r]*|"request_id":"[0-9a-f]{16}"')
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


@dataclass(frozen=True, slots=True)
class Told:
    """An answer as it came."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw[9:12])

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    def header(self, name: str) -> str | None:
        found = re.search(rf"\r\n{name}: ([^\r]*)".encode(), self.raw, re.IGNORECASE)
        return found and found[1].decode()

    @property
    def lasting(self) -> bytes:
        """Without what differs from one request to the next."""
        return _PASSING.sub(b"", self.raw)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, *pieces: bytes) -> Told:
        """Sends the pieces of a request one by one, and reads one answer."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.02)
        return await self.read(whole=not pieces[0].startswith(b"HEAD "))

    async def read(self, *, whole: bool = True) -> Told:
        async with asyncio.timeout(60):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            return Told(head + (await self._reader.readexactly(int(length[1])) if length and whole else b""))

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
    yield wire
    await wire.close()


async def ask(port: int, request: bytes) -> Told:
    """One request on a connection of its own."""
    async with wire_to(port) as wire:
        return await wire.ask(request)


def a_request(
    target: str = "/customers/C-1/segment", *headers: tuple[str, str], method: str = "GET", body: bytes = b""
) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (("Host", "tierline"), *headers))
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


@dataclass
class Served:
    """The API on a port of its own."""

    port: int
    app: FastAPI
    lane: HotLane | None
    said: list[bytes]

    @property
    def lookups(self) -> Lookups:
        lookups: Lookups = self.app.state.lookups
        return lookups

    def count(self, name: str, **labels: str) -> float:
        """A figure."""
        for note in self.app.state.metrics.noting:
            note()
        return self.app.state.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def hits(self) -> float:
        return self.count("tierline_lookups_total", outcome="hit")

    async def segment(self, customer_id: str = "C-1", *headers: tuple[str, str]) -> Told:
        return await ask(self.port, a_request(f"/customers/{customer_id}/segment", *headers))

    async def kept(self, customer_id: str = "C-1", *headers: tuple[str, str]) -> Told:
        """Asks until the answer comes from memory."""
        deadline = time.monotonic() + 60
        while True:
            before = self.hits
            told = await self.segment(customer_id, *headers)
            if self.hits > before:
                return told
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def served(
    engine: AsyncEngine,
    database_url: str,
    *,
    now: Clock,
    setting: Setting | None = None,
    hot: bool = True,
    door: Door | None = None,
    **more: Any,
) -> AsyncIterator[Served]:
    """The API as it is served; not `hot`: as it was before there was a lane, so that every answer is read."""
    context = context_of(engine, setting or Setting(clock="system"), now)
    door = door or open_door(context)
    app = create_app(context, door, **more)
    said: list[bytes] = []
    lane = with_hot_lane(app, door, AccessLog(said.append)) if hot else None
    config = uvicorn.Config(
        lane or app,
        http=protocol(lane) if lane else "httptools",
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    feed = create_engine(database_url, application_name="segment-api feed", pool_size=1)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(feed.dispose)
        serving = asyncio.create_task(server._serve(sockets=[listener]))
        following = asyncio.create_task(app.state.lookups.follow(PostgresWatch(feed))) if hot else None
        try:
            yield Served(listener.getsockname()[1], app, lane, said)
        finally:
            server.should_exit = True
            await serving
            if following:
                following.cancel()
                await asyncio.wait([following])
