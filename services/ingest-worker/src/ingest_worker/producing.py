"""From what the store says to messages on a topic: keys, values, headers, partitions.

Laws: `produce` returns once the broker has acknowledged all of it; messages with a key go where every client of that
key looks for them, markers go to each partition by itself.
"""

import asyncio
import base64
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from segmentation import messages
from segmentation.announcements import Change
from segmentation.assessment import Snapshot
from segmentation.events import RejectReason
from segmentation.feeds import ChangeAnnouncement
from segmentation.ledger import DeadLetter
from segmentation.messages import DeadLetterHeaders, SnapshotBeginMarker, SnapshotEndMarker

_LARGEST_BYTES = 900_000
"""Of a dead letter's own bytes and headers; with ours they have to fit into what a broker takes by default."""


class KafkaMessage(NamedTuple):
    """A message as the client takes it."""

    key: bytes | None
    value: bytes | None
    """None: a tombstone."""
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None
    """None: where its key belongs."""


class Producer(Protocol):
    """What is needed of the Kafka client's producer."""

    async def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        partition: int | None,
    ) -> Awaitable[Any]:
        """Takes a message; what is returned waits for the broker and tells where it went."""

    async def partitions_for(self, topic: str) -> set[int]:
        """The topic's partitions."""


async def produce(producer: Producer, topic: str, batch: Iterable[KafkaMessage]) -> list[int]:
    """Produces the messages in order; returns their partitions."""
    acknowledged = [
        await producer.send(topic, key=each.key, value=each.value, headers=list(each.headers), partition=each.partition)
        for each in batch
    ]
    return [record.partition for record in await asyncio.gather(*acknowledged)]


def change_message(change: ChangeAnnouncement) -> KafkaMessage:
    """A change as it goes to its topic, under the customer's id; a tombstone for who was erased."""
    if change.erased:
        return KafkaMessage(change.customer_id.encode(), None, messages.tombstone_headers(change.position))
    return KafkaMessage(change.customer_id.encode(), messages.change_message(change.position, change.payload).encoded())


def snapshot_message(position: int, snapshot: Snapshot, name: str) -> KafkaMessage:
    """Where a customer stands, as part of a full snapshot, under the customer's id."""
    payload = Change(snapshot.customer_id, None, snapshot).payload()
    return KafkaMessage(snapshot.customer_id.encode(), messages.snapshot_message(position, payload, name).encoded())


def marker_message(marker: SnapshotBeginMarker | SnapshotEndMarker, partition: int) -> KafkaMessage:
    """A marker for one partition, under a key that no customer has."""
    return KafkaMessage(messages.MARKER_KEYS[marker.kind], marker.encoded(), partition=partition)


def dead_letter_message(letter: DeadLetter) -> KafkaMessage:
    """A rejected message as it goes to its topic: its own bytes and headers, and in ours why and where from."""
    value = letter.value or b""
    theirs = [(name, base64.b64decode(encoded or "")) for name, encoded in letter.headers]
    whole = len(value) + sum(len(name.encode()) + len(text) for name, text in theirs) <= _LARGEST_BYTES
    ours = DeadLetterHeaders(
        id=str(letter.id),
        reason=RejectReason(letter.reason),
        field=letter.field_name,
        detail=letter.sentence,
        topic=letter.partition.topic,
        partition=str(letter.partition.number),
        offset=str(letter.offset),
        value_omitted=None if whole else "true",
    )
    key = letter.customer_id.encode() if letter.customer_id else None
    return KafkaMessage(key, value if whole else b"", ours.encoded() + (theirs if whole else []))
