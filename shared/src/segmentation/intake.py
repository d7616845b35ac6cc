"""The port for events that come without Kafka: the same ledger, and an outcome for each of them.

Laws: what was posted goes the way of what a worker reads, so counts, rejects and effects are the same; a try-out stores
nothing, and says what taking in would do at that moment. Posting the same again is harmless: event ids are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from segmentation.events import Reject
from segmentation.outcomes import Outcome, Partition, Reading

POSTED: Final = Partition("POST /events", 0)
"""Where posted events are counted. No topic of Kafka can have that name, and no worker ever claims it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a posted event."""

    event_id: str | None
    """As far as one could be read."""
    outcome: Outcome
    reject: Reject | None
    """Set where it was rejected."""


class Intake(Protocol):
    """Takes in events that were posted. Both raise StoreUnavailable while the database is away."""

    async def take_in(self, readings: Sequence[Reading], *, now: datetime) -> Sequence[Verdict]:
        """Records the whole effect of the events, or none of it; one verdict each, in their order.

        Their deliveries are of POSTED; the store gives them offsets. They charge no reject budget: whoever posts is
        told at once.
        """

    async def try_out(self, readings: Sequence[Reading], *, now: datetime) -> Sequence[Verdict]:
        """What taking them in would do now; stores nothing and holds nobody up."""
