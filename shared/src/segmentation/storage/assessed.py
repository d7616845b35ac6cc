"""Customers assessed: buckets and snapshots in, new snapshots and changes out."""

from collections import namedtuple
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation import announcements, assessment, chronicle, metrics
from segmentation.assessment import Facets, Snapshot
from segmentation.buckets import DayBucket
from segmentation.fields import CustomerId
from segmentation.metrics import DECISION_COLUMNS, BucketTable
from segmentation.overrides import ByHand, Override
from segmentation.policy import Reason
from segmentation.risk import Outlook
from segmentation.segments import Lifecycle
from segmentation.storage import history, tables
from segmentation.storage.bulk import insert_rows, update_all
from segmentation.storage.circumstances import load_descriptions, load_order_traits
from segmentation.storage.counted import bucket_from_row
from segmentation.storage.foundation import Deciders
from segmentation.storage.touched import tell_touched
from segmentation.tiering import Tier, TierHistory
from segmentation.traits import OrderTraits, TraitChange

_ORDER_TRAITS = msgspec.json.Decoder(OrderTraits)
_SNAPSHOT_COLUMNS = tuple(column.name for column in tables.snapshots.columns)

_LOCK = text("""
    -- Every writer locks customers first and in this one order, so no two can wait for each other.
    SELECT customer_id FROM customers WHERE customer_id = ANY(CAST(:customer_ids AS text[]))
    ORDER BY customer_id FOR UPDATE
""")
_LOCK_FREE = text(f"{_LOCK.text} SKIP LOCKED")
_LOAD_BUCKETS = text(
    f"SELECT customer_id, day, {', '.join(DayBucket._fields)} FROM day_buckets "  # noqa: S608 - names of our own
    "WHERE customer_id = ANY(CAST(:customer_ids AS text[]))"
)
_FITS = 2**62
_MONEY = ("gross_revenue", "gross_profit", "returned_amount")
_PACKED = ", ".join(
    f"string_agg(int8send(CASE WHEN abs({name}) < {_FITS} THEN {name}::bigint ELSE 0 END), '') AS {name}"
    for name in DECISION_COLUMNS
)
_LOAD_PACKED = text(
    "SELECT string_agg(int8send(owner), '') AS owners, "  # noqa: S608 - names of our own
    f"string_agg(int4send(day - DATE '0001-01-01' + 1), '') AS days, {_PACKED}, "
    f"coalesce(bool_or(greatest({', '.join(f'abs({name})' for name in _MONEY)}) >= {_FITS}), false) AS large "
    "FROM unnest(CAST(:customer_ids AS text[])) WITH ORDINALITY AS given(customer_id, owner) "
    "JOIN day_buckets USING (customer_id)"
)
SNAPSHOTS = """
    SELECT snapshots.*, to_jsonb(overrides) - 'customer_id' AS override
    FROM snapshots LEFT JOIN overrides USING (customer_id)
"""
"""What stands, with what people decided over it: rows of `snapshot_from_row`."""
_LOAD_SNAPSHOTS = text(f"{SNAPSHOTS} WHERE customer_id = ANY(CAST(:customer_ids AS text[]))")
_RECORD_MOVES = text("INSERT INTO value_moves (customer_ids, values) VALUES (:customer_ids, :values)")
_RECORD_CHANGES = text("""
    INSERT INTO changes (customer_id, payload)
    SELECT given.customer_id, CAST(given.payload AS jsonb)
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:payloads AS text[])) AS given(customer_id, payload)
""")


async def lock_customers(connection: AsyncConnection, customer_ids: Iterable[CustomerId]) -> set[CustomerId]:
    """Holds customers until the end of the transaction; returns those held: who was erased meanwhile is not there."""
    return set(await connection.scalars(_LOCK, {"customer_ids": sorted(customer_ids)}))


async def lock_free_customers(connection: AsyncConnection, customer_ids: Iterable[CustomerId]) -> set[CustomerId]:
    """Holds those that nobody else does, without waiting for the others; returns those held."""
    return set(await connection.scalars(_LOCK_FREE, {"customer_ids": sorted(customer_ids)}))


