"""The laws of `segmentation.dispatch`, on any orders and any policy that is accepted, held against a plain count.

What is tried is far from even: many orders wait equally long, share an id, or belong to one tier, since ties and shares
are where a ranking goes wrong.
"""

from __future__ import annotations

import math
import tomllib
from fractions import Fraction
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from segmentation.dispatch import (
    LONGEST_WAIT_SECONDS,
    STANDARD_DISPATCH,
    DispatchRanking,
    DispatchRules,
    Scale,
    WaitingOrder,
    on_scale,
    parse_dispatch,
    prioritise,
    reserved_places,
)
from segmentation.errors import PolicyInvalid
from segmentation.segments import STAGES
from segmentation.tiering import TIERS, Tier
from segmentation.toml_tables import TomlTable

HOUR = 3_600_000_000
AT = 1_795_348_800_000_000


def rules_of(text: str) -> DispatchRules:
    return parse_dispatch(TomlTable(tomllib.loads(text), "the policy"))


@st.composite
def rules(draw: st.DrawFn) -> DispatchRules:
    """Of a policy that is accepted."""
    within = [draw(st.integers(0, limit)) for limit in (12, 12, 5, 5)]
    b = draw(st.integers(0, 40))
    tiers = [
        min(b + sum(within) + 1 + draw(st.integers(0, 20)), 100),
        b,
        draw(st.integers(0, b)),
        draw(st.integers(0, b)),
    ]
    shares = [draw(st.integers(1, 225)) for _ in TIERS]
    text = f"""
        [dispatch]
        level = {within[0]}
        promise = {within[1]}
        promise_hours = {draw(st.integers(1, 72))}
        late = {within[2]}
        ageing_per_hour = "{draw(st.sampled_from(("0.1", "0.333", "2.5", "7", "100")))}"
        [dispatch.tiers]
        A = {tiers[0]}
        B = {tiers[1]}
        C = {tiers[2]}
        unrated = {tiers[3]}
        [dispatch.risk]
        at_risk = {draw(st.integers(0, within[3]))}
        lost = {within[3]}
        dormant = 0
        won_back = 0
        churn_warning = {draw(st.integers(0, within[3]))}
        [dispatch.minimum_shares]
        A = "{shares[0] / 1000}"
        B = "{shares[1] / 1000}"
        C = "{shares[2] / 1000}"
        unrated = "{shares[3] / 1000}"
    """
    return rules_of(text)


_times = st.one_of(
    st.integers(-60, 60).map(lambda hours: AT + hours * HOUR),
    st.integers(AT - 3 * HOUR, AT + 3 * HOUR),
    st.sampled_from((-62_135_596_800_000_000, 253_402_300_799_000_000)),
)
_order = st.builds(
    WaitingOrder,
    order_id=st.text(max_size=3),
    customer_id=st.sampled_from(("a", "b", "c")),
    tier=st.sampled_from(TIERS),
    service_level=st.just("vip"),
    dispatch_priority=st.sampled_from((0, 40, 70, 95, 100)),
    lifecycle=st.sampled_from((None, *STAGES)),
    promised_at=st.one_of(st.none(), _times),
    waiting_since=st.one_of(st.none(), _times),
    warned=st.booleans(),
)
orders = st.lists(_order, max_size=60, unique_by=lambda order: (order.order_id, order.customer_id))


