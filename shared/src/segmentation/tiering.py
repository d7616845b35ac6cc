"""ABC tiers: cut-offs over everyone, a tier from a cut-off, and the rules that keep it stable.

Laws: each tier is the smallest prefix of the ranking that reaches its share, the crossing customer
included; comparisons are of integers, shares are fractions, never floats; a promotion counts at
once, a demotion when its grace has passed.

Ranking: by value, highest first, ties by customer id in ascending byte order; only values above 0
are ranked, everyone else is unrated.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from segmentation.errors import PolicyInvalid
from segmentation.fields import CustomerId
from segmentation.metrics import Column, column, summable
from segmentation.toml_tables import TomlTable


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


class Gap(NamedTuple):
    """How much lies between a customer and another tier."""

    tier: Tier
    amount: int
    """How much more, or less, on the basis of the tiers; at least 1."""


class Gaps(NamedTuple):
    """How far the neighbouring tiers are; None where there is none."""

    next: Gap | None
    previous: Gap | None


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

    def gaps(self, value: int | None, customer_id: CustomerId) -> Gaps:
        """How much more value would move the customer up, and how much less down, the cut-offs staying where they are.

        >>> CutOffs(Standing(100, CustomerId("m")), Standing(10, CustomerId("m"))).gaps(40, CustomerId("x"))
        Gaps(next=Gap(tier=<Tier.A: 'A'>, amount=61), previous=Gap(tier=<Tier.C: 'C'>, amount=30))
        """
        stands = value or 0
        ends = [last for last in (self.a, self.b) if last is not None]
        # The least value inside each tier, the best tier first; whoever ranks at all where nobody does is the first.
        least = [last.value + (customer_id > last.customer_id) for last in ends] + [1]
        above = [floor for floor in least if floor > stands]
        below = [floor for floor in least if floor <= stands]
        up = down = None
        if above:
            up = Gap(self.assign(above[-1], customer_id) if ends else Tier.A, above[-1] - stands)
        if below:
            down = Gap(self.assign(below[0] - 1, customer_id), stands - below[0] + 1)
        return Gaps(up, down)


def _within(last: Standing | None, value: int, customer_id: CustomerId) -> bool:
    return last is not None and (value > last.value or (value == last.value and customer_id <= last.customer_id))


@dataclass(frozen=True, slots=True)
class Ranking:
    """Where the tiers end when everyone is ranked, best first."""

    cutoffs: CutOffs
    total: int
    sums: Column
    """Of the values of the ranking's first customer, its first two, and so on."""
    last_a: int
    last_b: int
    """How many of the ranked are in A, and in A and B together."""
    tiers: Column
    """The tier of each row of the columns given, as RANK numbers."""

    def reached(self, count: int) -> int:
        """The sum of the first `count` values of the ranking."""
        return int(self.sums[count - 1]) if count else 0


def rank(values: Column, customer_ids: Sequence[CustomerId], rules: TierRules) -> Ranking:
    """Ranks everyone and finds the cut-offs.

    Only the values are sorted, not the customers: a tier is where a value lies from the cut-offs, and among the
    equals of a cut-off the ids decide, which are in order already.

    Args:
        values: Values on the basis, one a customer; int64 whose sum fits, or Python integers.
        customer_ids: In ascending byte order.
        rules: Shares.
    """
    ascending = np.sort(values[values > 0])
    descending = ascending[::-1]
    sums = np.cumsum(descending)
    total = int(sums[-1]) if len(sums) else 0
    before = sums - descending
    last_a = _first_at(before, rules.share_a * total)
    last_b = max(last_a, _first_at(before, rules.share_b * total))
    tiers = np.where(values > 0, np.int8(RANK[Tier.C]), np.int8(RANK[Tier.UNRATED]))
    standings: list[Standing | None] = []
    for count, tier in ((last_b, Tier.B), (last_a, Tier.A)):
        standings.append(None)
        if count:
            value = descending[count - 1]
            above = len(ascending) - int(np.searchsorted(ascending, value, side="right"))
            equals = np.flatnonzero(values == value)[: count - above]
            tiers[values > value] = RANK[tier]
            tiers[equals] = RANK[tier]
            standings[-1] = Standing(int(value), customer_ids[int(equals[-1])])
    b, a = standings
    return Ranking(CutOffs(a, b), total, sums, last_a, last_b, tiers)


