"""What a policy would do to everyone, held against what stands, without doing it.

Laws: both sides come from `assessment.assess`, as of one day; nothing is stored; sums are exact; a run that did not get
to look at everyone says so, and whom it looked at is a sample that does not depend on what they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Final

from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId
from segmentation.metrics import Metrics
from segmentation.tiering import Tier

ASPECTS: Final[Mapping[str, Callable[[Snapshot], str]]] = {
    "tier": lambda snapshot: snapshot.tier.value,
    "segment": lambda snapshot: snapshot.shown_segment,
    "service_level": lambda snapshot: snapshot.service_level,
    "value_level": lambda snapshot: snapshot.facets.value_level,
    "grade": lambda snapshot: snapshot.facets.grade,
    "additions": lambda snapshot: " ".join(code for code, _ in snapshot.additions),
    "churn_warning": lambda snapshot: "yes" if snapshot.churn_warning else "no",
}
"""What can move, and how it is told."""
_ANNOUNCED: Final = ("tier", "segment", "service_level", "churn_warning")
_RATE_DAYS: Final = 30


@dataclass(slots=True)
class Move:
    """Customers who would go from one value of an aspect to another."""

    before: str
    after: str
    customers: int = 0
    net_revenue: int = 0
    """Theirs over 365 days, in base minor units."""
    examples: list[CustomerId] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a policy would do."""

    as_of: date | None
    policy_version: int
    """In force; what everyone is held against."""
    policy_name: str
    customers: int
    looked_at: int
    seconds: float
    moves: Mapping[str, Sequence[Move]]
    """By aspect, the move of the most customers first."""
    moved_customers: int
    """Whose tier, segment, service level or churn warning would be another: so many changes would be announced."""
    moved_net_revenue: int
    a_orders_a_day: tuple[float, float]
    """Orders a day, of the last 30 days, of customers in effective tier A: as it stands, and as it would be."""

    @property
    def complete(self) -> bool:
        return self.looked_at == self.customers


class Tally:
    """Counts moves, customer by customer."""

    def __init__(self, *, examples: int) -> None:
        self._examples = examples
        self._moves: dict[str, dict[tuple[str, str], Move]] = {aspect: {} for aspect in ASPECTS}
        self._moved = 0
        self._moved_revenue = 0
        self._a_orders = [0, 0]
        self.looked_at = 0

    def count(self, metrics: Metrics, before: Mapping[CustomerId, Snapshot], after: Sequence[Snapshot]) -> None:
        """Counts some customers; `after` is in the order of the metrics."""
        revenue = metrics.windows["365d"]["net_revenue"].tolist()
        orders = metrics.windows["30d"]["orders"].tolist()
        for row, would in enumerate(after):
            stands = before[would.customer_id]
            self.looked_at += 1
            for side, snapshot in enumerate((stands, would)):
                if snapshot.tier is Tier.A:
                    self._a_orders[side] += orders[row]
            moved = [aspect for aspect, of in ASPECTS.items() if of(stands) != of(would)]
            for aspect in moved:
                self._note(aspect, stands, would, revenue[row])
            if any(aspect in _ANNOUNCED for aspect in moved):
                self._moved += 1
                self._moved_revenue += revenue[row]

    def _note(self, aspect: str, stands: Snapshot, would: Snapshot, revenue: int) -> None:
        pair = ASPECTS[aspect](stands), ASPECTS[aspect](would)
        move = self._moves[aspect].setdefault(pair, Move(*pair))
        move.customers += 1
        move.net_revenue += revenue
        if len(move.examples) < self._examples:
            move.examples.append(would.customer_id)

    def told(
        self, *, as_of: date | None, policy_version: int, policy_name: str, customers: int, seconds: float
    ) -> DryRun:
        """What came out."""
        before, after = (float(Fraction(orders, _RATE_DAYS)) for orders in self._a_orders)
        return DryRun(
            as_of=as_of,
            policy_version=policy_version,
            policy_name=policy_name,
            customers=customers,
            looked_at=self.looked_at,
            seconds=seconds,
            moves={
                aspect: sorted(moves.values(), key=lambda move: (-move.customers, move.before, move.after))
                for aspect, moves in self._moves.items()
            },
            moved_customers=self._moved,
            moved_net_revenue=self._moved_revenue,
            a_orders_a_day=(before, after),
        )
