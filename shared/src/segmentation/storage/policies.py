"""The policy's versions over PostgreSQL, and the dry run over everyone."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation import assessment, metrics
from segmentation import policy as policies
from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.assessment import Snapshot
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.dry_run import DryRun, Tally
from segmentation.errors import DryRunBusy, PolicyFrozen
from segmentation.fields import CustomerId
from segmentation.ledger import House
from segmentation.money import MINOR_UNITS
from segmentation.policy import Policy
from segmentation.storage.assessed import load_decision_columns, load_snapshots
from segmentation.storage.audit import note_deeds
from segmentation.storage.circumstances import load_descriptions, load_order_traits
from segmentation.storage.engine import transaction
from segmentation.storage.foundation import (
    ACTIVATE,
    LATEST_VERSION,
    LOCK_HOUSE,
    NOTE_ACTIVATION,
    WAITING,
    Deciders,
    Library,
    load_state,
)
from segmentation.storage.tiers import load_roster
from segmentation.tiering import TIERS, Roster, Tier
from segmentation.versions import Activation, Origin, PolicyState, PolicyVersion

_VERSIONS = text(f"""
    SELECT policies.*, house.policy_version AS in_force,
           (SELECT max(activated_at) FROM policy_activations AS each WHERE each.version = policies.version)
             AS activated_at,
           (SELECT min(on_day) FROM policy_activations AS each WHERE each.version = policies.version AND {WAITING})
             AS scheduled_on
    FROM policies CROSS JOIN house
    WHERE CAST(:version AS integer) IS NULL OR policies.version = :version
    ORDER BY policies.version DESC
""")  # noqa: S608 - a constant of our own
_ACTIVATIONS = text("SELECT * FROM policy_activations ORDER BY id DESC LIMIT :limit")
_PUT = text("""
    INSERT INTO policies AS stored (version, source, author, note, origin)
    VALUES (:version, :source, :author, :note, 'api')
    ON CONFLICT (version) DO UPDATE
    SET source = EXCLUDED.source, author = EXCLUDED.author, note = EXCLUDED.note, created_at = now()
""")
_SCHEDULE = text("""
    INSERT INTO policy_activations (version, on_day, author, reason)
    VALUES (:version, :on_day, :author, :reason) RETURNING *
""")
_CANCEL = text(f"""
    UPDATE policy_activations SET cancelled_at = now() WHERE version = :version AND {WAITING} RETURNING id
