"""The write side: one PostgreSQL transaction is the whole effect of a batch."""

import base64
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation import counting, outcomes, traits
from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.budget import DEFAULT_BUDGET, RejectBudget
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.envelopes import Headers
from segmentation.errors import StoreUnavailable
from segmentation.events import (
    TYPE_NAMES,
    EventKey,
    FeedbackGiven,
    OrderPlaced,
    ReturnReceived,
    decode,
    fingerprint,
)
from segmentation.fields import CustomerId
from segmentation.intake import POSTED, Verdict
from segmentation.ledger import Batch, Claim, Halt, House, Place, Receipt, Replay
from segmentation.outcomes import AcceptedEvent, Delivery, Judgement, Outcome, Partition, Reading, Settled
from segmentation.storage import budgets, positions, suppression, tables, tiers, workers
from segmentation.storage import counted as counted_state
from segmentation.storage.assessed import assess_customers, lock_customers
from segmentation.storage.audit import note_deeds
from segmentation.storage.bulk import insert_rows
from segmentation.storage.engine import transaction, translated_failures
from segmentation.storage.foundation import Library, State, load_state
from segmentation.storage.positions import advance

_CONTENTS = text("""
    SELECT event_key, value, headers FROM events WHERE event_key = ANY(CAST(:event_keys AS bytea[]))
""")
_MOVE_AS_OF = text("""
    UPDATE house SET as_of = :day WHERE as_of IS NULL OR as_of < :day
""")
_AS_OF = text("SELECT as_of FROM house")

_TRY_LOCK = text("SELECT pg_try_advisory_lock(CAST(:place AS bigint))")
_LEASE = text("SET idle_session_timeout = '10s'")
_STILL_ALIVE = text("SELECT true")


_LETTER = text("SELECT * FROM dead_letters WHERE id = :id FOR UPDATE")
_STILL_REFUSED = text("""
    UPDATE dead_letters SET reason = :reason, field = :field, sentence = :sentence, replayed_at = now() WHERE id = :id
""")
_REPLAYED = text("UPDATE dead_letters SET replayed_as = :outcome, replayed_at = now() WHERE id = :id")
_REFUSED = text("""
    SELECT id FROM dead_letters
    WHERE id > :after AND replayed_as IS NULL AND (CAST(:reason AS text) IS NULL OR reason = :reason)
    ORDER BY id LIMIT :limit
""")
_POSTED_OFFSETS = text("SELECT nextval('posted_offsets') FROM generate_series(1, CAST(:events AS integer))")
_MOVE_COUNT = text("""
    -- A message has one outcome: it leaves the rejected for what the replay made of it.
    UPDATE partitions SET
        rejected = rejected - 1, applied = applied + :applied, duplicate = duplicate + :duplicate,
        suppressed = suppressed + :suppressed, new_customers = new_customers + :new_customers,
        last_applied_at = CASE WHEN :applied > 0 THEN clock_timestamp() ELSE last_applied_at END,
        unsettled_since = CASE WHEN :applied > 0 THEN coalesce(unsettled_since, clock_timestamp())
                               ELSE unsettled_since END
    WHERE topic = :topic AND number = :number
""")


@dataclass(frozen=True, slots=True)
class _TakenIn:
    """What steps 1 to 6 of `record` did."""

    settled: Settled
    first_heard: Counter[Partition]
    customers: int
    changes: int


