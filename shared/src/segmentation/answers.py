"""The read side: the port that the API answers from, and the values that pass through it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

from segmentation.assessment import Snapshot
from segmentation.feeds import FullSnapshot
from segmentation.fields import CustomerId
from segmentation.ledger import DeadLetter, Halt
from segmentation.metrics import Metrics
from segmentation.outcomes import Outcome, Partition
from segmentation.policy import Policy
from segmentation.scoring import Model


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
    model: Model | None = None
    """In force now, where it can be read."""


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
