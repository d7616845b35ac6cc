"""The baseline: what dropped events counted, kept so that nothing has to be counted from them again.

Laws: it is the state that dropped events alone amount to, by the same fold as live state, so
counting the raw events that are left on top of it gives what all of them would; it only grows; its
day buckets follow from its orders and occurrences and are not kept.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation import counting
from segmentation.counting import Counted, OrderKey, Retraction
from segmentation.events import TYPE_NAMES, EventKey, FeedbackGiven
from segmentation.fields import CustomerId
from segmentation.outcomes import AcceptedEvent
from segmentation.storage import tables
from segmentation.storage.bulk import insert_rows, update_all
from segmentation.storage.counted import (
    ORDER_COLUMNS,
    occurrence_from_row,
    order_from_row,
    order_row,
    profile_from_json,
    profile_json,
)

_ORDERS = text("""
    SELECT stored.* FROM dropped_orders AS stored
    JOIN unnest(CAST(:customer_ids AS text[]), CAST(:order_ids AS text[])) AS given(customer_id, order_id)
      ON stored.customer_id = given.customer_id AND stored.order_id = given.order_id
""")
_OF = "WHERE customer_id = ANY(CAST(:customer_ids AS text[]))"
_ALL_CUSTOMERS = text(f"SELECT * FROM dropped_customers {_OF}")  # noqa: S608 - a constant of our own
_ALL_ORDERS = text(f"SELECT * FROM dropped_orders {_OF}")  # noqa: S608
_ALL_RETRACTIONS = text(f"SELECT * FROM dropped_retractions {_OF}")  # noqa: S608
_ALL_OCCURRENCES = text(f"SELECT * FROM dropped_occurrences {_OF}")  # noqa: S608
_NOTHING = "ON CONFLICT DO NOTHING"


async def load(connection: AsyncConnection, customer_ids: Sequence[CustomerId]) -> tuple[Counted, set[CustomerId]]:
    """What dropped events of some customers counted, as the state to count on from; and whose events were dropped."""
    asked = {"customer_ids": list(customer_ids)}
    known = (await connection.execute(_ALL_CUSTOMERS, asked)).all()
    state = Counted(profiles={row.customer_id: dict(profile_from_json(row.profile)) for row in known})
    if known:
        state.orders = {
            OrderKey(row.customer_id, row.order_id): order_from_row(row)
            for row in await connection.execute(_ALL_ORDERS, asked)
        }
        state.retractions = {
            Retraction(row.customer_id, EventKey(row.event_key))
            for row in await connection.execute(_ALL_RETRACTIONS, asked)
        }
        state.occurrences = {
            Retraction(row.customer_id, EventKey(row.event_key)): occurrence_from_row(row)
            for row in await connection.execute(_ALL_OCCURRENCES, asked)
        }
        state.count_anew()
    return state, {row.customer_id for row in known}


async def add(connection: AsyncConnection, dropped: Sequence[AcceptedEvent]) -> None:
    """Counts events that are about to be dropped; their customers are locked."""
    touched = counting.touched(dropped)
    state = Counted()
    if touched.orders:
        keys = sorted(touched.orders)
        asked = {"customer_ids": [key.customer_id for key in keys], "order_ids": [key.order_id for key in keys]}
        state.orders = {
            OrderKey(row.customer_id, row.order_id): order_from_row(row)
            for row in await connection.execute(_ORDERS, asked)
        }
    rows = await connection.execute(_ALL_CUSTOMERS, {"customer_ids": sorted(touched.customers)})
    state.profiles = {row.customer_id: dict(profile_from_json(row.profile)) for row in rows}
    # Retractions and occurrences are sets: what is there already need not be loaded to stay.
    counting.count(dropped, state)
    await insert_rows(
        connection,
        tables.dropped_customers,
        ("customer_id", "profile"),
        ((customer_id, profile_json(state.profiles.get(customer_id, {}))) for customer_id in sorted(touched.customers)),
        then=update_all(tables.dropped_customers, ("customer_id", "profile")),
    )
    await insert_rows(
        connection,
        tables.dropped_orders,
        ORDER_COLUMNS,
        (order_row(key, state.orders[key]) for key in sorted(touched.orders) if key in state.orders),
        then=update_all(tables.dropped_orders, ORDER_COLUMNS),
    )
    await insert_rows(
        connection,
        tables.dropped_retractions,
        ("customer_id", "event_key"),
        ((each.customer_id, each.key) for each in state.retractions),
        then=_NOTHING,
    )
    await _keep_occurrences(connection, dropped, state.occurrences.keys())


async def _keep_occurrences(
    connection: AsyncConnection, dropped: Iterable[AcceptedEvent], occurrences: Iterable[Retraction]
) -> None:
    wanted = {occurrence.key for occurrence in occurrences}
    await insert_rows(
        connection,
        tables.dropped_occurrences,
        ("customer_id", "event_key", "type", "business_day", "amount", "score"),
        (
            (
                accepted.event.customer_id,
                accepted.key,
                TYPE_NAMES[type(accepted.event)],
                accepted.business_day,
                accepted.amount,
                accepted.event.score if isinstance(accepted.event, FeedbackGiven) else None,
            )
            for accepted in dropped
            if accepted.key in wanted
        ),
        then=_NOTHING,
    )
