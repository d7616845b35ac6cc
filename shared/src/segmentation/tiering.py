"""ABC tiers: cut-offs over everyone, a tier from a cut-off, and the rules that keep it stable.

Laws: each tier is the smallest prefix of the ranking that reaches its share, the crossing customer
included; comparisons are of integers, shares are fractions, never floats; a promotion counts at
once, a demotion when its grace has passed.

Ranking: by value, highest first, ties by customer id in ascending byte order; only values above 0
are ranked, everyone else is unrated.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct

from segmentation.fields import CustomerId
from segmentation.metrics import Column


class Tier(enum.StrEnum):
    """Value tiers, best first."""

    A = "A"
    B = "B"
    C = "C"
    UNRATED = "unrated"


TIERS: Final = tuple(Tier)
RANK: Final = {tier: rank for rank, tier in enumerate(TIERS)}
"""0 is the best: columns of tiers are columns of these."""


class Basis(enum.StrEnum):
    """What customers are ranked by, over the 365-day window."""

    NET_REVENUE = "net_revenue"
    GROSS_PROFIT = "gross_profit"
    ORDERS = "orders"


class Standing(NamedTuple):
    """A place in the ranking."""

    value: int
    customer_id: CustomerId


@dataclass(frozen=True, slots=True)
class TierRules:
    """The policy's part of tiering."""

    basis: Basis = Basis.NET_REVENUE
    share_a: Fraction = Fraction(80, 100)
    share_b: Fraction = Fraction(95, 100)
    """Of the total: what A reaches, and what A and B reach together."""
    demotion_grace_days: int = 14


@dataclass(frozen=True, slots=True)
class CutOffs:
    """The last customer inside A, and the last inside A and B together; None where nobody is ranked."""

    a: Standing | None = None
    b: Standing | None = None

    def assign(self, value: int | None, customer_id: CustomerId) -> Tier:
        """The tier of a customer of this value."""
        if value is None or value <= 0:
            return Tier.UNRATED
        if _within(self.a, value, customer_id):
            return Tier.A
        return Tier.B if _within(self.b, value, customer_id) else Tier.C


def _within(last: Standing | None, value: int, customer_id: CustomerId) -> bool:
    return last is not None and (value > last.value or (value == last.value and customer_id <= last.customer_id))


@dataclass(frozen=True, slots=True)
class Ranking:
    """Everyone ranked, best first, with where the tiers end."""

    cutoffs: CutOffs
    total: int
    order: Column
    """Row numbers of the ranked customers in the columns given, best first."""
    before: Column
    """Sum of the values of all ranked strictly ahead, in ranking order."""
    last_a: int
    last_b: int
    """How many of `order` are in A, and in A and B together."""

    def reached(self, count: int) -> int:
        """The sum of the first `count` values of the ranking."""
        return int(self.before[count]) if count < len(self.order) else self.total

    def tiers(self, customers: int) -> Column:
        """The tier of each row of the columns given, as RANK numbers."""
        tiers = np.full(customers, RANK[Tier.UNRATED], dtype=np.int64)
        tiers[self.order] = RANK[Tier.C]
        tiers[self.order[: self.last_b]] = RANK[Tier.B]
        tiers[self.order[: self.last_a]] = RANK[Tier.A]
        return tiers


def rank(values: Column, customer_ids: Sequence[CustomerId], rules: TierRules) -> Ranking:
    """Ranks everyone and finds the cut-offs.

    Args:
        values: Values on the basis, one a customer; int64 whose sum fits, or Python integers.
        customer_ids: In ascending byte order, so that a stable sort settles the ties.
        rules: Shares.
    """
    ranked = np.flatnonzero(values > 0)
    order = ranked[np.argsort(-values[ranked], kind="stable")]
    ordered = values[order]
    reached = np.cumsum(ordered)
    total = int(reached[-1]) if len(order) else 0
    before = reached - ordered
    last_a = _first_at(before, rules.share_a * total)
    last_b = max(last_a, _first_at(before, rules.share_b * total))
    return Ranking(
        CutOffs(_standing(last_a, order, values, customer_ids), _standing(last_b, order, values, customer_ids)),
        total,
        order,
        before,
        last_a,
        last_b,
    )


def _first_at(before: Column, threshold: Fraction) -> int:
    # before < threshold for integers is before < ceil(threshold); `before` only grows.
    ceiling = -(-threshold.numerator // threshold.denominator)
    return int(np.searchsorted(before, ceiling, side="left"))


def _standing(count: int, order: Column, values: Column, customer_ids: Sequence[CustomerId]) -> Standing | None:
    if count == 0:
        return None
    row = int(order[count - 1])
    return Standing(int(values[row]), customer_ids[row])


class TierHistory(Struct, frozen=True):
    """What a customer's effective tier depends on. Days are business days."""

    computed: Tier = Tier.UNRATED
    computed_since: date | None = None
    """The day on which the computed tier took its present value; None while none was ever computed."""
    closed_a: date | None = None
    closed_b: date | None = None
    closed_c: date | None = None
    """The last day that closed with that tier, while another one was computed since."""

    def moved(self, computed: Tier, as_of: date) -> "TierHistory":
        """The history once another tier is computed on a day: every day before it closed with the old one."""
        if computed is self.computed:
            return self
        closed = {Tier.A: self.closed_a, Tier.B: self.closed_b, Tier.C: self.closed_c}
        if self.computed_since is not None and self.computed_since < as_of:
            closed[self.computed] = as_of - timedelta(days=1)
        return TierHistory(computed, as_of, closed[Tier.A], closed[Tier.B], closed[Tier.C])

    def effective(self, as_of: date, grace_days: int) -> tuple[Tier, date | None]:
        """The tier that counts, and the day on which it will fall if nothing changes (None: it will not)."""
        for tier, closed in ((Tier.A, self.closed_a), (Tier.B, self.closed_b), (Tier.C, self.closed_c)):
            if tier is self.computed:
                break
            if closed is not None and closed + timedelta(days=grace_days) >= as_of:
                return tier, closed + timedelta(days=grace_days + 1)
        return self.computed, None
