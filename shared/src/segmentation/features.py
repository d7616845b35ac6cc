"""Day buckets + as_of -> what models know of a customer: one row of numbers each, for many customers at once.

Laws: nothing after `as_of` changes a feature; a customer's row depends on that customer's buckets alone, not on who
else is in the table, nor on the order of its rows; every feature is a finite number. So a model that was trained on a
file scores the same customer in the same way from the store.

Columns in, columns out, like `metrics.roll`; only DECISION_COLUMNS are read. In the formulas: an *order day* is a day
with an order, a *gap* the days between two order days that follow each other, net = gross revenue - returned amount,
money in units of the base currency; `_Nd` sums over the days as_of - N + 1 ... as_of, without it over all days up to
as_of. What is not known is 0, and a feature `knows_...` beside it says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt

from segmentation.fields import CustomerId
from segmentation.metrics import FAR_FUTURE, FAR_PAST, BucketTable

Numbers = npt.NDArray[np.float64]

FEATURES_VERSION: Final = 1
"""Grows with any change of a name, an order or a formula: a model is valid for one version."""
YEAR: Final = 365
_SUMMED: Final = (30, 90, 180, YEAR)
_HALF_LIVES: Final = (30, 90, 180)
_BLOCK: Final = 30
_SEASON: Final = 90

FEATURES: Final[Mapping[str, str]] = {
    "recency_days": "days; as_of - last order day",
    "tenure_days": "days; as_of - first order day",
    "orders": "orders",
    "order_days": "days; distinct order days",
    "active_months_365d": "0-12; blocks of 30 days, counted back from as_of, with an order among the last 12",
    "knows_gap": "0 or 1; there are two order days",
    "gap_mean_days": "days; (last - first order day) / (order days - 1)",
    "gap_last_days": "days; the last gap",
    "gap_longest_days": "days; the longest gap",
    "knows_gap_cv": "0 or 1; there are three order days",
    "gap_cv": "ratio; standard deviation of the gaps / their mean",
    "overdue": "ratio; recency / max(mean gap, 1), for a single order day recency / max(tenure, 1)",
    "orders_30d": "orders",
    "orders_90d": "orders",
    "orders_180d": "orders",
    "orders_365d": "orders",
    "net_30d": "money",
    "net_90d": "money",
    "net_180d": "money",
    "net_365d": "money",
    "net": "money",
    "gross": "money",
    "orders_decayed_30d": "orders; sum of orders * 2 ** -(age / 30), age = as_of - day",
    "orders_decayed_90d": "orders; the same with 90",
    "orders_decayed_180d": "orders; the same with 180",
    "gross_decayed_30d": "money; sum of gross * 2 ** -(age / 30)",
    "gross_decayed_90d": "money; the same with 90",
    "gross_decayed_180d": "money; the same with 180",
    "orders_trend": "-1-1; (orders of 90 days - of the 90 before) / their sum, 0 without any",
    "gross_trend": "-1-1; the same of gross",
    "order_value_mean": "money; gross / orders",
    "day_value_mean": "money; gross / order days",
    "day_value_cv": "ratio; standard deviation of the gross of order days / their mean",
    "day_value_largest": "money; the largest gross of an order day",
    "day_value_first": "money; gross of the first order day",
    "day_value_last": "money; gross of the last order day",
    "knows_season": "0 or 1; tenure of 365 days or more",
    "season_orders": "orders; on the days as_of - 364 ... as_of - 275: what the next 90 days were a year ago",
    "season_gross": "money; gross on those days",
    "returns_365d": "returns",
    "returned_share_365d": "ratio; returned amount / max(gross, one unit), at most 10",
    "return_rate": "ratio; returns / max(orders, 1)",
    "complaints_365d": "complaints",
    "complaint_rate": "ratio; complaints / max(orders, 1)",
    "knows_on_time": "0 or 1; an order of the 365 days has both a promised and a delivered instant",
    "on_time_rate_365d": "0-1; orders on time / orders with both instants",
    "knows_margin": "0 or 1; an order of the 365 days has a cost",
    "margin_365d": "-1-1; gross profit / max(gross, one unit), bounded",
}
"""Every feature in the order of the columns: its unit and its formula."""


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """The features of some customers on one day."""

    as_of: date
    customer_ids: Sequence[CustomerId]
    values: Numbers
    """A row a customer, a column a feature, in the order of FEATURES."""

    def column(self, name: str) -> Numbers:
        values: Numbers = self.values[:, COLUMNS[name]]
        return values


COLUMNS: Final[Mapping[str, int]] = {name: position for position, name in enumerate(FEATURES)}


def features(table: BucketTable, as_of: date, *, decimals: int) -> FeatureTable:
    """The features of some customers as of a day; `decimals` are the base currency's."""
    customers, today = len(table.customer_ids), as_of.toordinal()
    sizes = np.diff(np.append(table.starts, len(table.days)))
    owners = np.repeat(np.arange(customers), sizes)
    # Sums run through each customer's days in order, so that rounding is the same in any table. They mostly come so,
    # and a stable sort by one key is quick then.
    rows = np.argsort((owners << FAR_FUTURE.bit_length()) | table.days, kind="stable")
    rows = rows[(table.days[rows] > FAR_PAST) & (table.days[rows] <= today)]
    buckets = _Buckets(
        customers, owners=owners[rows], ages=today - table.days[rows], table=table, rows=rows, unit=10.0**decimals
    )
    ordered = buckets.ordered()
    found = {**_rhythm(ordered), **_volume(buckets), **_day_values(ordered), **_season(ordered), **_service(buckets)}
    values = np.column_stack([found[name] for name in FEATURES]) if customers else np.empty((0, len(FEATURES)))
    return FeatureTable(as_of, table.customer_ids, values)


