"""Any ledger, driven the way a worker drives it, and asked in the oracle's words.

Laws: a message once placed keeps its partition and offset, whoever reads it and however often; what is read back comes
from the store alone, never from what was handed to it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib import resources
from typing import Any, Final, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segmentation import events
from segmentation import policy as policies
from segmentation.answers import IngestStatus, TierOverview
from segmentation.assessment import Facets, Snapshot
from segmentation.budget import DEFAULT_BUDGET, RejectBudget
from segmentation.chronicle import HistoryEntry
from segmentation.counting import OrderKey, OrderState, Profile, profile_fields
from segmentation.dossiers import Overrides
from segmentation.erasure import Erasure, ErasureKey
from segmentation.fields import CustomerId
from segmentation.ledger import Batch, Claim, House, Ledger, PartitionProgress, Receipt
from segmentation.metrics import Metrics
from segmentation.money import MINOR_UNITS, Rate
from segmentation.outcomes import Delivery, Outcome, Partition, Reading
from segmentation.storage import counted, tables
from segmentation.storage.assessed import SNAPSHOTS, snapshot_from_row
from segmentation.storage.engine import transaction
from segmentation.storage.erasing import PostgresPrivacy
from segmentation.storage.foundation import activate_policy, add_rates, open_house
from segmentation.storage.ledger import PostgresLedger
from segmentation.storage.overriding import PostgresOverrides
from segmentation.storage.reader import PostgresReader
from segmentation.traits import OrderTraits

from .histories import NOW
from .memory_ledger import MemoryLedger
from .oracle import OUTCOMES, Message, Oracle, Setting

TOPIC: Final = "logistics.orders"
DEFAULT_POLICY: Final = resources.files("segmentation").joinpath("policies/default.toml").read_text(encoding="utf-8")
NO_GRACE: Final = DEFAULT_POLICY.replace("demotion_grace_days = 14", "demotion_grace_days = 0")
# TRUNCATE gives each table and index a new file, which costs thirty times what deleting a test's few rows does.
_EMPTY: Final = f"""
    DO $$
    DECLARE
        name text;
    BEGIN
        FOREACH name IN ARRAY '{{{",".join(table.name for table in reversed(tables.metadata.sorted_tables))}}}'::text[]
        LOOP
            IF pg_relation_size(name::regclass) > 200000 THEN
                EXECUTE format('TRUNCATE %I CASCADE', name);
            ELSE
                EXECUTE format('DELETE FROM %I', name);
            END IF;
        END LOOP;
        PERFORM setval(seqrelid, seqstart, false) FROM pg_sequence;
    END $$
"""

Position = tuple[int, int]
"""A partition's number and an offset in it."""


class Store(Protocol):
    """A ledger together with all that a suite may ask of what it keeps."""

    @property
    def house(self) -> House: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def overrides(self) -> Overrides: ...
    async def add_rates(self, rates: Iterable[Rate]) -> None: ...
    async def suppress(self, customer_id: CustomerId) -> None: ...
    async def erase(self, customer_id: CustomerId) -> bool: ...
    async def figures(self, customer_id: CustomerId, *, now: datetime) -> tuple[date, Metrics] | None: ...
    async def tiers(self) -> TierOverview: ...
    async def status(self, *, now: datetime) -> IngestStatus: ...
    async def snapshots(self) -> dict[CustomerId, Snapshot]: ...
    async def changes(self) -> list[dict[str, Any]]: ...
    async def history(self, customer_id: CustomerId) -> Sequence[HistoryEntry]: ...
    async def recorded(self, customer_id: CustomerId, day: date) -> Snapshot | None: ...
    async def applied_at(self) -> set[Position]: ...
    async def rejects(self) -> dict[Position, tuple[str, bytes | None]]: ...
    async def profiles(self) -> dict[CustomerId, Profile]: ...
    async def orders(self) -> dict[OrderKey, OrderState]: ...


