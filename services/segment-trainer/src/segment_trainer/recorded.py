"""The customers of the running system -> examples: from the day buckets that decisions are made from.

Laws: features are those that the worker scores by; memory grows with a part, not with everyone. What counts is what
counts today: an order that was cancelled after a cut is gone at the cut too, which a file of events would still have.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date

from segment_trainer.sources import PARTS, Say, Source
from segmentation.fields import CustomerId
from segmentation.metrics import BucketTable

_AT_ONCE = 10_000
"""Customers a query."""
Load = Callable[[Sequence[CustomerId]], BucketTable]


class Recorded(Source):
    """Customers in a database."""

    def __init__(
        self,
        customer_ids: Sequence[CustomerId],
        load: Load,
        say: Say,
        *,
        days: tuple[date, date],
        base_currency: str,
        decimals: int,
    ) -> None:
        super().__init__(say)
        self.name = "database"
        self.base_currency, self.decimals = base_currency, decimals
        self.first_day, self.last_day = days
        self._load = load
        self._parts: list[list[CustomerId]] = [[] for _ in range(PARTS)]
        for customer_id in customer_ids:
            self._parts[zlib.crc32(customer_id.encode()) % PARTS].append(customer_id)
        self._many = len(customer_ids) > PARTS * _AT_ONCE // 10

    @property
    def _tells_parts(self) -> bool:
        return self._many

    def _tables(self, part: int, moments: Sequence[date]) -> Iterator[tuple[date, BucketTable]]:
        # Days after a moment are there too: whoever reads features as of a day looks at none of them.
        table = self._load(self._parts[part])
        for moment in moments:
            yield moment, table

    def everyone(self) -> Iterator[BucketTable]:
        """All of them, some at a time."""
        for part in self._parts:
            for begin in range(0, len(part), _AT_ONCE):
                yield self._load(part[begin : begin + _AT_ONCE])
