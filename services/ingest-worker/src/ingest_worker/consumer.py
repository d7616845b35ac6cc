"""The Kafka loop: poll, decode, record, acknowledge.

Laws: the ledger, not the broker, knows how far each partition was read; every assignment claims its
partitions there and seeks; nothing is polled past a batch that was not recorded. Whatever goes
wrong ends the session, and the next one begins like a fresh start: one path for a crash, a
rebalance, a broker or a database that was away.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
)

from ingest_worker import telemetry
from ingest_worker.batches import assemble, lanes
from ingest_worker.lenient import read_leniently
from ingest_worker.settings import WorkerSettings
from ingest_worker.waiting import pause
from segmentation.errors import PartitionLost, StoreUnavailable
from segmentation.ledger import Claim, Ledger
from segmentation.outcomes import Partition

_POLL_MILLISECONDS = 200
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 15.0
_NOTE_ENDS_SECONDS = 0.5
_CLAIM_SECONDS = 0.05
_METADATA_MILLISECONDS = 10_000  # a topic or partition that is new is consumed this soon
_FETCH_BYTES = 8 * 1024 * 1024


class PositionOutOfRange(Exception):
    """The ledger's next offset is not to be had at the broker any more, or not yet."""


_UNPARSED = (CorruptRecordException, UnicodeDecodeError)
_PASSING = (KafkaError, StoreUnavailable, PartitionLost, PositionOutOfRange, OSError, UnicodeDecodeError)
"""What a new session may not meet again."""


async def consume(new_session: Callable[[], "Session"], *, stop: asyncio.Event) -> None:
    """One session after another until told to stop, waiting longer after each that got nothing done."""
    wait = _FIRST_WAIT_SECONDS
    while not stop.is_set():
        session = new_session()
        try:
            await session.run()
        except _PASSING as error:
            wait = _FIRST_WAIT_SECONDS if session.recorded else min(2 * wait, _LONGEST_WAIT_SECONDS)
            if isinstance(error, _UNPARSED):
                read_leniently()
            telemetry.warn("session.ended", error=type(error).__name__, detail=str(error), next_try_in_seconds=wait)
            await pause(wait, unless=stop)


