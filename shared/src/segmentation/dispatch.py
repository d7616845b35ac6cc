"""Which order goes first: waiting orders and what is known of their customers -> ranks, priorities, and why.

Laws:
- a_first: an order of another tier stands ahead of an A order only where it has waited longer, or on a place reserved
  for its tier; a policy that gives A too little for that is refused.
- shares: among the first n orders there are at least floor(share x n) of each tier, or all that it has.
- no_starving: by points, no order stands behind one that began waiting `patience_seconds` or more after it; where such
  a newer one stands ahead, it is on a reserved place, and at least a tenth of all places go by points.
- permutation: the order of the orders given changes nothing; nothing here looks at a clock or at chance.
- priorities never rise along the ranks: whoever sorts by them keeps the shares.

Points, in exact thousandths, each part rounded down:

    tier      tiers[tier]
    level     level * dispatch_priority / 100
    promise   promise * (promise_hours - slack) / promise_hours within the last promise_hours before the promised
              time, 0 before that; promise + late when the promised time has passed
    waiting   ageing_per_hour * hours waited, without an end
    risk      the greater of risk[lifecycle] and, where one stands, risk.churn_warning

More points go first; then who has waited longer, then the earlier promise, then the order id, then the customer id, in
ascending byte order. `priority` is min(100, points). A tier's k-th order is owed a place no later than
ceil(k / share), its reserved place; where several fall on one place, the better tier's moves one ahead. An order that
stands on it by right of the share, ahead of more points, takes over the priority of the next one behind it that
stands by its points.
"""

import enum
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np
from msgspec import Struct

from segmentation.calendar import MICROSECONDS
from segmentation.errors import PolicyInvalid
from segmentation.metrics import Column
from segmentation.segments import STAGES, Lifecycle
from segmentation.tiering import RANK, TIERS, Tier
from segmentation.toml_tables import TomlTable

HIGHEST: Final = 100
_THOUSANDTHS: Final = 1_000
_HOUR: Final = 3_600
LONGEST_WAIT_SECONDS: Final = 3_650 * 24 * _HOUR
"""Waiting beyond ten years is a mistake in the caller's data; it counts as ten."""
_NEVER: Final = 2**62
MOST_RESERVED: Final = Fraction(9, 10)

_STANDARD_TIERS: Final = {Tier.A: 60, Tier.B: 30, Tier.C: 0, Tier.UNRATED: 0}
_STANDARD_RISK: Final = dict.fromkeys(STAGES, 0) | {
    Lifecycle.AT_RISK: 4,
    Lifecycle.DORMANT: 4,
    Lifecycle.LOST: 4,
    Lifecycle.WON_BACK: 2,
}
_STANDARD_SHARES: Final = {
    Tier.A: Fraction(40, 100),
    Tier.B: Fraction(15, 100),
    Tier.C: Fraction(8, 100),
    Tier.UNRATED: Fraction(4, 100),
}


@dataclass(frozen=True, slots=True)
class DispatchRules:
    """The policy's part of dispatch. All in points, but for hours and shares."""

    tiers: Mapping[Tier, int] = field(default_factory=lambda: _STANDARD_TIERS)
    level: int = 10
    """Of a service level with a dispatch_priority of 100; others in proportion."""
    promise: int = 12
    promise_hours: int = 24
    late: int = 3
    ageing_per_hour: Fraction = Fraction(5, 2)
    risk: Mapping[Lifecycle, int] = field(default_factory=lambda: _STANDARD_RISK)
    churn_warning: int = 4
    shares: Mapping[Tier, Fraction] = field(default_factory=lambda: _STANDARD_SHARES)
    """Of all places, from the first on; what a tier gets at least."""

    @property
    def within_tier(self) -> int:
        """The most that two orders of one tier, waiting equally long, can be apart."""
        return self.level + self.promise + self.late + max(self.churn_warning, *self.risk.values(), 0)

    @property
    def patience_seconds(self) -> int:
        """Who began waiting so much later stands behind, by points, whoever it is."""
        apart = max(self.tiers.values()) - min(self.tiers.values()) + self.within_tier
        return math.ceil(apart * _HOUR / self.ageing_per_hour)


STANDARD_DISPATCH: Final = DispatchRules()


