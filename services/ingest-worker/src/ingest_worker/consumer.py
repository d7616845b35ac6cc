"""The Kafka loop: poll, decode, record, acknowledge.

Laws: the ledger, not the broker, knows how far each partition was read; every assignment claims its
partitions there and seeks; while a batch is recorded the next one is read, and dropped unless every
offset before it was recorded under the same claims. While the database is away nothing is polled at
all, and every partition is claimed anew before it is. Whatever else goes
wrong ends the session, and the next one begins like a fresh start: one path for a crash, a
rebalance, a broker or a database that was away, a client that fell silent. A partition that stands
halted is claimed and not read; the others go on.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    NoOffsetForPartitionError,
)

from ingest_worker import telemetry
from ingest_worker.batches import assemble, cut, lanes
from ingest_worker.condition import Awaited, Condition, Obstacle, Part, awaited_after
from ingest_worker.lenient import read_leniently
from ingest_worker.reading import BatchReader
from ingest_worker.settings import WorkerSettings
from ingest_worker.telemetry import Metrics
from ingest_worker.waiting import Backoff, pause
from ingest_worker.watchdog import Watchdog
from segmentation.errors import PartitionLost, RejectBudgetExceeded, StoreUnavailable
from segmentation.ledger import Batch, Claim, Halt, Ledger, Receipt
from segmentation.outcomes import Partition

_NOTE_ENDS_SECONDS = 0.5
_WATCH_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_BROKER_AWAY_SECONDS = 60.0  # the client reconnects by itself, but a new one also finds brokers at new addresses
_JOIN_SECONDS = 120.0  # the group gives its members ten seconds
_HOLD_SECONDS = 30.0  # a restart of the database takes less; after that, others shall try who may reach it
_CLAIM_SECONDS = 0.05
_ASK_HALTS_SECONDS = 2.0
_PAGE_SECONDS = 60.0
_METADATA_MILLISECONDS = 10_000  # a topic or partition that is new is consumed this soon
_FETCH_WAIT_MILLISECONDS = (
    20  # one fetch at a time is asked of a broker, and one of idle partitions holds up the others
)
_FETCH_BYTES = 8 * 1024 * 1024


class PositionOutOfRange(Obstacle):
    """The ledger's next offset is not to be had at the broker any more, or not yet."""

    awaited = Awaited.POSITION


class ConsumerSilent(Obstacle):
    """The client is alive and does not do its part: a new one shall."""

    awaited = Awaited.MESSAGES


_UNPARSED = (CorruptRecordException, UnicodeDecodeError)
_PASSING = (KafkaError, StoreUnavailable, PartitionLost, Obstacle, OSError, UnicodeDecodeError)
"""What a new session may not meet again."""


