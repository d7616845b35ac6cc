"""The policy's versions: drafts, what is or was in force, when and by whom; and trying one out.

Laws: a version that was ever put in force, or is about to be, never changes; exactly one is in force; whatever put it
there is kept. Going back is putting an older version in force.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from segmentation.access import ANYONE, Actor
from segmentation.dry_run import DryRun


class PolicyState(enum.StrEnum):
    """Where a version stands."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    RETIRED = "retired"


class Origin(enum.StrEnum):
    """Where a version's text comes from."""

    SHIPPED = "shipped"
    FILE = "file"
    API = "api"


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A version of the policy."""

    version: int
    state: PolicyState
    origin: Origin
    author: str | None
    note: str | None
    created_at: datetime
    activated_at: datetime | None
    """The last time that it was put in force."""
    scheduled_on: date | None
    """The next business day from which it is wanted."""
    source: str


@dataclass(frozen=True, slots=True)
class Activation:
    """That a version was put in force, or is to be."""

    id: int
    version: int
    on: date | None
    author: str
    reason: str | None
    requested_at: datetime
    activated_at: datetime | None
    cancelled_at: datetime | None
    replaced_version: int | None


class Policies(Protocol):
    """The versions of the policy. All raise StoreUnavailable while the database is out of reach."""

    async def versions(self) -> Sequence[PolicyVersion]:
        """All of them, newest first."""

    async def find(self, version: int) -> PolicyVersion | None:
        """One of them."""

    async def activations(self, *, limit: int) -> Sequence[Activation]:
        """When which version was put in force or is to be, newest first."""

    async def draft(
        self, version: int, source: str, *, author: str | None, note: str | None, by: Actor = ANYONE
    ) -> PolicyVersion:
        """Stores a draft under a version: a new one, which is the next number, or one that is a draft already.

        Raises:
            PolicyInvalid: it is not understood; names the row and the field.
            PolicyFrozen: the version was in force or is scheduled, or is not the next.
        """

    async def activate(
        self, version: int, *, on: date | None, author: str, reason: str | None, now: datetime, by: Actor = ANYONE
    ) -> Activation | None:
        """Puts a version in force now, or from a business day on; None where there is no such version."""

    async def cancel(self, version: int, *, by: Actor = ANYONE) -> int:
        """Takes back all activations of a version that are still to come; returns how many there were."""

    async def dry_run(self, policy: str | int, *, now: datetime, limit_seconds: float, examples: int) -> DryRun | None:
        """What a policy, given as text or as a version, would do to everyone; None where there is no such version.

        Raises:
            PolicyInvalid: the text is not understood.
            DryRunBusy: another one is at work in this process.
        """