""")  # noqa: S608 - a constant of our own
_CHUNK = 2_000
_SEED = 7_315_009
"""Whom a run that does not get to everyone looks at; the same every time."""


class PostgresPolicies:
    """`segmentation.versions.Policies` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._house = house
        self._calendar = BusinessCalendar(house.time_zone)
        self._decimals = MINOR_UNITS[house.base_currency]
        self._library = Library(house.base_currency)
        self._trying = asyncio.Lock()

    async def versions(self) -> Sequence[PolicyVersion]:
        async with transaction(self._engine) as connection:
            return [_version(row) for row in await connection.execute(_VERSIONS, {"version": None})]

    async def find(self, version: int) -> PolicyVersion | None:
        async with transaction(self._engine) as connection:
            return await _find(connection, version)

    async def activations(self, *, limit: int) -> Sequence[Activation]:
        async with transaction(self._engine) as connection:
            return [_activation(row) for row in await connection.execute(_ACTIVATIONS, {"limit": limit})]

    async def draft(
        self, version: int, source: str, *, author: str | None, note: str | None, by: Actor = ANYONE
    ) -> PolicyVersion:
        policies.parse(source, version=version, decimals=self._decimals)
        async with transaction(self._engine) as connection:
            await connection.execute(LOCK_HOUSE)
            stands = await _find(connection, version)
            following = int(await connection.scalar(LATEST_VERSION) or 0) + 1
            if stands is None and version != following:
                raise PolicyFrozen(f"there is no version {version} yet; the next free one is {following}")
            if stands is not None and stands.state is not PolicyState.DRAFT:
                raise PolicyFrozen(
                    f"version {version} is {stands.state} and never changes; put the text under version {following}"
                )
            put = {"version": version, "source": source, "author": author, "note": note}
            await connection.execute(_PUT, put)
            await note_deeds(connection, by, [Deed(Action.POLICY_DRAFTED, str(version), reason=note, author=author)])
            stored = await _find(connection, version)
            assert stored is not None  # noqa: S101 - just put there
            return stored

    async def activate(
        self, version: int, *, on: date | None, author: str, reason: str | None, now: datetime, by: Actor = ANYONE
    ) -> Activation | None:
        async with transaction(self._engine) as connection:
            await connection.execute(LOCK_HOUSE)
            found = await _find(connection, version)
            if found is None:
                return None
            # Whatever was understood when it was put there must still be, before everyone is decided by it.
            policies.parse(found.source, version=version, decimals=self._decimals)
            state = await load_state(connection)
            as_of = self._as_of(state.as_of, now)
            asked = {"version": version, "author": author, "reason": reason}
            later = on is not None and (as_of is None or on > as_of)
            action = Action.POLICY_SCHEDULED if later else Action.POLICY_ACTIVATED
            detail = {"on": on and on.isoformat(), "in_force": state.policy_version}
            await note_deeds(connection, by, [Deed(action, str(version), None, reason, author, detail)])
            if later:
                return _activation((await connection.execute(_SCHEDULE, asked | {"on_day": on})).one())
            noted = (await connection.execute(NOTE_ACTIVATION, asked | {"on_day": on})).one()
            await connection.execute(ACTIVATE, {"version": version})
            return _activation(noted)

    async def cancel(self, version: int, *, by: Actor = ANYONE) -> int:
        async with transaction(self._engine) as connection:
            await connection.execute(LOCK_HOUSE)
            cancelled = len((await connection.execute(_CANCEL, {"version": version})).all())
            if cancelled:
                deed = Deed(Action.POLICY_CANCELLED, str(version), detail={"activations": cancelled})
                await note_deeds(connection, by, [deed])
            return cancelled

    async def dry_run(self, policy: str | int, *, now: datetime, limit_seconds: float, examples: int) -> DryRun | None:
        if self._trying.locked():
            raise DryRunBusy("another dry run is at work here; try again when it has ended")
        async with self._trying:
            begun = time.monotonic()
            if isinstance(policy, int):
                found = await self.find(policy)
                if found is None:
                    return None
                policy = found.source
            return await self._try(policy, now, begun, begun + limit_seconds, Tally(examples=examples))

    async def _try(self, source: str, now: datetime, begun: float, until: float, tally: Tally) -> DryRun:
        candidate = policies.parse(source, version=0, decimals=self._decimals)
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            state = await load_state(connection)
            current = await self._library.policy(connection, state.policy_version)
            model = await self._library.model(connection, state.model_version)
            by = Deciders(candidate, model, state.model_version)
            as_of = self._as_of(state.as_of, now)
            roster = await load_roster(connection)
            everyone = len(roster)
            if as_of is not None:
                order = np.random.default_rng(_SEED).permutation(everyone)
                chunks = [order[start : start + _CHUNK] for start in range(0, everyone, _CHUNK)]
                standing = await asyncio.to_thread(roster.rank, current.tiers)
                if candidate.tiers.basis is not current.tiers.basis:
                    roster = await self._on_another_basis(
                        connection, roster, chunks=chunks, as_of=as_of, candidate=candidate, until=until
                    )
                if len(roster) < everyone:
                    chunks = []  # no time to find whom to rank by what
                would_be = await asyncio.to_thread(roster.rank, candidate.tiers)
                for chunk in chunks:
                    if time.monotonic() > until:
                        break
                    rows = sorted(chunk.tolist())
                    ids = _ids(roster, rows)
                    sides = (
                        _Side(current, dict(zip(ids, (TIERS[standing.tiers[row]] for row in rows), strict=True))),
                        _Side(candidate, dict(zip(ids, (TIERS[would_be.tiers[row]] for row in rows), strict=True))),
                    )
                    await _look_at(connection, ids, sides, by, as_of=as_of, tally=tally, now=now)
        return tally.told(
            as_of=as_of,
            policy_version=state.policy_version,
            policy_name=candidate.name,
            customers=everyone,
            seconds=time.monotonic() - begun,
        )

    async def _on_another_basis(
        self,
        connection: AsyncConnection,
        roster: Roster,
        *,
        chunks: Sequence[Any],
        as_of: date,
        candidate: Policy,
        until: float,
    ) -> Roster:
        """Everyone, ranked by another figure; nobody where there was no time to find it for all."""
        values: list[int] = [0] * len(roster)
        for chunk in chunks:
            if time.monotonic() > until:
                return Roster([], metrics.column([]), np.array([], dtype=np.int64))
            rows = chunk.tolist()
            rolled = metrics.roll(await load_decision_columns(connection, _ids(roster, rows)), as_of)
            for place, row in enumerate(rows):
                values[row] = assessment.ranked_value(rolled, candidate.tiers.basis, place) or 0
        ranks = np.zeros(len(roster), dtype=np.int64)  # of no matter: they are about to be found
        return Roster(_ids(roster, range(len(roster))), metrics.column(values), ranks)

    def _as_of(self, event_day: date | None, now: datetime) -> date | None:
        return self._calendar.business_day(instant_of(now)) if self._house.clock == "system" else event_day