def _first_at(before: Column, threshold: Fraction) -> int:
    # before < threshold for integers is before < ceil(threshold); `before` only grows.
    ceiling = -(-threshold.numerator // threshold.denominator)
    return int(np.searchsorted(before, ceiling, side="left"))


class Roster:
    """Everyone's value and computed tier, a row a customer in byte order of the ids, brought up to date by changes.

    Law: after any sequence of updates it is what a roster made anew of everyone would be.
    """

    def __init__(
        self, customer_ids: Sequence[CustomerId] | npt.NDArray[np.bytes_], values: Column, tiers: Column
    ) -> None:
        """Ids in byte order; values 0 for none; tiers as RANK numbers."""
        self._ids = np.asarray(customer_ids, dtype=np.bytes_)
        self._values = values
        self._tiers = tiers.astype(np.int8)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def total(self) -> int:
        """The sum of everyone's value, the unrated included."""
        return int(np.sum(self._summable()))

    def customer_id(self, row: int) -> CustomerId:
        return CustomerId(self._ids[row].decode())

    def tier(self, row: int) -> Tier:
        """The computed tier that stands."""
        return TIERS[int(self._tiers[row])]

    def update(self, values: Mapping[CustomerId, int]) -> None:
        """Takes new values; whoever was not there is unrated as yet."""
        if not values:
            return
        named = sorted(values)
        ids, news = np.array(named, dtype=np.bytes_), column([values[name] for name in named])
        width = np.promote_types(self._ids.dtype, ids.dtype)
        self._ids = self._ids.astype(width, copy=False)
        if news.dtype != self._values.dtype:
            self._values, news = self._values.astype(object), news.astype(object)
        rows = np.searchsorted(self._ids, ids.astype(width, copy=False))
        there = np.zeros(len(rows), dtype=np.bool_)
        inside = rows < len(self._ids)
        there[inside] = self._ids[rows[inside]] == ids[inside]
        self._values[rows[there]] = news[there]
        if not there.all():
            self._ids = np.insert(self._ids, rows[~there], ids[~there])
            self._values = np.insert(self._values, rows[~there], news[~there])
            self._tiers = np.insert(self._tiers, rows[~there], np.int8(RANK[Tier.UNRATED]))

    def rank(self, rules: TierRules) -> Ranking:
        """Ranks everyone."""
        return rank(self._summable(), _Names(self), rules)

    def _summable(self) -> Column:
        return self._values if self._values.dtype == object else summable(self._values)

    def crossers(self, ranking: Ranking) -> list[tuple[int, Tier]]:
        """Rows whose tier in a ranking of this roster is another than the one that stands, with the new one."""
        rows = np.flatnonzero(ranking.tiers != self._tiers)
        return [(row, TIERS[rank]) for row, rank in zip(rows.tolist(), ranking.tiers[rows].tolist(), strict=True)]

    def move(self, crossers: Iterable[tuple[int, Tier]]) -> None:
        """From now on these tiers stand."""
        for row, tier in crossers:
            self._tiers[row] = RANK[tier]


class _Names(Sequence[CustomerId]):
    """A roster's ids, each made text when it is asked for."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def __len__(self) -> int:
        return len(self._roster)

    def __getitem__(self, row: Any) -> Any:  # noqa: ANN401 - rows are asked for one at a time
        return self._roster.customer_id(row)


class TierHistory(Struct, frozen=True, omit_defaults=True):
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

    def rewound(self, as_of: date) -> "TierHistory":
        """The history on a day that is not after all it knows: a day that is not over yet has not closed.

        Only a clock of the machine that was put back brings it there.
        """
        closed = (self.closed_a, self.closed_b, self.closed_c)
        if all(day is None or day < as_of for day in closed) and not (
            self.computed_since and self.computed_since > as_of
        ):
            return self
        yesterday = as_of - timedelta(days=1)
        since = self.computed_since and min(self.computed_since, as_of)
        return TierHistory(self.computed, since, *(day and min(day, yesterday) for day in closed))

    def effective(self, as_of: date, grace_days: int) -> tuple[Tier, date | None]:
        """The tier that counts, and the day on which it will fall if nothing changes (None: it will not)."""
        for tier, closed in ((Tier.A, self.closed_a), (Tier.B, self.closed_b), (Tier.C, self.closed_c)):
            if tier is self.computed:
                break
            if closed is not None and closed + timedelta(days=grace_days) >= as_of:
                return tier, closed + timedelta(days=grace_days + 1)
        return self.computed, None


def parse_tier_rules(table: TomlTable) -> TierRules:
    """Reads the section [tiers]; raises PolicyInvalid with the field."""
    basis = table.text("basis")
    if basis not in tuple(Basis):
        raise PolicyInvalid(f"[tiers]: basis is {basis!r}; one of {', '.join(Basis)} is expected")
    rules = TierRules(
        Basis(basis), table.share("share_a"), table.share("share_b"), table.integer("demotion_grace_days", 0, 3_650)
    )
    if rules.share_b < rules.share_a:
        raise PolicyInvalid("[tiers]: share_b is smaller than share_a; it is the share of A and B together")
    table.finish()
    return rules
