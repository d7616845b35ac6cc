"""Everything derived, counted again from the raw events and the baseline: to compare, and to mend.

Laws: comparing locks nothing and writes nothing; all of one customer is compared as of one moment;
mending holds the customers it mends, as every writer does, replaces only what differs, and is one
transaction, so that stopping at any point leaves the data no worse; what events cannot tell (since
when a tier or segment has held, which tiers days closed with) stays as it is.
"""

import json
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation import assessment, counting, metrics, traits
from segmentation.assessment import Snapshot
from segmentation.buckets import DayBucket
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.counting import Counted, OrderKey, OrderState, Profile, Retraction
from segmentation.events import EventKey
from segmentation.fields import CustomerId
from segmentation.ledger import House
from segmentation.metrics import BucketTable
from segmentation.storage import baseline, raw_events, tables, tiers
from segmentation.storage.assessed import assess_customers, load_snapshots, lock_customers
from segmentation.storage.bulk import insert_rows, update_all
from segmentation.storage.counted import (
    BUCKET_COLUMNS,
    ORDER_COLUMNS,
    bucket_from_row,
    bucket_row,
    description_from_json,
    description_json,
    order_from_row,
    order_row,
    profile_from_json,
    profile_json,
)
from segmentation.storage.engine import transaction
from segmentation.storage.foundation import Library, load_state
from segmentation.storage.touched import tell_touched
from segmentation.traits import Description

