"""The read side: what the API answers from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation import assessment, chronicle, metrics
from segmentation.answers import (
    Answer,
    Answers,
    AppliedEvent,
    DayTotal,
    EventFate,
    IngestStatus,
    PartitionStatus,
    TierOverview,
    TierShare,
)
from segmentation.assessment import Snapshot
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.dossiers import Evidence, History
from segmentation.events import event_key
from segmentation.feeds import FullSnapshot
from segmentation.fields import CustomerId
from segmentation.ledger import DeadLetter, House
from segmentation.metrics import Metrics
from segmentation.outcomes import Outcome, Partition
from segmentation.policy import Policy
from segmentation.risk import look_ahead
from segmentation.scoring import Model
from segmentation.storage import history
from segmentation.storage.assessed import load_buckets, load_decision_columns, load_snapshots
from segmentation.storage.budgets import halt_from_row
from segmentation.storage.circumstances import load_descriptions, load_order_traits
from segmentation.storage.engine import transaction
from segmentation.storage.foundation import Library
from segmentation.storage.workers import LIVES, load_workers
from segmentation.tiering import TIERS, CutOffs, Standing, Tier
from segmentation.traits import NO_DESCRIPTION
from segmentation.watching import TIERS_LAG

FULL_SNAPSHOT_COLUMNS = "id, attempt, requested_at, begun_at, done_at, customers"
_FULL_SNAPSHOTS = text(
    f"SELECT {FULL_SNAPSHOT_COLUMNS} FROM full_snapshots ORDER BY id DESC LIMIT :limit"  # noqa: S608 - names of our own
)

_MOMENT = text("""
    SELECT house.as_of, house.policy_version, house.model_version, house.events_known_since, house.customers_erased,
           (SELECT as_of FROM tier_state) AS tiers_as_of,
           (SELECT min(unsettled_since) FROM partitions) AS unsettled_since,
           clock_timestamp() AS asked_at
    FROM house
""")
_IS_KNOWN = text("SELECT 1 FROM customers WHERE customer_id = :customer_id")
_TIERS = text("SELECT as_of, overview FROM tier_state WHERE overview IS NOT NULL")
_PARTITIONS = text(f"""
    SELECT partitions.*, workers.owner AS worker FROM partitions
    LEFT JOIN workers ON workers.owner = partitions.owner AND workers.{LIVES}
    ORDER BY topic, number
""")  # noqa: S608 - a constant of our own
_COVERED = text("SELECT as_of, policy_version, covered FROM tier_state")
_LARGEST = text("SELECT customer_id FROM snapshots WHERE value > 0 ORDER BY value DESC, customer_id LIMIT :limit")
DEAD_LETTER_COLUMNS = (
    'id, topic, partition, "offset", reason, field, sentence, customer_id, event_id, recorded_at, '
    "replayed_as, replayed_at, erased_at"
)
_DEAD_LETTERS = text(
    f"SELECT {DEAD_LETTER_COLUMNS} FROM dead_letters "  # noqa: S608 - names of our own
    "WHERE (CAST(:reason AS text) IS NULL OR reason = :reason) "
    "AND (CAST(:before_id AS bigint) IS NULL OR id < :before_id) ORDER BY id DESC LIMIT :limit"
)
_DEAD_LETTER = text(
    f"SELECT {DEAD_LETTER_COLUMNS}, value, headers FROM dead_letters WHERE id = :id"  # noqa: S608 - names of our own
)


async def largest_customers(engine: AsyncEngine, limit: int) -> list[CustomerId]:
    """The customers of the greatest value, in ranking order."""
    async with transaction(engine) as connection:
        return list(await connection.scalars(_LARGEST, {"limit": limit}))


_RATES_IN_FORCE = text("""
    SELECT DISTINCT ON (currency) currency, (scaled_rate / 1e12)::double precision AS rate
    FROM exchange_rates WHERE day <= :day ORDER BY currency, day DESC
""")


async def rates_in_force(engine: AsyncEngine, day: date) -> dict[str, float]:
    """About what one unit of each foreign currency is worth in the base currency; for guesses, never for books."""
    async with transaction(engine) as connection:
        rows = await connection.execute(_RATES_IN_FORCE, {"day": day})
        return {row.currency: row.rate for row in rows}


_EVENT = text("""
    SELECT events.type, events.customer_id, events.business_day, events.topic, events.partition, events."offset",
           events.recorded_at,
           CASE WHEN retractions.event_key IS NOT NULL AND events.type IN ('return', 'complaint', 'feedback') THEN NULL
                ELSE coalesce(orders.event_id, events.event_id) END AS counting_event_id
    FROM events
    LEFT JOIN retractions
      ON retractions.customer_id = events.customer_id AND retractions.event_key = events.event_key
    LEFT JOIN orders
      ON events.type IN ('order', 'order_cancelled') AND orders.customer_id = events.customer_id
     AND orders.order_id = events.order_id
    WHERE events.event_key = :event_key
