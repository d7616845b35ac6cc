"""The proxy: what passes is what was sent, and what is cut, stalled or slowed is only that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from chaos.network import BOTH, LOOPBACK, Direction, Link

PIECE = bytes(range(256)) * 4_096


class EchoServer:
    """Answers what it is sent, and remembers it."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.serving = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving += 1
        try:
            while piece := await reader.read(65_536):
                self.heard += piece
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
            self.serving -= 1


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, EchoServer]]:
    echo = EchoServer()
    server = await asyncio.start_server(echo, LOOPBACK, 0)
    try:
        async with Link(server.sockets[0].getsockname()[1]) as link:
            yield link, echo
    finally:
        server.close()
        for client in CLIENTS:
            client.writer.transport.abort()
        CLIENTS.clear()
        await holds(lambda: echo.serving == 0, what="the server keeps a connection")


CLIENTS: list[Client] = []
"""Of the test at hand."""


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, link: Link) -> Client:
        client = cls(*await asyncio.open_connection(LOOPBACK, link.port))
        CLIENTS.append(client)
        return client

    async def ask(self, piece: bytes) -> bytes:
        self.writer.write(piece)
        await self.writer.drain()
        return await self.reader.readexactly(len(piece))

    async def is_ended(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


async def holds(check: Callable[[], bool], *, what: str) -> None:
    for _ in range(600):
        if check():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(what)


async def test_what_passes_is_what_was_sent_on_each_connection() -> None:
    async with linked() as (link, _):
        clients = [await Client.of(link) for _ in range(3)]
        answers = await asyncio.gather(*(client.ask(PIECE[number:]) for number, client in enumerate(clients)))
        assert answers == [PIECE[number:] for number in range(3)]
        assert link.connections == 3


async def test_the_end_of_a_connection_passes() -> None:
    async with linked() as (link, _):
        client = await Client.of(link)
        assert await client.ask(b"a") == b"a"
        client.writer.write_eof()
        assert await client.is_ended()
        await holds(lambda: link.connections == 0, what="the link keeps the connection")


async def test_a_cut_ends_what_is_open_and_what_comes_until_it_is_healed() -> None:
    async with linked() as (link, _):
        client = await Client.of(link)
        assert await client.ask(b"a") == b"a"
        link.cut()
        assert await client.is_ended()
        assert await (await Client.of(link)).is_ended()
        link.heal()
        assert await (await Client.of(link)).ask(b"b") == b"b"


async def test_a_lost_answer_is_to_a_question_that_was_heard() -> None:
    async with linked() as (link, echo):
        client = await Client.of(link)
        link.swallow(Direction.ANSWERS)
        client.writer.write(b"commit")
        assert await client.is_ended()
        assert bytes(echo.heard) == b"commit"


async def test_a_lost_question_is_never_heard() -> None:
    async with linked() as (link, echo):
        client = await Client.of(link)
        assert await client.ask(b"a") == b"a"
        link.swallow(Direction.REQUESTS)
        client.writer.write(b"commit")
        assert await client.is_ended()
        assert bytes(echo.heard) == b"a"


@pytest.mark.parametrize("directions", [{Direction.REQUESTS}, {Direction.ANSWERS}, BOTH])
async def test_a_stall_holds_up_what_then_goes_on(directions: set[Direction]) -> None:
    async with linked() as (link, echo):
        client = await Client.of(link)
        assert await client.ask(b"a") == b"a"
        link.stall(*directions)
        late = await Client.of(link)
        asked = [asyncio.create_task(each.ask(b"later")) for each in (client, late)]
        done, _ = await asyncio.wait(asked, timeout=0.3)
        assert not done
        assert (bytes(echo.heard) == b"a") is (Direction.REQUESTS in directions)
        link.heal()
        assert await asyncio.gather(*asked) == [b"later"] * 2


async def test_a_slow_link_takes_its_time_and_changes_nothing() -> None:
    async with linked() as (link, _):
        link.slow(delay_seconds=0.01, bytes_a_second=4_000_000)
        began = asyncio.get_running_loop().time()
        assert await (await Client.of(link)).ask(PIECE) == PIECE
        # a million bytes, there and back
        assert asyncio.get_running_loop().time() - began > 0.25


async def test_a_connection_to_a_server_that_is_away_ends() -> None:
    async with linked() as (link, _), Link(1) as leading_nowhere:
        assert await (await Client.of(leading_nowhere)).is_ended()
        assert await (await Client.of(link)).ask(b"a") == b"a"
