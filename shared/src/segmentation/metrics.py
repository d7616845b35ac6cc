"""Day buckets + as_of -> rolling windows and lifetime figures, for many customers at once.

Laws: a window of n days covers as_of - n + 1 ... as_of; lifetime figures count days up to as_of;
every figure is computed afresh from the buckets, exactly, whatever the size of the numbers.

Columns in, columns out: a `BucketTable` holds the buckets of any number of customers as arrays, a
`Metrics` one array a figure with a row a customer. Integers that fit are int64, others Python's.
"""

import operator
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from segmentation.buckets import DayBucket
from segmentation.fields import CustomerId
from segmentation.money import format_minor, round_half_even

WINDOWS: Final[Mapping[str, int]] = {"7d": 7, "30d": 30, "90d": 90, "365d": 365}
_TOO_HEAVY: Final = int(sys.float_info.max) * 1_000
DECISION_COLUMNS: Final = (
    "orders", "gross_revenue", "gross_profit", "orders_with_cost", "orders_on_time", "orders_with_promise",
    "returns", "returned_amount", "complaints",
)  # fmt: skip
"""What segments, tiers and service levels are decided by."""
_SAFE_MAGNITUDE: Final = 2.0**62
FAR_PAST: Final = 0
FAR_FUTURE: Final = date.max.toordinal()
"""Days are ordinals in arrays (`date.toordinal`); these two stand for never."""
_DAY_BITS: Final = FAR_FUTURE.bit_length()

Column = npt.NDArray[Any]
"""One value a row: int64, or Python objects where int64 could overflow."""
Days = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BucketTable:
    """The day buckets of some customers, grouped by customer, each customer's in order of day."""

    customer_ids: Sequence[CustomerId]
    starts: npt.NDArray[np.int64]
    """Where each customer's rows begin. Each has an empty row first, so nobody is without one."""
    days: Days
    columns: Mapping[str, Column]
    """By the field names of `DayBucket`: all of them to show figures, DECISION_COLUMNS to decide by them."""

    @classmethod
    def of(cls, buckets: Mapping[CustomerId, Iterable[tuple[date, DayBucket]]]) -> "BucketTable":
        empty = DayBucket()
        starts: list[int] = []
        days: list[int] = []
        rows: list[DayBucket] = []
        for customer_buckets in buckets.values():
            starts.append(len(days))
            days.append(FAR_PAST)
            rows.append(empty)
            for day, bucket in sorted(customer_buckets, key=operator.itemgetter(0)):
                days.append(day.toordinal())
                rows.append(bucket)
        values: Iterable[tuple[Any, ...]] = zip(*rows, strict=True) if rows else ((),) * len(DayBucket._fields)
        return cls(
            list(buckets),
            np.array(starts, dtype=np.int64),
            np.array(days, dtype=np.int64),
            {
                name: _fractions(one) if name == "feedback_total" else column(one)
                for name, one in zip(DayBucket._fields, values, strict=True)
            },
        )

    @classmethod
    def of_columns(
        cls, customer_ids: Sequence[CustomerId], owners: Days, days: Days, columns: Mapping[str, Days]
    ) -> "BucketTable":
        """From columns with a row a bucket, in any order; `owners` are positions in the customer ids."""
        everyone = np.arange(len(customer_ids), dtype=np.int64)
        nothing = np.zeros(len(everyone), dtype=np.int64)
        grouped = np.concatenate([everyone, owners])
        dated = np.concatenate([nothing + FAR_PAST, days])
        # One key for both: rows mostly come in order, and a stable sort is quick with runs.
        order = np.argsort((grouped << _DAY_BITS) | dated, kind="stable")
        return cls(
            customer_ids,
            np.searchsorted(grouped[order], everyone),
            dated[order],
            {name: summable(np.concatenate([nothing, values])[order]) for name, values in columns.items()},
        )

    def sums(self, name: str, counted: npt.NDArray[np.bool_]) -> Column:
        """Per customer the sum of a column over the rows that are counted."""
        if not len(self.starts):
            return self.columns[name]
        return np.add.reduceat(np.where(counted, self.columns[name], 0), self.starts)


def column(values: Sequence[Any]) -> Column:
    """Whole numbers as an array that is safe to sum: int64 where no sum of them can overflow."""
    try:
        array = np.array(values, dtype=np.int64)
    except OverflowError:
        return np.array(values, dtype=object)
    return summable(array)


def summable(array: Days) -> Column:
    """The same numbers, of a type in which no sum of them can overflow."""
    # Summed as doubles, which round but never wrap; the bound is far enough from 2**63 for that.
    magnitude = float(np.abs(array.astype(np.float64)).sum())
    return array if magnitude < _SAFE_MAGNITUDE else array.astype(object)


def _fractions(values: Sequence[Any]) -> Column:
    if any(values):
        return np.array(values, dtype=object)
    return np.zeros(len(values), dtype=np.int64)


