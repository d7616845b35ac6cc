"""The port for whoever follows changes without Kafka: page by page, from any position that is still kept.

Laws: a page holds every change after a position up to some later one, in order; what was dropped for its age is said,
never passed over in silence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from segmentation.feeds import ChangeAnnouncement

ERASED: Final = "#erased"
"""In the place of a customer who was erased; no id begins like this."""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes after a position, of one moment."""

    changes: Sequence[ChangeAnnouncement]
    placed: int
    """The last position given by then: where a page is not full, nothing up to here is missing from it."""
    dropped: int
    """Changes up to here are kept no more; who begins before it has missed some."""


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes somebody wants; what is empty lets all pass."""

    tiers: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()
    service_levels: frozenset[str] = frozenset()
    customer_ids: frozenset[str] = frozenset()

    def wants(self, customer_id: str, sides: Iterable[Mapping[str, str] | None]) -> bool:
        """Whether one side of the change, before or after it, is all that is wanted: who leaves is told as well."""
        stood = [side for side in sides if side]
        if self.customer_ids and customer_id not in self.customer_ids:
            # Where somebody of these was erased, nobody knows any more who: such a follower hears of every erasure.
            return not stood and ERASED in self.customer_ids
        wanted = (("value_tier", self.tiers), ("segment", self.segments), ("service_level", self.service_levels))
        # An erasure has no side: whoever may know of the customer has to hear of it.
        return not stood or any(all(not codes or side[name] in codes for name, codes in wanted) for side in stood)


class ChangeStream(Protocol):
    """Changes in order of their positions. All raise StoreUnavailable while the database is away."""

    async def place_changes(self, *, limit: int) -> int:
        """Gives positions to up to `limit` changes that have none yet; returns how many there were."""

    async def page_after(self, position: int, *, limit: int) -> ChangePage:
        """The next changes after a position."""

    async def drop_changes(self, *, days: int, limit: int) -> int:
        """Drops up to `limit` of the changes that are older and on their topic; returns how many there were."""