class PostgresStore:
    """PostgreSQL's ledger and reader, and the tables behind them."""

    def __init__(self, engine: AsyncEngine, house: House, budget: RejectBudget = DEFAULT_BUDGET) -> None:
        self.house = house
        self.ledger = PostgresLedger(engine, house, budget)
        self.overrides = PostgresOverrides(engine, house)
        self.privacy = PostgresPrivacy(engine, house)
        self._reader = PostgresReader(engine, house)
        self._engine = engine
        self.tiers = self._reader.tiers
        self.figures = self._reader.figures
        self.status = self._reader.status

    async def rows(self, query: str, **parameters: Any) -> Sequence[Any]:
        async with transaction(self._engine) as connection:
            return (await connection.execute(text(query), parameters)).all()

    async def add_rates(self, rates: Iterable[Rate]) -> None:
        await add_rates(self._engine, list(rates))

    async def suppress(self, customer_id: CustomerId) -> None:
        check, known = await self.privacy.listed()
        assert check is not None
        (row,) = await self.rows("SELECT erasure_key FROM house")
        digest = ErasureKey(row.erasure_key).digest(customer_id)
        await self.privacy.adopt(check, [*known, Erasure(digest, NOW)])

    async def erase(self, customer_id: CustomerId) -> bool:
        return await self.privacy.erase(customer_id) is not None

    async def snapshots(self) -> dict[CustomerId, Snapshot]:
        rows = await self.rows(SNAPSHOTS)
        return {row.customer_id: snapshot_from_row(row) for row in rows}

    async def history(self, customer_id: CustomerId) -> Sequence[HistoryEntry]:
        page = await self._reader.history(customer_id, before=None, limit=1_000_000, now=NOW)
        return page.entries if page else []

    async def recorded(self, customer_id: CustomerId, day: date) -> Snapshot | None:
        answer = await self._reader.recorded(customer_id, day)
        return answer.snapshot if answer else None

    async def changes(self) -> list[dict[str, Any]]:
        return [row.payload for row in await self.rows("SELECT payload FROM changes ORDER BY sequence")]

    async def applied_at(self) -> set[Position]:
        return {(row.partition, row.offset) for row in await self.rows('SELECT partition, "offset" FROM events')}

    async def rejects(self) -> dict[Position, tuple[str, bytes | None]]:
        rows = await self.rows('SELECT partition, "offset", reason, value FROM dead_letters')
        return {(row.partition, row.offset): (row.reason, row.value) for row in rows}

    async def profiles(self) -> dict[CustomerId, Profile]:
        rows = await self.rows("SELECT customer_id, profile FROM customers")
        return {row.customer_id: counted.profile_from_json(row.profile) for row in rows}

    async def orders(self) -> dict[OrderKey, OrderState]:
        rows = await self.rows("SELECT * FROM orders")
        return {OrderKey(row.customer_id, row.order_id): counted.order_from_row(row) for row in rows}


# --- making them ----------------------------------------------------------------------------------------------------


def house_of(setting: Setting) -> House:
    return House(setting.clock, setting.base_currency, setting.timezone)


def rates_of(rates: Iterable[tuple[str, str, str]]) -> list[Rate]:
    """The oracle's rates as the product's."""
    return [Rate(currency, date.fromisoformat(day), _scaled(rate)) for currency, day, rate in rates]


def _scaled(rate: str) -> int:
    whole, _, decimals = rate.partition(".")
    return int(whole + decimals.ljust(12, "0"))


async def in_memory(
    setting: Setting, policy: str = DEFAULT_POLICY, budget: RejectBudget = DEFAULT_BUDGET
) -> MemoryLedger:
    """A new ledger in memory."""
    parsed = policies.parse(policy, version=1, decimals=MINOR_UNITS[setting.base_currency])
    store = MemoryLedger(house_of(setting), parsed, budget)
    await store.add_rates(rates_of(setting.rates))
    return store


