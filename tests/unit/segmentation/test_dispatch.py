"""Dispatch: the worked example of the documentation, words, scales, and what is said of rules that contradict."""

from __future__ import annotations

import doctest
import re
from fractions import Fraction
from importlib import resources

import pytest

from segmentation import dispatch
from segmentation import policy as policies
from segmentation.dispatch import STANDARD_DISPATCH, DispatchReason, Scale, WaitingOrder, on_scale, prioritise
from segmentation.errors import PolicyInvalid
from segmentation.segments import Lifecycle
from segmentation.tiering import Tier

DEFAULT = resources.files("segmentation").joinpath("policies/default.toml").read_text()
HOUR = 3_600_000_000
SECTION = DEFAULT[DEFAULT.index("[dispatch]") : DEFAULT.index("# --- segments")]


def order(order_id: str, tier: Tier = Tier.A, level: int = 95, **fields: object) -> WaitingOrder:
    return WaitingOrder(order_id, "c", tier, "vip", level, Lifecycle.ACTIVE, **fields)  # type: ignore[arg-type]


def ids(*orders: WaitingOrder) -> list[str]:
    return [orders[position].order_id for position in prioritise(orders, STANDARD_DISPATCH, at=0).positions]


def test_the_examples_in_the_module():
    assert doctest.testmod(dispatch) == doctest.TestResults(failed=0, attempted=3)


def test_the_shipped_section_says_what_counts_without_it():
    assert policies.parse(DEFAULT, version=1).dispatch == STANDARD_DISPATCH
    assert policies.parse(DEFAULT.replace(SECTION, ""), version=1).dispatch == STANDARD_DISPATCH
    assert STANDARD_DISPATCH.patience_seconds == Fraction(356, 10) * 3_600


@pytest.mark.parametrize(
    ("orders", "first"),
    [
        ([order("1", waiting_since=-HOUR), order("2")], "1"),
        ([order("1", promised_at=HOUR), order("2", promised_at=2 * HOUR)], "1"),
        ([order("1", promised_at=-1), order("2", promised_at=0)], "1"),
        ([order("1", promised_at=30 * HOUR), order("2")], "1"),
        ([order("1", promised_at=30 * HOUR), order("2", promised_at=40 * HOUR)], "1"),
        ([order("1", level=96), order("2", level=95)], "1"),
        ([order("1", warned=True), order("2")], "1"),
        ([order("1"), order("2")], "1"),
        ([order("é"), order("z")], "z"),
        ([order("1", waiting_since=HOUR), order("2", waiting_since=-1_000_000)], "2"),
        ([order("1", waiting_since=-999_999), order("2", waiting_since=-1)], "1"),
    ],
)
def test_what_goes_first_of_one_tier(orders, first):
    assert ids(*orders)[0] == first
    assert ids(*reversed(orders))[0] == first


def test_the_greater_risk_counts_and_says_which():
    rules = policies.parse(DEFAULT.replace("churn_warning = 4", "churn_warning = 3"), version=1).dispatch

    def risk(lifecycle: Lifecycle | None, *, warned: bool) -> list[DispatchReason]:
        one = WaitingOrder("1", "c", Tier.A, "vip", 95, lifecycle, warned=warned)
        return [
            each for each in prioritise([one], rules, at=0).reasons[0] if each.code in ("lifecycle", "churn_warning")
        ]

    assert risk(Lifecycle.ACTIVE, warned=False) == []
    assert risk(Lifecycle.AT_RISK, warned=True) == [DispatchReason("lifecycle", "at_risk", 4_000)]
    assert risk(Lifecycle.WON_BACK, warned=True) == [DispatchReason("churn_warning", "true", 3_000)]
    assert risk(Lifecycle.WON_BACK, warned=False) == [DispatchReason("lifecycle", "won_back", 2_000)]
    assert risk(None, warned=False) == []


