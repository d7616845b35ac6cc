"""Overrides set and ended: with the customer's new assessment, its announcement and its history in one transaction."""

from collections.abc import Mapping
from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.fields import CustomerId
from segmentation.ledger import House
from segmentation.overrides import ByHand, Ending, Override, OverrideRefusal, WantedOverride, judge_override
from segmentation.storage import tables
from segmentation.storage.assessed import assess_customers, load_snapshots, lock_customers
from segmentation.storage.audit import note_deeds
from segmentation.storage.bulk import insert_rows, update_all
from segmentation.storage.engine import transaction
from segmentation.storage.foundation import Library, load_state

_COLUMNS = tuple(column.name for column in tables.overrides.columns)
_END = text("DELETE FROM overrides WHERE customer_id = :customer_id")
UNKNOWN = OverrideRefusal(None, "no such customer is known")


class PostgresOverrides:
    """`segmentation.dossiers.Overrides` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._house = house
        self._calendar = BusinessCalendar(house.time_zone)
        self._library = Library(house.base_currency)

    async def set_overrides(
        self, wanted: Mapping[CustomerId, WantedOverride], *, now: datetime, by: Actor = ANYONE
    ) -> Mapping[CustomerId, OverrideRefusal | None]:
        async with transaction(self._engine) as connection:
            await lock_customers(connection, wanted)
            known = await load_snapshots(connection, wanted)
            # After the locks: the event clock may have moved on meanwhile.
            state = await load_state(connection)
            as_of = self._today(now) or state.as_of
            if as_of is None:
                return dict.fromkeys(wanted, UNKNOWN)
            deciders = await self._library.deciders(connection, state.policy_version, state.model_version)
            judged = {
                customer_id: judge_override(each, deciders.policy, as_of=as_of, now=now)
                if customer_id in known
                else UNKNOWN
                for customer_id, each in wanted.items()
            }
            accepted = {customer_id: each for customer_id, each in judged.items() if isinstance(each, Override)}
            await assess_customers(connection, accepted, as_of=as_of, by=deciders, now=now, by_hand=accepted)
            await _store(connection, accepted)
            await note_deeds(connection, by, (_set(customer_id, each) for customer_id, each in accepted.items()))
        return {
            customer_id: each if isinstance(each, OverrideRefusal) else None for customer_id, each in judged.items()
        }

    async def end_override(self, customer_id: CustomerId, ending: Ending, *, now: datetime, by: Actor = ANYONE) -> bool:
        async with transaction(self._engine) as connection:
            await lock_customers(connection, [customer_id])
            known = await load_snapshots(connection, [customer_id])
            state = await load_state(connection)
            as_of = self._today(now) or state.as_of
            if as_of is None or customer_id not in known:
                return False
            override = known[customer_id].override
            if override is not None and override.counts(as_of):
                by_hand: ByHand = {customer_id: ending}
                deciders = await self._library.deciders(connection, state.policy_version, state.model_version)
                await assess_customers(connection, by_hand, as_of=as_of, by=deciders, now=now, by_hand=by_hand)
                await connection.execute(_END, {"customer_id": customer_id})
                ended = Deed(Action.OVERRIDE_ENDED, customer_id=customer_id, reason=ending.reason, author=ending.author)
                await note_deeds(connection, by, [ended])
        return True

    def _today(self, now: datetime) -> date | None:
        return self._calendar.business_day(instant_of(now)) if self._house.clock == "system" else None


def _set(customer_id: CustomerId, override: Override) -> Deed:
    return Deed(
        Action.OVERRIDE_SET,
        customer_id=customer_id,
        reason=override.reason,
        author=override.author,
        detail={
            "tier": override.tier,
            "service_level": override.service_level,
            "expires_on": override.expires_on.isoformat(),
        },
    )


async def _store(connection: AsyncConnection, overrides: Mapping[CustomerId, Override]) -> None:
    await insert_rows(
        connection,
        tables.overrides,
        _COLUMNS,
        (
            (customer_id, each.tier, each.service_level, each.reason, each.author, each.expires_on, each.set_at)
            for customer_id, each in overrides.items()
        ),
        then=update_all(tables.overrides, _COLUMNS),
    )