async def in_postgres(
    engine: AsyncEngine, setting: Setting, policy: str = DEFAULT_POLICY, budget: RejectBudget = DEFAULT_BUDGET
) -> PostgresStore:
    """A new ledger in the engine's database, which is emptied of all that it held."""
    async with transaction(engine) as connection:
        await connection.execute(text(_EMPTY))
    house = house_of(setting)
    await open_house(engine, house)
    await activate_policy(engine, policy)
    store = PostgresStore(engine, house, budget)
    if setting.rates:
        await store.add_rates(rates_of(setting.rates))
    return store


# --- writing --------------------------------------------------------------------------------------------------------


class Worker:
    """Places messages on partitions and reads them in batches, as the ingest worker does."""

    def __init__(self, store: Store, *, owner: str = "worker-1") -> None:
        self.store = store
        self.owner = owner
        self.placed: dict[Partition, list[Message]] = {}
        self.positions: list[Position] = []
        """Of every message, in the order in which they were placed."""
        self.claims: dict[Partition, Claim] = {}

    async def read(
        self, messages: Iterable[Message], *, partitions: Sequence[int] = (0,), now: datetime = NOW
    ) -> Receipt:
        """Places the messages on the partitions in turn and records them as one batch."""
        return await self.record(
            self.batch(messages, partitions=partitions, claims=await self._claimed(partitions)), now=now
        )

    async def _claimed(self, numbers: Iterable[int]) -> Mapping[Partition, Claim]:
        wanted = {Partition(TOPIC, number) for number in numbers}
        unclaimed = wanted - self.claims.keys()
        if unclaimed:
            self.claims |= await self.store.ledger.claim(unclaimed, owner=self.owner)
        return {partition: self.claims[partition] for partition in wanted}

    def batch(
        self, messages: Iterable[Message], *, partitions: Sequence[int] = (0,), claims: Mapping[Partition, Claim]
    ) -> Batch:
        """Places the messages and makes a batch of them, without recording it."""
        readings: list[Reading] = []
        for partition in claims:
            self.placed.setdefault(partition, [])
        for message, number in zip(messages, itertools.cycle(partitions), strict=False):
            partition = Partition(TOPIC, number)
            log = self.placed[partition]
            readings.append(reading(message, partition, len(log)))
            self.positions.append((number, len(log)))
            log.append(message)
        progress = {
            partition: PartitionProgress(claim, len(self.placed[partition]), len(self.placed[partition]))
            for partition, claim in claims.items()
        }
        return Batch(readings, progress)

    async def record(self, batch: Batch, *, now: datetime = NOW) -> Receipt:
        """Records a batch and remembers how far that took its partitions."""
        receipt = await self.store.ledger.record(batch, owner=self.owner, now=now)
        for partition, progress in batch.progress.items():
            self.claims[partition] = Claim(progress.claim.epoch, progress.next_offset)
        return receipt

    async def resume(self, *, now: datetime = NOW) -> Receipt:
        """Claims all partitions anew and reads what the ledger says has not been read."""
        self.claims = dict(await self.store.ledger.claim(self.placed, owner=self.owner))
        readings = [
            reading(message, partition, offset)
            for partition, claim in self.claims.items()
            for offset, message in enumerate(self.placed[partition])
            if offset >= (claim.next_offset or 0)
        ]
        progress = {
            partition: PartitionProgress(claim, len(self.placed[partition]), len(self.placed[partition]))
            for partition, claim in self.claims.items()
        }
        return await self.record(Batch(readings, progress), now=now)


def reading(message: Message, partition: Partition, offset: int) -> Reading:
    """The message as the worker reads it from a partition."""
    delivery = Delivery(partition, offset, message.value, message.headers)
    return Reading(delivery, events.decode(message.value, message.headers))


async def settle(store: Store, *, now: datetime = NOW, limit: int = 3) -> None:
    """Sweeps and settles until there is nothing left to do."""
    for _ in range(1_000):
        while await store.ledger.sweep(now=now, limit=limit):
            pass
        if not await store.ledger.settle_tiers(now=now):
            return
    raise AssertionError("the ledger never comes to rest")


