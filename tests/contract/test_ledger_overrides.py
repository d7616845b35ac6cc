"""What every ledger owes to those who decide over its rules, and to those who ask what became of a customer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date, timedelta
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import a_customer, an_order, as_message
from tests.support.histories import NOW
from tests.support.ledgers import Store, Worker, in_memory, in_postgres, settle
from tests.support.oracle import Message, Setting

from segmentation.chronicle import EntryKind
from segmentation.fields import CustomerId
from segmentation.overrides import Ending, WantedOverride
from segmentation.storage import overriding
from segmentation.storage.assessed import assess_customers
from segmentation.storage.engine import create_engine
from segmentation.tiering import Tier
from segmentation.traits import OrderTraits

Make = Callable[..., Awaitable[Store]]
TODAY = NOW.date()
SMALL, BIG, NOBODY = CustomerId("small"), CustomerId("big"), CustomerId("nobody")


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture(params=["memory", "postgres"])
def make(request: pytest.FixtureRequest, engine: AsyncEngine) -> Make:
    """Makes a ledger of one kind, with a big customer of tier A and a small one of tier C."""

    async def make(clock: str = "system") -> Store:
        setting = Setting(clock=clock)
        store: Store = await (in_memory(setting) if request.param == "memory" else in_postgres(engine, setting))
        await Worker(store).read([order_of("big", "99"), order_of("small", "1")])
        await settle(store)
        return store

    return make


def order_of(customer_id: str, amount: str, on: date = TODAY) -> Message:
    """An order with ids of its own."""
    name = f"{customer_id} {amount} {on}"
    named = {"event_id": name, "order_id": name, "customer_id": customer_id, "amount": amount}
    return as_message(an_order(**named, occurred_at=f"{on}T11:00:00Z"))


def wanted(tier: Tier | None = Tier.A, level: str | None = None, *, days: int = 10) -> WantedOverride:
    return WantedOverride(tier, level, "contract", "li.wei", TODAY + timedelta(days=days))


async def test_an_override_is_set_for_each_who_is_known(make: Make) -> None:
    """The others are refused by themselves, and nothing of them is kept."""
    store = await make()
    refusals = await store.overrides.set_overrides(
        {SMALL: wanted(), BIG: wanted(level="gold"), NOBODY: wanted()}, now=NOW
    )
    assert refusals[SMALL] is None
    assert {name: each and each.field for name, each in refusals.items()} == {
        SMALL: None, BIG: "service_level", NOBODY: None
    }  # fmt: skip
    assert refusals[NOBODY] is not None
    snapshots = await store.snapshots()
    assert (snapshots[SMALL].tier, snapshots[SMALL].history.computed) == (Tier.A, Tier.C)
    assert snapshots[BIG].override is None
    assert NOBODY not in snapshots


async def test_what_an_override_gives_outlives_everything_that_happens(make: Make) -> None:
    """Events, sweeps and rankings in between; and the sweep ends it on its day, with nobody asking."""
    store = await make()
    await store.overrides.set_overrides({SMALL: wanted(level="stable", days=3)}, now=NOW)
    worker = Worker(store, owner="worker-2")
    for days, stands in ((1, (Tier.A, "stable")), (2, (Tier.A, "stable")), (3, (Tier.C, "standard"))):
        now = NOW + timedelta(days=days)
        await worker.read([order_of("big", str(100 + days), on=now.date())], now=now)
        await settle(store, now=now)
        snapshot = (await store.snapshots())[SMALL]
        assert (snapshot.tier, snapshot.service_level) == stands, days
    assert (await store.history(SMALL))[0].entry.kind is EntryKind.OVERRIDE_EXPIRED


async def test_an_override_moves_nobody_in_the_ranking(make: Make) -> None:
    store = await make()
    before = await store.tiers()
    await store.overrides.set_overrides({SMALL: wanted(), BIG: wanted(Tier.C)}, now=NOW)
    await settle(store)
    await Worker(store, owner="worker-2").read([order_of("other", "1")])
    await settle(store)
    after = await store.tiers()
    assert after.cutoffs["A"] == before.cutoffs["A"]
    assert [each.customers for each in after.tiers] == [1, 0, 2, 0]


async def test_an_override_that_ends_leaves_the_tier_to_the_rules(make: Make) -> None:
    store = await make()
    assert not await store.overrides.end_override(NOBODY, Ending(author=None, reason=None), now=NOW)
    await store.overrides.set_overrides({SMALL: wanted()}, now=NOW)
    assert await store.overrides.end_override(SMALL, Ending(author="wang", reason="over"), now=NOW)
    snapshot = (await store.snapshots())[SMALL]
    assert (snapshot.tier, snapshot.override) == (Tier.C, None)
    entries = len(await store.history(SMALL))
    assert await store.overrides.end_override(SMALL, Ending(author="wang", reason="again"), now=NOW)
    assert len(await store.history(SMALL)) == entries


async def test_before_the_first_event_nobody_can_be_overridden(engine: AsyncEngine) -> None:
    """By the event clock there is no day yet that an override could count on."""
    for store in (await in_memory(Setting(clock="event")), await in_postgres(engine, Setting(clock="event"))):
        refusals = await store.overrides.set_overrides({SMALL: wanted()}, now=NOW)
        assert refusals[SMALL] is not None
        assert not await store.overrides.end_override(SMALL, Ending(author=None, reason=None), now=NOW)


async def test_history_and_recorded_days_are_kept_alike(make: Make) -> None:
    """Kind by kind, both sides of each change, and the answer of every day."""
    store = await make()
    worker = Worker(store, owner="worker-2")
    await store.overrides.set_overrides({SMALL: wanted()}, now=NOW)
    tomorrow = NOW + timedelta(days=1)
    await store.overrides.end_override(SMALL, Ending(author="wang", reason=None), now=tomorrow)
    later = NOW + timedelta(days=5)
    await worker.read([order_of("small", "500")], now=later)
    await settle(store, now=later)
    entries = await store.history(SMALL)
    told = [
        (each.entry.kind.value, each.entry.author, each.entry.after.as_of, each.entry.after.tier) for each in entries
    ]
    assert told == [
        ("change", None, later.date(), "A"),
        ("override_ended", "wang", tomorrow.date(), "C"),
        ("override_set", "li.wei", TODAY, "A"),
        ("change", None, TODAY, "C"),
        ("change", None, TODAY, "unrated"),
    ]
    assert [each.before and each.before.tier for each in entries] == ["C", "A", "C", "unrated", None]
    stood: dict[int, Any] = {}
    for days in range(-1, 7):
        recorded = await store.recorded(SMALL, TODAY + timedelta(days=days))
        stood[days] = recorded and recorded.tier
    assert stood == {-1: None, 0: "A", 1: "C", 2: "C", 3: "C", 4: "C", 5: "A", 6: "A"}


async def test_the_newest_entry_is_the_answer_that_stands(make: Make) -> None:
    store = await make()
    await store.overrides.set_overrides({SMALL: wanted(None, "vip")}, now=NOW)
    for customer_id, snapshot in (await store.snapshots()).items():
        recorded = await store.recorded(customer_id, TODAY)
        assert recorded is not None
        beside: dict[str, Any] = {"value": None, "due_on": TODAY, "order_traits": None}
        assert structs.replace(recorded, **beside) == structs.replace(snapshot, **beside)


async def test_what_a_customer_is_belongs_to_the_answer_of_a_day(make: Make) -> None:
    """Kept for the answers of earlier days, and no change in the history: nobody stands anywhere else for it."""
    store = await make()
    listed = len(await store.history(SMALL))
    tomorrow = NOW + timedelta(days=1)
    described = a_customer(
        event_id="described",
        customer_id="small",
        occurred_at=f"{tomorrow.date()}T11:00:00Z",
        industry="pharma",
        attributes={"credit_hold": "yes"},
    )
    await Worker(store, owner="worker-2").read([as_message(described)], now=tomorrow)
    recorded = [await store.recorded(SMALL, day) for day in (TODAY, tomorrow.date())]
    assert [each and each.facets.industry for each in recorded] == [None, "pharma"]
    assert [each and [code for code, _ in each.additions] for each in recorded] == [
        ["welcome_new"], ["welcome_new", "credit_hold"]
    ]  # fmt: skip
    assert len(await store.history(SMALL)) == listed


async def test_a_clock_put_back_takes_an_expiry_back_too(make: Make) -> None:
    """The override has expired on a day that is ahead again; nobody has to set it anew."""
    store = await make()
    await store.overrides.set_overrides({SMALL: wanted(days=10)}, now=NOW)
    await settle(store, now=NOW + timedelta(days=30))
    assert (await store.snapshots())[SMALL].tier is Tier.C
    await settle(store, now=NOW + timedelta(days=1))
    snapshot = (await store.snapshots())[SMALL]
    assert (snapshot.tier, snapshot.overridden is not None) == (Tier.A, True)


# --- PostgreSQL alone -----------------------------------------------------------------------------------------------


async def test_what_an_answer_is_found_by_makes_no_entry(engine: AsyncEngine) -> None:
    """Another order with another service moves the value and what orders say, and nothing that is answered."""
    store = await in_postgres(engine, Setting(clock="system"))
    worker = Worker(store)
    await worker.read([order_of("big", "99"), order_of("small", "1")])
    await settle(store)
    (before,) = await store.rows("SELECT count(*) AS entries FROM history")
    order = an_order(
        event_id="2", order_id="2", customer_id="small", amount="0.5", services=["x"], occurred_at=f"{TODAY}T11:30:00Z"
    )
    await worker.read([as_message(order)])
    await settle(store)
    traits = (await store.snapshots())[SMALL].order_traits
    assert traits is not None
    assert traits.services == {"x": 1}
    (after,) = await store.rows("SELECT count(*) AS entries FROM history")
    assert after == before


async def test_who_was_assessed_before_an_upgrade_is_answered_with_all_that_decides_now(engine: AsyncEngine) -> None:
    """Nobody was written for it; whatever happens next to a customer completes it, a person's order too."""
    store = await in_postgres(engine, Setting(clock="system"))
    await Worker(store).read([order_of("big", "99"), order_of("small", "1")])
    await settle(store)
    stood = {each: snapshot.facets for each, snapshot in (await store.snapshots()).items()}
    assert await store.rows(
        "UPDATE snapshots SET grade = NULL, value_level = NULL, additions = NULL, order_traits = NULL RETURNING 1"
    )
    answers = await store._reader.answers([BIG, SMALL], now=NOW)
    assert {each: answer.snapshot.facets for each, answer in answers.known.items()} == stood
    evidence = await store._reader.evidence(BIG, now=NOW)
    assert evidence is not None
    assert evidence.answer.snapshot.facets.grade == "key"
    await store.overrides.set_overrides({SMALL: wanted(None, "vip")}, now=NOW)
    snapshot = (await store.snapshots())[SMALL]
    assert (snapshot.facets, snapshot.order_traits) == (stood[SMALL], OrderTraits())


