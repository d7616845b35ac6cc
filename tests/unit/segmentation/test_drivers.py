"""Reasons of a churn probability are sentences: with the customer's own numbers, and true of none and of one, too."""

import pytest

from segmentation.drivers import GROUPS, driver
from segmentation.features import FEATURES

NOBODYS = dict.fromkeys(FEATURES, 0.0)
RAISES = "; compared with a typical customer, this raises the churn risk"
LOWERS = "; compared with a typical customer, this lowers the churn risk"


@pytest.mark.parametrize(
    ("code", "known", "said"),
    [
        ("silence", {"recency_days": 1}, "The last order was 1 day ago"),
        (
            "silence",
            {"recency_days": 132, "knows_gap": 1, "gap_mean_days": 40.4},
            "The last order was 132 days ago, and the mean gap between orders is 40 days",
        ),
        ("rhythm", {}, "It has ordered on one day only, so it has no rhythm yet"),
        (
            "rhythm",
            {"knows_gap": 1, "gap_last_days": 1, "gap_longest_days": 90},
            "The last gap between orders was 1 day, and the longest was 90 days",
        ),
        ("frequency", {}, "There were no orders in the last 365 days"),
        (
            "frequency",
            {"orders_365d": 1, "active_months_365d": 1},
            "There was 1 order in the last 365 days, in 1 of the last 12 months",
        ),
        (
            "trend",
            {"orders_90d": 2, "orders_180d": 7},
            "There were 2 orders in the last 90 days, after 5 in the 90 days before",
        ),
        ("revenue", {"net_365d": -12.5}, "Net revenue in the last 365 days was -12.50 CNY"),
        ("order_size", {"order_value_mean": 1234}, "The average order is worth 1,234.00 CNY"),
        ("tenure", {"tenure_days": 400}, "The first order was 400 days ago"),
        ("season", {}, "A year ago it was not a customer yet"),
        (
            "season",
            {"knows_season": 1, "season_orders": 1},
            "There was 1 order last year in the 90 days that now lie ahead",
        ),
        ("returns", {}, "There were no returns in the last 365 days"),
        (
            "returns",
            {"returns_365d": 2, "returned_share_365d": 0.051},
            "There were 2 returns in the last 365 days, worth 5 % of revenue",
        ),
        ("complaints", {"complaints_365d": 1}, "There was 1 complaint in the last 365 days"),
        ("punctuality", {}, "It is not known whether its orders came on time"),
        (
            "punctuality",
            {"knows_on_time": 1, "on_time_rate_365d": 0.95},
            "95 % of the orders of the last 365 days came on time",
        ),
        ("margin", {}, "Its costs are not known"),
        ("margin", {"knows_margin": 1, "margin_365d": -0.2}, "The margin of the last 365 days was -20 %"),
    ],
)
def test_a_reason_is_a_plain_sentence(code: str, known: dict[str, float], said: str) -> None:
    assert driver(code, 0.5, NOBODYS | known, "CNY").text("en") == said + RAISES
    assert driver(code, -0.5, NOBODYS | known, "CNY").text("en") == said + LOWERS


@pytest.mark.parametrize(
    ("code", "known", "said"),
    [
        (
            "silence",
            {"recency_days": 132, "knows_gap": 1, "gap_mean_days": 40.4},
            "上次下单距今 132 天, 平均下单间隔 40 天",
        ),
        ("returns", {"returns_365d": 2, "returned_share_365d": 0.051}, "近 365 天退货 2 次, 占收入 5 %"),
        ("returns", {}, "近 365 天退货 0 次"),
        ("season", {"knows_season": 1, "season_orders": 3}, "未来 90 天在去年同期下单 3 次"),
    ],
)
def test_a_reason_is_a_plain_sentence_in_chinese(code: str, known: dict[str, float], said: str) -> None:
    reason = driver(code, 0.5, NOBODYS | known, "CNY")
    assert reason.text("zh") == f"{said}; 与典型客户相比, 这使流失风险升高"


@pytest.mark.parametrize("code", GROUPS)
@pytest.mark.parametrize("known", [0.0, 1.0])
def test_every_reason_speaks_both_languages(code: str, known: float) -> None:
    reason = driver(code, 1.0, dict.fromkeys(FEATURES, known), "CNY")
    assert reason.text("en").endswith(RAISES)
    assert not reason.text("en")[0].islower()
    assert not reason.text("zh").isascii()
