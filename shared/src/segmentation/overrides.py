"""What people decide over the rules: a tier or a service level by hand, for a time, with an author and a reason.

Laws: one function says which tier counts (`effective_tier`); an override counts until the business day of its expiry
begins, by the same clock as everything else; it changes nothing that customers are ranked by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from msgspec import Struct

from segmentation.fields import CustomerId
from segmentation.policy import Policy, Reason
from segmentation.tiering import Tier, TierHistory

LONGEST_REASON: Final = 500
LONGEST_AUTHOR: Final = 128
MOST_AT_ONCE: Final = 1_000


class Override(Struct, frozen=True, kw_only=True):
    """A tier, a service level, or both, given by hand."""

    tier: Tier | None
    """None: the rules decide."""
    service_level: str | None
    """None: the policy decides."""
    reason: str
    author: str
    expires_on: date
    """The first business day on which it no longer counts."""
    set_at: datetime

    def counts(self, as_of: date) -> bool:
        """Whether it has not expired."""
        return as_of < self.expires_on

    def level_in(self, policy: Policy) -> str | None:
        """The service level it gives; None also where the policy no longer has that level."""
        return self.service_level if self.service_level in policy.service_levels else None

    def reason_of(self, decided: str) -> Reason:
        """Why something is as a person decided it."""
        return Reason("override", decided, f"as_of < {self.expires_on.isoformat()}")


class Ending(Struct, frozen=True, kw_only=True):
    """An override is ended by hand, before its time."""

    author: str | None
    reason: str | None


ByHand = Mapping[CustomerId, Override | Ending]
"""What people have just decided: of each customer an override, or the end of one."""


@dataclass(frozen=True, slots=True)
class WantedOverride:
    """An override as it is asked for."""

    tier: Tier | None
    service_level: str | None
    reason: str
    author: str
    expires_on: date


@dataclass(frozen=True, slots=True)
class OverrideRefusal:
    """Why an override cannot be set."""

    field: str | None
    """The field that is wrong; None where the customer is unknown."""
    sentence: str


def effective_tier(
    history: TierHistory, override: Override | None, as_of: date, grace_days: int
) -> tuple[Tier, date | None]:
    """The tier that counts, and the day on which it will fall by its grace (None: it will not).

    An unexpired override of the tier, if there is one; else the best of the computed tier and those that the days of
    grace closed with.
    """
    if override is not None and override.tier is not None and override.counts(as_of):
        return override.tier, None
    return history.effective(as_of, grace_days)


def judge_override(wanted: WantedOverride, policy: Policy, *, as_of: date, now: datetime) -> Override | OverrideRefusal:
    """The override, or the field that is wrong and what to send instead."""
    if wanted.tier is None and wanted.service_level is None:
        return OverrideRefusal("tier", "neither tier nor service_level is given; give at least one of them")
    if wanted.service_level is not None and wanted.service_level not in policy.service_levels:
        known = ", ".join(policy.service_levels)
        return OverrideRefusal("service_level", f"{wanted.service_level!r} is no service level; one of {known}")
    if wanted.expires_on <= as_of:
        return OverrideRefusal(
            "expires_on", f"{wanted.expires_on} is not after the current business day, {as_of}; give a later day"
        )
    return Override(
        tier=wanted.tier,
        service_level=wanted.service_level,
        reason=wanted.reason,
        author=wanted.author,
        expires_on=wanted.expires_on,
        set_at=now,
    )
