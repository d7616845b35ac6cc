"""What the broker has, a batch at a time; the next one is read while one is recorded.

Laws: a batch is given out once, in the order of the broker; what was read ahead counts only as long as nobody has
sought in between, so whoever claims partitions drops it first; no more than one batch is held, whatever its messages
unpack to.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import NoOffsetForPartitionError

from ingest_worker.waiting import pause
from segmentation.outcomes import Partition

_POLL_MILLISECONDS = 200
_POLL_AHEAD_SECONDS = 0.03  # more often is more work for both sides, and brings nothing sooner
_END_SECONDS = 1.0
_MOST_BYTES = 32 * 1024 * 1024  # a whole batch of usual messages takes a tenth of it
_PIECE_MESSAGES = 200  # of the largest that are accepted, 50 MiB


@dataclass(frozen=True, slots=True)
class Read:
    """What the client brought."""

    records: Mapping[Partition, Sequence[Any]]
    had_room: bool
    """Whether it would have brought more, had it had more."""
    at: float
    """By the loop's clock."""


class BatchReader:
    """Reads from a consumer that others subscribe, seek and stop."""

    def __init__(self, consumer: AIOKafkaConsumer, *, batch_messages: int) -> None:
        self._consumer = consumer
        self._batch_messages = batch_messages
        self._ahead: asyncio.Task[Read] | None = None
        self._recorded = asyncio.Event()
        self._recorded.set()

    async def read(self) -> Read:
        """What was read ahead, or what comes now; nothing after a fifth of a second in which nothing came.

        Raises:
            NoOffsetForPartitionError: a partition was assigned this moment, and nobody has sought yet.
        """
        ahead, self._ahead = self._ahead, None
        return await (ahead or self._poll())

    @contextlib.contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Reads the next batch as long as this one is recorded."""
        self._recorded.clear()
        self._ahead = asyncio.get_running_loop().create_task(self._poll())
        try:
            yield
        finally:
            self._recorded.set()

    async def drop_ahead(self) -> None:
        """Forgets what was read ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        # It is let end by itself: a poll that is cancelled counts as one under way for ever, and the client would not
        # leave the group any more, however long nobody polls. Only a poll that waits for an assignment takes longer.
        self._recorded.set()
        try:
            await asyncio.wait([ahead], timeout=_END_SECONDS)
        finally:
            ahead.cancel()
        await asyncio.wait([ahead])
        if not ahead.cancelled():
            ahead.exception()  # what it has met the next poll meets, or the claim has mended

    async def _poll(self) -> Read:
        """In pieces, because how much was fetched does not tell how much that unpacks to.

        The client fetches no more of a partition until what it holds of it was taken: were nothing taken while a batch
        is recorded, most of what came to the broker meanwhile would wait for the end of the next.
        """
        records: dict[Partition, list[Any]] = {}
        messages = size = 0
        wanted = True
        while wanted and messages < self._batch_messages and size < _MOST_BYTES:
            most = min(_PIECE_MESSAGES, self._batch_messages - messages)
            try:
                polled = await self._consumer.getmany(timeout_ms=0 if records else _POLL_MILLISECONDS, max_records=most)
            except NoOffsetForPartitionError:
                if not records:
                    raise
                break  # the next poll meets it again, and these are recorded first
            for topic_partition, piece in polled.items():
                records.setdefault(Partition(*topic_partition), []).extend(piece)
                size += sum(len(record.value or b"") for record in piece)
            came = sum(map(len, polled.values()))
            messages += came
            wanted = came == most or not self._recorded.is_set()
            if came < most:
                await pause(_POLL_AHEAD_SECONDS, unless=self._recorded)
        return Read(records, not wanted, asyncio.get_running_loop().time())
