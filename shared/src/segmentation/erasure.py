"""Erasing a customer, and knowing the erased again: the port, its values, and the keyed hash.

Laws: of an erased customer only the digest of its id stays; without the key nobody can try out whose it is, and the
same key gives the same digest for good; what is erased and what is exported is one set (`storage.personal`).
"""

import functools
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from segmentation.access import ANYONE, Actor
from segmentation.fields import CustomerId

LEAST_KEY_LENGTH: Final = 32
LONGEST_WORDS: Final = 500
"""Of who erased, and of why."""

_CHECK: Final = b"#tierline erasure key"
"""No customer id begins with `#`, so no digest of one is equal to this one's."""


class ErasureKey:
    """The secret that digests are made with."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._bytes = secret.encode()

    def digest(self, customer_id: str) -> bytes:
        """What is kept of an erased customer: HMAC-SHA256 of the id."""
        return hmac.digest(self._bytes, customer_id.encode(), "sha256")

    @functools.cached_property
    def check(self) -> bytes:
        """Tells one key from another; the data keeps it, whoever keeps the key."""
        return hmac.digest(self._bytes, _CHECK, "sha256")


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did."""

    erased_at: datetime
    already: bool
    """The customer had been erased before, and nothing of it was left."""
    rows: Mapping[str, int]
    """Deleted or emptied, by table; those with none are left out."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure as it stays known."""

    digest: bytes
    erased_at: datetime


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of what is kept about a customer; all pieces of one table come one after another."""

    name: str
    """Of the table."""
    purpose: str
    rows: Sequence[Mapping[str, Any]]
    """JSON values."""


class ErasureNotices(Protocol):
    """Announcements of erasures: the last that names a customer. Raises StoreUnavailable."""

    async def forget_erasures(self, *, hours: float) -> int:
        """Forgets whose erasure was relayed, and announced so long ago that every follower has heard of it."""


class Privacy(Protocol):
    """What a customer can ask of its data. All raise StoreUnavailable while the database is out of reach."""

    async def erase(
        self, customer_id: CustomerId, *, author: str | None = None, reason: str | None = None, by: Actor = ANYONE
    ) -> Erased | None:
        """Erases everything kept about a customer, in one transaction; None where nothing ever was.

        Once it returns, no message that names the customer is recorded any more, by any worker.
        """

    async def export(self, customer_id: CustomerId) -> AsyncIterator[Piece] | None:
        """All that `erase` would take, of one moment, a piece at a time; None where there is nothing."""
