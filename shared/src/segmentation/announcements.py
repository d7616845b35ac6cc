"""Before and after -> what the world must hear.

Laws: nothing is announced where tier, segment, service level and churn warning stand as they were; what is
announced says both sides, the reasons, and the versions that decided.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId


@dataclass(frozen=True, slots=True)
class Change:
    """A customer's tier, segment, service level or churn warning changed."""

    customer_id: CustomerId
    before: Snapshot | None
    """None for a customer heard of for the first time."""
    after: Snapshot

    def payload(self) -> dict[str, Any]:
        """The change as it is stored and announced; the sequence comes from the store."""
        after = self.after
        return {
            "customer_id": self.customer_id,
            "as_of": after.as_of.isoformat(),
            "before": _side(self.before) if self.before else None,
            "after": _side(after),
            "reasons": after.reasons("en"),
            "versions": {"policy": after.policy_version, "model": after.model_version or None},
        }


def announce(previous: Mapping[CustomerId, Snapshot], snapshots: Iterable[Snapshot]) -> list[Change]:
    """The changes among new snapshots."""
    changes: list[Change] = []
    for after in snapshots:
        before = previous.get(after.customer_id)
        if before is None or _side(before) != _side(after):
            changes.append(Change(after.customer_id, before, after))
    return changes


def _side(snapshot: Snapshot) -> dict[str, str | bool]:
    return {
        "value_tier": snapshot.tier,
        "segment": snapshot.shown_segment,
        "service_level": snapshot.service_level,
        "churn_warning": snapshot.churn_warning,
    }
