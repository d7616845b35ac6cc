"""Everyone, counted, as the API answers it."""

from dataclasses import replace
from datetime import date

from segment_api import summaries
from segmentation.answers import TierOverview, TierShare
from segmentation.fields import CustomerId

DAY = date(2026, 11, 22)
OVERVIEW = TierOverview(
    as_of=DAY,
    basis="net_revenue",
    total=10**20,
    cutoffs={"A": (10**20 - 1, CustomerId("C-1")), "B": None},
    tiers=[TierShare("A", 1, 10**20 - 1), TierShare("B", 0, 0), TierShare("C", 1, 1), TierShare("unrated", 2, -7)],
    pareto=[(0.0, 0.0), (1.0, 1.0)],
)


def test_amounts_of_the_ranking_keep_every_digit() -> None:
    shown = summaries.present_tiers(OVERVIEW, 2)
    assert shown.total == "1000000000000000000.00"
    last_in_a = shown.cutoffs["A"]
    assert last_in_a is not None
    assert (last_in_a.net_revenue, last_in_a.customer_id) == ("999999999999999999.99", "C-1")
    assert shown.cutoffs["B"] is None
    assert [part.net_revenue for part in shown.tiers] == ["999999999999999999.99", "0.00", "0.01", "-0.07"]
    assert [part.share for part in shown.tiers] == [1.0, 0.0, 1e-20, None]


def test_orders_are_counted_without_decimals() -> None:
    shown = summaries.present_tiers(replace(OVERVIEW, basis="orders", total=3), 2)
    assert (shown.total, shown.tiers[3].net_revenue) == ("3", "-7")


def test_where_nobody_is_ranked_there_are_no_shares() -> None:
    nobody = replace(OVERVIEW, total=0, tiers=[TierShare("A", 0, 0), TierShare("unrated", 2, -7)])
    assert [part.share for part in summaries.present_tiers(nobody, 2).tiers] == [None, None]
