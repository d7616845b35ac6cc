"""Tells the world: changes and rejected messages go to their topics, at least once, per customer in order.

Laws: a position is marked as relayed only once the broker has acknowledged it and all before it; one elected
worker relays, and two at once would only repeat themselves. Consumers drop what they have by `sequence`.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest_worker import telemetry
from ingest_worker.condition import Awaited, Condition, Part, awaited_after
from ingest_worker.settings import WorkerSettings
from ingest_worker.telemetry import Metrics
from ingest_worker.waiting import Backoff, pause
from segmentation.errors import StoreUnavailable
from segmentation.ledger import ChangeAnnouncement, DeadLetter, Feed, Feeds, Ledger, Place

SCHEMA_VERSION = "1"
"""Of the messages on both topics; see docs/events.md."""

_AT_ONCE = 500
_IDLE_SECONDS = 0.2
_ELECTION_SECONDS = 2.0
_LARGEST_REQUEST_BYTES = 1024 * 1024
_LARGEST_VALUE_BYTES = 900_000
"""Of a dead letter's own bytes; with its headers it has to fit into what a broker takes by default."""

KafkaMessage = tuple[bytes | None, bytes, list[tuple[str, bytes]]]
"""Key, value, headers."""


class Relay:
    """Stands for election, and relays while elected."""

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        feeds: Feeds,
        *,
        stop: asyncio.Event,
        condition: Condition,
        metrics: Metrics,
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._feeds = feeds
        self._stop = stop
        self._condition = condition
        self._metrics = metrics
        self._backoff = backoff

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
        await producer.start()
        try:
            while not self._stop.is_set() and await elected():
                changes = await self._relay_changes(producer)
                letters = await self._relay_dead_letters(producer)
                self._goes_on()
                if not changes and not letters:
                    await pause(_IDLE_SECONDS, unless=self._stop)
        finally:
            await producer.stop()

    async def _relay_changes(self, producer: AIOKafkaProducer) -> int:
        await self._feeds.place(Feed.CHANGES, limit=_AT_ONCE)
        after = await self._feeds.relayed(Feed.CHANGES)
        changes = await self._feeds.changes_after(after, limit=_AT_ONCE)
        await _produce(producer, self._settings.topic_changes, map(change_message, changes))
        if changes:
            await self._feeds.mark_relayed(Feed.CHANGES, changes[-1].position)
            self._metrics.relayed.labels(Feed.CHANGES.value).inc(len(changes))
        return len(changes)

    async def _relay_dead_letters(self, producer: AIOKafkaProducer) -> int:
        await self._feeds.place(Feed.DEAD_LETTERS, limit=_AT_ONCE)
        after = await self._feeds.relayed(Feed.DEAD_LETTERS)
        letters = await self._feeds.dead_letters_after(after, limit=_AT_ONCE)
        await _produce(
            producer, self._settings.topic_dead_letters, (dead_letter_message(letter) for _, letter in letters)
        )
        if letters:
            await self._feeds.mark_relayed(Feed.DEAD_LETTERS, letters[-1][0])
            self._metrics.relayed.labels(Feed.DEAD_LETTERS.value).inc(len(letters))
        return len(letters)


async def _produce(producer: AIOKafkaProducer, topic: str, messages: Iterable[KafkaMessage]) -> None:
    acknowledged = [
        await producer.send(topic, key=key, value=value, headers=headers) for key, value, headers in messages
    ]
    await asyncio.gather(*acknowledged)


def change_message(change: ChangeAnnouncement) -> KafkaMessage:
    """A change as it goes to its topic, under the customer's id."""
    body = {"schema": int(SCHEMA_VERSION), "sequence": change.position, **change.payload}
    return change.customer_id.encode(), json.dumps(body, ensure_ascii=False).encode(), []


def dead_letter_message(letter: DeadLetter) -> KafkaMessage:
    """A rejected message as it goes to its topic: its own bytes and headers, and in ours why and where from."""
    value = letter.value
    whole = value is None or len(value) <= _LARGEST_VALUE_BYTES
    ours = {
        "schema": SCHEMA_VERSION,
        "id": str(letter.id),
        "reason": letter.reason,
        "field": letter.field_name or "",
        "detail": letter.sentence,
        "topic": letter.partition.topic,
        "partition": str(letter.partition.number),
        "offset": str(letter.offset),
        "value-omitted": "" if whole else "true",
    }
    headers = [(f"tierline-{name}", text.encode()) for name, text in ours.items() if text]
    theirs = [(name, base64.b64decode(encoded or "")) for name, encoded in letter.headers] if whole else []
    key = letter.customer_id.encode() if letter.customer_id else None
    return key, (value or b"") if whole else b"", headers + theirs