class _Buckets:
    """Rows up to as_of by customer and day, as numbers."""

    def __init__(
        self,
        customers: int,
        *,
        owners: npt.NDArray[np.intp],
        ages: npt.NDArray[np.int64],
        table: BucketTable,
        rows: npt.NDArray[np.intp],
        unit: float,
    ) -> None:
        self.customers, self.owners, self.ages = customers, owners, ages
        self._table, self._rows, self._unit = table, rows, unit

    def count(self, name: str) -> Numbers:
        return self._table.columns[name][self._rows].astype(np.float64)

    def money(self, name: str) -> Numbers:
        return self.count(name) / self._unit

    def sums(self, values: Numbers, window: int | None = None) -> Numbers:
        """Per customer the sum of a value a row."""
        counted = values if window is None else np.where(self.ages < window, values, 0.0)
        return np.bincount(self.owners, counted, minlength=self.customers).astype(np.float64)

    def ordered(self) -> "_Buckets":
        """The order days alone."""
        some = self.count("orders") > 0
        return _Buckets(
            self.customers,
            owners=self.owners[some],
            ages=self.ages[some],
            table=self._table,
            rows=self._rows[some],
            unit=self._unit,
        )

    def firsts(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Who has a row, and where each of them has its first."""
        return np.unique(self.owners, return_index=True)


def _ratio(numerators: Numbers, denominators: Numbers, *, least: float) -> Numbers:
    return numerators / np.maximum(denominators, least)


def _spread(squares: Numbers, mean: Numbers, number: Numbers) -> Numbers:
    """Standard deviation / mean, from the sum of squared deviations."""
    deviation = np.sqrt(squares / np.maximum(number, 1))
    return np.divide(deviation, mean, out=np.zeros_like(mean), where=mean > 0)


def _rhythm(ordered: _Buckets) -> dict[str, Numbers]:
    customers, owners, ages = ordered.customers, ordered.owners, ordered.ages.astype(np.float64)
    days = ordered.sums(np.ones(len(ages)))
    recency, tenure, last_gap, longest = (np.zeros(customers) for _ in range(4))
    some, first = ordered.firsts()
    if len(some):
        tenure[some] = ages[first]
        recency[some] = np.minimum.reduceat(ages, first)
    same = owners[1:] == owners[:-1]
    gap_owner, gaps = owners[1:][same], (ages[:-1] - ages[1:])[same]
    several, first_gap = np.unique(gap_owner, return_index=True)
    if len(several):
        last_gap[several] = gaps[np.append(first_gap[1:], len(gaps)) - 1]
        longest[several] = np.maximum.reduceat(gaps, first_gap)
    number = np.maximum(days - 1, 0)
    mean = _ratio(tenure - recency, number, least=1)
    squares = np.bincount(gap_owner, (gaps - mean[gap_owner]) ** 2, minlength=customers).astype(np.float64)
    knows, knows_spread = number > 0, number > 1
    # Days are in order, so the order days of a block stand together.
    recent = ordered.ages < 12 * _BLOCK
    block_owners, blocks = owners[recent], ordered.ages[recent] // _BLOCK
    opens = np.ones(len(blocks), dtype=np.bool_)
    opens[1:] = (block_owners[1:] != block_owners[:-1]) | (blocks[1:] != blocks[:-1])
    return {
        "recency_days": recency,
        "tenure_days": tenure,
        "order_days": days,
        "active_months_365d": np.bincount(block_owners[opens], minlength=customers).astype(np.float64),
        "knows_gap": knows.astype(np.float64),
        "gap_mean_days": np.where(knows, mean, 0.0),
        "gap_last_days": last_gap,
        "gap_longest_days": longest,
        "knows_gap_cv": knows_spread.astype(np.float64),
        "gap_cv": np.where(knows_spread, _spread(squares, mean, number), 0.0),
        "overdue": _ratio(recency, np.where(knows, mean, tenure), least=1),
        "knows_season": (tenure >= YEAR).astype(np.float64),
    }


def _volume(buckets: _Buckets) -> dict[str, Numbers]:
    orders, gross = buckets.count("orders"), buckets.money("gross_revenue")
    net = gross - buckets.money("returned_amount")
    found = {"orders": buckets.sums(orders), "net": buckets.sums(net), "gross": buckets.sums(gross)}
    for window in _SUMMED:
        found[f"orders_{window}d"] = buckets.sums(orders, window)
        found[f"net_{window}d"] = buckets.sums(net, window)
    for half_life in _HALF_LIVES:
        weights = np.exp2(-buckets.ages / half_life)
        found[f"orders_decayed_{half_life}d"] = buckets.sums(orders * weights)
        found[f"gross_decayed_{half_life}d"] = buckets.sums(gross * weights)
    for name, values in (("orders_trend", orders), ("gross_trend", gross)):
        recent, both = buckets.sums(values, 90), buckets.sums(values, 180)
        found[name] = np.divide(2 * recent - both, both, out=np.zeros_like(both), where=both > 0)
    found["order_value_mean"] = _ratio(found["gross"], found["orders"], least=1)
    return found


def _day_values(ordered: _Buckets) -> dict[str, Numbers]:
    gross = ordered.money("gross_revenue")
    days = ordered.sums(np.ones(len(gross)))
    mean = _ratio(ordered.sums(gross), days, least=1)
    largest, earliest, latest = (np.zeros(ordered.customers) for _ in range(3))
    some, first = ordered.firsts()
    if len(some):
        largest[some] = np.maximum.reduceat(gross, first)
        earliest[some] = gross[first]
        latest[some] = gross[np.append(first[1:], len(gross)) - 1]
    return {
        "day_value_mean": mean,
        "day_value_cv": _spread(ordered.sums((gross - mean[ordered.owners]) ** 2), mean, days),
        "day_value_largest": largest,
        "day_value_first": earliest,
        "day_value_last": latest,
    }


def _season(ordered: _Buckets) -> dict[str, Numbers]:
    then = (ordered.ages < YEAR) & (ordered.ages >= YEAR - _SEASON)
    return {
        "season_orders": ordered.sums(np.where(then, ordered.count("orders"), 0.0)),
        "season_gross": ordered.sums(np.where(then, ordered.money("gross_revenue"), 0.0)),
    }


def _service(buckets: _Buckets) -> dict[str, Numbers]:
    year = {
        name: buckets.sums(buckets.count(name), YEAR)
        for name in ("returns", "complaints", "orders_on_time", "orders_with_promise", "orders_with_cost")
    }
    gross, returned, profit = (
        buckets.sums(buckets.money(name), YEAR) for name in ("gross_revenue", "returned_amount", "gross_profit")
    )
    orders = buckets.sums(buckets.count("orders"))
    return {
        "returns_365d": year["returns"],
        "returned_share_365d": np.minimum(_ratio(returned, gross, least=1), 10),
        "return_rate": _ratio(buckets.sums(buckets.count("returns")), orders, least=1),
        "complaints_365d": year["complaints"],
        "complaint_rate": _ratio(buckets.sums(buckets.count("complaints")), orders, least=1),
        "knows_on_time": (year["orders_with_promise"] > 0).astype(np.float64),
        "on_time_rate_365d": _ratio(year["orders_on_time"], year["orders_with_promise"], least=1),
        "knows_margin": (year["orders_with_cost"] > 0).astype(np.float64),
        "margin_365d": np.clip(_ratio(profit, gross, least=1), -1, 1),
    }