class PostgresLedger:
    """`segmentation.ledger.Ledger` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, house: House, budget: RejectBudget = DEFAULT_BUDGET) -> None:
        self._engine = engine
        self._house = house
        self._budget = budget
        self._calendar = BusinessCalendar(house.time_zone)
        self._library = Library(house.base_currency)
        self._settling = tiers.Settling(engine, self._library)

    async def claim(self, partitions: Iterable[Partition], *, owner: str) -> Mapping[Partition, Claim]:
        async with transaction(self._engine) as connection:
            claims = await positions.claim(connection, partitions, owner)
            await workers.greet(connection, owner)
            return claims

    async def reposition(self, *, by: Actor = ANYONE) -> None:
        """Forgets how far every partition was read, for a broker that begins anew; counts stay."""
        async with transaction(self._engine) as connection:
            await positions.reposition(connection)
            await note_deeds(connection, by, [Deed(Action.PARTITIONS_REPOSITIONED, detail={"to": "earliest"})])

    async def note_ends(self, end_offsets: Mapping[Partition, int], *, owner: str) -> None:
        async with transaction(self._engine) as connection:
            await positions.note_ends(connection, end_offsets, owner)

    async def beat(self, *, owner: str, waiting_for: Sequence[Mapping[str, Any]]) -> None:
        await workers.beat(self._engine, owner, waiting_for)

    async def release(self, *, owner: str) -> None:
        async with transaction(self._engine) as connection:
            await positions.release(connection, owner)
            await workers.take_leave(connection, owner)

    async def record(self, batch: Batch, *, owner: str, now: datetime) -> Receipt:
        """Records the whole effect of a batch.

        The steps, in an order of locks that all writers keep (the gate of erasures, event ids, customers, house,
        partitions):

        1. keep erasures waiting, and decide what can be decided without the store,
        2. insert the ids of acceptable events; what was there already is a duplicate or a conflict,
        3. lock the customers of the applied events,
        4. count: orders, retractions, profiles, day buckets,
        5. move the event clock,
        6. roll, assess, announce for the customers touched,
        7. quarantine the rejects,
        8. add to the exact counters and move the next offsets, if the claims still hold,
        9. charge the rejects to the budgets of the partitions, and halt those that have used them up.
        """
        async with transaction(self._engine) as connection:
            taken = await self._take_in(connection, batch.readings, now)  # 1 to 6
            # 7
            await _quarantine(connection, taken.settled)
            # 8
            await advance(connection, batch, taken.settled, taken.first_heard, owner)
            # 9
            halted = await budgets.charge(connection, batch, taken.settled, self._budget)
        return Receipt(taken.settled.totals(), taken.customers, taken.changes, halted)

    async def take_in(self, readings: Sequence[Reading], *, now: datetime) -> Sequence[Verdict]:
        """Records what was posted by the steps of `record`, without a claim and without a budget."""
        if not readings:
            return []
        async with transaction(self._engine) as connection:
            # From a sequence, which nobody waits for: the partition's row is locked last, as by all writers.
            offsets = list(await connection.scalars(_POSTED_OFFSETS, {"events": len(readings)}))
            placed = [
                Reading(Delivery(POSTED, offset, each.delivery.value, each.delivery.headers), each.decoded)
                for offset, each in zip(offsets, readings, strict=True)
            ]
            taken = await self._take_in(connection, placed, now)  # 1 to 6
            await _quarantine(connection, taken.settled)  # 7
            await positions.add_posted(connection, taken.settled, taken.first_heard[POSTED], offsets[-1] + 1)  # 8
        return _verdicts(placed, taken.settled)

    async def try_out(self, readings: Sequence[Reading], *, now: datetime) -> Sequence[Verdict]:
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            judgement = await self._judge(connection, readings, await load_state(connection), now)
            known = await _known(connection, judgement.keys)
        new = judgement.candidates.keys() - known.keys()
        return _verdicts(readings, outcomes.settle(judgement, new=new, known=known))

    async def halts(self, partitions: Iterable[Partition]) -> Mapping[Partition, Halt]:
        async with transaction(self._engine) as connection:
            return await budgets.halts(connection, partitions)

    async def resume(
        self, partitions: Iterable[Partition] | None, *, by: Actor = ANYONE
    ) -> Mapping[Partition, Halt | None]:
        async with transaction(self._engine) as connection:
            return await budgets.resume(connection, partitions, by)

    async def _take_in(self, connection: AsyncConnection, readings: Sequence[Reading], now: datetime) -> _TakenIn:
        """Steps 1 to 6: everything but the rejects and the counters."""
        # 1
        await suppression.pass_gate(connection)
        state = await load_state(connection)
        judgement = await self._judge(connection, readings, state, now)
        # 2
        new = await _insert_events(connection, judgement.candidates)
        known = await _known(connection, judgement.keys - new)
        if judgement.candidates.keys() - new - known.keys():
            raise StoreUnavailable("events went while this batch looked for them; it is read again")
        settled = outcomes.settle(judgement, new=new, known=known)
        # 3
        touched = counting.touched(settled.applied)
        first_heard = await _add_customers(connection, settled.applied)
        if await lock_customers(connection, touched.customers) != touched.customers:
            raise StoreUnavailable("a rebuild removed customers while this batch came to them; it is read again")
        # 4
        counted = await counted_state.load(connection, touched, new=new)
        counting.count(settled.applied, counted)
        await counted_state.store(connection, touched, counted)
        # 5
        as_of = await self._as_of(connection, settled.applied, now)
        # 6
        changes = 0
        if as_of is not None:
            by = await self._library.deciders(connection, state.policy_version, state.model_version)
            changes = await assess_customers(
                connection,
                touched.customers,
                as_of=as_of,
                by=by,
                now=now,
                changes=traits.changes(counted.orders_before, counted.orders),
                first_heard=first_heard.keys(),
            )
        return _TakenIn(settled, Counter(first_heard.values()), len(touched.customers), changes)

    async def _judge(
        self, connection: AsyncConnection, readings: Sequence[Reading], state: State, now: datetime
    ) -> Judgement:
        named = outcomes.customers_named(readings)
        return outcomes.judge(
            readings,
            suppressed=await suppression.suppressed_among(connection, state, self._house.erasure_key, named),
            rates=await self._library.rates(connection, state.rates_version),
            calendar=self._calendar,
            now=instant_of(now),
        )

    async def replay(self, letter_id: int, *, now: datetime, by: Actor = ANYONE) -> Replay | None:
        async with transaction(self._engine) as connection:
            await suppression.pass_gate(connection)  # an erasure has it before it comes to the letters
            letter = (await connection.execute(_LETTER, {"id": letter_id})).one_or_none()
            if letter is None:
                return None
            if letter.replayed_as is not None:
                return Replay(letter_id, Outcome(letter.replayed_as), None)
            partition = Partition(letter.topic, letter.partition)
            if letter.erased_at is not None:
                await _replayed(connection, letter_id, partition, Outcome.SUPPRESSED, new_customers=0)
                await note_deeds(connection, by, [_replay_deed(letter_id, Outcome.SUPPRESSED, letter.reason)])
                return Replay(letter_id, Outcome.SUPPRESSED, None)
            headers = headers_from_json(letter.headers)
            delivery = Delivery(partition, letter.offset, letter.value, headers)
            reading = Reading(delivery, decode(letter.value, headers))
            taken = await self._take_in(connection, [reading], now)
            if taken.settled.rejects:
                reject = taken.settled.rejects[0][1]
                told = {"reason": reject.reason, "field": reject.field, "sentence": reject.sentence}
                await connection.execute(_STILL_REFUSED, {"id": letter_id} | told)
                await note_deeds(connection, by, [_replay_deed(letter_id, Outcome.REJECTED, reject.reason)])
                return Replay(letter_id, Outcome.REJECTED, reject)
            (outcome,) = taken.settled.totals()
            await _replayed(connection, letter_id, partition, outcome, new_customers=taken.first_heard[partition])
            await note_deeds(connection, by, [_replay_deed(letter_id, outcome, letter.reason)])
            return Replay(letter_id, outcome, None)

    async def refused(self, *, reason: str | None, after: int, limit: int) -> Sequence[int]:
        async with transaction(self._engine) as connection:
            asked = {"reason": reason, "after": after, "limit": limit}
            return list(await connection.scalars(_REFUSED, asked))

    @contextlib.asynccontextmanager
    async def leading(self, place: Place) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        # A session's advisory lock: PostgreSQL frees it when the connection ends, however the process does, and
        # ends the connection of a holder that has not asked for a while, because it is stopped or cut off.
        with translated_failures():
            async with self._engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(_LEASE)

                held = False

                async def holds_lock() -> bool:
                    nonlocal held
                    with translated_failures():
                        # Asking also finds out whether the connection, and the lock with it, still lives.
                        if held:
                            await connection.execute(_STILL_ALIVE)
                        else:
                            held = bool(await connection.scalar(_TRY_LOCK, {"place": int(place)}))
                    return held

                try:
                    yield holds_lock
                finally:
                    # The lock ends with the connection, which is not given back: its lease is not for others.
                    with contextlib.suppress(Exception):
                        await connection.invalidate()

    async def sweep(self, *, now: datetime, limit: int) -> int:
        return await tiers.sweep(self._engine, self._library, self._today(now), now=now, limit=limit)

    async def settle_tiers(self, *, now: datetime) -> bool:
        return await self._settling.settle(self._today(now), now=now)

    def _today(self, now: datetime) -> date | None:
        """Today by the system clock; None where the events' clock counts, which the store keeps."""
        return self._calendar.business_day(instant_of(now)) if self._house.clock == "system" else None

    async def _as_of(self, connection: AsyncConnection, applied: list[AcceptedEvent], now: datetime) -> date | None:
        today = self._today(now)
        if today is not None:
            return today
        if applied:
            await connection.execute(_MOVE_AS_OF, {"day": max(accepted.occurred_day for accepted in applied)})
        as_of: date | None = await connection.scalar(_AS_OF)
        return as_of


