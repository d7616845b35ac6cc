"""The port for whoever follows changes without Kafka: page by page, from any position that is still kept.

Laws: a page holds every change after a position up to some later one, in order; what was dropped for its age is said,
never passed over in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from segmentation.feeds import ChangeAnnouncement


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes after a position, of one moment."""

    changes: Sequence[ChangeAnnouncement]
    placed: int
    """The last position given by then: where a page is not full, nothing up to here is missing from it."""
    dropped: int
    """Changes up to here are kept no more; who begins before it has missed some."""


class ChangeStream(Protocol):
    """Changes in order of their positions. All raise StoreUnavailable while the database is away."""

    async def place_changes(self, *, limit: int) -> int:
        """Gives positions to up to `limit` changes that have none yet; returns how many there were."""

    async def page_after(self, position: int, *, limit: int) -> ChangePage:
        """The next changes after a position."""

    async def drop_changes(self, *, days: int, limit: int) -> int:
        """Drops up to `limit` of the changes that are older and on their topic; returns how many there were."""