async def test_entries_from_before_facets_were_kept_stay_readable(engine: AsyncEngine) -> None:
    store = await in_postgres(engine, Setting(clock="system"))
    await Worker(store).read([order_of("big", "99"), order_of("small", "1")])
    await settle(store)
    assert await store.rows("UPDATE history SET snapshot = snapshot - 'facets' - 'additions' RETURNING 1")
    for customer_id, level in ((BIG, "high"), (SMALL, "low")):
        recorded = await store.recorded(customer_id, TODAY)
        assert recorded is not None
        assert (recorded.facets.value_level, recorded.additions) == (level, ())


@pytest.mark.parametrize("action", ["set", "end"])
async def test_a_crash_before_the_commit_leaves_nothing_of_an_override(engine: AsyncEngine, action: str) -> None:
    store = await in_postgres(engine, Setting(clock="system"))
    await Worker(store).read([order_of("big", "99"), order_of("small", "1")])
    await settle(store)
    if action == "end":
        await store.overrides.set_overrides({SMALL: wanted()}, now=NOW)

    async def everything() -> list[object]:
        return [await store.snapshots(), await store.changes(), await store.history(SMALL)]

    before = await everything()
    by_hand: Awaitable[object] = (
        store.overrides.set_overrides({SMALL: wanted()}, now=NOW)
        if action == "set"
        else store.overrides.end_override(SMALL, Ending(author=None, reason=None), now=NOW)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overriding, "assess_customers", _assess_and_crash(assess_customers))
        with pytest.raises(ZeroDivisionError):
            await by_hand
    assert await everything() == before


