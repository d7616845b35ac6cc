"""What a model says, as it is kept, and when that is worth a warning."""

from datetime import date, timedelta
from fractions import Fraction

import numpy as np
import pytest
from tests.support.models import a_model

from segmentation.buckets import DayBucket
from segmentation.errors import PolicyInvalid
from segmentation.fields import CustomerId
from segmentation.metrics import BucketTable
from segmentation.risk import Outlook, Outlooks, RiskRules, look_ahead, parse_risk, warned
from segmentation.segments import STAGES, Lifecycle
from segmentation.toml_tables import TomlTable

TODAY = date(2026, 3, 1)
SILENT, NOBODY = CustomerId("silent"), CustomerId("nobody")


def table(days: int, **bucket: int) -> BucketTable:
    """A customer whose last order was so many days ago, and one without any."""
    ordered = DayBucket(orders=1, gross_revenue=10_000, **bucket)
    return BucketTable.of({SILENT: [(TODAY - timedelta(days=days), ordered)], NOBODY: []})


def ahead(buckets: BucketTable) -> Outlooks:
    outlooks = look_ahead(a_model(), buckets, TODAY, decimals=2)
    assert outlooks is not None
    return outlooks


def stages(*names: Lifecycle) -> np.ndarray:
    return np.array([STAGES.index(name) for name in names])


def test_without_a_model_nothing_is_said():
    assert look_ahead(None, table(0), TODAY, decimals=2) is None


def test_what_is_kept_is_whole_percents_and_minor_units():
    """31 : 30.7 are 50.24 %; 90 of 365 days of 100.00 are 24.657..., and one unit."""
    outlooks = ahead(table(30))
    assert outlooks.outlook(0) == Outlook(0.5, "content", 1.0)
    assert outlooks.expected[0] == 2_566
    assert [each.tolist() for each in outlooks.churn] == [[50, 0], [100, 0]]
    assert [each.code for each in outlooks.drivers(0)] == ["silence"]


def test_nothing_is_said_of_a_customer_without_an_order():
    assert ahead(table(0)).outlook(1) is None


def test_nobody_at_all_can_be_asked_about():
    outlooks = ahead(BucketTable.of({}))
    assert len(outlooks.known) == len(outlooks.expected) == 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_model_warns_of_whom_can_still_be_kept(stage):
    """The other customer, whom it does not know, is warned of by the lifecycle alone."""
    outlooks = ahead(table(30))
    kept = stage in {Lifecycle.NEW, Lifecycle.ACTIVE, Lifecycle.WON_BACK, Lifecycle.AT_RISK}
    at_risk = stage is Lifecycle.AT_RISK
    for warn_from, likely in (("0.5", True), ("0.500000001", False), ("0.000000001", True), ("1", False)):
        found = warned(stages(stage, stage), outlooks, RiskRules(Fraction(warn_from)))
        assert found.tolist() == [kept and likely, at_risk]
    assert warned(stages(stage), None, RiskRules()).tolist() == [at_risk]


def test_the_section_may_be_left_out():
    assert parse_risk(TomlTable({}, "[risk]")) == RiskRules(Fraction(7, 10))
    assert parse_risk(TomlTable({"warn_from": "0.55"}, "[risk]")).warn_from == Fraction(11, 20)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"warn_from": 0.7}, "warn_from"),
        ({"warn_from": "70"}, "warn_from is '70'"),
        ({"warn_from": "0"}, "warn_from is '0'"),
        ({"warn": "0.7"}, "warn is not understood"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_field(section, said):
    with pytest.raises(PolicyInvalid, match=r"^\[risk\]: ") as refused:
        parse_risk(TomlTable(section, "[risk]"))
    assert said in str(refused.value)
