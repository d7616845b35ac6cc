"""A ledger in memory: dicts in place of tables, the same pure functions in the same order.

Law: the contract suite holds it to the same answers as PostgreSQL's, so what generated histories show of this one is
true of the rules that both share. Nothing here decides anything itself.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from segmentation import assessment, chronicle, counting, metrics, outcomes, tiering
from segmentation.access import ANYONE, Actor
from segmentation.announcements import announce
from segmentation.answers import IngestStatus, PartitionStatus, WorkerStatus
from segmentation.answers import TierOverview as Overview
from segmentation.answers import TierShare as Share
from segmentation.assessment import Snapshot
from segmentation.buckets import DayBucket, merge
from segmentation.budget import DEFAULT_BUDGET, RecentOutcomes, RejectBudget, charge_batch, commonest
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.chronicle import Entry, EntryKind, HistoryEntry
from segmentation.counting import Counted, OrderKey, OrderState, Profile, Retraction, occurrence_bucket
from segmentation.errors import PartitionLost
from segmentation.events import EventKey, decode
from segmentation.fields import CustomerId
from segmentation.ledger import Batch, Claim, Halt, House, Place, Receipt
from segmentation.metrics import BucketTable, Metrics
from segmentation.money import Rate, Rates
from segmentation.outcomes import AcceptedEvent, Delivery, Outcome, Partition, Settled
from segmentation.overrides import ByHand, Ending, Override, OverrideRefusal, WantedOverride, judge_override
from segmentation.policy import Policy
from segmentation.risk import look_ahead
from segmentation.scoring import Model
from segmentation.tiering import TIERS
from segmentation.traits import OrderTraits, describe, of_orders

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""It has no clock: whoever has beaten lives until released."""


@dataclass(slots=True)
class _Partition:
    epoch: int = 0
    owner: str | None = ""
    next_offset: int | None = None
    end_offset: int | None = None
    counts: Counter[Outcome] = field(default_factory=Counter)
    recent: RecentOutcomes = field(default_factory=RecentOutcomes)
    halt: Halt | None = None


