"""Cut-offs, standings and the history of tiers; the rules themselves are in tests/spec."""

from datetime import date
from fractions import Fraction

import numpy as np
import pytest

from segmentation import tiering
from segmentation.fields import CustomerId
from segmentation.metrics import column
from segmentation.tiering import RANK, TIERS, CutOffs, Standing, Tier, TierHistory, TierRules


def ids(count: int) -> list[CustomerId]:
    return [CustomerId(f"C-{number:03}") for number in range(count)]


def tiers_of(values: list[int], rules: TierRules | None = None) -> str:
    ranking = tiering.rank(column(values), ids(len(values)), rules or TierRules())
    return "".join(TIERS[rank][0] for rank in ranking.tiers)


@pytest.mark.parametrize(
    ("values", "tiers"),
    [
        ([], ""),
        ([0], "u"),
        ([-1], "u"),
        ([1], "A"),
        ([1, 1], "AA"),
        ([80, 15, 5], "ABC"),
        ([79, 1, 15, 5], "ACAB"),
        ([85, 15], "AB"),
        ([96, 4], "AC"),
        ([5, 15, 80], "CBA"),
        ([0, 80, -7, 20], "uAuB"),
        ([1] * 20, "A" * 16 + "B" * 3 + "C"),
        ([10**30 * 80, 10**30 * 15, 10**30 * 5], "ABC"),
        ([8 * 10**30 - 1, 10**30, 10**30 + 1], "ABA"),
        ([8 * 10**30, 10**30 + 1, 10**30 - 1], "ABB"),
    ],
)
def test_each_tier_is_the_smallest_prefix(values, tiers):
    assert tiers_of(values) == tiers


def test_shares_are_compared_as_fractions():
    """With a share of a third of 10 a standing of 3 ahead is below it, 4 is not."""
    rules = TierRules(share_a=Fraction(1, 3), share_b=Fraction(2, 3))
    assert tiers_of([3, 3, 2, 2], rules) == "AABC"
    assert tiers_of([4, 3, 2, 1], rules) == "ABCC"


def test_equal_shares_leave_b_empty():
    rules = TierRules(share_a=Fraction(4, 5), share_b=Fraction(4, 5))
    ranking = tiering.rank(column([80, 15, 5]), ids(3), rules)
    assert ranking.cutoffs.a == ranking.cutoffs.b == Standing(80, CustomerId("C-000"))
    assert tiers_of([80, 15, 5], rules) == "ACC"


def test_a_share_of_one_takes_everyone():
    assert tiers_of([97, 2, 1], TierRules(share_a=Fraction(1), share_b=Fraction(1))) == "AAA"


def test_the_ranking_knows_how_much_is_ahead():
    ranking = tiering.rank(column([5, 0, 80, 15]), ids(4), TierRules())
    assert ranking.sums.tolist() == [80, 95, 100]
    assert [ranking.reached(count) for count in range(4)] == [0, 80, 95, 100]
    assert (ranking.total, ranking.last_a, ranking.last_b) == (100, 1, 2)


@pytest.mark.parametrize(
    ("value", "customer_id", "tier"),
    [
        (None, "a", Tier.UNRATED),
        (0, "a", Tier.UNRATED),
        (-1, "a", Tier.UNRATED),
        (101, "z", Tier.A),
        (100, "m", Tier.A),
        (100, "M", Tier.A),
        (100, "n", Tier.B),
        (51, "z", Tier.B),
        (50, "b", Tier.B),
        (50, "c", Tier.C),
        (1, "a", Tier.C),
    ],
)
def test_a_cut_off_is_the_last_customer_inside(value, customer_id, tier):
    cutoffs = CutOffs(Standing(100, CustomerId("m")), Standing(50, CustomerId("b")))
    assert cutoffs.assign(value, CustomerId(customer_id)) is tier


def test_without_cut_offs_everyone_above_zero_is_c():
    """Nobody was ranked yet: whoever comes first waits for the ranking."""
    assert CutOffs().assign(1, CustomerId("a")) is Tier.C


def test_cut_offs_agree_with_the_ranking_for_everyone():
    values = column([int(value) for value in np.random.default_rng(7).integers(-5, 40, 500)])
    customer_ids = ids(500)
    ranking = tiering.rank(values, customer_ids, TierRules())
    assigned = [RANK[ranking.cutoffs.assign(int(v), c)] for v, c in zip(values, customer_ids, strict=True)]
    assert assigned == ranking.tiers.tolist()


def test_the_tier_that_stands_is_no_move():
    history = TierHistory(Tier.A, date(2026, 3, 1))
    assert history.moved(Tier.A, date(2026, 4, 1)) is history


def test_the_first_tier_closes_no_day():
    assert TierHistory().moved(Tier.B, date(2026, 3, 1)) == TierHistory(Tier.B, date(2026, 3, 1))


def test_unrated_needs_no_grace():
    history = TierHistory().moved(Tier.UNRATED, date(2026, 3, 1)).moved(Tier.C, date(2026, 3, 5))
    assert history.effective(date(2026, 3, 5), 14) == (Tier.C, None)
    assert (history.closed_a, history.closed_b, history.closed_c) == (None, None, None)