class OrderDays(NamedTuple):
    """The distinct days with an order, of one customer after the other, in order of day."""

    owners: Days
    """Positions among the customers."""
    days: Days


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of some customers on one day; each column has a row a customer."""

    as_of: date
    customer_ids: Sequence[CustomerId]
    windows: Mapping[str, Mapping[str, Column]]
    """Per window the summed columns of the table, and `net_revenue`."""
    lifetime_orders: Column
    lifetime_net_revenue: Column
    first_order_day: Days
    """FAR_FUTURE without orders."""
    last_order_day: Days
    """FAR_PAST without orders."""
    order_days: Column
    """Distinct days with an order."""
    ordered_on: OrderDays
    changes_on: Mapping[str, Days]
    """Per window the next day on which it changes if nothing more happens; FAR_FUTURE for never."""

    def describe(self, row: int, *, decimals: int) -> dict[str, Any]:
        """One customer's figures as the API shows them; `decimals` are the base currency's."""
        return {
            "windows": {name: _describe_window(row, columns, decimals) for name, columns in self.windows.items()},
            "lifetime": self._describe_lifetime(row, decimals),
        }

    def _describe_lifetime(self, row: int, decimals: int) -> dict[str, Any]:
        orders = int(self.lifetime_orders[row])
        first, last = int(self.first_order_day[row]), int(self.last_order_day[row])
        return {
            "first_order_day": date.fromordinal(first).isoformat() if orders else None,
            "last_order_day": date.fromordinal(last).isoformat() if orders else None,
            "orders": orders,
            "net_revenue": format_minor(int(self.lifetime_net_revenue[row]), decimals),
            "recency_days": self.as_of.toordinal() - last if orders else None,
            "mean_days_between_orders": _ratio(last - first, int(self.order_days[row]) - 1) if orders else None,
        }


def _describe_window(row: int, columns: Mapping[str, Column], decimals: int) -> dict[str, Any]:
    bucket = DayBucket(**{name: columns[name][row] for name in DayBucket._fields})
    orders, gross = int(bucket.orders), int(bucket.gross_revenue)
    return {
        "orders": orders,
        "gross_revenue": format_minor(gross, decimals),
        "returned_amount": format_minor(int(bucket.returned_amount), decimals),
        "net_revenue": format_minor(int(columns["net_revenue"][row]), decimals),
        "gross_profit": format_minor(int(bucket.gross_profit), decimals) if bucket.orders_with_cost else None,
        "items": int(bucket.items),
        "parcels": int(bucket.parcels),
        "weight_kg": _kilograms(int(bucket.weight_grams)),
        "returns": int(bucket.returns),
        "complaints": int(bucket.complaints),
        "return_rate": _ratio(int(bucket.returns), orders),
        "complaint_rate": _ratio(int(bucket.complaints), orders),
        "average_order_value": format_minor(round_half_even(gross, orders), decimals) if orders else None,
        "on_time_rate": _ratio(int(bucket.orders_on_time), int(bucket.orders_with_promise)),
        "feedback_score": (
            float(Fraction(_exact(bucket.feedback_total)) / int(bucket.feedbacks)) if bucket.feedbacks else None
        ),
    }


def _kilograms(grams: int) -> float:
    return grams / 1_000 if grams < _TOO_HEAVY else sys.float_info.max


def _exact(value: Any) -> int | Fraction:  # noqa: ANN401 - a NumPy integer or a Fraction
    return value if isinstance(value, Fraction) else int(value)


def _ratio(numerator: int, denominator: int) -> float | None:
    """The double nearest to the exact quotient (Python rounds int / int correctly)."""
    return numerator / denominator if denominator else None


def roll(table: BucketTable, as_of: date) -> Metrics:
    """Rolls the buckets of some customers into their windows and lifetime figures as of a day."""
    today = as_of.toordinal()
    windows: dict[str, dict[str, Column]] = {}
    past = table.days <= today
    for name, length in WINDOWS.items():
        inside = past & (table.days > today - length)
        columns = {column: table.sums(column, inside) for column in table.columns}
        columns["net_revenue"] = columns["gross_revenue"] - columns["returned_amount"]
        windows[name] = columns
    ordered = past & (table.columns["orders"] > 0)
    return Metrics(
        as_of=as_of,
        customer_ids=table.customer_ids,
        windows=windows,
        lifetime_orders=table.sums("orders", past),
        lifetime_net_revenue=table.sums("gross_revenue", past) - table.sums("returned_amount", past),
        first_order_day=_least(table, np.where(ordered, table.days, FAR_FUTURE)),
        last_order_day=-_least(table, np.where(ordered, -table.days, -FAR_PAST)),
        order_days=_count(table, ordered),
        ordered_on=_order_days(table, ordered),
        changes_on=_changes_on(table, today),
    )


def _count(table: BucketTable, rows: npt.NDArray[np.bool_]) -> Column:
    return np.add.reduceat(rows.astype(np.int64), table.starts) if len(table.starts) else np.array([], dtype=np.int64)


def _order_days(table: BucketTable, ordered: npt.NDArray[np.bool_]) -> OrderDays:
    rows = np.diff(table.starts, append=len(table.days))
    return OrderDays(np.repeat(np.arange(len(rows), dtype=np.int64), rows)[ordered], table.days[ordered])


def _least(table: BucketTable, values: Days) -> Days:
    return np.minimum.reduceat(values, table.starts) if len(table.starts) else np.array([], dtype=np.int64)


def _changes_on(table: BucketTable, today: int) -> dict[str, Days]:
    real = table.days > FAR_PAST
    # A day ahead of as_of (an event a few minutes early, around midnight) enters when it comes.
    entering = np.where(real & (table.days > today), table.days, FAR_FUTURE)
    changes: dict[str, Days] = {}
    for name, length in WINDOWS.items():
        leaving = table.days + length
        changes[name] = _least(table, np.where(real & (leaving > today), np.minimum(entering, leaving), entering))
    return changes
