"""The port behind kept answers: what has changed since somebody last looked.

Law: whoever has followed looks without a break has been told of every customer whose answer was changed by what was
committed before the last of them, and of everything else that answers rest on.
"""

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Protocol

from segmentation.fields import CustomerId

TIERS_LAG: Final = timedelta(seconds=1)
"""How far tiers may be behind the events applied before an answer is called stale."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the store found."""

    asked_at: float
    """By the monotonic clock, before the store was asked: nothing committed earlier is missing."""
    anew: bool
    """Nothing is known of what happened before: whoever keeps anything drops it."""
    touched: Collection[CustomerId]
    """Whose answer may be another since the look before."""
    basis: str
    """Whatever all answers rest on, as one text: another text, and no answer from before counts."""
    as_of: date | None
    """Of the events' clock; None with the system clock, and before the first event."""
    erasures: int
    """How many customers were ever erased: with another number, whatever is kept goes, also for worse days."""
    policy_version: int
    tiers_as_of: date | None
    unsettled_seconds: float | None
    """How long, at the moment of the look, the cut-offs have not covered an event applied; None while they do."""


class Watch(Protocol):
    """Lets somebody follow what changes."""

    def looks(self) -> AsyncGenerator[Look]:
        """One look after another, the next as soon as something is told and soon even where nothing is.

        The first is `anew`. Raises StoreUnavailable when the store is out of reach: begin again, anew.
        """