def _replay_deed(letter_id: int, outcome: Outcome, reason: str) -> Deed:
    return Deed(Action.DEAD_LETTER_REPLAYED, str(letter_id), detail={"outcome": outcome, "rejected_for": reason})


async def _insert_events(connection: AsyncConnection, candidates: Mapping[EventKey, AcceptedEvent]) -> set[EventKey]:
    """Inserts the events that are new, in one order of keys for all workers; returns their keys."""
    names = (
        "event_key", "event_id", "type", "customer_id", "order_id", "occurred_at", "business_day",
        "currency", "given_amount", "amount", "profit", "score",
        "topic", "partition", "offset", "value", "headers",
    )  # fmt: skip
    inserted = await insert_rows(
        connection,
        tables.events,
        names,
        (_event_row(key, candidates[key]) for key in sorted(candidates)),
        then="ON CONFLICT DO NOTHING RETURNING event_key",
    )
    return {EventKey(row.event_key) for row in inserted}


def _event_row(key: EventKey, accepted: AcceptedEvent) -> tuple[Any, ...]:
    event, delivery = accepted.event, accepted.delivery
    currency = given_amount = None
    if isinstance(event, (OrderPlaced, ReturnReceived)):
        currency, given_amount = event.currency, _units(event.amount)
    return (
        key,
        event.event_id,
        TYPE_NAMES[type(event)],
        event.customer_id,
        getattr(event, "order_id", None),
        event.occurred_at,
        accepted.business_day,
        currency,
        given_amount,
        accepted.amount,
        accepted.profit,
        event.score if isinstance(event, FeedbackGiven) else None,
        *delivery.partition,
        delivery.offset,
        delivery.value,
        headers_json(delivery.headers),
    )


