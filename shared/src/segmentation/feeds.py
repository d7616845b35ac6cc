"""What others follow: changes and dead letters in order, and full snapshots to set against them; the ports and values.

Laws: every position is taken once, none is left out; of one customer a later position tells a later state.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from segmentation.access import ANYONE, Actor
from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId
from segmentation.ledger import DeadLetter
from segmentation.messages import ChangeMessage, ErasedMessage, change_message


class Feed(enum.StrEnum):
    """What others follow, each a sequence of positions without holes."""

    CHANGES = "changes"
    DEAD_LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True)
class ChangeAnnouncement:
    """A change at its place in the feed."""

    position: int
    customer_id: CustomerId
    payload: Mapping[str, Any]
    recorded_at: datetime
    erased: bool = False  # the customer was: nothing else is said, and nothing of it comes after

    @property
    def sides(self) -> tuple[Mapping[str, Any], ...]:
        """Where the customer stood, unless it was unknown, and where it stands; of an erasure nothing."""
        if self.erased:
            return ()
        return tuple(side for side in (self.payload["before"], self.payload["after"]) if side)

    def message(self) -> ChangeMessage | ErasedMessage:
        """As it is told over HTTP: the message of the topic, and a notice where that has a tombstone."""
        if self.erased:
            return ErasedMessage(sequence=self.position, customer_id=self.customer_id)
        return change_message(self.position, self.payload)


class Feeds(Protocol):
    """What others are told, in order. All raise StoreUnavailable while the database is out of reach."""

    async def place(self, feed: Feed, *, limit: int) -> int:
        """Gives positions to up to `limit` rows that have none yet; returns how many there were."""

    async def relayed(self, feed: Feed) -> int:
        """The last position that was produced to the feed's topic."""

    async def mark_relayed(self, feed: Feed, position: int) -> None:
        """Remembers it; never goes back."""

    async def changes_after(self, position: int, *, limit: int) -> Sequence[ChangeAnnouncement]:
        """The next changes, in order of position."""

    async def dead_letters_after(self, position: int, *, limit: int) -> Sequence[tuple[int, DeadLetter]]:
        """The next rejected messages with their positions and bytes."""


@dataclass(frozen=True, slots=True)
class FullSnapshot:
    """Where everyone stands, on the topic of changes: asked for, under way, or done."""

    id: int
    attempt: int
    """Grows each time it is begun: one that broke off begins anew. 0 while nobody has begun it."""
    requested_at: datetime
    begun_at: datetime | None
    done_at: datetime | None
    customers: int
    """On the topic so far, in this attempt."""

    @property
    def name(self) -> str:
        """What messages call it; of each attempt another."""
        return f"{self.id}.{self.attempt}"


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Some customers as they stand after exactly the changes up to a position of the feed."""

    position: int
    snapshots: Sequence[Snapshot]


class FullSnapshots(Protocol):
    """Full snapshots: who asks for them, and what they are made from. All raise StoreUnavailable."""

    async def ask(self, *, by: Actor = ANYONE) -> FullSnapshot:
        """Asks for one; the one already asked for that nobody has begun, where there is one."""

    async def find(self, snapshot_id: int) -> FullSnapshot | None:
        """How far it is."""

    async def wanted(self, *, every_hours: float) -> FullSnapshot | None:
        """The one to be made now, if any.

        Asks for one by itself where none was asked for in so many hours, counted from the first change where there
        never was one; 0 never does.
        """

    async def begin(self, snapshot_id: int) -> FullSnapshot:
        """Begins an attempt; every earlier one of it is overtaken."""

    async def chunk_after(self, customer_id: str, *, limit: int) -> SnapshotChunk | None:
        """The next customers in order of their ids, as of a position that every change seen in them has.

        None where the feed has so many changes without a position that they come first.
        """

    async def note(self, snapshot: FullSnapshot, *, customers: int, done: bool) -> bool:
        """Keeps how far an attempt is; False where a later one has overtaken it."""