def parse_dispatch(root: TomlTable) -> DispatchRules:
    """Reads the section [dispatch], which may be left out, in part or as a whole.

    Raises:
        PolicyInvalid: names the table and the field.
    """
    table, standard = root.section("dispatch"), STANDARD_DISPATCH
    # A section of a section knows its own name only; people have to find it by the one in the file.
    tiers, risk, shares = (
        TomlTable(table.section(name).raw, f"[dispatch.{name}]") for name in ("tiers", "risk", "minimum_shares")
    )
    rules = DispatchRules(
        tiers={tier: _points(tiers, tier, default) for tier, default in standard.tiers.items()},
        level=_points(table, "level", standard.level),
        promise=_points(table, "promise", standard.promise),
        promise_hours=_given(table.optional_integer("promise_hours", 1, 8_760), standard.promise_hours),
        late=_points(table, "late", standard.late),
        ageing_per_hour=_ageing(table, standard.ageing_per_hour),
        risk={stage: _points(risk, stage, standard.risk.get(stage, 0)) for stage in STAGES},
        churn_warning=_points(risk, "churn_warning", standard.churn_warning),
        shares={tier: shares.share(tier, str(float(default))) for tier, default in standard.shares.items()},
    )
    for each in (table, tiers, risk, shares):
        each.finish()
    _refuse_contradictions(rules)
    return rules


def _points(table: TomlTable, name: str, default: int) -> int:
    return _given(table.optional_integer(name, 0, HIGHEST), default)


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def _ageing(table: TomlTable, default: Fraction) -> Fraction:
    name = "ageing_per_hour"
    ageing = table.factor(name) if table.has(name) else default
    thousandths = ageing * _THOUSANDTHS
    if not Fraction(1, 10) <= ageing <= HIGHEST or thousandths.denominator != 1:
        raise PolicyInvalid(
            f'{table.title}: {name} is "{float(ageing)}"; "0.1" to "100", with at most three decimals, is expected: '
            "without ageing an order could wait for ever"
        )
    return ageing


def _refuse_contradictions(rules: DispatchRules) -> None:
    a, b, c, unrated = (rules.tiers[tier] for tier in TIERS)
    needed = max(b, c, unrated) + rules.within_tier
    if a <= needed:
        raise PolicyInvalid(
            f"[dispatch.tiers]: A is {a}, so that A would not go first; more than {needed} is expected: the points of "
            "the next tier, level, promise, late and the greatest risk together"
        )
    if b < c:
        raise PolicyInvalid(f"[dispatch.tiers]: B is {b}; at least {c}, the points of C, is expected")
    reserved = sum(rules.shares.values())
    if reserved > MOST_RESERVED:
        raise PolicyInvalid(
            f"[dispatch.minimum_shares]: A, B, C and unrated are {float(reserved)} together; at most "
            f"{float(MOST_RESERVED)} is expected, so that a tenth of the places goes by points"
        )


class WaitingOrder(Struct, frozen=True, gc=False):
    """An order that waits for dispatch, with what is known of its customer. Instants as in `calendar`."""

    order_id: str
    customer_id: str
    tier: Tier
    service_level: str
    dispatch_priority: int
    """Of the service level."""
    lifecycle: Lifecycle | None
    """None for a customer nobody has heard of."""
    promised_at: int | None = None
    waiting_since: int | None = None
    warned: bool = False
    """Whether a churn warning stands for the customer."""


class DispatchReason(Struct, frozen=True, gc=False):
    """One thing that an order stands where it stands for."""

    code: str
    value: str
    thousandths: int = 0
    """Of a point: what it adds."""

    def text(self, language: str, levels: Mapping[str, str]) -> str:
        """The reason in words; `levels` are the names of service levels by code."""
        shown = self.value
        if self.code in _SPANS:
            shown = _span(abs(int(self.value)) // 60, language)
        elif self.code == "service_level":
            shown = levels.get(self.value, self.value)
        elif self.code == "minimum_share":
            tier, _, share = self.value.partition(":")
            shown = _SHARE[language].format(tier=tier, share=f"{float(share):.4%}".rstrip("0%").rstrip(".") + " %")
        words = _WORDS[self.code][language].format(shown)
        return words if self.code in _WITHOUT_POINTS else f"{words} (+{_decimal(self.thousandths)})"


_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "tier": {"en": "tier {}", "zh": "等级 {}"},
    "service_level": {"en": "service level {}", "zh": "服务等级 {}"},
    "unknown_customer": {"en": "unknown customer, default level", "zh": "未知客户, 默认服务等级"},
    "promise": {"en": "promised in {}", "zh": "距承诺时间 {}"},
    "late": {"en": "late by {}", "zh": "已超过承诺时间 {}"},
    "waiting": {"en": "waiting for {}", "zh": "已等待 {}"},
    "waiting_since_future": {
        "en": "waiting_since lies in the future: counted as not waiting",
        "zh": "waiting_since 在未来: 按未等待计算",
    },
    "lifecycle": {"en": "risk: lifecycle {}", "zh": "风险: 生命周期 {}"},
    "churn_warning": {"en": "risk: churn warning", "zh": "风险: 流失预警"},
    "minimum_share": {"en": "moved up: {}", "zh": "提前: {}"},
}
_SHARE: Final = {
    "en": "tier {tier} has at least {share} of the places",
    "zh": "等级 {tier} 至少占 {share} 的位置",
}
_SPANS: Final = frozenset(("promise", "late", "waiting"))
_WITHOUT_POINTS: Final = frozenset(("unknown_customer", "waiting_since_future", "minimum_share"))
REASON_CODES: Final = tuple(_WORDS)