def _ids(roster: Roster, rows: Sequence[int]) -> list[CustomerId]:
    return [roster.customer_id(row) for row in rows]


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two policies, and the tiers that it gives some customers."""

    policy: Policy
    tiers: Mapping[CustomerId, Tier]


async def _look_at(
    connection: AsyncConnection,
    customer_ids: Sequence[CustomerId],
    sides: tuple[_Side, _Side],
    by: Deciders,
    *,
    as_of: date,
    tally: Tally,
    now: datetime,
) -> None:
    """Assesses some customers by both policies, by the one in force only where what stands has been overtaken."""
    current, candidate = sides
    snapshots = await load_snapshots(connection, customer_ids)
    described = await load_descriptions(connection, customer_ids)
    ordered = await load_order_traits(connection, customer_ids, snapshots)
    table = await load_decision_columns(connection, customer_ids)

    def stands(snapshot: Snapshot) -> bool:
        return snapshot.history.computed is current.tiers[snapshot.customer_id] and not snapshot.overtaken(
            as_of, current.policy.version, by.model_version
        )

    def look() -> None:
        rolled = metrics.roll(table, as_of)
        outlooks = by.look_ahead(table, as_of)

        def assessed(side: _Side) -> list[Snapshot]:
            return assessment.assess(
                *(rolled, snapshots, side.policy),
                now=now,
                computed=side.tiers,
                described=described,
                ordered=ordered,
                outlooks=outlooks,
                model_version=by.model_version,
            )

        before = snapshots
        if not all(map(stands, snapshots.values())):
            before = {each.customer_id: each for each in assessed(current)}
        tally.count(rolled, before, assessed(candidate))

    # In a thread: whoever asks for a segment meanwhile is to be answered.
    await asyncio.to_thread(look)


async def _find(connection: AsyncConnection, version: int) -> PolicyVersion | None:
    row = (await connection.execute(_VERSIONS, {"version": version})).one_or_none()
    return None if row is None else _version(row)


def _version(row: Any) -> PolicyVersion:  # noqa: ANN401 - a row of _VERSIONS
    state = PolicyState.DRAFT
    if row.version == row.in_force:
        state = PolicyState.ACTIVE
    elif row.scheduled_on is not None:
        state = PolicyState.SCHEDULED
    elif row.activated_at is not None:
        state = PolicyState.RETIRED
    return PolicyVersion(
        version=row.version,
        state=state,
        origin=Origin(row.origin),
        author=row.author,
        note=row.note,
        created_at=row.created_at,
        activated_at=row.activated_at,
        scheduled_on=row.scheduled_on,
        source=row.source,
    )


def _activation(row: Any) -> Activation:  # noqa: ANN401 - a row of policy_activations
    return Activation(
        id=row.id,
        version=row.version,
        on=row.on_day,
        author=row.author,
        reason=row.reason,
        requested_at=row.requested_at,
        activated_at=row.activated_at,
        cancelled_at=row.cancelled_at,
        replaced_version=row.replaced_version,
    )
