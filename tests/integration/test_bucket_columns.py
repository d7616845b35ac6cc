"""Day buckets packed by the database decide exactly as the same buckets read row by row."""

from datetime import date

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segmentation import metrics
from segmentation.buckets import DayBucket
from segmentation.fields import CustomerId
from segmentation.metrics import DECISION_COLUMNS
from segmentation.storage import tables
from segmentation.storage.assessed import load_buckets, load_decision_columns
from segmentation.storage.bulk import insert_rows
from segmentation.storage.engine import transaction

CUSTOMERS = [CustomerId(name) for name in ("a", "b", "nobody", "z")]
AS_OF = date(2026, 3, 1)


def bucket(customer_id: str, day: str, orders: int, amount: int) -> tuple[object, ...]:
    return (customer_id, date.fromisoformat(day), orders, amount, -amount, 1, 5, 6, 7, 1, 1, 2, 3, 4, 1, 10)


@pytest.mark.parametrize("amount", [0, 12_345, 2**61, 2**62, 10**30], ids=["0", "small", "large", "limit", "beyond"])
async def test_packed_columns_give_the_same_figures_as_rows(engine: AsyncEngine, amount: int) -> None:
    names = ("customer_id", "day", *DayBucket._fields)
    rows = [
        bucket("a", "2026-03-01", 2, amount),
        bucket("a", "2025-03-02", 1, 7),
        bucket("a", "2025-03-01", 1, 9),
        bucket("b", "1990-01-01", 3, amount),
        bucket("z", "2026-03-02", 1, amount),
    ]
    async with transaction(engine) as connection:
        await insert_rows(connection, tables.day_buckets, names, rows)
        packed = metrics.roll(await load_decision_columns(connection, CUSTOMERS), AS_OF)
        read = metrics.roll(await load_buckets(connection, CUSTOMERS), AS_OF)
    for window, columns in read.windows.items():
        for name in (*DECISION_COLUMNS, "net_revenue"):
            assert packed.windows[window][name].tolist() == columns[name].tolist(), (window, name)
        assert packed.changes_on[window].tolist() == read.changes_on[window].tolist()
    for figure in ("lifetime_orders", "lifetime_net_revenue", "first_order_day", "last_order_day", "order_days"):
        assert getattr(packed, figure).tolist() == getattr(read, figure).tolist(), figure
