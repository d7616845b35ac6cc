"""What a batch's events touch: loaded, and written back once counted (see `counting`)."""

from collections.abc import Iterable
from datetime import date
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation.buckets import DayBucket
from segmentation.counting import (
    Counted,
    Occurrence,
    OrderKey,
    OrderState,
    Placed,
    Profile,
    Reported,
    Retraction,
    Touched,
    Version,
)
from segmentation.events import EventKey
from segmentation.fields import CustomerId
from segmentation.storage import tables
from segmentation.storage.bulk import insert_rows, update_all
from segmentation.traits import Description, describe

_DESCRIPTION = msgspec.json.Decoder(Description)
_EXACT = Context(prec=20_000, traps=[Inexact])

_NOTHING = Decimal(0)

ORDER_COLUMNS = tuple(column.name for column in tables.orders.columns)
BUCKET_COLUMNS = ("customer_id", "day", *DayBucket._fields)

_LOAD_ORDERS = text("""
    -- The orders that a batch touches, as counted so far.
    SELECT stored.* FROM orders AS stored
    JOIN unnest(CAST(:customer_ids AS text[]), CAST(:order_ids AS text[])) AS given(customer_id, order_id)
      ON stored.customer_id = given.customer_id AND stored.order_id = given.order_id
""")
_LOAD_RETRACTIONS = text("""
    SELECT stored.customer_id, stored.event_key FROM retractions AS stored
    JOIN unnest(CAST(:customer_ids AS text[]), CAST(:event_keys AS bytea[])) AS given(customer_id, event_key)
      ON stored.customer_id = given.customer_id AND stored.event_key = given.event_key
""")
_LOAD_OCCURRENCES = text("""
    -- Returns, complaints and feedback that a retraction of the batch may take back, or that the batch repeats after
    -- their raw events were dropped. What a dropped one counted comes last, so that it wins over its repeat.
    SELECT event_key, customer_id, type, business_day, amount, score, false AS dropped FROM events
    WHERE event_key = ANY(CAST(:event_keys AS bytea[])) AND type IN ('return', 'complaint', 'feedback')
    UNION ALL
    SELECT stored.event_key, stored.customer_id, stored.type, stored.business_day, stored.amount, stored.score, true
    FROM dropped_occurrences AS stored
    JOIN unnest(CAST(:customer_ids AS text[]), CAST(:event_keys AS bytea[])) AS given(customer_id, event_key)
      ON stored.customer_id = given.customer_id AND stored.event_key = given.event_key
    ORDER BY dropped
""")
_LOAD_PROFILES = text("""
    SELECT customer_id, profile FROM customers WHERE customer_id = ANY(CAST(:customer_ids AS text[]))
""")
_STORE_PROFILES = text("""
    UPDATE customers AS stored SET profile = CAST(given.profile AS jsonb), description = given.description
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:profiles AS text[]), CAST(:descriptions AS text[]))
      AS given(customer_id, profile, description)
    WHERE stored.customer_id = given.customer_id
""")
_MERGE_BUCKETS = "ON CONFLICT (customer_id, day) DO UPDATE SET " + ", ".join(
    f"{name} = stored.{name} + EXCLUDED.{name}" for name in DayBucket._fields
)


async def load(connection: AsyncConnection, touched: Touched, *, new: Iterable[EventKey]) -> Counted:
    """The state that a batch touches, as it was before the batch.

    Args:
        connection: With the touched customers locked.
        touched: Of `counting.touched`.
        new: Keys of the batch's own events, which `counting.count` has yet to see.
    """
    counted = Counted()
    if touched.orders:
        keys = sorted(touched.orders)
        rows = await connection.execute(
            _LOAD_ORDERS,
            {"customer_ids": [key.customer_id for key in keys], "order_ids": [key.order_id for key in keys]},
        )
        counted.orders = {OrderKey(row.customer_id, row.order_id): order_from_row(row) for row in rows}
    if touched.retractions:
        event_keys = [retraction.key for retraction in touched.retractions]
        asked = {"customer_ids": [each.customer_id for each in touched.retractions], "event_keys": event_keys}
        rows = await connection.execute(_LOAD_RETRACTIONS, asked)
        counted.retractions = {Retraction(row.customer_id, EventKey(row.event_key)) for row in rows}
        rows = await connection.execute(_LOAD_OCCURRENCES, asked)
        fresh = set(new)
        counted.occurrences = {
            Retraction(row.customer_id, EventKey(row.event_key)): occurrence_from_row(row)
            for row in rows
            if row.dropped or row.event_key not in fresh
        }
    if touched.described:
        rows = await connection.execute(_LOAD_PROFILES, {"customer_ids": sorted(touched.described)})
        counted.profiles = {row.customer_id: dict(profile_from_json(row.profile)) for row in rows}
    return counted