@functools.lru_cache(maxsize=16_384)
def _span(minutes: int, language: str) -> str:
    """About how long, in its two greatest units."""
    units = {"en": (" d", " h", " min"), "zh": (" 天", " 小时", " 分钟")}[language]
    counts = (minutes // 1_440, minutes // 60 % 24, minutes % 60)
    first = next((place for place, count in enumerate(counts) if count), 2)
    shown = [(count, units[first + more]) for more, count in enumerate(counts[first : first + 2]) if count or not more]
    return " ".join(f"{count}{unit}" for count, unit in shown)


@functools.lru_cache(maxsize=65_536)
def _decimal(thousandths: int) -> str:
    whole, rest = divmod(thousandths, _THOUSANDTHS)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class DispatchRanking:
    """Orders in rank order."""

    positions: Sequence[int]
    """Of the orders as they were given."""
    priorities: Sequence[int]
    """0 to 100, never rising."""
    reasons: Sequence[Sequence[DispatchReason]]


def prioritise(orders: Sequence[WaitingOrder], rules: DispatchRules, *, at: int) -> DispatchRanking:
    """Ranks orders that wait at an instant; two with the same order and customer id would be a caller's mistake."""
    if not orders:
        return DispatchRanking([], [], [])
    parts = _Parts.of(orders, rules, at)
    points = parts.total
    ids = sorted(range(len(orders)), key=lambda each: (orders[each].order_id, orders[each].customer_id))
    id_ranks = np.empty(len(orders), dtype=np.int64)
    id_ranks[ids] = np.arange(len(orders))
    by_points: list[int] = np.lexsort((id_ranks, parts.promised, -parts.waited, -points)).tolist()
    positions, moved_up = _with_shares(by_points, [order.tier for order in orders], rules)
    own = np.minimum(points[positions] // _THOUSANDTHS, HIGHEST)
    # Whoever stands by its points has no more behind it, so this changes those alone who were moved up.
    priorities = np.maximum.accumulate(own[::-1])[::-1].tolist()
    reasons = [
        parts.reasons(position, orders[position], rules.shares[orders[position].tier] if moved else None)
        for position, moved in zip(positions, moved_up, strict=True)
    ]
    return DispatchRanking(positions, priorities, reasons)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The columns that points are added up from, in thousandths, and what they were made from."""

    tier: list[int]
    level: list[int]
    promise: list[int]
    waiting: list[int]
    risk: list[int]
    total: Column
    slack_seconds: list[int]
    waited_seconds: list[int]
    waited: Column
    promised: Column
    at: int
    rules: DispatchRules

    @classmethod
    def of(cls, orders: Sequence[WaitingOrder], rules: DispatchRules, at: int) -> "_Parts":
        tier = _column([rules.tiers[order.tier] * _THOUSANDTHS for order in orders])
        level = _column([order.dispatch_priority for order in orders]) * rules.level * (_THOUSANDTHS // HIGHEST)
        promised = _column([_NEVER if order.promised_at is None else order.promised_at for order in orders])
        slack = (promised - at) // MICROSECONDS
        horizon = rules.promise_hours * _HOUR
        near = np.clip(horizon - slack, 0, horizon)
        promise = rules.promise * _THOUSANDTHS * near // horizon + (promised < at) * rules.late * _THOUSANDTHS
        since = _column([at if order.waiting_since is None else order.waiting_since for order in orders])
        waited = np.clip(at - since, 0, LONGEST_WAIT_SECONDS * MICROSECONDS)
        seconds = waited // MICROSECONDS
        waiting = seconds * int(rules.ageing_per_hour * _THOUSANDTHS) // _HOUR
        risk = _column([_risk(order, rules)[2] for order in orders])
        return cls(
            tier=tier.tolist(),
            level=level.tolist(),
            promise=promise.tolist(),
            waiting=waiting.tolist(),
            risk=risk.tolist(),
            total=tier + level + promise + waiting + risk,
            slack_seconds=slack.tolist(),
            waited_seconds=seconds.tolist(),
            waited=waited,
            promised=promised,
            at=at,
            rules=rules,
        )

    def reasons(self, row: int, order: WaitingOrder, share: Fraction | None) -> tuple[DispatchReason, ...]:
        """Why an order stands where it stands; with its tier's share, where that moved it up."""
        reasons: list[DispatchReason] = []
        if share is not None:
            reasons.append(DispatchReason("minimum_share", f"{order.tier}:{float(share)}"))
        reasons.append(DispatchReason("tier", order.tier, self.tier[row]))
        reasons.append(DispatchReason("service_level", order.service_level, self.level[row]))
        if order.lifecycle is None:
            reasons.append(DispatchReason("unknown_customer", order.service_level))
        if order.promised_at is not None:
            code = "late" if order.promised_at < self.at else "promise"
            reasons.append(DispatchReason(code, str(self.slack_seconds[row]), self.promise[row]))
        if order.waiting_since is not None:
            if order.waiting_since > self.at:
                reasons.append(DispatchReason("waiting_since_future", "0"))
            else:
                reasons.append(DispatchReason("waiting", str(self.waited_seconds[row]), self.waiting[row]))
        if self.risk[row]:
            reasons.append(DispatchReason(*_risk(order, self.rules)))
        return tuple(reasons)


def _risk(order: WaitingOrder, rules: DispatchRules) -> tuple[str, str, int]:
    """What it is, and the thousandths that it adds: the greater of lifecycle and warning."""
    by_stage = rules.risk.get(order.lifecycle, 0) if order.lifecycle is not None else 0
    if order.warned and rules.churn_warning > by_stage:
        return "churn_warning", "true", rules.churn_warning * _THOUSANDTHS
    return "lifecycle", str(order.lifecycle), by_stage * _THOUSANDTHS


def _column(values: list[int]) -> Column:
    return np.array(values, dtype=np.int64)


@functools.lru_cache(maxsize=64)
def reserved_places(shares: tuple[Fraction, ...], places: int) -> tuple[int | None, ...]:
    """For each place the tier, by its rank, that it is reserved for; as late as the shares allow.

    >>> reserved_places((Fraction(1, 2), Fraction(1, 4)), 4)
    (None, 0, 0, 1)
    """
    owed: list[list[int]] = [[] for _ in range(places + 1)]
    for tier, share in enumerate(shares):
        for number in range(1, math.floor(share * places) + 1):
            owed[-(-number * share.denominator // share.numerator)].append(tier)
    waiting = [0] * len(shares)
    reserved: list[int | None] = [None] * places
    # Backwards, no place is left free while one is owed. The shares are not more than all places together, so all fit.
    for place in range(places, 0, -1):
        for tier in owed[place]:
            waiting[tier] += 1
        last = max((tier for tier, count in enumerate(waiting) if count), default=None)
        if last is not None:
            reserved[place - 1] = last
            waiting[last] -= 1
    return tuple(reserved)


def _with_shares(by_points: Sequence[int], tiers: Sequence[Tier], rules: DispatchRules) -> tuple[list[int], list[bool]]:
    """The ranking by points with every tier's share in each prefix; and who was moved up for that."""
    waiting: list[list[int]] = [[] for _ in TIERS]  # of each tier, the best one last
    for position in reversed(by_points):
        waiting[RANK[tiers[position]]].append(position)
    best = iter(by_points)
    head = next(best)
    placed = [False] * len(by_points)
    owed = [0] * len(TIERS)
    given = [0] * len(TIERS)
    ranking: list[int] = []
    moved_up: list[bool] = []
    for reserved in reserved_places(tuple(rules.shares[tier] for tier in TIERS), len(by_points)):
        while placed[head]:
            head = next(best)
        chosen = head
        if reserved is not None:
            owed[reserved] += 1
            if given[reserved] < owed[reserved] and waiting[reserved]:
                chosen = waiting[reserved][-1]
        tier = RANK[tiers[chosen]]
        waiting[tier].pop()
        given[tier] += 1
        placed[chosen] = True
        ranking.append(chosen)
        moved_up.append(chosen != head)
    return ranking, moved_up


class Scale(enum.StrEnum):
    """What a priority is told as."""

    TIERLINE = "tierline"
    """0 to 100, the highest first."""
    SAP = "sap"
    """Delivery priority, 1 to 99, where 1 goes first."""
    VROOM = "vroom"
    """Its sum over the tasks that are planned is made as great as possible, so it goes by tens."""


def on_scale(priority: int, scale: Scale, rules: DispatchRules) -> int:
    """A priority as another tool understands it.

    >>> [on_scale(each, Scale.SAP, STANDARD_DISPATCH) for each in (100, 69, 0)]
    [1, 32, 99]
    >>> [on_scale(each, Scale.VROOM, STANDARD_DISPATCH) for each in (69, 37, 4)]
    [100, 10, 1]
    """
    match scale:
        case Scale.TIERLINE:
            return priority
        case Scale.SAP:
            return 99 - priority * 98 // HIGHEST
        case Scale.VROOM:
            # One task outweighs nine of the band below: with linear values two orders of C would push one of A out.
            return 100 if priority >= rules.tiers[Tier.A] else 10 if priority >= rules.tiers[Tier.B] else 1
