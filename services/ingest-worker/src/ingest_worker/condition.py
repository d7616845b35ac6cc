"""Is the worker alive, and what is it waiting for: each part says so, and whoever is asked reads it here.

Laws: a part waits for one thing at a time, and since when stays what it was while it goes on waiting for the same;
nothing here does IO, and the clocks come in as arguments.
"""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from segmentation.errors import PartitionLost, StoreUnavailable
from segmentation.outcomes import Partition

STALL_SECONDS = 300.0
"""So long may one turn of the consuming loop take; the consumer group waits as long for a member that does not poll."""

REBUILDS_IN_VAIN = 3
"""So often is a silent consumer rebuilt before a new process is thought to be the better remedy."""


class Part(enum.StrEnum):
    """What may have to wait, independently of the others."""

    CONSUMER = "consumer"
    SUBSCRIPTION = "subscription"
    WATCHDOG = "watchdog"
    KEEPER = "keeper"
    RELAY = "relay"
    WEBHOOKS = "webhooks"
    HEARTBEAT = "heartbeat"
    BUDGET = "budget"


DUTIES = (Part.KEEPER, Part.RELAY, Part.WEBHOOKS)
"""The parts that have a process of their own."""


class Awaited(enum.StrEnum):
    """What is waited for."""

    DATABASE = "database"
    BROKER = "broker"
    PARTITIONS = "partitions"
    """The consumer group has not given out the partitions yet, or is giving them out anew."""
    TOPICS = "topics"
    POSITION = "position"
    """The broker does not have the offset that the ledger wants: an operator decides."""
    MESSAGES = "messages"
    """The broker has some and the client does not bring them: the session is rebuilt."""
    RESUME = "resume"
    """Partitions stand halted by their reject budget: an operator decides."""
    PROCESS = "process"
    """The process of the part starts, or is started again."""
    REPAIR = "repair"
    """Something happened that nobody foresaw."""


class Obstacle(Exception):
    """Ends a session, and knows what is waited for then."""

    awaited: ClassVar[Awaited]


def awaited_after(error: Exception) -> Awaited:
    """What is waited for after a failure that may pass."""
    if isinstance(error, Obstacle):
        return error.awaited
    if isinstance(error, StoreUnavailable):
        return Awaited.DATABASE
    return Awaited.PARTITIONS if isinstance(error, PartitionLost) else Awaited.BROKER


@dataclass(frozen=True, slots=True)
class Wait:
    """A part that cannot go on."""

    part: Part
    awaited: Awaited
    since: datetime
    detail: str

    def described(self) -> dict[str, Any]:
        """As JSON shows it."""
        since = self.since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"part": self.part.value, "for": self.awaited.value, "since": since, "detail": self.detail}


class Condition:
    """How one worker is."""

    def __init__(self, *, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        """Takes the machine's clock, for people, and one that is never put forward or back, for durations."""
        self._now = now
        self._monotonic = monotonic
        self._waits: dict[Part, Wait] = {}
        self._turned_at = monotonic()
        self._lags: Mapping[Partition, int] = {}
        self.rebuilds_in_vain = 0
        """How often in a row the session was rebuilt for a partition that has brought nothing since."""
        self.waits(Part.CONSUMER, Awaited.PARTITIONS, "the worker joins the consumer group")

    def waits(self, part: Part, awaited: Awaited, detail: str) -> None:
        """The part cannot go on; saying it again changes no more than the detail."""
        before = self._waits.get(part)
        since = before.since if before is not None and before.awaited is awaited else self._now()
        self._waits[part] = Wait(part, awaited, since, detail)

    def works(self, part: Part) -> None:
        """The part goes on."""
        self._waits.pop(part, None)

    def hears(self, waits: Iterable[Wait]) -> None:
        """The process of the duties has said which of them wait; the others go on."""
        for part in DUTIES:
            self.works(part)
        self._waits.update({wait.part: wait for wait in waits})

    def turned(self) -> None:
        """The consuming loop has come round once more."""
        self._turned_at = self._monotonic()

    def holds(self, lags: Mapping[Partition, int]) -> None:
        """These partitions are claimed, each with so many messages not yet read."""
        self._lags = dict(lags)

    @property
    def lags(self) -> Mapping[Partition, int]:
        """Messages not yet read of each partition claimed."""
        return self._lags

    @property
    def waiting(self) -> Sequence[Wait]:
        """Who waits for what, in the order of the parts."""
        return [self._waits[part] for part in Part if part in self._waits]

    @property
    def seconds_since_turn(self) -> float:
        """How long the consuming loop has been at its present turn."""
        return self._monotonic() - self._turned_at

    def ailment(self) -> str | None:
        """Why a new process would do better than this one; None while it would not."""
        stalled = self.seconds_since_turn
        if stalled > STALL_SECONDS:
            return f"the consuming loop has not turned for {stalled:.0f} s"
        if self.rebuilds_in_vain >= REBUILDS_IN_VAIN:
            return f"a silent consumer was rebuilt {self.rebuilds_in_vain} times in a row in vain"
        return None
