"""A bad network, in user space: a TCP proxy that can be cut, stalled and slowed, in either direction.

Laws: bytes that pass are neither changed nor put in another order; what a cut swallows never arrives; a stall keeps
what it holds up, and lets it go when it ends. A link listens on one port for as long as it lives, whatever happens to
the server behind it.
"""

import asyncio
import contextlib
import enum
from collections.abc import Iterable
from typing import Final, Self

LOOPBACK: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536


class Direction(enum.StrEnum):
    """Of the bytes."""

    REQUESTS = "requests"
    """From the client to the server."""
    ANSWERS = "answers"
    """From the server to the client."""


BOTH: Final = frozenset(Direction)


class Link:
    """What stands between clients and one server."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._swallowed: frozenset[Direction] = frozenset()
        self._flows = {direction: asyncio.Event() for direction in Direction}
        self._delay_seconds = 0.0
        self._bytes_a_second: float | None = None
        self.heal()

    @property
    def port(self) -> int:
        """Where clients connect to, on 127.0.0.1."""
        if self._listener is None:
            raise RuntimeError("the link is not open")
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many it carries."""
        return len(self._open) // 2

    async def open(self, port: int = 0) -> None:
        """Begins to listen, on the given port or any."""
        self._listener = await asyncio.start_server(self._accept, LOOPBACK, port)

    async def close(self) -> None:
        """Ends every connection, and listens no more."""
        if self._listener is not None:
            self._listener.close()
        self._abort()
        # who waits for a stall to end meets what was aborted
        self.heal()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # what can befall it

    def cut(self) -> None:
        """Ends every connection at once, and each new one as soon as it comes."""
        self._swallowed = BOTH
        self._abort()

    def swallow(self, *directions: Direction) -> None:
        """Ends a connection when the next bytes of a direction come, which never arrive.

        Of answers: the server has done what it was asked, and the client does not hear of it.
        """
        self._swallowed = frozenset(directions)

    def stall(self, *directions: Direction) -> None:
        """Lets nothing pass, and says nothing; connections stay, new ones are accepted."""
        for direction in directions:
            self._flows[direction].clear()

    def slow(self, *, delay_seconds: float, bytes_a_second: float | None = None) -> None:
        """Holds every piece up for a while, and lets only so much pass."""
        self._delay_seconds = delay_seconds
        self._bytes_a_second = bytes_a_second

    def heal(self) -> None:
        """All is well again; what a stall held up goes on."""
        self._swallowed = frozenset()
        self._delay_seconds = 0.0
        self._bytes_a_second = None
        for flow in self._flows.values():
            flow.set()

    # carrying

    def _abort(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - streams call this in a task
            return
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        if self._swallowed == BOTH:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self._server_port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, server_writer)
        self._open.update(pair)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, server_writer, Direction.REQUESTS, pair))
                both.create_task(self._carry(server_reader, writer, Direction.ANSWERS, pair))
        finally:
            self._open.difference_update(pair)
            _end(pair)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        pair: Iterable[asyncio.StreamWriter],
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK_BYTES):
                await self._flows[direction].wait()
                if direction in self._swallowed:
                    break
                if self._delay_seconds or self._bytes_a_second:
                    await asyncio.sleep(self._delay_seconds + len(piece) / (self._bytes_a_second or float("inf")))
                writer.write(piece)
                await writer.drain()
            else:
                # an end is news too, and as slow as the rest
                await self._flows[direction].wait()
                if writer.can_write_eof() and not writer.transport.is_closing():
                    writer.write_eof()
                return
        # swallowed or reset: neither side keeps its half
        _end(pair)


def _end(pair: Iterable[asyncio.StreamWriter]) -> None:
    for writer in pair:
        writer.transport.abort()