""")
_REJECTIONS = text(
    f"SELECT {DEAD_LETTER_COLUMNS} FROM dead_letters "  # noqa: S608 - names of our own
    "WHERE event_id = :event_id ORDER BY id DESC LIMIT :limit"
)
_TOTALS = text("""
    SELECT business_day, type, currency, sum(events)::bigint AS events, sum(amount) AS amount FROM (
        SELECT business_day, type, currency, count(*) AS events, sum(given_amount) AS amount FROM events
        WHERE business_day BETWEEN :first AND :last GROUP BY business_day, type, currency
        UNION ALL
        SELECT business_day, type, nullif(currency, ''), events, amount FROM dropped_totals
        WHERE business_day BETWEEN :first AND :last
    ) AS kept_and_dropped
    GROUP BY business_day, type, currency ORDER BY business_day, type, currency NULLS FIRST
""")
_REJECTIONS_SHOWN = 100


class PostgresReader:
    """`segmentation.dossiers.Dossiers` over PostgreSQL. Every answer is of one moment of the database."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._house = house
        self._calendar = BusinessCalendar(house.time_zone)
        self._library = Library(house.base_currency)

    async def answers(self, customer_ids: Iterable[CustomerId], *, now: datetime) -> Answers:
        async with self._reading() as connection:
            return await self._answers(connection, customer_ids, now)

    async def _answers(self, connection: AsyncConnection, customer_ids: Iterable[CustomerId], now: datetime) -> Answers:
        moment = await self.moment(connection)
        return await self.answers_of(connection, moment, await load_snapshots(connection, customer_ids), now=now)

    async def moment(self, connection: AsyncConnection) -> Any:  # noqa: ANN401 - a row of _MOMENT
        """What all answers of one moment have in common."""
        return (await connection.execute(_MOMENT)).one()

    async def answers_of(
        self,
        connection: AsyncConnection,
        moment: Any,  # noqa: ANN401 - a row of _MOMENT
        snapshots: dict[CustomerId, Snapshot],
        *,
        now: datetime,
    ) -> Answers:
        """The answers that stored snapshots of that moment amount to; those that have come due are assessed anew."""
        snapshots = dict(snapshots)
        as_of = self._as_of(moment, now)
        by = await self._library.deciders(connection, moment.policy_version, moment.model_version)
        if as_of is None:
            return Answers(None, {}, by.policy, by.model)
        due = [
            customer_id
            for customer_id, snapshot in snapshots.items()
            if snapshot.overtaken(as_of, by.policy.version, by.model_version)
            or snapshot.order_traits is None  # assessed before anything but figures decided
        ]
        if due:
            table = await load_decision_columns(connection, due)
            # As the sweep will find them; a reader stores nothing.
            again_assessed = assessment.assess(
                metrics.roll(table, as_of),
                snapshots,
                by.policy,
                now=now,
                described=await load_descriptions(connection, due),
                ordered=await load_order_traits(connection, due, snapshots),
                outlooks=by.look_ahead(table, as_of),
                model_version=by.model_version,
            )
            for again in again_assessed:
                # Stored when it was, so that asking again gives the same answer.
                stored_at = snapshots[again.customer_id].updated_at
                snapshots[again.customer_id] = replace(again, updated_at=stored_at)
        policies, models = await self._deciders(connection, snapshots.values())
        behind = moment.unsettled_since is not None and moment.asked_at - moment.unsettled_since > TIERS_LAG
        stale = behind or moment.tiers_as_of is None or moment.tiers_as_of < as_of
        known = {
            customer_id: Answer(
                as_of, snapshot, policies[snapshot.policy_version], stale, models[snapshot.model_version]
            )
            for customer_id, snapshot in snapshots.items()
        }
        return Answers(as_of, known, by.policy, by.model)

    async def _deciders(
        self, connection: AsyncConnection, snapshots: Iterable[Snapshot]
    ) -> tuple[dict[int, Policy], dict[int, Model | None]]:
        """The policies and models that decided snapshots, by version."""
        policies: dict[int, Policy] = {}
        models: dict[int, Model | None] = {}
        for snapshot in snapshots:
            if snapshot.policy_version not in policies:
                policies[snapshot.policy_version] = await self._library.policy(connection, snapshot.policy_version)
            if snapshot.model_version not in models:
                models[snapshot.model_version] = await self._library.model(connection, snapshot.model_version)
        return policies, models

    async def recorded(self, customer_id: CustomerId, day: date) -> Answer | None:
        async with self._reading() as connection:
            snapshot = await history.last_up_to(connection, customer_id, day)
            if snapshot is None:
                return None
            policies, models = await self._deciders(connection, [snapshot])
            policy, model = policies[snapshot.policy_version], models[snapshot.model_version]
            return Answer(day, snapshot, policy, stale=False, model=model)

    async def history(
        self, customer_id: CustomerId, *, before: int | None, limit: int, now: datetime
    ) -> History | None:
        async with self._reading() as connection:
            as_of = self._as_of((await connection.execute(_MOMENT)).one(), now)
            if as_of is None or not await connection.scalar(_IS_KNOWN, {"customer_id": customer_id}):
                return None
            rows = await history.page(connection, customer_id, before=before, limit=limit + 1)
            policies, models = await self._deciders(connection, [entry.after for _, entry, _ in rows])
        entries, next_before = chronicle.paired(rows, limit)
        return History(as_of, entries, policies, models, next_before)

    async def evidence(self, customer_id: CustomerId, *, now: datetime) -> Evidence | None:
        async with self._reading() as connection:
            answers = await self._answers(connection, [customer_id], now)
            answer = answers.known.get(customer_id)
            if answer is None:
                return None
            table = await load_decision_columns(connection, [customer_id])
            outlooks = look_ahead(answer.model, table, answer.as_of, decimals=answer.policy.decimals)
            described = await load_descriptions(connection, [customer_id])
            row = (await connection.execute(_TIERS)).one_or_none()
        published = _cutoffs(row.overview) if row is not None else {}
        last = {tier: standing and Standing(*standing) for tier, standing in published.items()}
        description = described.get(customer_id, NO_DESCRIPTION)
        rolled, cutoffs = metrics.roll(table, answer.as_of), CutOffs(last.get(Tier.A), last.get(Tier.B))
        return Evidence(answer, rolled, cutoffs, description, outlooks)

    async def figures(self, customer_id: CustomerId, *, now: datetime) -> tuple[date, Metrics] | None:
        async with self._reading() as connection:
            as_of = self._as_of((await connection.execute(_MOMENT)).one(), now)
            known = await connection.scalar(_IS_KNOWN, {"customer_id": customer_id})
            if as_of is None or not known:
                return None
            return as_of, metrics.roll(await load_buckets(connection, [customer_id]), as_of)

    async def tiers(self) -> TierOverview:
        async with self._reading() as connection:
            row = (await connection.execute(_TIERS)).one_or_none()
            if row is None:
                moment = (await connection.execute(_MOMENT)).one()
                policy = await self._library.policy(connection, moment.policy_version)
                nobody = [TierShare(tier, 0, 0) for tier in TIERS]
                return TierOverview(None, policy.tiers.basis, 0, {"A": None, "B": None}, nobody, [])
        overview = row.overview
        return TierOverview(
            as_of=row.as_of,
            basis=overview["basis"],
            total=int(overview["total"]),
            cutoffs=_cutoffs(overview),
            tiers=[TierShare(tier, customers, int(value)) for tier, customers, value in overview["tiers"]],
            pareto=[(customers, share) for customers, share in overview["pareto"]],
        )

    async def status(self, *, now: datetime) -> IngestStatus:
        async with self._reading() as connection:
            moment = (await connection.execute(_MOMENT)).one()
            as_of = self._as_of(moment, now)
            rows = (await connection.execute(_PARTITIONS)).all()
            workers = await load_workers(connection)
            tiers = (await connection.execute(_COVERED)).one_or_none()
        applied = sum(row.applied for row in rows)
        wanted = (as_of, moment.policy_version, applied)
        covered = tiers is not None and (tiers.as_of, tiers.policy_version, tiers.covered) == wanted
        return IngestStatus(
            as_of=as_of,
            partitions=[
                PartitionStatus(
                    Partition(row.topic, row.number), row.next_offset, row.end_offset, row.worker, halt_from_row(row)
                )
                for row in rows
            ],
            workers=workers,
            events={outcome: sum(getattr(row, outcome) for row in rows) for outcome in Outcome},
            customers=sum(row.new_customers for row in rows) - moment.customers_erased,
            tiers_as_of=tiers.as_of if tiers else None,
            tiers_current=covered or applied == 0,
            last_applied_at=max((row.last_applied_at for row in rows if row.last_applied_at), default=None),
            events_known_since=moment.events_known_since,
            model_version=moment.model_version,
        )

    async def dead_letters(self, *, reason: str | None, before_id: int | None, limit: int) -> Sequence[DeadLetter]:
        async with self._reading() as connection:
            rows = await connection.execute(_DEAD_LETTERS, {"reason": reason, "before_id": before_id, "limit": limit})
            return [dead_letter_from_row(row, whole=False) for row in rows]

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        async with self._reading() as connection:
            row = (await connection.execute(_DEAD_LETTER, {"id": letter_id})).one_or_none()
            return None if row is None else dead_letter_from_row(row, whole=True)

    async def event(self, event_id: str) -> EventFate | None:
        async with self._reading() as connection:
            row = (await connection.execute(_EVENT, {"event_key": event_key(event_id)})).one_or_none()
            asked = {"event_id": event_id, "limit": _REJECTIONS_SHOWN + 1}
            rejections = [
                dead_letter_from_row(letter, whole=False) for letter in await connection.execute(_REJECTIONS, asked)
            ]
        if row is None and not rejections:
            return None
        applied = None
        if row is not None:
            applied = AppliedEvent(
                type=row.type,
                customer_id=row.customer_id,
                business_day=row.business_day,
                partition=Partition(row.topic, row.partition),
                offset=row.offset,
                recorded_at=row.recorded_at,
                counting_event_id=row.counting_event_id,
            )
        older = len(rejections) > _REJECTIONS_SHOWN
        return EventFate(event_id, applied, rejections[:_REJECTIONS_SHOWN], older)

    async def totals(self, first: date, last: date) -> Sequence[DayTotal]:
        async with self._reading() as connection:
            rows = await connection.execute(_TOTALS, {"first": first, "last": last})
            return [DayTotal(row.business_day, row.type, row.currency, row.events, row.amount) for row in rows]

    async def full_snapshots(self, *, limit: int) -> Sequence[FullSnapshot]:
        async with self._reading() as connection:
            return [full_snapshot_from_row(row) for row in await connection.execute(_FULL_SNAPSHOTS, {"limit": limit})]

    async def ping(self) -> Mapping[str, Any]:
        async with self._reading() as connection:
            row = (await connection.execute(_MOMENT)).one()
            policy = await self._library.policy(connection, row.policy_version)
            return {"policy": policy.version}

    def _reading(self) -> Any:  # noqa: ANN401 - the context manager of `transaction`
        return transaction(self._engine, isolation="REPEATABLE READ")

    def _as_of(self, moment: Any, now: datetime) -> date | None:  # noqa: ANN401 - a row of _MOMENT
        if self._house.clock == "system":
            return self._calendar.business_day(instant_of(now))
        as_of: date | None = moment.as_of
        return as_of