_PLACES = (
    "customers", "events", "orders", "retractions", "day_buckets", "snapshots",
    "dropped_customers", "dropped_orders", "dropped_retractions", "dropped_occurrences",
)  # fmt: skip
_NEXT_OF_EACH = " UNION ".join(
    f"(SELECT DISTINCT customer_id FROM {name} WHERE customer_id > :after ORDER BY customer_id LIMIT :limit)"  # noqa: S608
    for name in _PLACES
)
_PAGE = text(f"""
    -- The next customers that anything at all is stored of, each with the number of their raw events.
    SELECT customer_id, (SELECT count(*) FROM events WHERE events.customer_id = everyone.customer_id) AS events
    FROM ({_NEXT_OF_EACH}) AS everyone ORDER BY customer_id LIMIT :limit
""")  # noqa: S608 - names of our own
_OF = "WHERE customer_id = ANY(CAST(:customer_ids AS text[]))"
_STORED_CUSTOMERS = text(f"SELECT customer_id, profile, description FROM customers {_OF}")  # noqa: S608 - a constant of our own
_STORED_ORDERS = text(f"SELECT * FROM orders {_OF}")  # noqa: S608
_STORED_RETRACTIONS = text(f"SELECT * FROM retractions {_OF}")  # noqa: S608
_STORED_BUCKETS = text(f"SELECT {', '.join(BUCKET_COLUMNS)} FROM day_buckets {_OF}")  # noqa: S608
_REMOVE = {
    name: text(
        f"DELETE FROM {name} AS stored "  # noqa: S608 - names of our own
        f"USING unnest(CAST(:customer_ids AS text[]), CAST(:keys AS {kind}[])) AS given(customer_id, key) "
        f"WHERE stored.customer_id = given.customer_id AND stored.{column} = given.key"
    )
    for name, column, kind in (
        ("orders", "order_id", "text"),
        ("retractions", "event_key", "bytea"),
        ("day_buckets", "day", "date"),
    )
}
_REMOVE_CUSTOMERS = tuple(text(f"DELETE FROM {name} {_OF}") for name in ("snapshots", "customers"))  # noqa: S608
_FIND_OUT_AGAIN = text(f"UPDATE snapshots SET order_traits = NULL {_OF}")  # noqa: S608
# A customer with very many orders takes a while to compare; whoever is stopped in the middle holds nobody up for long.
_MAY_COMPARE = text("SET LOCAL idle_in_transaction_session_timeout = '10min'")
_MAY_HOLD = text("SET LOCAL idle_in_transaction_session_timeout = '60s'")
_NOTHING = "nothing"
_WHENEVER = datetime.max.replace(tzinfo=UTC)
_NOT_OF_EVENTS = ("updated_at", "tier_since", "segment_since")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something stored that is not what the raw events amount to."""

    whose: str
    """A customer, or the table that a count is of."""
    what: str
    stored: str
    recounted: str
    mendable: bool = True

    def __str__(self) -> str:
        return f"{self.whose}: {self.what}: stored {self.stored}, recounted {self.recounted}"


@dataclass(slots=True)
class _Kept:
    """All that is derived of some customers, as stored or as recounted."""

    profiles: dict[CustomerId, Profile] = field(default_factory=dict)
    """One for everybody known."""
    orders: dict[OrderKey, OrderState] = field(default_factory=dict)
    retractions: set[Retraction] = field(default_factory=set)
    buckets: dict[tuple[CustomerId, date], DayBucket] = field(default_factory=dict)
    snapshots: dict[CustomerId, Snapshot] = field(default_factory=dict)
    descriptions: dict[CustomerId, Description] = field(default_factory=dict)
    """Stored with profiles; what is not there is made of the profile."""

    def leave_out(self, customer_ids: AbstractSet[CustomerId]) -> None:
        """Forgets some customers."""
        self.retractions = {each for each in self.retractions if each.customer_id not in customer_ids}
        for by_customer in (self.profiles, self.snapshots, self.descriptions):
            for customer_id in by_customer.keys() & customer_ids:
                del by_customer[customer_id]
        self.orders = {key: state for key, state in self.orders.items() if key.customer_id not in customer_ids}
        self.buckets = {place: each for place, each in self.buckets.items() if place[0] not in customer_ids}


@dataclass(slots=True)
class _Found:
    """What differs, for a person and for whoever mends it."""

    differences: list[Difference] = field(default_factory=list)
    customers: set[CustomerId] = field(default_factory=set)
    orders: set[OrderKey] = field(default_factory=set)
    retractions: set[Retraction] = field(default_factory=set)
    days: set[tuple[CustomerId, date]] = field(default_factory=set)
    snapshots: set[CustomerId] = field(default_factory=set)
    unreadable: set[CustomerId] = field(default_factory=set)
    """Who has a raw event that cannot be read: nothing else is said of them, and nothing mended."""

    @property
    def touched(self) -> set[CustomerId]:
        """Whose state differs in anything that can be mended."""
        owners = {key[0] for key in (*self.orders, *self.days)} | {each.customer_id for each in self.retractions}
        return self.customers | self.snapshots | owners


class Recount:
    """Compares and mends some customers at a time, beside whoever else writes."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._house = house
        self._calendar = BusinessCalendar(house.time_zone)
        self._library = Library(house.base_currency)

    async def page(self, after: str, *, limit: int) -> Sequence[tuple[CustomerId, int]]:
        """The next customers in order of their ids, each with the number of raw events."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_PAGE, {"after": after, "limit": limit})
            return [(CustomerId(row.customer_id), row.events) for row in rows]

    async def check(self, customer_ids: Sequence[CustomerId]) -> Sequence[Difference]:
        """Everything of some customers that is stored otherwise than it recounts to."""
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            await connection.execute(_MAY_COMPARE)
            found, _ = await self._compare(connection, customer_ids)
            return found.differences

    async def mend(self, customer_ids: Sequence[CustomerId], *, now: datetime) -> Sequence[Difference]:
        """Replaces what differs, assesses whom it concerns, and has the keeper rank everyone anew."""
        async with transaction(self._engine) as connection:
            await connection.execute(_MAY_HOLD)
            # In the order of locks that all writers keep; a settling holds the ranking before the customers it moves.
            await tiers.unsettle(connection)
            # Somebody who is not known can only be held by being made known; see below.
            made = await insert_rows(
                connection,
                tables.customers,
                ("customer_id",),
                ((customer_id,) for customer_id in sorted(customer_ids)),
                then="ON CONFLICT DO NOTHING RETURNING customer_id",
            )
            # Who was erased since it was asked for, or removed by another rebuild, is no longer there to be mended.
            customer_ids = sorted(await lock_customers(connection, customer_ids))
            found, recounted = await self._compare(connection, customer_ids, made={row.customer_id for row in made})
            await self._replace(connection, found, recounted)
            unknown = set(customer_ids) - recounted.profiles.keys() - found.unreadable
            for statement in _REMOVE_CUSTOMERS:
                await connection.execute(statement, {"customer_ids": list(unknown)})
            await tell_touched(connection, unknown - {row.customer_id for row in made})
            state = await load_state(connection)
            as_of = self._calendar.business_day(instant_of(now)) if self._house.clock == "system" else state.as_of
            if as_of is not None:
                by = await self._library.deciders(connection, state.policy_version, state.model_version)
                # What stands of their orders is no longer to be built upon.
                await connection.execute(_FIND_OUT_AGAIN, {"customer_ids": list(found.touched)})
                await assess_customers(connection, found.touched - unknown, as_of=as_of, by=by, now=now)
            await tiers.mark_unsettled(connection)
            return found.differences

    async def unsettle(self) -> None:
        """Has the keeper rank everyone anew."""
        async with transaction(self._engine) as connection:
            await tiers.unsettle(connection)
            await tiers.mark_unsettled(connection)

    async def _compare(
        self,
        connection: AsyncConnection,
        customer_ids: Sequence[CustomerId],
        *,
        made: AbstractSet[CustomerId] = frozenset(),
    ) -> tuple[_Found, _Kept]:
        found = _Found()
        recounted = await _recount(connection, customer_ids, found)
        stored = await _stored(connection, customer_ids)
        for customer_id in made:
            del stored.profiles[customer_id]
        if found.unreadable:
            recounted.leave_out(found.unreadable)
            stored.leave_out(found.unreadable)
        _compare_counts(found, stored, recounted)
        for standing, again in await self._assess_again(connection, stored, recounted):
            _compare_snapshots(found, standing, again)
        for customer_id in sorted(recounted.profiles.keys() ^ stored.snapshots.keys()):
            found.snapshots.add(customer_id)
            said = ("an assessment", _NOTHING) if customer_id in stored.snapshots else (_NOTHING, "an assessment")
            found.differences.append(Difference(customer_id, "assessment", *said))
        return found, recounted

    async def _assess_again(
        self, connection: AsyncConnection, stored: _Kept, recounted: _Kept
    ) -> list[tuple[Snapshot, Snapshot]]:
        """Each stored assessment, and what all recounted makes of its customer on its own day, policy and model."""
        buckets: dict[CustomerId, list[tuple[date, DayBucket]]] = {}
        # A bucket that counts nothing any more still says when something may change; both ways are right.
        empty = {place: DayBucket() for place, bucket in stored.buckets.items() if not any(bucket)}
        for (customer_id, day), bucket in (empty | recounted.buckets).items():
            buckets.setdefault(customer_id, []).append((day, bucket))
        orders: dict[CustomerId, list[OrderState]] = {customer_id: [] for customer_id in recounted.profiles}
        for key, state in recounted.orders.items():
            orders[key.customer_id].append(state)
        moments: dict[tuple[date, int, int], list[CustomerId]] = {}
        for customer_id in recounted.profiles.keys() & stored.snapshots.keys():
            standing = stored.snapshots[customer_id]
            moment = standing.as_of, standing.policy_version, standing.model_version
            moments.setdefault(moment, []).append(customer_id)
        pairs: list[tuple[Snapshot, Snapshot]] = []
        for (as_of, policy_version, model_version), customer_ids in moments.items():
            by = await self._library.deciders(connection, policy_version, model_version)
            table = BucketTable.of({each: buckets.get(each, []) for each in customer_ids})
            again = assessment.assess(
                metrics.roll(table, as_of),
                stored.snapshots,
                by.policy,
                now=_WHENEVER,
                described={each: traits.describe(recounted.profiles[each]) for each in customer_ids},
                ordered={each: traits.of_orders(orders[each]) for each in customer_ids},
                outlooks=by.look_ahead(table, as_of),
                model_version=model_version,
            )
            pairs += [(stored.snapshots[each.customer_id], each) for each in again]
        return sorted(pairs, key=lambda pair: pair[0].customer_id)

    async def _replace(self, connection: AsyncConnection, found: _Found, recounted: _Kept) -> None:
        await insert_rows(
            connection,
            tables.customers,
            ("customer_id", "profile", "description"),
            (
                (each, profile_json(profile), description_json(traits.describe(profile)))
                for each, profile in sorted(recounted.profiles.items(), key=operator.itemgetter(0))
                if each in found.customers
            ),
            then=update_all(tables.customers, ("customer_id", "profile", "description")),
        )
        await _remove(connection, "orders", found.orders - recounted.orders.keys())
        await insert_rows(
            connection,
            tables.orders,
            ORDER_COLUMNS,
            (order_row(key, recounted.orders[key]) for key in sorted(found.orders & recounted.orders.keys())),
            then=update_all(tables.orders, ORDER_COLUMNS),
        )
        extra = found.retractions - recounted.retractions
        await _remove(connection, "retractions", [(each.customer_id, each.key) for each in extra])
        await insert_rows(
            connection,
            tables.retractions,
            ("customer_id", "event_key"),
            ((each.customer_id, each.key) for each in found.retractions & recounted.retractions),
        )
        await _remove(connection, "day_buckets", found.days)
        await insert_rows(
            connection,
            tables.day_buckets,
            BUCKET_COLUMNS,
            (bucket_row(*place, recounted.buckets[place]) for place in sorted(found.days & recounted.buckets.keys())),
        )


async def _recount(connection: AsyncConnection, customer_ids: Sequence[CustomerId], found: _Found) -> _Kept:
    """The baseline, and the raw events counted on top of it; tells of those that cannot be read."""
    state, known = await baseline.load(connection, customer_ids)
    async for raw in raw_events.of_customers(connection, customer_ids):
        counting.count(raw.applied, state)
        known |= {accepted.event.customer_id for accepted in raw.applied}
        for row, reason in raw.unreadable:
            found.unreadable.add(row.customer_id)
            said = f"raw event {row.event_id!r}", "applied", f"unreadable ({reason}); this customer is left as it is"
            found.differences.append(Difference(row.customer_id, *said, mendable=False))
    return _kept(state, known)


def _kept(state: Counted, known: Iterable[CustomerId]) -> _Kept:
    return _Kept(
        profiles={customer_id: state.profiles.get(customer_id, {}) for customer_id in known},
        orders=state.orders,
        retractions=state.retractions,
        buckets={place: bucket for place, bucket in state.bucket_changes.items() if any(bucket)},
    )


async def _stored(connection: AsyncConnection, customer_ids: Sequence[CustomerId]) -> _Kept:
    asked = {"customer_ids": list(customer_ids)}
    customers = (await connection.execute(_STORED_CUSTOMERS, asked)).all()
    orders = await connection.execute(_STORED_ORDERS, asked)
    retractions = await connection.execute(_STORED_RETRACTIONS, asked)
    kept = _Kept(
        profiles={row.customer_id: profile_from_json(row.profile) for row in customers},
        orders={OrderKey(row.customer_id, row.order_id): order_from_row(row) for row in orders},
        retractions={Retraction(row.customer_id, EventKey(row.event_key)) for row in retractions},
        snapshots=await load_snapshots(connection, customer_ids),
        descriptions={
            row.customer_id: description_from_json(row.description) for row in customers if row.description is not None
        },
    )
    for row in await connection.execute(_STORED_BUCKETS, asked):
        day, bucket = bucket_from_row(row)
        kept.buckets[row.customer_id, day] = bucket
    return kept


def _compare_counts(found: _Found, stored: _Kept, recounted: _Kept) -> None:
    tell = found.differences
    for customer_id in _differing(stored.profiles, recounted.profiles):
        found.customers.add(customer_id)
        tell += _profile_differences(customer_id, stored.profiles.get(customer_id), recounted.profiles.get(customer_id))
    for customer_id in sorted(stored.descriptions.keys() & recounted.profiles.keys() - found.customers):
        if stored.descriptions[customer_id] != traits.describe(recounted.profiles[customer_id]):
            found.customers.add(customer_id)
            said = "another one", "what the profile says"
            tell.append(Difference(customer_id, "profile: as decisions look at it", *said))
    for key in _differing(stored.orders, recounted.orders):
        found.orders.add(key)
        rows = [order_row(key, each.orders[key]) if key in each.orders else None for each in (stored, recounted)]
        tell += _columns(key.customer_id, f"order {key.order_id!r}", ORDER_COLUMNS, *rows)
    for retraction in sorted(stored.retractions ^ recounted.retractions, key=lambda each: (each.customer_id, each.key)):
        found.retractions.add(retraction)
        said = ("there", _NOTHING) if retraction in stored.retractions else (_NOTHING, "there")
        tell.append(Difference(retraction.customer_id, f"retraction of the event of key {retraction.key.hex()}", *said))
    filled = {place: bucket for place, bucket in stored.buckets.items() if any(bucket)}
    for place in _differing(filled, recounted.buckets):
        found.days.add(place)
        customer_id, day = place
        tell += _columns(customer_id, f"day {day}", DayBucket._fields, filled.get(place), recounted.buckets.get(place))


def _differing(stored: Mapping[Any, Any], recounted: Mapping[Any, Any]) -> list[Any]:
    """Keys of what is not the same on both sides."""
    everything = stored.keys() | recounted.keys()
    return sorted(
        key for key in everything if key not in stored or key not in recounted or stored[key] != recounted[key]
    )


def _columns(
    customer_id: CustomerId,
    what: str,
    names: Sequence[str],
    stored: Sequence[Any] | None,
    recounted: Sequence[Any] | None,
) -> list[Difference]:
    if stored is None or recounted is None:
        said = (_NOTHING if stored is None else "there", _NOTHING if recounted is None else "there")
        return [Difference(customer_id, what, *said)]
    return [
        Difference(customer_id, f"{what}: {name}", str(one), str(other))
        for name, one, other in zip(names, stored, recounted, strict=True)
        if one != other
    ]


def _profile_differences(
    customer_id: CustomerId, stored: Profile | None, recounted: Profile | None
) -> list[Difference]:
    """By the events that values come from: a profile may be personal, and this is printed."""
    if stored is None or recounted is None:
        said = (_NOTHING, "a known one") if stored is None else ("a known one", _NOTHING)
        return [Difference(customer_id, "customer", *said)]
    told: list[Difference] = []
    for name in _differing(stored, recounted):
        origins = [
            f"what event {each[name][0].event_id!r} said" if name in each else _NOTHING for each in (stored, recounted)
        ]
        if origins[0] == origins[1]:
            origins = ["another value of the same event", origins[1]]
        told.append(Difference(customer_id, f"profile: {name}", origins[0], origins[1]))
    return told


def _compare_snapshots(found: _Found, standing: Snapshot, again: Snapshot) -> None:
    for name in Snapshot.__struct_fields__:
        one, other = getattr(standing, name), getattr(again, name)
        if name not in _NOT_OF_EVENTS and one != other:
            found.snapshots.add(standing.customer_id)
            what = f"assessment: {name}"
            found.differences.append(Difference(standing.customer_id, what, _shown(one), _shown(other)))


def _shown(value: object) -> str:
    if isinstance(value, Struct):
        return msgspec.json.encode(value).decode()
    return json.dumps(value, default=str) if isinstance(value, tuple) else str(value)


async def _remove(connection: AsyncConnection, table: str, places: Collection[tuple[CustomerId, Any]]) -> None:
    ordered = sorted(places)
    if ordered:
        asked = {"customer_ids": [place[0] for place in ordered], "keys": [place[1] for place in ordered]}
        await connection.execute(_REMOVE[table], asked)