class MemoryLedger:
    """`segmentation.ledger.Ledger` over dicts, and the little reading that the suites need."""

    def __init__(self, house: House, policy: Policy, budget: RejectBudget = DEFAULT_BUDGET) -> None:
        self.ledger = self
        self.overrides = self
        self.house = house
        self.policy = policy
        self.model: Model | None = None
        """In force."""
        self._budget = budget
        self._calendar = BusinessCalendar(house.time_zone)
        self._rates: dict[tuple[str, date], Rate] = {}
        self._suppressed: set[CustomerId] = set()
        self._partitions: dict[Partition, _Partition] = {}
        self._events: dict[EventKey, AcceptedEvent] = {}
        self._orders: dict[OrderKey, OrderState] = {}
        self._retractions: set[Retraction] = set()
        self._profiles: dict[CustomerId, Profile] = {}
        self._buckets: dict[CustomerId, dict[date, DayBucket]] = {}
        self._snapshots: dict[CustomerId, Snapshot] = {}
        self._changes: list[dict[str, Any]] = []
        self._history: list[tuple[Entry, datetime]] = []
        self._dead_letters: list[tuple[Delivery, str]] = []
        self._event_day: date | None = None
        self._settled: tuple[date, int] | None = None
        self._leaders: dict[Place, object] = {}
        self._workers: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._overview = Overview(None, policy.tiers.basis, 0, {"A": None, "B": None}, [], [])

    # --- the write side

    async def claim(self, partitions: Iterable[Partition], *, owner: str) -> Mapping[Partition, Claim]:
        claims: dict[Partition, Claim] = {}
        self._workers.setdefault(owner, [])
        for partition in partitions:
            row = self._partitions.setdefault(partition, _Partition())
            row.epoch += 1
            row.owner = owner
            claims[partition] = Claim(row.epoch, row.next_offset, row.halt)
        return claims

    async def note_ends(self, end_offsets: Mapping[Partition, int], *, owner: str) -> None:
        for partition, end_offset in end_offsets.items():
            if partition in self._partitions and self._partitions[partition].owner == owner:
                self._partitions[partition].end_offset = end_offset

    @contextlib.asynccontextmanager
    async def leading(self, place: Place) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        candidate = object()

        async def held() -> bool:
            return self._leaders.setdefault(place, candidate) is candidate

        yield held
        if self._leaders.get(place) is candidate:
            del self._leaders[place]

    async def beat(self, *, owner: str, waiting_for: Sequence[Mapping[str, Any]]) -> None:
        self._workers[owner] = waiting_for

    async def release(self, *, owner: str) -> None:
        self._workers.pop(owner, None)
        for row in self._partitions.values():
            row.owner = None if row.owner == owner else row.owner

    async def record(self, batch: Batch, *, owner: str, now: datetime) -> Receipt:
        rows = {partition: self._partitions.get(partition, _Partition()) for partition in batch.progress}
        stands = {partition: (row.owner, Claim(row.epoch, row.next_offset)) for partition, row in rows.items()}
        lost = [partition for partition, each in batch.progress.items() if stands[partition] != (owner, each.claim)]
        if lost:
            raise PartitionLost(lost)
        settled = self._decide(batch, now)
        recent = {partition: None if row.halt else row.recent for partition, row in rows.items()}
        charges = charge_batch(batch.readings, settled, recent=recent, budget=self._budget)
        touched = self._count(settled.applied)
        as_of = self.as_of(now)
        changes = 0 if as_of is None else self._assess(touched, as_of, now)
        self._dead_letters += [(delivery, reject.reason.value) for delivery, reject in settled.rejects]
        for partition, progress in batch.progress.items():
            row = self._partitions[partition]
            row.next_offset = progress.next_offset
            row.end_offset = max(row.end_offset or 0, progress.end_offset)
            row.counts.update(settled.counts.get(partition, {}))
        for partition, charge in charges.items():
            self._partitions[partition].recent = charge.recent
        halted = {partition: charge.breach for partition, charge in charges.items() if charge.breach}
        for partition, breach in halted.items():
            offset = max(each.delivery.offset for each in batch.readings if each.delivery.partition == partition)
            theirs = [reason for delivery, reason in self._dead_letters if delivery.partition == partition]
            reasons = commonest(theirs[-breach.rejects :])
            self._partitions[partition].halt = Halt(now, offset, breach.sentence, reasons)
        return Receipt(sum(settled.counts.values(), Counter()), len(touched), changes, halted.keys())

    async def halts(self, partitions: Iterable[Partition]) -> Mapping[Partition, Halt]:
        rows = {partition: self._partitions[partition] for partition in partitions if partition in self._partitions}
        return {partition: row.halt for partition, row in rows.items() if row.halt is not None}

    async def resume(
        self, partitions: Iterable[Partition] | None, *, by: Actor = ANYONE
    ) -> Mapping[Partition, Halt | None]:
        halted = [partition for partition, row in self._partitions.items() if row.halt is not None]
        found: dict[Partition, Halt | None] = {}
        for partition in halted if partitions is None else partitions:
            if partition in self._partitions:
                row = self._partitions[partition]
                found[partition] = row.halt
                if row.halt is not None:
                    row.recent, row.halt = RecentOutcomes(), None
        return found

    def _decide(self, batch: Batch, now: datetime) -> Settled:
        judgement = outcomes.judge(
            batch.readings,
            suppressed=self._suppressed,
            rates=Rates.of(self.house.base_currency, self._rates.values()),
            calendar=self._calendar,
            now=instant_of(now),
        )
        known = {key: self._events[key].delivery.fingerprint for key in judgement.keys if key in self._events}
        return outcomes.settle(judgement, new=judgement.candidates.keys() - known.keys(), known=known)

    def _count(self, applied: Sequence[AcceptedEvent]) -> frozenset[CustomerId]:
        touched = counting.touched(applied)
        counted = Counted(
            orders={key: self._orders[key] for key in touched.orders if key in self._orders},
            retractions=set(touched.retractions & self._retractions),
            occurrences={
                Retraction(event.event.customer_id, each.key): counting.Occurrence(
                    each.key, event.event.customer_id, event.business_day, bucket
                )
                for each in touched.retractions
                if (event := self._events.get(each.key))
                and (bucket := occurrence_bucket(event.event, event.amount)) is not None
            },
            profiles={customer_id: dict(self._profiles.get(customer_id, {})) for customer_id in touched.described},
        )
        counting.count(applied, counted)
        for customer_id in touched.customers:
            self._buckets.setdefault(customer_id, {})
        for accepted in applied:
            self._events[accepted.key] = accepted
            if self._event_day is None or accepted.occurred_day > self._event_day:
                self._event_day = accepted.occurred_day
        self._orders |= counted.orders
        self._retractions |= counted.retractions
        self._profiles |= counted.profiles
        for (customer_id, day), change in counted.bucket_changes.items():
            days = self._buckets[customer_id]
            days[day] = merge(days.get(day, DayBucket()), change)
        return touched.customers

    def _assess(
        self,
        customer_ids: Iterable[CustomerId],
        as_of: date,
        now: datetime,
        computed: Any = None,
        by_hand: ByHand | None = None,
    ) -> int:
        ordered = sorted(customer_ids)
        if not ordered:
            return 0
        table = self._table(ordered)
        snapshots = assessment.assess(
            metrics.roll(table, as_of),
            self._snapshots,
            self.policy,
            now=now,
            computed=computed,
            by_hand=by_hand,
            described={each: describe(self._profiles[each]) for each in ordered if each in self._profiles},
            ordered=self._order_traits(ordered),
            outlooks=look_ahead(self.model, table, as_of, decimals=self.policy.decimals),
            model_version=self._model_version,
        )
        self._history += [(entry, now) for entry in chronicle.entries(self._snapshots, snapshots, by_hand or {})]
        changes = announce(self._snapshots, snapshots)
        self._changes += [change.payload() for change in changes]
        self._snapshots |= {snapshot.customer_id: snapshot for snapshot in snapshots}
        return len(changes)

    def _order_traits(self, customer_ids: Sequence[CustomerId]) -> dict[CustomerId, OrderTraits]:
        """By a look at all orders, every time."""
        orders: dict[CustomerId, list[OrderState]] = {customer_id: [] for customer_id in customer_ids}
        for key, state in self._orders.items():
            if key.customer_id in orders:
                orders[key.customer_id].append(state)
        return {customer_id: of_orders(states) for customer_id, states in orders.items()}

    def _table(self, customer_ids: Iterable[CustomerId]) -> BucketTable:
        return BucketTable.of({customer_id: self._buckets[customer_id].items() for customer_id in customer_ids})

    @property
    def _model_version(self) -> int:
        return self.model.version if self.model else 0

    def _due(self, as_of: date) -> list[CustomerId]:
        return [
            customer_id
            for customer_id, snapshot in self._snapshots.items()
            if snapshot.due_on <= as_of or snapshot.as_of > as_of
        ]

    def _overtaken(self, as_of: date) -> list[CustomerId]:
        return [
            customer_id
            for customer_id, snapshot in self._snapshots.items()
            if snapshot.overtaken(as_of, self.policy.version, self._model_version)
        ]

    async def sweep(self, *, now: datetime, limit: int) -> int:
        as_of = self.as_of(now)
        due = [] if as_of is None else self._overtaken(as_of)[:limit]
        if as_of is not None:
            self._assess(due, as_of, now)
        return len(due)

    async def settle_tiers(self, *, now: datetime) -> bool:
        as_of = self.as_of(now)
        if as_of is None or self._due(as_of) or self._settled == (as_of, len(self._events)):
            return False
        customer_ids = sorted(self._snapshots)
        standing = [self._snapshots[customer_id] for customer_id in customer_ids]
        ranking = tiering.rank(metrics.column([each.value or 0 for each in standing]), customer_ids, self.policy.tiers)
        tiers = [TIERS[rank] for rank in ranking.tiers]
        moved = {
            each.customer_id: tier
            for each, tier in zip(standing, tiers, strict=True)
            if each.history.computed is not tier
        }
        self._assess(moved, as_of, now, moved)
        self._settled = (as_of, len(self._events))
        values = [[each.value or 0 for each, its in zip(standing, tiers, strict=True) if its is tier] for tier in TIERS]
        shares = [Share(tier, len(some), sum(some)) for tier, some in zip(TIERS, values, strict=True)]
        cutoffs = {"A": ranking.cutoffs.a, "B": ranking.cutoffs.b if shares[1].customers else None}
        self._overview = Overview(as_of, self.policy.tiers.basis, ranking.total, cutoffs, shares, [])
        return True

    async def set_overrides(
        self, wanted: Mapping[CustomerId, WantedOverride], *, now: datetime, by: Actor = ANYONE
    ) -> Mapping[CustomerId, OverrideRefusal | None]:
        as_of = self.as_of(now)
        refusals: dict[CustomerId, OverrideRefusal | None] = {}
        for customer_id, each in wanted.items():
            if as_of is None or customer_id not in self._snapshots:
                refusals[customer_id] = OverrideRefusal(None, "no such customer is known")
                continue
            judged = judge_override(each, self.policy, as_of=as_of, now=now)
            refusals[customer_id] = judged if isinstance(judged, OverrideRefusal) else None
            if isinstance(judged, Override):
                self._assess([customer_id], as_of, now, by_hand={customer_id: judged})
        return refusals

    async def end_override(self, customer_id: CustomerId, ending: Ending, *, now: datetime, by: Actor = ANYONE) -> bool:
        as_of, snapshot = self.as_of(now), self._snapshots.get(customer_id)
        if as_of is None or snapshot is None:
            return False
        if snapshot.override is not None and snapshot.override.counts(as_of):
            self._assess([customer_id], as_of, now, by_hand={customer_id: ending})
        return True

    # --- what else the suites do and ask

    async def add_rates(self, rates: Iterable[Rate]) -> None:
        self._rates |= {(rate.currency, rate.day): rate for rate in rates}

    async def suppress(self, customer_id: CustomerId) -> None:
        self._suppressed.add(customer_id)

    async def erase(self, customer_id: CustomerId) -> bool:
        """As if the customer had never been, but for the counts, the event clock, and that it is suppressed.

        False where nothing was ever heard of it.
        """
        refused = any(_names(delivery, customer_id) for delivery, _ in self._dead_letters)
        if not (refused or customer_id in self._buckets or customer_id in self._suppressed):
            return False
        self._suppressed.add(customer_id)
        self._events = {key: each for key, each in self._events.items() if each.event.customer_id != customer_id}
        self._orders = {key: state for key, state in self._orders.items() if key.customer_id != customer_id}
        self._retractions = {each for each in self._retractions if each.customer_id != customer_id}
        for by_customer in (self._profiles, self._buckets, self._snapshots):
            by_customer.pop(customer_id, None)
        self._changes = [each for each in self._changes if each["customer_id"] != customer_id]
        self._history = [each for each in self._history if each[0].after.customer_id != customer_id]
        self._dead_letters = [
            (Delivery(each.partition, each.offset, None) if _names(each, customer_id) else each, reason)
            for each, reason in self._dead_letters
        ]
        self._settled = None
        return True

    def as_of(self, now: datetime) -> date | None:
        return self._event_day if self.house.clock == "event" else self._calendar.business_day(instant_of(now))

    async def figures(self, customer_id: CustomerId, *, now: datetime) -> tuple[date, Metrics] | None:
        as_of = self.as_of(now)
        if as_of is None or customer_id not in self._buckets:
            return None
        return as_of, metrics.roll(self._table([customer_id]), as_of)

    async def tiers(self) -> Overview:
        return self._overview

    async def status(self, *, now: datetime) -> IngestStatus:
        as_of = self.as_of(now)
        return IngestStatus(
            as_of=as_of,
            partitions=[
                PartitionStatus(partition, row.next_offset, row.end_offset, row.owner, row.halt)
                for partition, row in sorted(self._partitions.items())
            ],
            workers=[WorkerStatus(owner, NEVER, NEVER, waits) for owner, waits in self._workers.items()],
            events={outcome: sum(row.counts[outcome] for row in self._partitions.values()) for outcome in Outcome},
            customers=len(self._buckets),
            tiers_as_of=self._settled[0] if self._settled else None,
            tiers_current=self._settled == (as_of, len(self._events)) or not self._events,
            last_applied_at=None,
        )

    async def snapshots(self) -> dict[CustomerId, Snapshot]:
        return dict(self._snapshots)

    async def history(self, customer_id: CustomerId) -> Sequence[HistoryEntry]:
        theirs = [
            (sequence, entry, at)
            for sequence, (entry, at) in enumerate(self._history)
            if entry.after.customer_id == customer_id and entry.kind not in (EntryKind.REFRESH, EntryKind.OUTLOOK)
        ]
        return chronicle.paired(theirs[::-1], len(theirs))[0]

    async def recorded(self, customer_id: CustomerId, day: date) -> Snapshot | None:
        theirs = [entry.after for entry, _ in self._history if entry.after.customer_id == customer_id]
        return next((after for after in reversed(theirs) if after.as_of <= day), None)

    async def changes(self) -> list[dict[str, Any]]:
        return list(self._changes)

    async def applied_at(self) -> set[tuple[int, int]]:
        return {(each.delivery.partition.number, each.delivery.offset) for each in self._events.values()}

    async def rejects(self) -> dict[tuple[int, int], tuple[str, bytes | None]]:
        return {(each.partition.number, each.offset): (reason, each.value) for each, reason in self._dead_letters}

    async def profiles(self) -> dict[CustomerId, Profile]:
        return {customer_id: self._profiles.get(customer_id, {}) for customer_id in self._buckets}

    async def orders(self) -> dict[OrderKey, OrderState]:
        return dict(self._orders)


def _names(delivery: Delivery, customer_id: CustomerId) -> bool:
    quoted = f'"{customer_id}"'.encode()
    named = decode(delivery.value, delivery.headers).customer_id
    return named == customer_id or (named is None and quoted in (delivery.value or b""))