def points(order: WaitingOrder, by: DispatchRules) -> int:
    """Thousandths, part by part, as the documentation says it."""
    parts = [Fraction(by.tiers[order.tier]), Fraction(by.level * order.dispatch_priority, 100)]
    if order.promised_at is not None:
        slack = (order.promised_at - AT) // 1_000_000
        left = min(max(by.promise_hours * 3_600 - slack, 0), by.promise_hours * 3_600)
        parts.append(Fraction(by.promise * left, by.promise_hours * 3_600))
        parts.append(Fraction(by.late if order.promised_at < AT else 0))
    parts.append(by.ageing_per_hour * (waited(order) // 1_000_000) / 3_600)
    risk = by.risk[order.lifecycle] if order.lifecycle is not None else 0
    parts.append(Fraction(max(risk, by.churn_warning if order.warned else 0)))
    return sum(math.floor(part * 1_000) for part in parts)


def waited(order: WaitingOrder) -> int:
    """Microseconds."""
    since = AT if order.waiting_since is None else order.waiting_since
    return min(max(AT - since, 0), LONGEST_WAIT_SECONDS * 1_000_000)


def before(order: WaitingOrder, by: DispatchRules) -> tuple[Any, ...]:
    """What sorts orders by points."""
    promise = math.inf if order.promised_at is None else order.promised_at
    return (-points(order, by), -waited(order), promise, order.order_id.encode(), order.customer_id.encode())


def ranked(given_orders: list[WaitingOrder], by: DispatchRules) -> list[WaitingOrder]:
    return [given_orders[position] for position in prioritise(given_orders, by, at=AT).positions]


def moved_up(ranking: DispatchRanking) -> list[bool]:
    return [reasons[0].code == "minimum_share" for reasons in ranking.reasons]


@given(orders, rules(), st.randoms(use_true_random=False))
def test_permutation(given_orders: list[WaitingOrder], by: DispatchRules, chance: Any) -> None:
    """The order of the orders given changes nothing: neither ranks nor priorities nor reasons."""
    shuffled = list(given_orders)
    chance.shuffle(shuffled)
    one, other = prioritise(given_orders, by, at=AT), prioritise(shuffled, by, at=AT)
    assert [given_orders[each] for each in one.positions] == [shuffled[each] for each in other.positions]
    assert (one.priorities, one.reasons) == (other.priorities, other.reasons)
    assert sorted(one.positions) == list(range(len(given_orders)))


@given(orders, rules())
def test_points_decide_wherever_no_share_is_owed(given_orders: list[WaitingOrder], by: DispatchRules) -> None:
    """Whoever was not moved up is the best of all that are left, by the formula; else it is the best of its tier."""
    ranking = prioritise(given_orders, by, at=AT)
    left = sorted(given_orders, key=lambda order: before(order, by))
    for position, moved, reasons in zip(ranking.positions, moved_up(ranking), ranking.reasons, strict=True):
        order = given_orders[position]
        assert order == next(each for each in left if not moved or each.tier == order.tier)
        assert (order != left[0]) == moved
        assert sum(reason.thousandths for reason in reasons) == points(order, by)
        left.remove(order)


@given(orders, rules())
def test_shares(given_orders: list[WaitingOrder], by: DispatchRules) -> None:
    """Among the first n there are at least floor(share x n) of each tier, or all that it has."""
    ranking = ranked(given_orders, by)
    for tier in TIERS:
        has = sum(order.tier is tier for order in ranking)
        among = 0
        for place, order in enumerate(ranking, start=1):
            among += order.tier is tier
            assert among >= min(has, math.floor(by.shares[tier] * place)), (tier, place)


@given(orders, rules())
def test_a_first(given_orders: list[WaitingOrder], by: DispatchRules) -> None:
    """Another tier's order stands ahead of an A order only where it has waited longer, or was moved up."""
    ranking = prioritise(given_orders, by, at=AT)
    ranks = [given_orders[position] for position in ranking.positions]
    ahead: list[WaitingOrder] = []
    for order, moved in zip(ranks, moved_up(ranking), strict=True):
        if order.tier is Tier.A:
            assert all(waited(other) > waited(order) for other in ahead)
        elif not moved:
            ahead.append(order)


@given(orders, rules())
@example(
    [
        WaitingOrder("new", "a", Tier.A, "vip", 100, STAGES[3], AT - 1, AT - 1),
        WaitingOrder("old", "c", Tier.C, "standard", 0, None, None, AT - 89 * 3_600_000_000 * 2 // 5 - 1),
    ],
    STANDARD_DISPATCH,
)
def test_no_starving(given_orders: list[WaitingOrder], by: DispatchRules) -> None:
    """By points nobody stands behind one who began waiting `patience_seconds` later; so at most the places reserved for
    others, and those who did not come so much later, are ahead."""
    ranking = prioritise(given_orders, by, at=AT)
    ranks = [given_orders[position] for position in ranking.positions]
    moved = moved_up(ranking)
    reserved = reserved_places(tuple(by.shares[tier] for tier in TIERS), len(ranks))
    patience = by.patience_seconds * 1_000_000
    for rank, order in enumerate(ranks):
        newer = [waited(order) - waited(other) >= patience for other in ranks]
        assert not any(late and not up for late, up in zip(newer[:rank], moved[:rank], strict=True))
        others = len(ranks) - sum(newer)
        unreserved = sum(each is None for each in reserved[:rank])
        assert unreserved < others


@given(orders, rules())
def test_priorities_never_rise_along_the_ranks(given_orders: list[WaitingOrder], by: DispatchRules) -> None:
    """Nor on any scale; and whoever stands by its points has the priority of its points."""
    ranking = prioritise(given_orders, by, at=AT)
    assert list(ranking.priorities) == sorted(ranking.priorities, reverse=True)
    for position, priority, moved in zip(ranking.positions, ranking.priorities, moved_up(ranking), strict=True):
        own = min(points(given_orders[position], by) // 1_000, 100)
        assert priority >= own if moved else priority == own
        assert 1 <= on_scale(priority, Scale.SAP, by) <= 99
        assert on_scale(priority, Scale.VROOM, by) in (1, 10, 100)
    sap = [on_scale(each, Scale.SAP, by) for each in ranking.priorities]
    vroom = [on_scale(each, Scale.VROOM, by) for each in ranking.priorities]
    assert sap == sorted(sap)
    assert vroom == sorted(vroom, reverse=True)


@given(
    st.lists(st.integers(0, 225).map(lambda share: Fraction(share, 1_000)), min_size=4, max_size=4), st.integers(0, 300)
)
def test_reserved_places_come_in_time(shares: list[Fraction], places: int) -> None:
    """The k-th order of a tier has its place at ceil(k / share) at the latest, and no place is given twice."""
    reserved = reserved_places(tuple(shares), places)
    for tier, share in enumerate(shares):
        own = [place for place, of in enumerate(reserved, start=1) if of == tier]
        assert len(own) == math.floor(share * places)
        assert all(place <= math.ceil(number / share) for number, place in enumerate(own, start=1))


@given(st.text("0123456789.-", max_size=6), st.integers(-5, 120), st.integers(-5, 120))
def test_a_policy_is_accepted_with_all_its_laws_or_refused_by_name(ageing: str, a: int, b: int) -> None:
    text = f'[dispatch]\nageing_per_hour = "{ageing}"\n[dispatch.tiers]\nA = {a}\nB = {b}\n'
    accepted, said = None, ""
    try:
        accepted = rules_of(text)
    except PolicyInvalid as refused:
        said = str(refused)
    if accepted is None:
        assert said.startswith("[dispatch")
    else:
        assert accepted.tiers[Tier.A] > accepted.tiers[Tier.B] + accepted.within_tier
        assert accepted.ageing_per_hour > 0
        assert accepted.patience_seconds > 0
