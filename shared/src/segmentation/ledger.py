"""The write side of the store: the port of whoever records, and the values that pass through it.

`storage` keeps it over PostgreSQL; the tests keep one in memory, held to the same suite. What is told to those who
follow is in `feeds`, what is answered to those who ask in `answers`.
"""

import enum
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from segmentation.access import ANYONE, Actor
from segmentation.events import Reject
from segmentation.outcomes import Outcome, Partition, Reading


@dataclass(frozen=True, slots=True)
class House:
    """What a ledger is built with and never changes: its data remembers these."""

    clock: str
    """`system`: as_of is today; `event`: the greatest business day of any applied event."""
    base_currency: str
    time_zone: str
    erasure_key: str | None = field(default=None, repr=False)  # None: the data keeps one itself


@dataclass(frozen=True, slots=True)
class Halt:
    """A partition stands still, because its reject budget was exceeded; until somebody resumes it."""

    at: datetime
    offset: int
    """Of the message after which it stands: the last one recorded."""
    sentence: str
    """What was too many."""
    reasons: Mapping[str, int]
    """Of those rejects, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition as it was taken over."""

    epoch: int
    """Grows with every claim: whoever holds an older one has lost the partition."""
    next_offset: int | None
    """Where reading goes on; None for a partition never read before (its beginning)."""
    halt: Halt | None = field(default=None, compare=False)
    """Whether it stands halted: then nothing of it is recorded."""


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far a batch takes one partition."""

    claim: Claim
    """`claim.next_offset` is where the batch began."""
    next_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages read from some partitions, decoded, in order of reading."""

    readings: Sequence[Reading]
    progress: Mapping[Partition, PartitionProgress]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What recording a batch did."""

    counts: Mapping[Outcome, int]
    customers: int
    """Whose state the batch touched."""
    changes: int
    halted: Collection[Partition] = ()
    """Those that the batch's last message halted."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay made of a rejected message."""

    letter_id: int
    outcome: Outcome
    reject: Reject | None
    """Why it is still rejected."""


class Ledger(Protocol):
    """The write side. Every method is one transaction, or several that each leave the data right."""

    async def claim(self, partitions: Iterable[Partition], *, owner: str) -> Mapping[Partition, Claim]:
        """Takes partitions over; from then on every older claim to them is void."""

    async def beat(self, *, owner: str, waiting_for: Sequence[Mapping[str, Any]]) -> None:
        """Says that the owner lives, and what it waits for; a claim says the first as well."""

    async def release(self, *, owner: str) -> None:
        """Gives up whatever the owner holds, before it ends; it counts as a worker no more."""

    async def note_ends(self, end_offsets: Mapping[Partition, int], *, owner: str) -> None:
        """Keeps where the owner's partitions end at the broker, for whoever asks for the lag."""

    async def record(self, batch: Batch, *, owner: str, now: datetime) -> Receipt:
        """Records the whole effect of a batch, or none of it.

        Raises:
            PartitionLost: a partition of the batch has a new owner; drop it, read the others again.
            RejectBudgetExceeded: a partition has to halt within the batch, or stands halted; nothing is recorded.
                Cut the batch where the error says and record it again. The partition halts with a batch that ends
                with the message that exceeds its budget, so it halts there however messages are cut into batches.
            StoreUnavailable: nothing is known to be recorded; claim again before reading again.
        """

    async def halts(self, partitions: Iterable[Partition]) -> Mapping[Partition, Halt]:
        """Which of the partitions stand halted."""

    async def resume(
        self, partitions: Iterable[Partition] | None, *, by: Actor = ANYONE
    ) -> Mapping[Partition, Halt | None]:
        """Lets halted partitions go on, with budgets that begin anew; all that stand halted for None.

        Returns the halt that each stood in; None for one that was not halted, nothing for one never heard of.
        """

    def leading(self, place: "Place") -> AbstractAsyncContextManager[Callable[[], Awaitable[bool]]]:
        """Stands for a place that only one can have; yields a call that says whether it is held right now."""

    async def sweep(self, *, now: datetime, limit: int) -> int:
        """Assesses up to `limit` customers whose snapshot has come due; returns how many there were."""

    async def settle_tiers(self, *, now: datetime) -> bool:
        """Ranks everyone and moves those whose computed tier changed.

        Does nothing and returns False while snapshots are due (sweep first) or nothing has happened
        since the last time.
        """


class Retention(Protocol):
    """Raw events grow old. All raise StoreUnavailable while the database is away."""

    async def drop_expired(self, *, days: int, now: datetime, limit: int) -> bool:
        """Drops up to `limit` raw events older than so many days, not what they counted; says if there may be more."""

    async def forget_touched(self) -> None:
        """Drops what readers were told long enough ago; to be called now and then."""


class Quarantine(Protocol):
    """Rejected messages, and what brings them out again. All raise StoreUnavailable while the database is away."""

    async def replay(self, letter_id: int, *, now: datetime, by: Actor = ANYONE) -> Replay | None:
        """Reads a rejected message again; what succeeds moves from rejected to its new outcome, once.

        None where there is no such dead letter. One that was replayed before has the outcome it got then.
        """

    async def refused(self, *, reason: str | None, after: int, limit: int) -> Sequence[int]:
        """Ids, in ascending order, of dead letters that are still rejected."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected message."""

    id: int
    partition: Partition
    offset: int
    reason: str
    field_name: str | None
    sentence: str
    customer_id: str | None
    event_id: str | None
    recorded_at: datetime
    replayed_as: str | None
    """Its outcome, once a replay gave it another than rejected."""
    replayed_at: datetime | None
    value: bytes | None = None
    headers: Sequence[tuple[str, str | None]] = ()
    """Values in base64."""
    erased: bool = False  # its customer was, and with it all that the message said


class Place(enum.IntEnum):
    """What only one worker at a time may do; the values are keys of advisory locks."""

    KEEPER = 7_315_002
    RELAY = 7_315_003
    WEBHOOKS = 7_315_004