def _cutoffs(overview: Mapping[str, Any]) -> dict[str, tuple[int, CustomerId] | None]:
    return {tier: (int(last[0]), CustomerId(last[1])) if last else None for tier, last in overview["cutoffs"].items()}


def full_snapshot_from_row(row: Any) -> FullSnapshot:  # noqa: ANN401 - a row of full_snapshots
    """A stored full snapshot."""
    return FullSnapshot(row.id, row.attempt, row.requested_at, row.begun_at, row.done_at, row.customers)


def dead_letter_from_row(row: Any, *, whole: bool) -> DeadLetter:  # noqa: ANN401 - a row of dead_letters
    """A stored dead letter; `whole` with the bytes and headers of the message."""
    headers = json.loads(row.headers or "[]") if whole else []
    return DeadLetter(
        id=row.id,
        partition=Partition(row.topic, row.partition),
        offset=row.offset,
        reason=row.reason,
        field_name=row.field,
        sentence=row.sentence,
        customer_id=row.customer_id,
        event_id=row.event_id,
        recorded_at=row.recorded_at,
        replayed_as=row.replayed_as,
        replayed_at=row.replayed_at,
        value=row.value if whole else None,
        headers=[(name, value) for name, value in headers],
        erased=row.erased_at is not None,
    )
