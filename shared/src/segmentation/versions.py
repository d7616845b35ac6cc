"""The versions of the policy and of models: drafts, what is or was in force, when and by whom; and trying one out.

Laws: a version that was ever put in force, or is about to be, never changes; exactly one is in force; whatever put it
there is kept. Going back is putting an older version in force. A published model never changes; one or none of them is
in force.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple, Protocol

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


class Refusal(NamedTuple):
    """Why a model should not be published."""

    rule: str
    sentence: str
    """With the figures."""


class ModelActivationKind(enum.StrEnum):
    """How another model came into force."""

    ACTIVATE = "activate"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A published model."""

    version: int
    in_force: bool
    author: str
    note: str | None
    created_at: datetime
    card: Mapping[str, Any]
    refusals: Sequence[Refusal]
    """Those that were overruled."""
    forced_because: str | None


@dataclass(frozen=True, slots=True)
class ModelActivation:
    """That a model was put in force, or taken out of it."""

    version: int | None
    """None: the rules decide from then on."""
    kind: ModelActivationKind
    author: str
    reason: str
    activated_at: datetime
    replaced_version: int | None


class Models(Protocol):
    """The published models. All raise StoreUnavailable while the database is out of reach."""

    async def versions(self) -> Sequence[ModelVersion]:
        """All of them, newest first."""

    async def find(self, version: int) -> ModelVersion | None:
        """One of them."""

    async def document(self, version: int) -> str | None:
        """One of them as it was written."""

    async def activations(self, *, limit: int) -> Sequence[ModelActivation]:
        """When which was put in force, newest first."""

    async def publish(
        self,
        document: str,
        *,
        author: str,
        note: str | None,
        refusals: Sequence[Refusal],
        forced_because: str | None,
        by: Actor = ANYONE,
    ) -> ModelVersion:
        """Stores a model under the next number; it is not in force by that.

        Raises:
            ModelInvalid: it cannot be used, or is of another base currency.
        """

    async def activate(self, version: int, *, author: str, reason: str, by: Actor = ANYONE) -> ModelActivation | None:
        """Puts a model in force; None where there is no such version.

        Raises:
            ModelInvalid: it cannot be used any more.
        """

    async def rollback(self, *, author: str, reason: str, by: Actor = ANYONE) -> ModelActivation | None:
        """Puts in force what was so before the one that is, or none; None where none is in force.

        Asked for again it goes back further.
        """
