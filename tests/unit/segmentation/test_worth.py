"""Contribution and potential, size and frequency, held against the formulas of docs/policy.md."""

from collections.abc import Iterable
from datetime import date, timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.buckets import DayBucket
from segmentation.fields import CustomerId
from segmentation.metrics import BucketTable, roll
from segmentation.segments import STAGES, Lifecycle
from segmentation.tiering import RANK, Tier
from segmentation.worth import LEVELS, SIZES, Expected, WorthRules, weigh

TODAY = date(2026, 12, 31)


def weighed(
    days: Iterable[int],
    *,
    tier: Tier = Tier.C,
    stage: Lifecycle = Lifecycle.ACTIVE,
    rules: WorthRules | None = None,
    amount: int = 100_000,
    expected: int | None = None,
    horizon_days: int = 90,
    **bucket: int,
) -> list[str]:
    """One customer with an order of 1,000.00 on each of these days before today."""
    one = DayBucket(orders=1, gross_revenue=amount, **bucket)
    table = BucketTable.of({CustomerId("C"): [(TODAY - timedelta(days=day), one) for day in days]})
    ranks, stages = np.array([RANK[tier]]), np.array([STAGES.index(stage)])
    foretold = None
    if expected is not None:
        foretold = Expected(horizon_days, np.array([True]), np.array([expected], dtype=object))
    found = weigh(roll(table, TODAY), ranks, stages, rules or WorthRules(), unit=100, expected=foretold)
    return [LEVELS[found.contribution[0]], LEVELS[found.potential[0]], LEVELS[found.value_level[0]],
            SIZES[found.size[0]], LEVELS[found.frequency[0]]]  # fmt: skip


@pytest.mark.parametrize(
    ("tier", "level"), [(Tier.A, "high"), (Tier.B, "medium"), (Tier.C, "low"), (Tier.UNRATED, "low")]
)
def test_without_a_rhythm_the_value_level_is_the_tiers(tier, level):
    assert weighed([1, 30], tier=tier)[:3] == [level, "medium", level]
    assert weighed([], tier=tier)[:3] == [level, "medium", level]


def test_a_loss_lowers_the_contribution():
    assert weighed([1], tier=Tier.A, gross_profit=-1, orders_with_cost=1)[0] == "medium"
    assert weighed([1], tier=Tier.A, gross_profit=0, orders_with_cost=1)[0] == "high"
    assert weighed([1], tier=Tier.UNRATED, gross_profit=-1, orders_with_cost=1)[0] == "low"


def test_a_steady_year_has_a_medium_potential():
    assert weighed(range(0, 365, 7), tier=Tier.B)[:3] == ["medium", "medium", "medium"]


def test_a_fast_start_raises_the_value_level():
    """Ten orders in 63 days: 90 / 7 of them in 90 days, against 10 in a year."""
    assert weighed(range(0, 64, 7), tier=Tier.B)[:3] == ["medium", "high", "high"]
    assert weighed(range(0, 64, 7), tier=Tier.B, amount=1_000)[1] == "medium"  # too little is expected


def test_who_is_gone_promises_nothing():
    for stage in (Lifecycle.DORMANT, Lifecycle.LOST):
        assert weighed(range(200, 365, 7), tier=Tier.A, stage=stage)[:3] == ["high", "low", "medium"]
    assert weighed(range(100, 365, 7), tier=Tier.A, stage=Lifecycle.AT_RISK)[1] == "medium"
    assert weighed(range(0, 365, 7), tier=Tier.A, stage=Lifecycle.AT_RISK)[1] == "medium"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("horizon_days", [90, 180])
def test_where_a_model_knows_the_customer_the_potential_is_what_it_expects(stage, horizon_days):
    """73 orders of 1,000.00 in the year are 18,000.00 in 90 days; the model knows of risk and silence by itself."""
    for share, potential in ((Fraction(3, 2), "high"), (Fraction(2, 5), "medium"), (Fraction(1), "medium")):
        there = int(1_800_000 * share * horizon_days / 90)
        below = {"high": "medium", "medium": "low" if share < 1 else "medium"}[potential]
        named = {"tier": Tier.B, "stage": stage, "horizon_days": horizon_days}
        assert weighed(range(0, 365, 5), expected=there, **named)[1] == potential
        assert weighed(range(0, 365, 5), expected=there - 1, **named)[1] == below


def test_what_a_model_expects_counts_only_beside_a_year_that_says_something():
    """Too few order days, too little money, or none at all."""
    assert weighed([1, 30], expected=10**12)[1] == "medium"
    assert weighed(range(0, 364, 7), amount=100, expected=999_999)[1] == "medium"
    assert weighed(range(0, 364, 7), amount=100, expected=1_000_000)[1] == "high"
    assert weighed(range(0, 364, 7), amount=0, expected=10**12)[1] == "medium"
    assert weighed(range(0, 364, 7), amount=10**16, expected=10**30)[1] == "high"


def test_size_and_frequency():
    assert weighed(range(0, 90, 7), amount=10_000_000)[3:] == ["large", "high"]
    assert weighed([0, 30, 60], amount=400_000)[3:] == ["medium", "medium"]
    assert weighed([0, 100], amount=499_999)[3:] == ["small", "low"]


@given(
    st.sets(st.integers(0, 400), max_size=12),
    st.sampled_from((Lifecycle.ACTIVE, Lifecycle.AT_RISK, Lifecycle.LOST)),
    st.sampled_from((Fraction(1, 2), Fraction(123_456_789, 10**9))),
    st.sampled_from((Fraction(3, 2), Fraction(1_000_000_007, 10**9))),
)
def test_the_potential_is_the_formulas(days, stage, share, rising):
    """Scalar and slow, in fractions."""
    rules = WorthRules(rising_from=rising, rising_from_amount=5_000, at_risk_share=share)
    inside = sorted(day for day in days if day < 365)
    potential = "medium"
    if len(inside) >= rules.order_days_needed:
        net = 100_000 * len(inside)
        rhythm = Fraction(inside[-1] - inside[0], len(inside) - 1)
        weight = {Lifecycle.AT_RISK: share, Lifecycle.LOST: Fraction(0)}.get(stage, Fraction(1))
        expected = Fraction(net, len(inside)) * 90 / rhythm * weight
        usual = Fraction(net * 90, 365)
        if expected >= rising * usual and expected >= 5_000 * 100:
            potential = "high"
        elif expected < rules.falling_below * usual:
            potential = "low"
    assert weighed(days, stage=stage, rules=rules)[1] == potential
