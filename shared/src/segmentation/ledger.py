"""The ports of the store, and the values that pass through them.

The write side, `Ledger`, belongs to the ingest worker; the read side, `Reader`, to the API. Both
are kept by `storage` over PostgreSQL; the tests keep a write side in memory, held to the same
suite.
"""

import enum
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

from segmentation.access import ANYONE, Actor
from segmentation.assessment import Snapshot
from segmentation.events import Reject
from segmentation.fields import CustomerId
from segmentation.metrics import Metrics
from segmentation.outcomes import Outcome, Partition, Reading
from segmentation.policy import Policy
from segmentation.scoring import Model


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

    async def resume(self, partitions: Iterable[Partition] | None) -> Mapping[Partition, Halt | None]:
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
        """Drops up to `limit` raw events that are older than some days; says whether there may be more.

        What they counted stays, and so does what `Reader.totals` says of them.
        """


class Quarantine(Protocol):
    """Rejected messages, and what brings them out again. All raise StoreUnavailable while the database is away."""

    async def replay(self, letter_id: int, *, now: datetime, by: Actor = ANYONE) -> Replay | None:
        """Reads a rejected message again; what succeeds moves from rejected to its new outcome, once.

        None where there is no such dead letter. One that was replayed before has the outcome it got then.
        """

    async def refused(self, *, reason: str | None, after: int, limit: int) -> Sequence[int]:
        """Ids, in ascending order, of dead letters that are still rejected."""


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is said about one customer."""

    as_of: date
    snapshot: Snapshot
    policy: Policy
    """The version that decided the snapshot."""
    stale: bool
    model: Model | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers about several customers, of one moment."""

    as_of: date | None
    known: Mapping[CustomerId, Answer]
    policy: Policy
    """In force now; says what unknown customers get."""


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """How far one partition was read."""

    partition: Partition
    next_offset: int | None
    end_offset: int | None
    worker: str | None
    """Who claimed it, as long as that worker gives signs of life."""
    halt: Halt | None = None

    @property
    def lag(self) -> int:
        """Messages not yet read."""
        return max(0, (self.end_offset or 0) - (self.next_offset or 0))


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that has not ended in order, as far as it has said."""

    worker: str
    started_at: datetime
    seen_at: datetime
    """By the database's clock, like `started_at`."""
    waiting_for: Sequence[Mapping[str, Any]]
    """Each with the part that waits, what for, since when, and in detail."""


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """How ingestion stands, in step with the data."""

    as_of: date | None
    partitions: Sequence[PartitionStatus]
    workers: Sequence[WorkerStatus]
    events: Mapping[Outcome, int]
    customers: int
    tiers_as_of: date | None
    tiers_current: bool
    last_applied_at: datetime | None
    events_known_since: date | None = None
    """Raw events of earlier days may have been dropped, and repeats of them are not recognised; None: none was."""
    model_version: int = 0


@dataclass(frozen=True, slots=True)
class TierShare:
    """One tier's part of everyone."""

    tier: str
    customers: int
    value: int


@dataclass(frozen=True, slots=True)
class TierOverview:
    """The ranking as last settled."""

    as_of: date | None
    basis: str
    total: int
    cutoffs: Mapping[str, tuple[int, CustomerId] | None]
    tiers: Sequence[TierShare]
    pareto: Sequence[tuple[float, float]]


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


@dataclass(frozen=True, slots=True)
class EventFate:
    """What became of an event id."""

    event_id: str
    applied: "AppliedEvent | None"
    """None where no message of that id was ever applied."""
    rejections: Sequence[DeadLetter]
    """Messages of that id that were refused, newest first, without their bytes."""
    older_rejections: bool = False
    """Whether there are more than those."""


@dataclass(frozen=True, slots=True)
class AppliedEvent:
    """An applied event, and whether it counts."""

    type: str
    customer_id: CustomerId
    business_day: date
    partition: Partition
    offset: int
    recorded_at: datetime
    counting_event_id: str | None
    """The event that counts in its place: itself, a later version of the order, or None where it was retracted."""


@dataclass(frozen=True, slots=True)
class DayTotal:
    """What was applied of one business day, type and currency."""

    business_day: date
    type: str
    currency: str | None
    """None for types without an amount."""
    events: int
    amount: Decimal | None
    """In that currency, as given."""


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

    async def ask(self) -> FullSnapshot:
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


class Place(enum.IntEnum):
    """What only one worker at a time may do; the values are keys of advisory locks."""

    KEEPER = 7_315_002
    RELAY = 7_315_003


class Reader(Protocol):
    """The read side. All raise StoreUnavailable while the database is out of reach."""

    async def answers(self, customer_ids: Iterable[CustomerId], *, now: datetime) -> Answers:
        """The current assessment of every known one among some customers."""

    async def figures(self, customer_id: CustomerId, *, now: datetime) -> tuple[date, Metrics] | None:
        """A customer's figures for the current as_of; None for an unknown customer."""

    async def tiers(self) -> TierOverview:
        """Cut-offs, counts and shares as last settled."""

    async def status(self, *, now: datetime) -> IngestStatus:
        """Counts, lag and freshness, all of one moment."""

    async def dead_letters(self, *, reason: str | None, before_id: int | None, limit: int) -> Sequence[DeadLetter]:
        """Rejected messages, newest first, without their bytes."""

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        """One rejected message with its bytes."""

    async def event(self, event_id: str) -> EventFate | None:
        """What became of an event; None for an id that nobody has sent."""

    async def totals(self, first: date, last: date) -> Sequence[DayTotal]:
        """Applied events and amounts of some business days, in order of day, type and currency."""

    async def full_snapshots(self, *, limit: int) -> Sequence[FullSnapshot]:
        """Those last asked for, newest first."""

    async def ping(self) -> Mapping[str, Any]:
        """Answers when the database does and its tables are as the code expects."""