async def load_buckets(connection: AsyncConnection, customer_ids: Sequence[CustomerId]) -> BucketTable:
    """All day buckets of some customers, in the order of the ids given."""
    buckets: dict[CustomerId, list[tuple[date, DayBucket]]] = {customer_id: [] for customer_id in customer_ids}
    for row in await connection.execute(_LOAD_BUCKETS, {"customer_ids": list(customer_ids)}):
        buckets[row.customer_id].append(bucket_from_row(row))
    return BucketTable.of(buckets)


async def load_decision_columns(connection: AsyncConnection, customer_ids: Sequence[CustomerId]) -> BucketTable:
    """The columns of all day buckets that decisions need, packed by the database: no row passes through Python."""
    row = (await connection.execute(_LOAD_PACKED, {"customer_ids": list(customer_ids)})).one()
    if row.large:
        return await load_buckets(connection, customer_ids)
    days = np.frombuffer(row.days or b"", dtype=">i4").astype(np.int64)
    owners = np.frombuffer(row.owners or b"", dtype=">i8").astype(np.int64) - 1
    columns = {
        name: np.frombuffer(getattr(row, name) or b"", dtype=">i8").astype(np.int64) for name in DECISION_COLUMNS
    }
    return BucketTable.of_columns(customer_ids, owners, days, columns)


async def load_snapshots(connection: AsyncConnection, customer_ids: Iterable[CustomerId]) -> dict[CustomerId, Snapshot]:
    """What stands of some customers."""
    return snapshots_of(await connection.execute(_LOAD_SNAPSHOTS, {"customer_ids": list(customer_ids)}))


def snapshots_of(rows: CursorResult[Any]) -> dict[CustomerId, Snapshot]:
    """Stored snapshots, from rows of SNAPSHOTS."""
    # A name is found in a plain named tuple in a tenth of the time, and there are thirty of them in each row.
    shape = _shape(tuple(rows.keys()))
    return {row.customer_id: snapshot_from_row(row) for row in map(shape._make, rows)}


@lru_cache
def _shape(names: tuple[str, ...]) -> Any:  # noqa: ANN401 - a class made here
    return namedtuple("_shape", names)  # noqa: PYI024 - its names are those of the columns


async def assess_customers(
    connection: AsyncConnection,
    customer_ids: Iterable[CustomerId],
    *,
    as_of: date,
    by: Deciders,
    now: datetime,
    computed: Mapping[CustomerId, Tier] | None = None,
    by_hand: ByHand | None = None,
    changes: Mapping[CustomerId, TraitChange] | None = None,
    first_heard: Collection[CustomerId] = (),
) -> int:
    """Rolls, assesses, and stores snapshots, changes and history of locked customers.

    Overrides newly set or ended are the caller's to store, afterwards.

    Args:
        connection: With the customers locked.
        customer_ids: Whom.
        as_of: The day.
        by: In force.
        now: The machine's clock.
        computed: Tiers newly computed.
        by_hand: Overrides newly set or ended.
        changes: What a batch did to their counting orders.
        first_heard: Those who had no order before the batch.

    Returns:
        The number of changes announced.
    """
    ordered = sorted(customer_ids)
    if not ordered:
        return 0
    table = await load_decision_columns(connection, ordered)
    previous = await load_snapshots(connection, ordered)
    traits = await load_order_traits(connection, ordered, previous, changes=changes, first_heard=first_heard)
    snapshots = assessment.assess(
        metrics.roll(table, as_of),
        previous,
        by.policy,
        now=now,
        computed=computed,
        by_hand=by_hand,
        described=await load_descriptions(connection, ordered),
        ordered=traits,
        outlooks=by.look_ahead(table, as_of),
        model_version=by.model_version,
    )
    await insert_rows(
        connection,
        tables.snapshots,
        _SNAPSHOT_COLUMNS,
        map(_snapshot_row, snapshots),
        then=update_all(tables.snapshots, _SNAPSHOT_COLUMNS),
    )
    await _tell_the_keeper(connection, previous, snapshots)
    await tell_touched(connection, ordered)
    await history.add_entries(connection, chronicle.entries(previous, snapshots, by_hand or {}))
    announced = announcements.announce(previous, snapshots)
    if announced:
        await connection.execute(
            _RECORD_CHANGES,
            {
                "customer_ids": [change.customer_id for change in announced],
                "payloads": [_json(change.payload()) for change in announced],
            },
        )
    return len(announced)