def _units(billionths: int) -> Decimal:
    """An amount as it was given, without needless zeros."""
    return Decimal(billionths).scaleb(-9).normalize()


def headers_json(headers: Headers) -> str | None:
    """Headers as they are stored; None without any."""
    if not headers:
        return None
    return json.dumps([[name, None if value is None else base64.b64encode(value).decode()] for name, value in headers])


def headers_from_json(stored: str | None) -> Headers:
    """Stored headers, as they were received."""
    return tuple(
        (name, None if value is None else base64.b64decode(value)) for name, value in json.loads(stored or "[]")
    )


async def _replayed(
    connection: AsyncConnection, letter_id: int, partition: Partition, outcome: Outcome, *, new_customers: int
) -> None:
    """Moves a message from the rejected to what its replay made of it."""
    await connection.execute(_REPLAYED, {"id": letter_id, "outcome": outcome})
    counts = {each.value: int(each is outcome) for each in Outcome if each is not Outcome.REJECTED}
    await connection.execute(_MOVE_COUNT, {**partition._asdict(), **counts, "new_customers": new_customers})


async def _known(connection: AsyncConnection, keys: Iterable[EventKey]) -> dict[EventKey, bytes]:
    """The fingerprints of events that are stored."""
    wanted = list(keys)
    if not wanted:
        return {}
    rows = await connection.execute(_CONTENTS, {"event_keys": wanted})
    return {EventKey(row.event_key): fingerprint(row.value, headers_from_json(row.headers)) for row in rows}


async def _add_customers(connection: AsyncConnection, applied: Iterable[AcceptedEvent]) -> dict[CustomerId, Partition]:
    """Makes customers known; returns those who were not, and in which partition's events they were first named."""
    first: dict[CustomerId, Partition] = {}
    for accepted in applied:
        first.setdefault(accepted.event.customer_id, accepted.delivery.partition)
    inserted = await insert_rows(
        connection,
        tables.customers,
        ("customer_id",),
        ((customer_id,) for customer_id in sorted(first)),
        then="ON CONFLICT DO NOTHING RETURNING customer_id",
    )
    return {row.customer_id: first[row.customer_id] for row in inserted}


def _verdicts(readings: Sequence[Reading], settled: Settled) -> list[Verdict]:
    rejects = (reject for _, reject in settled.rejects)
    return [
        Verdict(reading.decoded.event_id, outcome, next(rejects) if outcome is Outcome.REJECTED else None)
        for reading, outcome in zip(readings, settled.outcomes, strict=True)
    ]


async def _quarantine(connection: AsyncConnection, settled: Settled) -> None:
    names = (
        "topic", "partition", "offset", "reason", "field", "sentence", "customer_id", "event_id", "value", "headers",
    )  # fmt: skip
    await insert_rows(
        connection,
        tables.dead_letters,
        names,
        (
            (
                *delivery.partition, delivery.offset, reject.reason, reject.field, reject.sentence,
                reject.customer_id, reject.event_id, delivery.value, headers_json(delivery.headers),
            )
            for delivery, reject in settled.rejects
        ),
    )  # fmt: skip