def _assess_and_crash(assess: Any) -> Any:
    async def crashing(*arguments: Any, **named: Any) -> None:
        await assess(*arguments, **named)
        raise ZeroDivisionError

    return crashing


async def test_people_and_events_at_the_same_time_lose_nothing_of_each_other(engine: AsyncEngine) -> None:
    """Two people, a worker and the keeper at the same customers: what was set last stands, with every event counted."""
    store = await in_postgres(engine, Setting(clock="system"))
    names = [CustomerId(f"c{number}") for number in range(8)]
    worker = Worker(store)
    await worker.read([order_of(name, "10") for name in names])

    async def people(author: str) -> None:
        for days in range(1, 9):
            order = WantedOverride(Tier.B, None, "because", author, TODAY + timedelta(days=days))
            some = names if days % 2 else reversed(names)
            await store.overrides.set_overrides(dict.fromkeys(some, order), now=NOW)

    async def events() -> None:
        for number in range(8):
            await worker.read([order_of(name, str(100 + number)) for name in names])
            await store.ledger.settle_tiers(now=NOW)

    await asyncio.gather(people("li"), people("chen"), events())
    await settle(store)
    snapshots = await store.snapshots()
    assert {each.value for each in snapshots.values()} == {1_000 + sum(10_000 + 100 * number for number in range(8))}
    for name, snapshot in snapshots.items():
        assert snapshot.override is not None
        assert (snapshot.tier, snapshot.override.expires_on) == (Tier.B, TODAY + timedelta(days=8))
        entries = await store.history(name)
        assert entries[0].entry.after.tier is Tier.B
        set_by = [each.entry.author for each in entries if each.entry.kind is EntryKind.OVERRIDE_SET]
        assert (set_by.count("li"), set_by.count("chen"), set_by[0]) == (8, 8, snapshot.override.author)