async def store(connection: AsyncConnection, touched: Touched, counted: Counted) -> None:
    """Writes back what a batch changed."""
    await insert_rows(
        connection,
        tables.orders,
        ORDER_COLUMNS,
        (order_row(key, counted.orders[key]) for key in sorted(touched.orders) if key in counted.orders),
        then=update_all(tables.orders, ORDER_COLUMNS),
    )
    await insert_rows(
        connection,
        tables.retractions,
        ("customer_id", "event_key"),
        ((each.customer_id, each.key) for each in counted.retractions),
        then="ON CONFLICT DO NOTHING",
    )
    if counted.profiles:
        await connection.execute(
            _STORE_PROFILES,
            {
                "customer_ids": list(counted.profiles),
                "profiles": [profile_json(profile) for profile in counted.profiles.values()],
                "descriptions": [description_json(describe(profile)) for profile in counted.profiles.values()],
            },
        )
    await insert_rows(
        connection,
        tables.day_buckets,
        BUCKET_COLUMNS,
        (
            bucket_row(customer_id, day, bucket)
            for (customer_id, day), bucket in sorted(counted.bucket_changes.items(), key=lambda item: item[0])
        ),
        then=_MERGE_BUCKETS,
    )


def bucket_row(customer_id: CustomerId, day: date, bucket: DayBucket) -> tuple[Any, ...]:
    """A day bucket as it is stored, in the order of BUCKET_COLUMNS."""
    return (customer_id, day, *bucket[:-1], exact_decimal(bucket.feedback_total))


def bucket_from_row(row: Any) -> tuple[date, DayBucket]:  # noqa: ANN401 - a row of day_buckets
    """A stored day bucket, its numbers as Python's exact ones."""
    *whole, feedback_total = row[2:]
    return row.day, DayBucket._make((*map(int, whole), Fraction(feedback_total) if feedback_total else 0))


def exact_decimal(value: Fraction | int) -> Decimal:
    """A fraction of a power of ten as the decimal it is."""
    return _EXACT.divide(Decimal(value.numerator), Decimal(value.denominator)) if value else _NOTHING


def profile_from_json(stored: dict[str, list[Any]]) -> Profile:
    """A stored profile."""
    return {name: (Version(occurred_at, event_id), value) for name, (occurred_at, event_id, value) in stored.items()}


def profile_json(profile: Profile) -> str:
    """A profile as it is stored."""
    return msgspec.json.encode({name: [*version, value] for name, (version, value) in profile.items()}).decode()


def description_json(description: Description) -> str:
    """A description as it is stored."""
    return msgspec.json.encode(description).decode()


def description_from_json(stored: str) -> Description:
    """A stored description."""
    return _DESCRIPTION.decode(stored)


def occurrence_from_row(row: Any) -> Occurrence:  # noqa: ANN401 - a row of events, or of dropped_occurrences
    """What a return, complaint or feedback counted."""
    match row.type:
        case "return":
            bucket = DayBucket(returns=1, returned_amount=int(row.amount))
        case "complaint":
            bucket = DayBucket(complaints=1)
        case _:
            bucket = DayBucket(feedbacks=1, feedback_total=Fraction(row.score))
    return Occurrence(EventKey(row.event_key), row.customer_id, row.business_day, bucket)


def order_from_row(row: Any) -> OrderState:  # noqa: ANN401 - a row of orders
    """A stored order."""
    placed = None
    if row.business_day is not None:
        placed = Placed(
            business_day=row.business_day,
            amount=int(row.amount),
            profit=None if row.profit is None else int(row.profit),
            items=row.items,
            parcels=row.parcels,
            weight_grams=int(row.weight_grams),
            promised_at=row.promised_at,
            delivered_at=row.delivered_at,
            services=tuple(row.services),
            region=row.region,
            channel=row.channel,
        )
    return OrderState(
        version=None if row.event_id is None else Version(row.occurred_at, row.event_id),
        placed=placed,
        promised=_reported(row.promise_occurred_at, row.promise_event_id, row.promise_instant),
        delivered=_reported(row.arrival_occurred_at, row.arrival_event_id, row.arrival_instant),
    )


def _reported(occurred_at: int | None, event_id: str | None, instant: int | None) -> Reported | None:
    if occurred_at is None or event_id is None or instant is None:
        return None
    return Reported(Version(occurred_at, event_id), instant)


def order_row(key: OrderKey, state: OrderState) -> tuple[Any, ...]:
    """An order as it is stored, in the order of ORDER_COLUMNS."""
    placed, version = state.placed, state.version
    return (
        *key,
        *(version or (None, None)),
        *(
            (
                placed.business_day,
                placed.amount,
                placed.profit,
                placed.items,
                placed.parcels,
                placed.weight_grams,
                placed.promised_at,
                placed.delivered_at,
                msgspec.json.encode(placed.services).decode(),
                placed.region,
                placed.channel,
            )
            if placed
            else (None,) * 11
        ),
        *((*state.promised.version, state.promised.instant) if state.promised else (None,) * 3),
        *((*state.delivered.version, state.delivered.instant) if state.delivered else (None,) * 3),
    )
