"""Tells the world: changes and rejected messages go to their topics, at least once, per customer in order.

Laws: a position is marked as relayed only once the broker has acknowledged it and all before it; one elected
worker relays, and two at once would only repeat themselves. Consumers drop what they have by `sequence`.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest_worker import telemetry
from ingest_worker.condition import Awaited, Condition, Part, awaited_after
from ingest_worker.full_snapshots import SnapshotMaker
from ingest_worker.producing import Producer, change_message, dead_letter_message, produce
from ingest_worker.settings import WorkerSettings
from ingest_worker.telemetry import DutyMetrics
from ingest_worker.waiting import Backoff, pause
from segmentation.erasure import ErasureNotices
from segmentation.errors import StoreUnavailable
from segmentation.feeds import Feed, Feeds, FullSnapshots
from segmentation.ledger import Ledger, Place
from segmentation.streams import ChangeStream

_AT_ONCE = 500
_IDLE_SECONDS = 0.2
_GATHER_SECONDS = 0.1
"""What changes meanwhile is sent together: a look takes eight small transactions, for one change or for all."""

_ELECTION_SECONDS = 2.0
_FORGET_SECONDS = 60.0
ERASURES_TOLD_HOURS = 72.0
"""For whoever follows changes elsewhere than on the topic: so long an erasure can be heard, with the customer's id."""

_LARGEST_REQUEST_BYTES = 1024 * 1024
_DROP_CHANGES = 2_000
_DROP_AGAIN_SECONDS = 60.0


class Outgoing(Feeds, ChangeStream, ErasureNotices, Protocol):
    """All that goes out, and how long it stays to be followed."""


class Relay:
    """Stands for election, and relays while elected."""

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        feeds: Outgoing,
        snapshots: FullSnapshots,
        *,
        stop: asyncio.Event,
        condition: Condition,
        metrics: DutyMetrics,
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._feeds = feeds
        self._snapshots = snapshots
        self._drop_next = 0.0
        self._stop = stop
        self._condition = condition
        self._metrics = metrics
        self._backoff = backoff
        self._forget_next = 0.0

    async def run(self) -> None:
        """Relays until told to stop."""
        while not self._stop.is_set():
            try:
                async with self._ledger.leading(Place.RELAY) as elected:
                    while not self._stop.is_set() and not await elected():
                        self._goes_on()
                        await pause(_ELECTION_SECONDS, unless=self._stop)
                    if not self._stop.is_set():
                        await self._relay_while(elected)
            except (KafkaError, StoreUnavailable, OSError) as error:
                name = type(error).__name__
                self._condition.waits(Part.RELAY, awaited_after(error), f"{name}: {error}")
                telemetry.warn("relay.waiting", error=name, detail=str(error))
                await pause(self._backoff.next(), unless=self._stop)
            except Exception as error:  # noqa: BLE001 - events go on being applied while somebody looks into this
                self._condition.waits(Part.RELAY, Awaited.REPAIR, type(error).__name__)
                telemetry.alarm("relay.failed")
                await pause(self._backoff.next(), unless=self._stop)

    def _goes_on(self) -> None:
        self._condition.works(Part.RELAY)
        self._backoff.reset()

    async def _relay_while(self, elected: Callable[[], Awaitable[bool]]) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap_servers,
            enable_idempotence=True,  # a retry neither doubles nor overtakes
            linger_ms=5,
            max_request_size=_LARGEST_REQUEST_BYTES,
            **self._settings.security,
        )
        maker = SnapshotMaker(
            self._snapshots,
            producer,
            self._settings.topic_changes,
            every_hours=self._settings.snapshot_hours,
            relay_changes_to=functools.partial(self._relay_changes_to, producer),
        )
        try:
            await producer.start()
            while not self._stop.is_set() and await elected():
                changes, relayed = await self._relay_changes(producer)
                letters = await self._relay_dead_letters(producer)
                await self._forget_erasures()
                self._goes_on()
                # What happens goes before what stands: a snapshot waits while the feed is behind.
                if _AT_ONCE in (changes, letters) or await maker.step(relayed=relayed):
                    continue
                await self._drop_changes()
                await pause(_GATHER_SECONDS if changes or letters else _IDLE_SECONDS, unless=self._stop)
        finally:
            await producer.stop()

    async def _forget_erasures(self) -> None:
        """Now and then: the announcement of an erasure is the last that names the customer."""
        time = asyncio.get_running_loop().time()
        if time >= self._forget_next:
            self._forget_next = time + _FORGET_SECONDS
            await self._feeds.forget_erasures(hours=ERASURES_TOLD_HOURS)

    async def _relay_changes(self, producer: Producer) -> tuple[int, int]:
        """How many were relayed, and the last position that now is."""
        await self._feeds.place(Feed.CHANGES, limit=_AT_ONCE)
        after = await self._feeds.relayed(Feed.CHANGES)
        changes = await self._feeds.changes_after(after, limit=_AT_ONCE)
        await produce(producer, self._settings.topic_changes, map(change_message, changes))
        if changes:
            after = changes[-1].position
            await self._feeds.mark_relayed(Feed.CHANGES, after)
            self._metrics.relayed.labels(Feed.CHANGES.value).inc(len(changes))
        return len(changes), after

    async def _drop_changes(self) -> None:
        """One small step while the feed is not behind; further ones follow."""
        time = asyncio.get_running_loop().time()
        if time < self._drop_next:
            return
        # After a failure as well: what cannot be dropped must not keep changes waiting.
        self._drop_next = time + _DROP_AGAIN_SECONDS
        if await self._feeds.drop_changes(days=self._settings.retain_changes_days, limit=_DROP_CHANGES):
            self._drop_next = time

    async def _relay_changes_to(self, producer: Producer, position: int) -> None:
        """Relays every change up to a position that was given, and none after it."""
        after = await self._feeds.relayed(Feed.CHANGES)
        while after < position:
            found = await self._feeds.changes_after(after, limit=_AT_ONCE)
            changes = [change for change in found if change.position <= position]
            if not changes:
                break
            await produce(producer, self._settings.topic_changes, map(change_message, changes))
            after = changes[-1].position
            await self._feeds.mark_relayed(Feed.CHANGES, after)

    async def _relay_dead_letters(self, producer: Producer) -> int:
        await self._feeds.place(Feed.DEAD_LETTERS, limit=_AT_ONCE)
        after = await self._feeds.relayed(Feed.DEAD_LETTERS)
        letters = await self._feeds.dead_letters_after(after, limit=_AT_ONCE)
        # Of who was erased meanwhile there is nothing left to tell.
        told = (dead_letter_message(letter) for _, letter in letters if not letter.erased)
        await produce(producer, self._settings.topic_dead_letters, told)
        if letters:
            await self._feeds.mark_relayed(Feed.DEAD_LETTERS, letters[-1][0])
            self._metrics.relayed.labels(Feed.DEAD_LETTERS.value).inc(len(letters))
        return len(letters)