@pytest.mark.parametrize(
    ("reason", "en", "zh"),
    [
        (DispatchReason("tier", "A", 60_000), "tier A (+60)", "等级 A (+60)"),
        (DispatchReason("service_level", "vip", 9_500), "service level VIP (+9.5)", "服务等级 VIP (+9.5)"),
        (DispatchReason("service_level", "old", 0), "service level old (+0)", "服务等级 old (+0)"),
        (DispatchReason("promise", "59", 12_000), "promised in 0 min (+12)", "距承诺时间 0 分钟 (+12)"),
        (DispatchReason("promise", "86400", 0), "promised in 1 d (+0)", "距承诺时间 1 天 (+0)"),
        (DispatchReason("late", "-5460", 15_000), "late by 1 h 31 min (+15)", "已超过承诺时间 1 小时 31 分钟 (+15)"),
        (DispatchReason("waiting", "3600", 2_505), "waiting for 1 h (+2.505)", "已等待 1 小时 (+2.505)"),
        (DispatchReason("churn_warning", "true", 4_000), "risk: churn warning (+4)", "风险: 流失预警 (+4)"),
        (
            DispatchReason("minimum_share", "C:0.125"),
            "moved up: tier C has at least 12.5 % of the places",
            "提前: 等级 C 至少占 12.5 % 的位置",
        ),
        (
            DispatchReason("minimum_share", "B:0.2"),
            "moved up: tier B has at least 20 % of the places",
            "提前: 等级 B 至少占 20 % 的位置",
        ),
    ],
)
def test_reasons_in_words(reason, en, zh):
    assert (reason.text("en", {"vip": "VIP"}), reason.text("zh", {"vip": "VIP"})) == (en, zh)


def test_one_task_outweighs_nine_of_the_band_below():
    """The sum of VROOM's priorities then prefers one order of A to nine of B."""
    values = [on_scale(priority, Scale.VROOM, STANDARD_DISPATCH) for priority in (100, 60, 59, 30, 29, 0)]
    assert values == [100, 100, 10, 10, 1, 1]
    assert values[1] > 9 * values[2]
    assert values[3] > 9 * values[4]


ERRORS = [
    ("level = 10 ", "level = 101 ", "[dispatch]: level is 101; 0 to 100 is expected"),
    ("promise = 12", 'promise = "12"', "[dispatch]: promise is '12'; a whole number from 0 to 100 is expected"),
    ("promise_hours = 24", "promise_hours = 0", "[dispatch]: promise_hours is 0; 1 to 8760 is expected"),
    ("late = 3 ", "lateness = 3 ", "[dispatch]: lateness is not understood; correct or remove it"),
    (
        '"2.5"',
        '"0"',
        '[dispatch]: ageing_per_hour is "0.0"; "0.1" to "100", with at most three decimals, is expected: ',
    ),
    ('"2.5"', "2.5", "[dispatch]: ageing_per_hour is 2.5; a text in quotes is expected"),
    ('"2.5"', '"0.3333"', '[dispatch]: ageing_per_hour is "0.3333"; "0.1" to "100", with at most three decimals'),
    (
        "\nA = 60",
        "\nA = 59",
        "[dispatch.tiers]: A is 59, so that A would not go first; more than 59 is expected",
    ),
    ("\nC = 0", "\nC = 31", "[dispatch.tiers]: A is 60, so that A would not go first; more than 60 is expected"),
    ("\nB = 30\nC = 0", "\nB = 10\nC = 20", "[dispatch.tiers]: B is 10; at least 20, the points of C, is expected"),
    ("\nunrated = 0", "\nd = 0", "[dispatch.tiers]: d is not understood; correct or remove it"),
    ("won_back = 2", "won_back = -1", "[dispatch.risk]: won_back is -1; 0 to 100 is expected"),
    ("dormant = 4", "sleepy = 4", "[dispatch.risk]: sleepy is not understood; correct or remove it"),
    ('C = "0.08"', 'C = "0"', "[dispatch.minimum_shares]: C is '0'; a share in quotes is expected, such as \"0.80\""),
    (
        'A = "0.40"',
        'A = "0.64"',
        "[dispatch.minimum_shares]: A, B, C and unrated are 0.91 together; at most 0.9 is expected",
    ),
    ("[dispatch.risk]", "[dispatch.risks]", "[dispatch]: risks is not understood; correct or remove it"),
]


@pytest.mark.parametrize(("old", "new", "expected"), ERRORS)
def test_rules_that_contradict_are_refused_by_name(old, new, expected):
    assert SECTION.count(old) == 1
    with pytest.raises(PolicyInvalid, match=f"^{re.escape(expected)}"):
        policies.parse(DEFAULT.replace(SECTION, SECTION.replace(old, new)), version=1)