# --- reading back ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """All that depends on the set of applied events alone, in the oracle's words."""

    as_of: date | None
    metrics: Mapping[str, Any]
    computed_tiers: Mapping[str, str]
    cutoffs: Mapping[str, tuple[int, str] | None]
    profiles: Mapping[str, Any]
    services: Mapping[str, Mapping[str, int]]
    """By customer, how many counting orders asked for each service."""


def expected(oracle: Oracle, now: datetime = NOW) -> State:
    """The state by the oracle."""
    as_of = oracle.as_of(now)
    if as_of is None:
        return State(None, {}, {}, {"A": None, "B": None}, {}, {})
    customers = oracle.customers()
    return State(
        as_of,
        {customer_id: oracle.metrics(customer_id, as_of) for customer_id in customers},
        oracle.computed_tiers(as_of),
        oracle.cutoffs(as_of),
        {customer_id: oracle.profile(customer_id) for customer_id in customers},
        {customer_id: oracle.services(customer_id) for customer_id in customers},
    )


async def state_of(store: Store, now: datetime = NOW) -> State:
    """The state by the ledger, once it is settled."""
    profiles, snapshots = await store.profiles(), await store.snapshots()
    cutoffs = {tier: last and (last[0], str(last[1])) for tier, last in (await store.tiers()).cutoffs.items()}
    return State(
        (await store.status(now=now)).as_of,
        {customer_id: await metrics_of(store, customer_id, now) for customer_id in profiles},
        {customer_id: snapshot.history.computed.value for customer_id, snapshot in snapshots.items()},
        cutoffs,
        {customer_id: _profile(profile, snapshots[customer_id].facets) for customer_id, profile in profiles.items()},
        {customer_id: (snapshots[customer_id].order_traits or OrderTraits()).services for customer_id in profiles},
    )


async def metrics_of(store: Store, customer_id: str, now: datetime = NOW) -> dict[str, Any] | None:
    """A customer's metrics as the API shows them."""
    found = await store.figures(CustomerId(customer_id), now=now)
    if found is None:
        return None
    as_of, figures = found
    described = figures.describe(0, decimals=MINOR_UNITS[store.house.base_currency])
    return {"customer_id": customer_id, "as_of": as_of.isoformat(), **described}


def _profile(stored: Profile, facets: Facets) -> dict[str, Any]:
    fields = profile_fields(stored)
    names = ("name", "account_manager", "contract_type", "contract_end")
    attributes = {name[11:]: value for name, value in fields.items() if name.startswith("attributes.")}
    return {
        **{name: fields.get(name) for name in names},
        **{name: getattr(facets, name) for name in ("subject_type", "industry", "region", "channel")},
        "needs": {part: fields.get(f"needs.{part}") for part in ("basic", "expected", "latent")},
        "attributes": dict(sorted(attributes.items())),
    }


async def counts(store: Store, now: datetime = NOW) -> dict[str, int]:
    """How many messages ended in each outcome."""
    return {outcome.value: number for outcome, number in (await store.status(now=now)).events.items()}


def receipt_counts(receipt: Receipt) -> dict[str, int]:
    """A batch's outcomes in the oracle's words."""
    return {name: receipt.counts.get(Outcome(name), 0) for name in OUTCOMES}


async def outcomes_of(worker: Worker) -> list[str]:
    """What became of each message: `applied`, a reason code, or `passed over` for duplicate and suppressed."""
    applied, rejects = await worker.store.applied_at(), await worker.store.rejects()
    found = []
    for position in worker.positions:
        assert not (position in applied and position in rejects)
        found.append("applied" if position in applied else rejects.get(position, ("passed over", None))[0])
    return found


def judged(oracle: Oracle, messages: Sequence[Message], now: datetime = NOW) -> tuple[list[str], dict[str, int]]:
    """What the oracle says of each message, in the words of `outcomes_of`, and how many ended in each outcome."""
    verdicts = [oracle.read(message, now=now) for message in messages]
    total = Counter(outcome for outcome, _ in verdicts)
    words = [reason or (outcome if outcome == "applied" else "passed over") for outcome, reason in verdicts]
    return words, {name: total[name] for name in OUTCOMES}
