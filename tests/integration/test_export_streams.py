"""Exports over a real connection: what is cut is seen to be cut, and whoever goes away leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.access import SOMEBODY, Watch, authenticator_of, new_key
from tests.support.api import Api, cable_to, running

from segment_api.app import Door, create_app
from segment_api.authenticating import REVOKED_WITHIN_SECONDS
from segment_api.exporting import Slots
from segmentation.access import Scope, read_key
from segmentation.storage.engine import transaction
from segmentation.storage.keys import PostgresKeys

CUSTOMERS = 12_000
"""Some 15 MB: more than the buffers of a connection hold."""
_PATIENCE_SECONDS = 60.0

_MANY = text("""
    WITH given AS (SELECT 'c-' || lpad(n::text, 6, '0') AS customer_id FROM generate_series(1, :customers) AS n),
         known AS (INSERT INTO customers (customer_id) SELECT customer_id FROM given)
    INSERT INTO snapshots (customer_id, as_of, due_on, computed_tier, tier, tier_since, lifecycle, segment,
        segment_since, segment_reasons, service_level, service_reasons, policy_version, updated_at, value_level, size,
        frequency, grade, order_traits)
    SELECT customer_id, :day, DATE '9999-01-01', 'unrated', 'unrated', :day, 'prospect', 'standard', :day, '[]',
        'standard', '[]', 1, now(), 'low', 'small', 'low', 'general', '[]'
    FROM given
""")


@asynccontextmanager
async def served(engine: AsyncEngine, slots: Slots, door: Door | None = None) -> AsyncIterator[int]:
    """The application with many customers, on a port."""
    async with running(engine) as api:
        async with transaction(engine) as connection:
            await connection.execute(_MANY, {"customers": CUSTOMERS, "day": api.clock.now.date()})
        app = create_app(replace(_context(api), exports=slots), door)
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving
            listener.close()


def _context(api: Api) -> Any:
    return api.client._transport.app.state.context  # type: ignore[attr-defined]


async def asked(port: int, credential: str = "none") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with little room, on which an export has begun to come."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=4_096)
    shown = f"Authorization: Bearer {credential}\r\n".encode()
    writer.write(
        b"GET /customers?trailer=true HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n" + shown + b"\r\n"
    )
    assert (await reader.readline()).split()[1] == b"200"
    return reader, writer


async def until_free(slots: Slots, engine: AsyncEngine) -> None:
    pool: Any = engine.pool
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while slots.taken or pool.checkedout():  # noqa: ASYNC110 - neither tells anybody
            await asyncio.sleep(0.01)


def rows_of(body: bytes) -> list[Any]:
    """The lines of a body in chunks, as far as they came."""
    return [json.loads(line) for line in body.split(b"\n") if line.startswith(b"{") and line.endswith(b"}")]


async def test_everybody_comes_once_and_the_body_ends_in_order(api_engine: AsyncEngine) -> None:
    slots = Slots()
    async with served(api_engine, slots) as port:
        reader, writer = await asked(port)
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            block = await reader.read(1 << 16)
            assert block, "broken off"
            body += block
        writer.close()
    *_, last = rows_of(body)
    assert (last["complete"], last["customers"]) == (True, CUSTOMERS)
    await until_free(slots, api_engine)


async def test_a_client_that_goes_away_frees_its_connection(api_engine: AsyncEngine) -> None:
    """In the middle of the stream, without a word."""
    slots = Slots(stalled_seconds=_PATIENCE_SECONDS)
    async with served(api_engine, slots) as port:
        _, writer = await asked(port)
        assert slots.taken == 1
        writer.transport.abort()
        await until_free(slots, api_engine)


async def test_a_client_that_stops_reading_frees_its_connection(api_engine: AsyncEngine) -> None:
    """It is there, and takes nothing: the moment of the database is not kept for it."""
    slots = Slots(stalled_seconds=0.5)
    async with served(api_engine, slots) as port:
        reader, writer = await asked(port)
        await until_free(slots, api_engine)
        left = await reader.read(-1)
        assert not left.endswith(b"0\r\n\r\n")
        assert all("complete" not in row for row in rows_of(left))
        writer.close()


async def test_an_export_that_takes_too_long_says_so_and_breaks_off(api_engine: AsyncEngine) -> None:
    slots = Slots(longest_seconds=-1)
    async with served(api_engine, slots) as port:
        reader, writer = await asked(port)
        body = await reader.read(-1)
        writer.close()
    assert not body.endswith(b"0\r\n\r\n")
    (last,) = rows_of(body)
    assert (last["complete"], last["customers"]) == (False, 0)
    assert "filters" in last["detail"]


async def test_an_export_ends_with_its_key_and_says_that_it_is_not_complete(api_engine: AsyncEngine) -> None:
    slots, watch, keys = Slots(stalled_seconds=_PATIENCE_SECONDS), Watch(), PostgresKeys(api_engine)
    async with served(api_engine, slots, Door(authenticator_of(keys, watch))) as port:
        key = await new_key(keys, Scope.READ)
        reader, writer = await asked(port, key)
        key_id, _ = read_key(key) or ("", "")
        await keys.revoke(key_id, by=SOMEBODY, reason="left", now=watch.now())
        watch.passed += REVOKED_WITHIN_SECONDS
        body = await reader.read(-1)
        writer.close()
        assert not body.endswith(b"0\r\n\r\n")
        last = rows_of(body)[-1]
        assert last["complete"] is False
        assert 0 < last["customers"] < CUSTOMERS
        assert "revoked" in last["detail"]
        await until_free(slots, api_engine)


async def test_a_database_that_goes_away_in_the_middle_is_told_of(database_url: str) -> None:
    """The last line says that this was not everybody, and the body is broken off as well."""
    async with cable_to(database_url) as (cable, engine):
        slots = Slots(stalled_seconds=_PATIENCE_SECONDS)
        async with served(engine, slots) as port:
            reader, writer = await asked(port)
            await cable.cut()
            body = await reader.read(-1)
            writer.close()
            assert not body.endswith(b"0\r\n\r\n")
            last = rows_of(body)[-1]
            assert last["complete"] is False
            assert last["customers"] < CUSTOMERS
            assert "database" in last["detail"]
            await until_free(slots, engine)
        await cable.plug()


@pytest.fixture
async def api_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with cable_to(database_url) as (_, engine):
        yield engine
