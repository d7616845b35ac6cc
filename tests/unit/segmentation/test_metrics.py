"""Rolling many customers at once; what the figures mean is in tests/spec."""

import sys
from datetime import date, timedelta
from fractions import Fraction

import numpy as np
import pytest

from segmentation.buckets import DayBucket
from segmentation.fields import CustomerId
from segmentation.metrics import FAR_FUTURE, WINDOWS, BucketTable, column, roll

A, B, C = (CustomerId(name) for name in "ABC")
DAY = date(2026, 3, 1)


def test_nobody_has_no_figures():
    rolled = roll(BucketTable.of({}), DAY)
    assert len(rolled.customer_ids) == len(rolled.lifetime_orders) == len(rolled.windows["7d"]["orders"]) == 0


def test_customers_do_not_mix():
    table = BucketTable.of(
        {A: [(DAY, DayBucket(orders=1))], B: [], C: [(DAY, DayBucket(orders=2)), (DAY, DayBucket(orders=4))]}
    )
    rolled = roll(table, DAY)
    assert rolled.windows["7d"]["orders"].tolist() == [1, 0, 6]
    assert rolled.lifetime_orders.tolist() == [1, 0, 6]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], np.int64),
        ([-(2**50), 2**50], np.int64),
        ([2**62, 2**62], object),
        ([2**63], object),
        ([-(2**64), 0], object),
    ],
)
def test_columns_are_as_wide_as_their_sums(values, kind):
    assert column(values).dtype == kind


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("power", [52, 60, 61, 62, 63, 64, 200])
def test_sums_of_columns_are_exact(power, sign):
    values = [sign * 2**power, sign * (2**power - 1), sign]
    assert int(column(values).sum()) == sign * 2 ** (power + 1)


def test_fractions_stay_exact():
    rolled = roll(BucketTable.of({A: [(DAY, DayBucket(feedbacks=1, feedback_total=Fraction(1, 10)))] * 3, B: []}), DAY)
    assert rolled.windows["7d"]["feedback_total"].tolist() == [Fraction(3, 10), 0]
    assert rolled.describe(0, decimals=2)["windows"]["7d"]["feedback_score"] == 0.1
    assert rolled.describe(1, decimals=2)["windows"]["7d"]["feedback_score"] is None


def test_a_rate_is_the_nearest_double():
    """Also where numerator and denominator exceed what a double holds."""
    big = 3 * 10**30
    rolled = roll(BucketTable.of({A: [(DAY, DayBucket(orders=big, returns=10**30))]}), DAY)
    assert rolled.describe(0, decimals=2)["windows"]["7d"]["return_rate"] == 1 / 3


@pytest.mark.parametrize(
    ("grams", "kilograms"),
    [(0, 0.0), (1, 0.001), (12_345, 12.345), (10**400, sys.float_info.max), (3 * 10**20 + 1, 3e17)],
)
def test_weights_are_the_nearest_double(grams, kilograms):
    rolled = roll(BucketTable.of({A: [(DAY, DayBucket(weight_grams=grams))]}), DAY)
    assert rolled.describe(0, decimals=2)["windows"]["7d"]["weight_kg"] == kilograms


@pytest.mark.parametrize("name", WINDOWS)
def test_a_window_says_when_it_changes_next(name):
    length = timedelta(days=WINDOWS[name])
    table = BucketTable.of({A: [(DAY, DayBucket(orders=1))], B: []})

    def next_change(as_of: date) -> list[int]:
        changes: list[int] = roll(table, as_of).changes_on[name].tolist()
        return changes

    assert next_change(DAY - timedelta(days=1)) == [DAY.toordinal(), FAR_FUTURE]
    assert next_change(DAY) == [(DAY + length).toordinal(), FAR_FUTURE]
    assert next_change(DAY + length - timedelta(days=1)) == [(DAY + length).toordinal(), FAR_FUTURE]
    assert next_change(DAY + length) == [FAR_FUTURE, FAR_FUTURE]


def test_the_names_of_the_figures():
    described = roll(BucketTable.of({A: []}), DAY).describe(0, decimals=2)
    assert list(described["windows"]) == ["7d", "30d", "90d", "365d"]
    assert set(described["windows"]["7d"]) == {
        *("orders", "gross_revenue", "returned_amount", "net_revenue", "gross_profit", "items", "parcels", "weight_kg"),
        *("returns", "complaints", "return_rate", "complaint_rate", "average_order_value", "on_time_rate"),
        "feedback_score",
    }
    assert set(described["lifetime"]) == {
        *("first_order_day", "last_order_day", "orders", "net_revenue", "recency_days", "mean_days_between_orders"),
    }
