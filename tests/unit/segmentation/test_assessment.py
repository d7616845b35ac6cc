"""Snapshots and announcements: what is carried over, what is new, what is said."""

from datetime import UTC, date, datetime, timedelta
from importlib import resources

import pytest
from msgspec import structs

from segmentation import policy as policies
from segmentation.announcements import announce
from segmentation.assessment import Snapshot, assess, ranked_value
from segmentation.buckets import DayBucket
from segmentation.fields import CustomerId
from segmentation.metrics import BucketTable, Metrics, roll
from segmentation.tiering import Basis, Tier

POLICY = policies.parse(resources.files("segmentation").joinpath("policies/default.toml").read_text(), version=3)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = CustomerId("A"), CustomerId("B")
DAY = date(2026, 3, 1)


def figures(as_of: date, **orders: int) -> Metrics:
    """Customers with so many orders of 10.00, each on `DAY`."""
    return roll(
        BucketTable.of(
            {
                CustomerId(name): [(DAY, DayBucket(orders=count, gross_revenue=1_000 * count))] if count else []
                for name, count in orders.items()
            }
        ),
        as_of,
    )


def assessed(as_of: date, previous: Snapshot | None = None, tier: Tier | None = None) -> Snapshot:
    known = {A: previous} if previous else {}
    (snapshot,) = assess(figures(as_of, A=1), known, POLICY, now=NOW, computed={A: tier} if tier else None)
    return snapshot


def test_a_first_assessment_is_unrated_until_everyone_is_ranked():
    snapshot = assessed(DAY)
    assert (snapshot.tier, snapshot.tier_since, snapshot.value) == (Tier.UNRATED, DAY, 1_000)
    assert (snapshot.segment, snapshot.segment_since, snapshot.service_level) == ("newcomer", DAY, "welcome")
    assert (snapshot.policy_version, snapshot.updated_at, snapshot.as_of) == (3, NOW, DAY)


def test_assessing_again_with_nothing_new_changes_nothing():
    first = assessed(DAY, tier=Tier.A)
    assert assessed(DAY, first) == first
    assert assessed(DAY, first, Tier.A) == first


def test_since_is_the_day_of_the_change():
    first = assessed(DAY, tier=Tier.C)
    second = assessed(DAY + timedelta(days=3), first, Tier.B)
    assert (second.tier, second.tier_since, second.segment_since) == (
        Tier.B,
        DAY + timedelta(days=3),
        DAY + timedelta(days=3),
    )
    third = assessed(DAY + timedelta(days=4), second)
    assert (third.tier_since, third.segment_since) == (second.tier_since, second.segment_since)


def test_a_snapshot_in_grace_is_due_when_the_grace_ends():
    first = assessed(DAY, tier=Tier.A)
    second = assessed(DAY + timedelta(days=1), first, Tier.B)
    assert (second.tier, second.due_on) == (Tier.A, DAY + timedelta(days=15))
    third = assessed(DAY + timedelta(days=15), second)
    assert (third.tier, third.tier_since) == (Tier.B, DAY + timedelta(days=15))


def test_everyone_is_assessed_in_one_go_as_alone():
    both = assess(figures(DAY, A=1, B=0), {}, POLICY, now=NOW, computed={A: Tier.A})
    alone = [
        *assess(figures(DAY, A=1), {}, POLICY, now=NOW, computed={A: Tier.A}),
        *assess(figures(DAY, B=0), {}, POLICY, now=NOW),
    ]
    assert both == alone
    assert assess(figures(DAY), {}, POLICY, now=NOW) == []


@pytest.mark.parametrize(
    ("bucket", "basis", "value"),
    [
        (DayBucket(orders=2, gross_revenue=5, returned_amount=7), Basis.NET_REVENUE, -2),
        (DayBucket(orders=2, gross_revenue=5), Basis.ORDERS, 2),
        (DayBucket(orders=2, gross_profit=-5, orders_with_cost=1), Basis.GROSS_PROFIT, -5),
        (DayBucket(orders=2, gross_revenue=5), Basis.GROSS_PROFIT, None),
    ],
)
def test_what_a_customer_is_ranked_by(bucket, basis, value):
    assert ranked_value(roll(BucketTable.of({A: [(DAY, bucket)]}), DAY), basis, 0) == value


def test_only_tier_segment_level_and_warning_are_announced():
    before = assessed(DAY, tier=Tier.A)
    same = structs.replace(before, value=5, lifecycle=before.lifecycle, updated_at=NOW + timedelta(1))
    assert announce({A: before}, [same]) == []
    for change in ({"tier": Tier.B}, {"segment": "core"}, {"service_level": "stable"}, {"churn_warning": True}):
        after = structs.replace(before, **change)
        (announced,) = announce({A: before}, [after])
        assert (announced.before, announced.after) == (before, after)


def test_an_announcement_says_both_sides_reasons_and_versions():
    before = assessed(DAY, tier=Tier.C)
    after = assessed(DAY + timedelta(days=1), before, Tier.A)
    (change,) = announce({A: before}, [after])
    assert change.payload() == {
        "customer_id": "A",
        "as_of": "2026-03-02",
        "before": {"value_tier": "C", "segment": "newcomer", "service_level": "standard", "churn_warning": False},
        "after": {"value_tier": "A", "segment": "strategic", "service_level": "vip", "churn_warning": False},
        "reasons": ["tier A", "tier A"],
        "versions": {"policy": 3, "model": None},
    }


def test_the_first_that_is_heard_of_a_customer_is_announced():
    (change,) = announce({}, [assessed(DAY)])
    assert change.payload()["before"] is None
