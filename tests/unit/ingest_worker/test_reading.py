"""Reading ahead: what is given out, once and in order, whatever comes while a batch is recorded."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, NoOffsetForPartitionError
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_worker.reading import BatchReader
from segmentation.outcomes import Partition

ORDERS = TopicPartition("orders", 0)
AT = Partition("orders", 0)


@dataclass(frozen=True)
class Record:
    offset: int
    value: bytes | None = b"x"


@dataclass
class Client:
    """As much of the client as is asked: records that have come, given out in pieces."""

    come: deque[Record | Exception] = field(default_factory=deque)
    something: asyncio.Event = field(default_factory=asyncio.Event)
    polls: int = 0
    under_way: int = 0
    """Of the polls; one that is cancelled stays so for ever, as in the client."""
    assigned: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.assigned.set()

    def brings(self, *some: Record | Exception) -> None:
        self.come.extend(some)
        self.something.set()

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, list[Record]]:
        self.polls += 1
        self.under_way += 1
        await self.assigned.wait()
        piece = await self._fetched(timeout_ms, max_records)
        self.under_way -= 1
        return {ORDERS: piece} if piece else {}

    async def _fetched(self, timeout_ms: int, max_records: int) -> list[Record]:
        if not self.come and timeout_ms:
            self.something.clear()
            try:
                async with asyncio.timeout(timeout_ms / 1_000):
                    await self.something.wait()
            except TimeoutError:
                return []
        piece: list[Record] = []
        while self.come and len(piece) < max_records:
            first = self.come[0]
            if isinstance(first, Exception):
                if piece:
                    break
                self.come.popleft()
                raise first
            piece.append(first)
            self.come.popleft()
        return piece


def reader_of(client: Client, *, batch_messages: int = 1_000) -> BatchReader:
    fake: Any = client
    return BatchReader(fake, batch_messages=batch_messages)


def offsets(read: Any) -> list[int]:
    return [record.offset for record in read.records.get(AT, ())]


def records(first: int, end: int) -> list[Record]:
    return [Record(offset) for offset in range(first, end)]


async def test_what_there_is_comes_at_once_and_nothing_after_a_moment() -> None:
    client = Client()
    reader = reader_of(client)
    client.brings(*records(0, 3))
    read = await reader.read()
    assert (offsets(read), read.had_room) == ([0, 1, 2], True)
    read = await reader.read()
    assert (offsets(read), read.had_room) == ([], True)


async def test_a_batch_is_as_large_as_it_may_be_and_says_that_there_may_be_more() -> None:
    client = Client()
    reader = reader_of(client, batch_messages=450)
    client.brings(*records(0, 1_000))
    read = await reader.read()
    assert (offsets(read), read.had_room) == (list(range(450)), False)
    assert offsets(await reader.read()) == list(range(450, 900))


async def test_a_batch_of_large_messages_ends_sooner() -> None:
    client = Client()
    reader = reader_of(client)
    client.brings(*(Record(offset, bytes(256 * 1024)) for offset in range(300)))
    read = await reader.read()
    assert (len(offsets(read)), read.had_room) == (200, False)


async def test_what_comes_while_a_batch_is_recorded_is_the_next_batch() -> None:
    client = Client()
    reader = reader_of(client)
    client.brings(*records(0, 2))
    assert offsets(await reader.read()) == [0, 1]
    with reader.reading_ahead():
        for first in (2, 5, 8):
            client.brings(*records(first, first + 3))
            await asyncio.sleep(0.05)
        assert not client.come, "taken as it came, so that the client fetches on"
    read = await reader.read()
    assert (offsets(read), read.had_room) == (list(range(2, 11)), True)


async def test_no_more_than_one_batch_is_read_ahead() -> None:
    client = Client()
    reader = reader_of(client, batch_messages=200)
    client.brings(*records(0, 700))
    assert len(offsets(await reader.read())) == 200
    with reader.reading_ahead():
        await asyncio.sleep(0.1)
        assert len(client.come) == 300
    read = await reader.read()
    assert (offsets(read), read.had_room) == (list(range(200, 400)), False)


async def test_what_was_read_ahead_is_forgotten_where_somebody_seeks() -> None:
    client = Client()
    reader = reader_of(client)
    with reader.reading_ahead():
        client.brings(*records(0, 5))
        await asyncio.sleep(0.05)
    await reader.drop_ahead()
    client.brings(*records(3, 5))  # where the claim has sought to
    assert offsets(await reader.read()) == [3, 4]


async def test_it_is_dropped_while_it_waits() -> None:
    client = Client()
    reader = reader_of(client)
    with reader.reading_ahead():
        await asyncio.sleep(0)
        await reader.drop_ahead()
    polls = client.polls
    await asyncio.sleep(0.3)
    assert client.polls == polls
    assert client.under_way == 0, "none was cancelled: the client would never leave the group again"


async def test_a_poll_that_waits_for_an_assignment_holds_nobody_up_for_long() -> None:
    client = Client()
    reader = reader_of(client)
    client.assigned.clear()
    with reader.reading_ahead():
        await asyncio.sleep(0)
    await reader.drop_ahead()
    client.assigned.set()
    client.brings(*records(0, 1))
    assert offsets(await reader.read()) == [0]


@pytest.mark.parametrize("error", [CorruptRecordException("bad"), NoOffsetForPartitionError("orders")])
async def test_what_goes_wrong_ahead_is_met_by_whoever_reads_next(error: Exception) -> None:
    client = Client()
    reader = reader_of(client)
    with reader.reading_ahead():
        client.brings(error)
        await asyncio.sleep(0.05)
    with pytest.raises(type(error)):
        await reader.read()
    client.brings(*records(0, 1))
    assert offsets(await reader.read()) == [0]


async def test_a_partition_that_nobody_has_sought_yet_does_not_hold_back_the_others() -> None:
    client = Client()
    reader = reader_of(client)
    client.brings(*records(0, 200), NoOffsetForPartitionError("orders"))
    read = await reader.read()
    assert (len(offsets(read)), read.had_room) == (200, False)


@settings(max_examples=50, deadline=None)
@given(
    pieces=st.lists(st.integers(0, 40), max_size=12),
    recorded_after=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    batch_messages=st.integers(1, 30),
)
async def test_every_record_is_given_out_once_and_in_order(
    pieces: list[int], recorded_after: list[int], batch_messages: int
) -> None:
    client = Client()
    reader = reader_of(client, batch_messages=batch_messages)
    sent, found = 0, list[int]()
    pending = deque(pieces)
    turns = 0
    while pending or len(found) < sent:
        read = await reader.read()
        found += offsets(read)
        with reader.reading_ahead():
            for _ in range(recorded_after[turns % len(recorded_after)] + 1):
                if pending:
                    more = pending.popleft()
                    client.brings(*records(sent, sent + more))
                    sent += more
                await asyncio.sleep(0)
        turns += 1
        assert len(offsets(read)) <= batch_messages
    assert found == list(range(sent))