class Session(ConsumerRebalanceListener):  # type: ignore[misc]
    """One member of the consumer group, from joining to the first failure."""

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        *,
        owner: str,
        now: Callable[[], datetime],
        stop: asyncio.Event,
    ) -> None:
        self.recorded = False
        """Whether anything was recorded: then the failure is a new one."""
        self._topics = settings.topics
        self._ledger = ledger
        self._owner = owner
        self._now = now
        self._stop = stop
        self._claims: dict[Partition, Claim] = {}
        self._claiming = asyncio.Event()
        self._recording = asyncio.Lock()
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group_id=settings.kafka_group_id,
            client_id=owner,
            enable_auto_commit=False,
            # Where a partition begins is decided by the claim, and a position out of range is never jumped over.
            auto_offset_reset="none",
            # What a producer took back never happened.
            isolation_level="read_committed",
            max_poll_records=settings.batch_messages,
            metadata_max_age_ms=_METADATA_MILLISECONDS,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_FETCH_BYTES // 4,
            **settings.security,
        )

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for topic_partition in revoked:
            self._claims.pop(Partition(*topic_partition), None)
        # Hand over between batches. The loop never holds this lock while it polls, so neither waits for ever.
        async with self._recording:
            pass

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:  # noqa: ARG002 - see _claim
        # Exceptions raised here are swallowed by the client, so the loop claims and seeks by itself.
        self._claiming.set()

    async def run(self) -> None:
        """Consumes until told to stop; an open batch is finished first."""
        # By pattern, because a subscription by names waits for ever where one of the topics is not there yet.
        wanted = "|".join(map(re.escape, self._topics))
        self._consumer.subscribe(pattern=rf"(?:{wanted})\Z", listener=self)
        try:
            await self._consumer.start()
            async with asyncio.TaskGroup() as group:
                noting = group.create_task(self._note_ends())
                await self._poll()
                noting.cancel()
        except* _PASSING as failures:
            raise _first(failures) from None
        finally:
            await self._consumer.stop()

    async def _poll(self) -> None:
        while not self._stop.is_set():
            if self._claiming.is_set():
                self._claiming.clear()
                await self._claim()
            try:
                polled = await self._consumer.getmany(timeout_ms=_POLL_MILLISECONDS)
            except NoOffsetForPartitionError:
                # Assigned this moment, and not claimed yet: nothing is known at the broker, the ledger will say.
                await pause(_CLAIM_SECONDS, unless=self._claiming)
                continue
            async with self._recording:
                records = {Partition(*topic_partition): some for topic_partition, some in polled.items()}
                positions, ends = await self._positions(), self._end_offsets()
                # Side by side: one lane is in Python while PostgreSQL works for the other.
                ended = await asyncio.gather(
                    *(self._record(records, claims, positions, ends) for claims in lanes(records, self._claims)),
                    return_exceptions=True,  # none is left running when another fails
                )
            next_offsets: dict[Partition, int] = {}
            for recorded in ended:
                if isinstance(recorded, BaseException):
                    raise recorded
                next_offsets |= recorded
            await self._acknowledge(next_offsets)

    async def _claim(self) -> None:
        """Takes over what was assigned, and goes where the ledger says."""
        assigned = {Partition(*topic_partition): topic_partition for topic_partition in self._consumer.assignment()}
        claims = dict(await self._ledger.claim(assigned, owner=self._owner))
        # Asked after the claim, when no former owner can move on any more.
        first = await self._consumer.beginning_offsets(list(assigned.values()))
        end = await self._consumer.end_offsets(list(assigned.values()))
        for partition, topic_partition in assigned.items():
            claim = claims[partition]
            position = first[topic_partition] if claim.next_offset is None else claim.next_offset
            if not first[topic_partition] <= position <= end[topic_partition]:
                raise PositionOutOfRange(
                    f"{partition.topic}/{partition.number}: the ledger wants offset {position}, the broker has "
                    f"{first[topic_partition]} to {end[topic_partition]}; restore the broker, or accept what is lost "
                    "and run `ingest-worker reposition --to earliest`"
                )
            self._consumer.seek(topic_partition, position)
        self._claims = claims
        await self._ledger.note_ends(
            {partition: end[topic_partition] for partition, topic_partition in assigned.items()}, owner=self._owner
        )
        telemetry.say("partitions.claimed", partitions=len(claims), owner=self._owner)
        missing = set(self._topics) - await self._consumer.topics()
        if missing:
            telemetry.warn("topics.missing", topics=sorted(missing), remedy="create them, they are found by themselves")

    async def _record(
        self,
        records: Mapping[Partition, Sequence[Any]],
        claims: Mapping[Partition, Claim],
        positions: Mapping[Partition, int],
        ends: Mapping[Partition, int],
    ) -> Mapping[Partition, int]:
        """Decodes and records what was read of some partitions, in one transaction; returns the next offsets."""
        batch = assemble(records, claims, positions, ends)
        if not batch.progress:
            return {}
        try:
            receipt = await self._ledger.record(batch, owner=self._owner, now=self._now())
        except PartitionLost as lost:
            held = {Partition(*topic_partition) for topic_partition in self._consumer.assignment()}
            if lost.partitions & held:
                raise
            # A rebalance came in between: what is still ours is claimed and read again.
            telemetry.say("batch.dropped", lost=str(lost))
            self._claims.clear()
            self._claiming.set()
            return {}
        self.recorded = True
        for partition, progress in batch.progress.items():
            if partition in self._claims:
                self._claims[partition] = Claim(progress.claim.epoch, progress.next_offset)
        telemetry.say(
            "batch.recorded",
            messages=len(batch.readings),
            customers=receipt.customers,
            changes=receipt.changes,
            **{outcome.value: count for outcome, count in receipt.counts.items()},
        )
        return {partition: progress.next_offset for partition, progress in batch.progress.items()}

    async def _acknowledge(self, next_offsets: Mapping[Partition, int]) -> None:
        """Mirrors the ledger's offsets at the broker, for whoever watches the group; best effort."""
        offsets = {
            TopicPartition(*partition): next_offset
            for partition, next_offset in next_offsets.items()
            if partition in self._claims
        }
        if offsets:
            with contextlib.suppress(CommitFailedError, IllegalStateError):
                await self._consumer.commit(offsets)

    async def _note_ends(self) -> None:
        noted: Mapping[Partition, int] = {}
        while True:
            await asyncio.sleep(_NOTE_ENDS_SECONDS)
            ends = self._end_offsets()
            if ends != noted:
                await self._ledger.note_ends(ends, owner=self._owner)
                noted = ends

    async def _positions(self) -> dict[Partition, int]:
        """Where the client goes on: past the last record, and past what carries none (transaction markers)."""
        positions: dict[Partition, int] = {}
        for partition in list(self._claims):
            with contextlib.suppress(IllegalStateError):
                positions[partition] = await self._consumer.position(TopicPartition(*partition))
        return positions

    def _end_offsets(self) -> dict[Partition, int]:
        """Where the claimed partitions end, as far as the broker has said by now."""
        ends: dict[Partition, int] = {}
        for topic_partition in self._consumer.assignment():
            end = self._consumer.highwater(topic_partition)
            if end is not None and Partition(*topic_partition) in self._claims:
                ends[Partition(*topic_partition)] = end
        return ends


def _first(failures: BaseExceptionGroup[Any]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