async def _tell_the_keeper(
    connection: AsyncConnection, previous: Mapping[CustomerId, Snapshot], snapshots: Iterable[Snapshot]
) -> None:
    moved: list[Snapshot] = []
    for after in snapshots:
        before = previous.get(after.customer_id)
        if before is None or before.value != after.value:
            moved.append(after)
    if moved:
        told = {
            "customer_ids": "\n".join(each.customer_id for each in moved),
            "values": "\n".join(str(each.value or 0) for each in moved),
        }
        await connection.execute(_RECORD_MOVES, told)


def _json(value: Any) -> str:  # noqa: ANN401 - JSON is any value
    return msgspec.json.encode(value).decode()


def snapshot_from_row(row: Any) -> Snapshot:  # noqa: ANN401 - a row of snapshots
    """A stored snapshot."""
    return Snapshot(
        customer_id=row.customer_id,
        as_of=row.as_of,
        due_on=row.due_on,
        value=None if row.value is None else int(row.value),
        history=TierHistory(Tier(row.computed_tier), row.computed_since, row.closed_a, row.closed_b, row.closed_c),
        tier=Tier(row.tier),
        tier_since=row.tier_since,
        lifecycle=Lifecycle(row.lifecycle),
        segment=row.segment,
        segment_since=row.segment_since,
        segment_reasons=tuple(Reason(*reason) for reason in row.segment_reasons),
        service_level=row.service_level,
        service_reasons=tuple(Reason(*reason) for reason in row.service_reasons),
        policy_version=row.policy_version,
        updated_at=row.updated_at,
        override=None if row.override is None else msgspec.convert(row.override, Override),
        facets=_facets_from_row(row) if row.grade is not None else Facets(),
        additions=tuple((code, tuple(Reason(*each) for each in reasons)) for code, reasons in row.additions or ()),
        order_traits=None if row.order_traits is None else _ORDER_TRAITS.decode(row.order_traits),
        model_version=row.model_version,
        outlook=None
        if row.churn_probability is None
        else Outlook(row.churn_probability, row.behaviour, row.confidence),
        expected_value=None if row.expected_value is None else int(row.expected_value),
        churn_warning=row.lifecycle == Lifecycle.AT_RISK if row.churn_warning is None else row.churn_warning,
    )


def _facets_from_row(row: Any) -> Facets:  # noqa: ANN401 - a row of snapshots
    return Facets(
        row.industry,
        row.subject_type,
        row.region,
        row.channel,
        tuple(row.needs or ()),
        row.value_level,
        row.size,
        row.frequency,
        row.grade,
        row.known,
    )


def _snapshot_row(snapshot: Snapshot) -> tuple[Any, ...]:
    history, facets, outlook = snapshot.history, snapshot.facets, snapshot.outlook
    return (
        snapshot.customer_id,
        snapshot.as_of,
        snapshot.due_on,
        snapshot.value,
        history.computed,
        history.computed_since,
        history.closed_a,
        history.closed_b,
        history.closed_c,
        snapshot.tier,
        snapshot.tier_since,
        snapshot.lifecycle,
        snapshot.segment,
        snapshot.segment_since,
        _json(snapshot.segment_reasons),
        snapshot.service_level,
        _json(snapshot.service_reasons),
        snapshot.policy_version,
        snapshot.updated_at,
        facets.industry,
        facets.subject_type,
        facets.region,
        facets.channel,
        _json(facets.needs) if facets.needs else None,
        facets.value_level,
        facets.size,
        facets.frequency,
        facets.grade,
        facets.known,
        _json(snapshot.additions) if snapshot.additions else None,
        None if snapshot.order_traits is None else _json(snapshot.order_traits),
        snapshot.model_version,
        *(
            (None, None, None)
            if outlook is None
            else (outlook.churn_probability, outlook.behaviour, outlook.confidence)
        ),
        snapshot.expected_value,
        snapshot.churn_warning,
    )