async def consume(
    new_session: Callable[[], "Session"],
    *,
    stop: asyncio.Event,
    condition: Condition,
    metrics: Metrics,
    backoff: Backoff,
) -> None:
    """One session after another until told to stop, waiting longer after each that got nothing done."""
    while not stop.is_set():
        condition.turned()
        try:
            await new_session().run()
        except _PASSING as error:
            if isinstance(error, _UNPARSED):
                read_leniently()
            name, wait = type(error).__name__, backoff.next()
            condition.waits(Part.CONSUMER, awaited_after(error), f"{name}: {error}")
            metrics.session_endings.labels(name).inc()
            telemetry.warn("session.ended", error=name, detail=str(error), next_try_in_seconds=round(wait, 3))
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
        condition: Condition,
        metrics: Metrics,
        backoff: Backoff,
        watchdog: Watchdog,
    ) -> None:
        self._topics = settings.topics
        self._ledger = ledger
        self._owner = owner
        self._now = now
        self._stop = stop
        self._condition = condition
        self._metrics = metrics
        self._backoff = backoff
        self._watchdog = watchdog
        self._joined = False
        self._missing: list[str] = []
        self._held_since: float | None = None
        self._claims: dict[Partition, Claim] = {}
        """Of the partitions that are read."""
        self._halts: dict[Partition, Halt] = {}
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
            fetch_max_wait_ms=_FETCH_WAIT_MILLISECONDS,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_FETCH_BYTES // 4,
            **settings.security,
        )
        self._reader = BatchReader(self._consumer, batch_messages=settings.batch_messages)

    @property
    def halts(self) -> Mapping[Partition, Halt]:
        """The partitions held and not read, because their reject budget was exceeded."""
        return self._halts

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for topic_partition in revoked:
            self._claims.pop(Partition(*topic_partition), None)
            self._halts.pop(Partition(*topic_partition), None)
        self._joined = False
        self._condition.waits(Part.CONSUMER, Awaited.PARTITIONS, "the consumer group gives the partitions out anew")
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
            # Asked first: who cannot reach the database takes no partitions from those who can.
            await self._ledger.claim((), owner=self._owner)
            await self._consumer.start()
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(task()) for task in (self._note_ends, self._watch, self._watch_halts)]
                await self._poll()
                for task in beside:
                    task.cancel()
        except* _PASSING as failures:
            raise _first(failures) from None
        finally:
            self._condition.holds({})
            self._condition.works(Part.WATCHDOG)
            self._condition.works(Part.BUDGET)
            try:
                await self._reader.drop_ahead()
            finally:
                await self._consumer.stop()

    async def _poll(self) -> None:
        while not self._stop.is_set():
            self._condition.turned()
            try:
                await self._turn()
            except StoreUnavailable as error:
                await self._hold(error)

    async def _turn(self) -> None:
        """Once round: claim what is new, poll, record, acknowledge."""
        if self._claiming.is_set():
            self._claiming.clear()
            await self._reader.drop_ahead()
            await self._claim()
        try:
            read = await self._reader.read()
        except NoOffsetForPartitionError:
            # Assigned this moment, and not claimed yet: nothing is known at the broker, the ledger will say.
            await pause(_CLAIM_SECONDS, unless=self._claiming)
            return
        if self._claiming.is_set():
            return  # assigned anew meanwhile: what was read may begin anywhere, and is read again from where it counts
        self._watchdog.polled(self._claims, read.records, had_room=read.had_room, at=read.at)
        async with self._recording:
            if self._claiming.is_set():
                return
            positions, ends = await self._positions(), self._end_offsets()
            with self._reader.reading_ahead() if read.records else contextlib.nullcontext():
                # Side by side: one lane is in Python while PostgreSQL works for the other.
                lane_claims = lanes(read.records, self._claims)
                ended = await asyncio.gather(
                    *(self._record(read.records, claims, positions, ends) for claims in lane_claims),
                    return_exceptions=True,  # none is left running when another fails
                )
        next_offsets: dict[Partition, int] = {}
        for recorded in ended:
            if isinstance(recorded, BaseException):
                raise recorded
            next_offsets |= recorded
        await self._acknowledge(next_offsets)
        if self._joined:
            self._held_since = None
            self._condition.works(Part.CONSUMER)

    async def _hold(self, error: StoreUnavailable) -> None:
        """Stays in the group and polls nothing while the database is away for a moment.

        Nothing piles up: of each partition the client holds one fetch at most until that is polled. Whether the batch
        was recorded is not known, so the partitions are claimed anew, and sought, before anything is read.
        """
        await self._reader.drop_ahead()
        self._claims.clear()
        self._claiming.set()
        self._condition.holds({})
        self._condition.waits(Part.CONSUMER, Awaited.DATABASE, str(error))
        began = self._held_since = self._held_since or _monotonic()
        if _monotonic() - began > _HOLD_SECONDS:
            raise error
        wait = self._backoff.next()
        telemetry.warn("consumer.waiting", detail=str(error), next_try_in_seconds=round(wait, 3))
        await pause(wait, unless=self._stop)

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
            self._consumer.seek(topic_partition, position)
            if claim.halt is not None:
                # Out of range or not: that is told when it is resumed, and stops nobody until then.
                self._consumer.pause(topic_partition)
                continue
            if partition in self._halts:
                self._consumer.resume(topic_partition)
            if not first[topic_partition] <= position <= end[topic_partition]:
                raise PositionOutOfRange(
                    f"{partition.topic}/{partition.number}: the ledger wants offset {position}, the broker has "
                    f"{first[topic_partition]} to {end[topic_partition]}; restore the broker, or accept what is lost "
                    "and run `ingest-worker reposition --to earliest`"
                )
        self._claims = {partition: claim for partition, claim in claims.items() if claim.halt is None}
        self._watchdog.begin(self._claims)
        before, self._halts = self._halts, {at: claim.halt for at, claim in claims.items() if claim.halt is not None}
        for partition, halt in self._halts.items():
            if partition not in before:
                _page(partition, halt)
        self._note_halts()
        await self._ledger.note_ends(
            {partition: end[topic_partition] for partition, topic_partition in assigned.items()}, owner=self._owner
        )
        self._joined = True
        self._note_lags({partition: end[topic_partition] for partition, topic_partition in assigned.items()})
        telemetry.say("partitions.claimed", partitions=len(claims), halted=len(self._halts), owner=self._owner)
        self._note_topics(await self._consumer.topics())

    def _note_halts(self) -> None:
        if self._halts:
            places = ", ".join(f"{partition.topic}/{partition.number}" for partition in sorted(self._halts))
            self._condition.waits(Part.BUDGET, Awaited.RESUME, f"halted: {places}; see `ingest-worker resume --help`")
        else:
            self._condition.works(Part.BUDGET)

    def _note_topics(self, there: Collection[str]) -> None:
        missing = sorted(set(self._topics) - set(there))
        if missing:
            self._condition.waits(Part.SUBSCRIPTION, Awaited.TOPICS, f"missing: {', '.join(missing)}")
        else:
            self._condition.works(Part.SUBSCRIPTION)
        if missing and missing != self._missing:
            telemetry.warn("topics.missing", topics=missing, remedy="create them, they are found by themselves")
        self._missing = missing

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
        began = _monotonic()
        try:
            batch, receipt = await self._within_budgets(batch)
        except PartitionLost as lost:
            held = {Partition(*topic_partition) for topic_partition in self._consumer.assignment()}
            if lost.partitions & held:
                raise
            # A rebalance came in between: what is still ours is claimed and read again.
            telemetry.say("batch.dropped", lost=str(lost))
            self._claims.clear()
            self._claiming.set()
            return {}
        if receipt is None:
            return {}
        self._backoff.reset()
        self._metrics.batches.inc()
        self._metrics.batch_seconds.observe(_monotonic() - began)
        for outcome, count in receipt.counts.items():
            self._metrics.messages.labels(outcome.value).inc(count)
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

    async def _within_budgets(self, batch: Batch) -> tuple[Batch, Receipt | None]:
        """Records as much of a batch as its partitions may have; None where there is nothing to record."""
        while batch.progress:
            try:
                receipt = await self._ledger.record(batch, owner=self._owner, now=self._now())
            except RejectBudgetExceeded as exceeded:
                telemetry.say("batch.cut", stops=str(exceeded))
                batch = cut(batch, {Partition(*place): stop for place, stop in exceeded.stops.items()})
                # The client is further than the ledger will be: a new claim takes it back, or lets it stand still.
                self._claiming.set()
                continue
            if receipt.halted:
                self._claiming.set()
            return batch, receipt
        return batch, None

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
            self._note_lags(ends)
            if ends != noted:
                # The loop meets a database that is away by itself, and waits for it.
                with contextlib.suppress(StoreUnavailable):
                    await self._ledger.note_ends(ends, owner=self._owner)
                    noted = ends

    def _note_lags(self, ends: Mapping[Partition, int]) -> None:
        self._condition.holds(
            {
                partition: max(0, ends.get(partition, 0) - (claim.next_offset or 0))
                for partition, claim in self._claims.items()
            }
        )

    async def _watch(self) -> None:
        """Asks the broker itself now and then, and ends the session where the client does not keep up with it."""
        answered = joined = _monotonic()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    silent = await self._silent_partitions()
            except (KafkaError, OSError) as error:
                detail = f"the broker does not answer ({type(error).__name__})"
                self._condition.waits(Part.WATCHDOG, Awaited.BROKER, detail)
                away = _monotonic() - answered
                if away > _BROKER_AWAY_SECONDS:
                    raise KafkaConnectionError(f"the broker has not answered for {away:.0f} s") from error
                continue
            answered = _monotonic()
            self._condition.works(Part.WATCHDOG)
            self._condition.rebuilds_in_vain = self._watchdog.rebuilds_in_vain
            if silent:
                named = ", ".join(f"{partition.topic}/{partition.number}" for partition in silent)
                raise ConsumerSilent(f"the broker has messages that the client does not bring: {named}")
            if self._joined or not self._consumer.subscription():
                joined = _monotonic()
            elif _monotonic() - joined > _JOIN_SECONDS:
                raise ConsumerSilent(f"the consumer group has given out no partitions for {_JOIN_SECONDS:.0f} s")

    async def _silent_partitions(self) -> list[Partition]:
        paused = self._consumer.paused()
        watched = [TopicPartition(*partition) for partition in self._claims]
        watched = [topic_partition for topic_partition in watched if topic_partition not in paused]
        if not watched:
            self._note_topics(await self._consumer.topics())
            return self._watchdog.look({}, {}, at=_monotonic())
        # What an open transaction holds back is left out: the client asks at its own isolation level.
        ends = await self._consumer.end_offsets(watched)
        positions = await self._positions()
        return self._watchdog.look(
            {each: positions[each] for each in map(_partition, watched) if each in positions},
            {_partition(topic_partition): end for topic_partition, end in ends.items()},
            at=_monotonic(),
        )

    async def _watch_halts(self) -> None:
        """Asks whether halted partitions may go on, and says again and again that they do not."""
        loop = asyncio.get_running_loop()
        page_at = loop.time() + _PAGE_SECONDS
        while True:
            await asyncio.sleep(_ASK_HALTS_SECONDS)
            halted = list(self._halts)
            if not halted:
                continue
            try:
                still = await self._ledger.halts(halted)
                if still.keys() != set(halted):
                    self._claiming.set()
                if still:
                    # Nothing is fetched of them, so nobody else hears where they end.
                    ends = await self._consumer.end_offsets([TopicPartition(*partition) for partition in still])
                    await self._ledger.note_ends({Partition(*at): end for at, end in ends.items()}, owner=self._owner)
            except (StoreUnavailable, KafkaError):
                continue  # met by the loop and by the watch, which know what to do
            if loop.time() >= page_at:
                page_at = loop.time() + _PAGE_SECONDS
                for partition, halt in still.items():
                    _page(partition, halt)

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


def _monotonic() -> float:
    return asyncio.get_running_loop().time()


def _partition(topic_partition: TopicPartition) -> Partition:
    return Partition(*topic_partition)


def _page(partition: Partition, halt: Halt) -> None:
    place = f"{partition.topic}/{partition.number}"
    telemetry.page(
        "partition.halted",
        topic=partition.topic,
        partition=partition.number,
        offset=halt.offset,
        since=halt.at.isoformat(),
        because=halt.sentence,
        reasons=halt.reasons,
        remedy=f"mend what sends or reads these messages, then run `ingest-worker resume {place}`",
    )


def _first(failures: BaseExceptionGroup[Any]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
