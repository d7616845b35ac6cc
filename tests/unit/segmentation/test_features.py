"""Features by hand, and the laws of docs: finite, of the customer alone, blind to what comes later."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.buckets import DayBucket
from segmentation.features import COLUMNS, FEATURES, features
from segmentation.fields import CustomerId
from segmentation.metrics import DECISION_COLUMNS, BucketTable

AS_OF = date(2026, 6, 30)
Buckets = dict[CustomerId, list[tuple[date, DayBucket]]]


def ago(days: int) -> date:
    return AS_OF - timedelta(days=days)


def of_one(*buckets: tuple[date, DayBucket]) -> dict[str, float]:
    found = features(BucketTable.of({CustomerId("C"): list(buckets)}), AS_OF, decimals=2)
    return {name: float(found.column(name)[0]) for name in FEATURES}


def ordered(amount: int = 10_000, orders: int = 1, **others: int) -> DayBucket:
    return DayBucket(orders=orders, gross_revenue=amount, **others)


def test_nobody_has_no_rows():
    assert features(BucketTable.of({}), AS_OF, decimals=2).values.shape == (0, len(FEATURES))


def test_a_customer_without_anything_has_zeros():
    assert set(of_one().values()) == {0.0}


def test_a_rhythm_by_hand():
    found = of_one((ago(100), ordered()), (ago(70), ordered(20_000, 2)), (ago(30), ordered(30_000)))
    assert found["recency_days"] == 30
    assert found["tenure_days"] == 100
    assert (found["orders"], found["order_days"]) == (4, 3)
    assert found["gap_mean_days"] == 35
    assert (found["gap_last_days"], found["gap_longest_days"]) == (40, 40)
    assert found["gap_cv"] == pytest.approx(5 / 35)
    assert found["overdue"] == pytest.approx(30 / 35)
    assert found["active_months_365d"] == 3
    assert (found["knows_gap"], found["knows_gap_cv"], found["knows_season"]) == (1, 1, 0)


def test_money_by_hand():
    found = of_one(
        (ago(100), ordered()),
        (ago(29), ordered(30_000, 2)),
        (ago(10), DayBucket(returns=1, returned_amount=5_000)),
    )
    assert (found["gross"], found["net"]) == (400, 350)
    assert (found["net_30d"], found["net_90d"], found["net_180d"]) == (250, 250, 350)
    assert (found["orders_30d"], found["orders_90d"], found["orders_180d"]) == (2, 2, 3)
    assert found["orders_trend"] == pytest.approx(1 / 3)
    assert found["gross_trend"] == pytest.approx(200 / 400)
    assert found["order_value_mean"] == pytest.approx(400 / 3)
    assert (found["day_value_mean"], found["day_value_largest"]) == (200, 300)
    assert (found["day_value_first"], found["day_value_last"]) == (100, 300)
    assert found["day_value_cv"] == pytest.approx(0.5)
    assert found["orders_decayed_30d"] == pytest.approx(2 ** (-100 / 30) + 2 * 2 ** (-29 / 30))
    assert found["gross_decayed_90d"] == pytest.approx(100 * 2 ** (-100 / 90) + 300 * 2 ** (-29 / 90))
    assert found["returned_share_365d"] == pytest.approx(50 / 400)
    assert found["return_rate"] == pytest.approx(1 / 3)


def test_a_window_of_n_days_begins_n_minus_1_days_ago():
    assert of_one((ago(29), ordered()))["orders_30d"] == 1
    assert of_one((ago(30), ordered()))["orders_30d"] == 0
    assert of_one((ago(364), ordered()))["orders_365d"] == 1
    assert of_one((ago(365), ordered()))["orders_365d"] == 0


def test_the_season_is_what_the_next_ninety_days_were_a_year_ago():
    assert [of_one((ago(days), ordered()))["season_orders"] for days in (274, 275, 364, 365)] == [0, 1, 1, 0]
    assert of_one((ago(365), ordered()))["knows_season"] == 1


def test_what_is_not_known_is_told_apart_from_zero():
    bare = of_one((ago(1), ordered()))
    assert (bare["knows_on_time"], bare["on_time_rate_365d"], bare["knows_margin"]) == (0, 0, 0)
    late = of_one((ago(1), ordered(orders_with_promise=1, orders_with_cost=1, gross_profit=-2_500)))
    assert (late["knows_on_time"], late["on_time_rate_365d"]) == (1, 0)
    assert (late["knows_margin"], late["margin_365d"]) == (1, -0.25)


def test_everything_on_one_day_has_no_rhythm():
    found = of_one((AS_OF, ordered(orders=5)))
    assert (found["recency_days"], found["tenure_days"], found["knows_gap"], found["overdue"]) == (0, 0, 0, 0)


def test_money_is_in_units_whatever_the_decimals():
    table = BucketTable.of({CustomerId("C"): [(ago(1), ordered(1_500))]})
    told = [features(table, AS_OF, decimals=decimals).column("gross")[0] for decimals in (0, 2, 3)]
    assert told == [1_500, 15, 1.5]


def test_numbers_beyond_64_bits_are_read():
    assert of_one((ago(1), ordered(10**24)))["gross"] == pytest.approx(1e22)


def test_the_columns_of_decisions_are_enough():
    table = BucketTable.of({CustomerId("C"): [(ago(3), ordered()), (ago(1), ordered(500, returns=1))]})
    fewer = BucketTable(
        table.customer_ids, table.starts, table.days, {name: table.columns[name] for name in DECISION_COLUMNS}
    )
    assert (features(fewer, AS_OF, decimals=2).values == features(table, AS_OF, decimals=2).values).all()


def test_each_feature_tells_its_unit_and_formula():
    assert list(COLUMNS) == list(FEATURES)
    assert all(meaning for meaning in FEATURES.values())


_amounts = st.integers(0, 10**9)
_buckets = st.builds(
    DayBucket,
    orders=st.integers(0, 4),
    gross_revenue=_amounts,
    gross_profit=st.integers(-(10**9), 10**9),
    orders_with_cost=st.integers(0, 4),
    orders_on_time=st.integers(0, 2),
    orders_with_promise=st.integers(2, 4),
    returns=st.integers(0, 3),
    returned_amount=_amounts,
    complaints=st.integers(0, 3),
)
_days = st.dictionaries(st.integers(-40, 800), _buckets, max_size=8)
_everyone = st.dictionaries(st.text("abc", min_size=1, max_size=3).map(CustomerId), _days, max_size=5)


def table(
    everyone: dict[CustomerId, dict[int, DayBucket]], *, until: int = -(10**6), backwards: bool = False
) -> BucketTable:
    buckets: Buckets = {}
    for customer_id, days in everyone.items():
        kept = [(ago(age), bucket) for age, bucket in days.items() if age >= until]
        buckets[customer_id] = kept[::-1] if backwards else kept
    return BucketTable.of(buckets)


@given(_everyone)
def test_nothing_after_as_of_changes_a_feature(everyone):
    blind, seeing = (features(table(everyone, until=until), AS_OF, decimals=2).values for until in (0, -100))
    assert (blind == seeing).all()


@given(_everyone)
def test_a_row_depends_on_the_customers_own_buckets_alone(everyone):
    together = features(table(everyone), AS_OF, decimals=2)
    for row, customer_id in enumerate(together.customer_ids):
        alone = features(table({customer_id: everyone[customer_id]}, backwards=True), AS_OF, decimals=2)
        assert (alone.values[0] == together.values[row]).all()


@given(_everyone)
def test_every_feature_is_a_finite_number(everyone):
    found = features(table(everyone), AS_OF, decimals=2)
    assert found.values.shape == (len(everyone), len(FEATURES))
    assert np.isfinite(found.values).all()
