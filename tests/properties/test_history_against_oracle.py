"""Generated histories: whatever comes in, and however it is cut, the ledgers answer like the oracle, digit for digit.

The many examples run on the ledger in memory, which shares every rule with PostgreSQL's; some run on PostgreSQL itself.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import a_complaint, a_return, an_order, as_message
from tests.support.histories import NOW, agreeable, histories, settings_for_histories, shuffles
from tests.support.ledgers import (
    NO_GRACE,
    State,
    Store,
    Worker,
    counts,
    expected,
    in_memory,
    in_postgres,
    judged,
    outcomes_of,
    receipt_counts,
    settle,
    state_of,
)
from tests.support.models import a_model, put_in_force
from tests.support.oracle import Message, Oracle, Setting

from segmentation import outcomes
from segmentation.fields import CustomerId
from segmentation.storage import counted
from segmentation.storage import ledger as postgres_ledger
from segmentation.storage import tiers as postgres_tiers
from segmentation.storage.engine import create_engine
from segmentation.storage.ledger import PostgresLedger

GRACE_DAYS = 14
BEST_FIRST = ("A", "B", "C", "unrated")
partitionings = st.lists(st.integers(0, 2), min_size=1, max_size=5)
"""Which partitions the messages of a batch come from, in turn."""
few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@st.composite
def cut(draw: st.DrawFn, history: Sequence[Message]) -> list[list[Message]]:
    """The history in its own order, in batches of any size, some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(history)), max_size=8)))
    bounds = [0, *cuts, len(history)]
    return [list(history[start:end]) for start, end in itertools.pairwise(bounds)]


async def tell(
    store: Store, batches: Sequence[Sequence[Message]], partitioning: Sequence[int] = (0,), *, settled: bool = True
) -> Worker:
    """Has a worker read the batches, and settles."""
    worker = Worker(store)
    for batch in batches:
        await worker.read(batch, partitions=partitioning)
    if settled:
        await settle(store)
    return worker


async def told_in_memory(setting: Setting, batches: Sequence[Sequence[Message]], *partitioning: int) -> State:
    store = await in_memory(setting)
    await tell(store, batches, partitioning or (0,))
    return await state_of(store)


# --- the oracle's answers -------------------------------------------------------------------------------------------


async def check_against_oracle(
    store: Store,
    setting: Setting,
    batches: Sequence[Sequence[Message]],
    partitioning: Sequence[int],
    erased: Sequence[str],
) -> None:
    """Outcomes message by message, counts batch by batch, and the state once all is settled."""
    oracle, worker = Oracle(setting), Worker(store)
    for customer_id in erased:
        oracle.erase(customer_id)
        await store.suppress(CustomerId(customer_id))
    words: list[str] = []
    for batch in batches:
        verdicts, in_batch = judged(oracle, batch)
        words += verdicts
        receipt = await worker.read(batch, partitions=partitioning)
        assert receipt_counts(receipt) == in_batch
    await settle(store)
    assert await outcomes_of(worker) == words
    assert await counts(store) == oracle.counts
    assert await state_of(store) == expected(oracle)


erasures = st.one_of(st.just(()), st.lists(st.sampled_from(("a", "B", "C-1", "C-2")), unique=True, max_size=2))


batched = histories().flatmap(cut)


@given(batched, settings_for_histories(), partitionings, erasures)
async def test_every_history_ends_as_the_oracle_says(
    batches: list[list[Message]], setting: Setting, partitioning: list[int], erased: Sequence[str]
) -> None:
    """Outcomes and reasons, counts, as_of, all metrics, computed tiers, cut-offs and profiles are equal, floats too."""
    await check_against_oracle(await in_memory(setting), setting, batches, partitioning, erased)


@few
@given(batched, settings_for_histories(), partitionings, erasures)
async def test_every_history_ends_as_the_oracle_says_in_postgres(
    engine: AsyncEngine, batches: list[list[Message]], setting: Setting, partitioning: list[int], erased: Sequence[str]
) -> None:
    """The same, through the database."""
    await check_against_oracle(await in_postgres(engine, setting), setting, batches, partitioning, erased)


# --- any order ------------------------------------------------------------------------------------------------------


@given(st.data(), histories(), settings_for_histories(), partitionings)
async def test_the_state_after_a_set_of_events_does_not_depend_on_the_order_they_came_in(
    data: st.DataObject, history: list[Message], setting: Setting, partitioning: list[int]
) -> None:
    """Nor on how they were cut into batches, spread over partitions, or delivered more than once."""
    applied = agreeable(history, setting)
    first = await told_in_memory(setting, [applied])
    again = await told_in_memory(setting, data.draw(shuffles(applied)), *partitioning)
    assert again == first


@few
@given(st.data(), histories(), settings_for_histories(), partitionings)
async def test_the_state_after_a_set_of_events_does_not_depend_on_the_order_they_came_in_in_postgres(
    engine: AsyncEngine, data: st.DataObject, history: list[Message], setting: Setting, partitioning: list[int]
) -> None:
    """The same, through the database."""
    applied = agreeable(history, setting)
    first = await told_in_memory(setting, [applied])
    store = await in_postgres(engine, setting)
    await tell(store, data.draw(shuffles(applied)), partitioning)
    assert await state_of(store) == first


@given(st.data(), histories(), settings_for_histories(), st.booleans())
async def test_without_a_grace_all_of_a_snapshot_depends_on_the_set_of_events_alone(
    data: st.DataObject, history: list[Message], setting: Setting, settled_often: bool
) -> None:
    """Effective tier, lifecycle, segment and service level too, whether or not tiers were settled on the way."""
    applied = agreeable(history, setting)
    once, often = await in_memory(setting, NO_GRACE), await in_memory(setting, NO_GRACE)
    await tell(once, [applied])
    worker = Worker(often)
    for batch in data.draw(shuffles(applied)):
        await worker.read(batch)
        if settled_often:
            await settle(often)
    await settle(often)
    assert await standing(often) == await standing(once)


async def outlooks_of(store: Store) -> dict[str, object]:
    """Of every snapshot what the model says."""
    return {customer_id: (each.outlook, each.expected_value) for customer_id, each in (await store.snapshots()).items()}


async def standing(store: Store) -> dict[str, tuple[object, ...]]:
    """Of every snapshot what does not say since when."""
    return {
        customer_id: (
            *(each.value, each.tier, each.lifecycle, each.segment, each.service_level),
            *(each.segment_reasons, each.service_reasons),
        )
        for customer_id, each in (await store.snapshots()).items()
    }


# --- time -----------------------------------------------------------------------------------------------------------


async def check_as_time_passes(
    store: Store, setting: Setting, history: Sequence[Message], told_first: int, days: Sequence[int]
) -> None:
    oracle, worker = Oracle(setting), Worker(store)
    now = NOW
    for part, passed in zip((history[:told_first], history[told_first:], ()), (0, *days), strict=True):
        now += timedelta(days=passed)
        words, in_batch = judged(oracle, part, now)
        assert receipt_counts(await worker.read(part, now=now)) == in_batch
        assert (await outcomes_of(worker))[len(worker.positions) - len(part) :] == words
        await settle(store, now=now)
        assert await state_of(store, now) == expected(oracle, now)


passing = st.tuples(*[st.sampled_from((0, 1, 6, 7, 29, 30, 83, 90, 275, 364, 365, 366, 800))] * 2)


@given(histories(), settings_for_histories("system"), st.integers(0, 40), passing)
async def test_windows_empty_and_tiers_fall_as_the_system_clock_goes_on(
    history: list[Message], setting: Setting, told_first: int, days: tuple[int, int]
) -> None:
    """With no event at all, every answer is the oracle's for the day that it has become."""
    await check_as_time_passes(await in_memory(setting), setting, history, told_first, days)


@few
@given(histories(), settings_for_histories("system"), st.integers(0, 40), passing)
async def test_windows_empty_and_tiers_fall_as_the_system_clock_goes_on_in_postgres(
    engine: AsyncEngine, history: list[Message], setting: Setting, told_first: int, days: tuple[int, int]
) -> None:
    """The same, through the database."""
    await check_as_time_passes(await in_postgres(engine, setting), setting, history, told_first, days)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[int, list[tuple[str, str, str]]]]:
    """Days to go on, and (kind, customer, amount) of the events of the day then reached."""
    event = st.tuples(
        st.sampled_from(("order", "order", "order", "return")),
        st.sampled_from("abcd"),
        st.sampled_from(("1", "5", "15", "80", "1000")),
    )
    days = st.sampled_from((0, 0, 1, 1, 2, 12, 13, 14, 15, 200, 352, 365))
    return draw(st.lists(st.tuples(days, st.lists(event, min_size=1, max_size=3)), max_size=12))


async def check_effective_tiers(store: Store, clock: str, steps: list[tuple[int, list[tuple[str, str, str]]]]) -> None:
    oracle, worker = Oracle(Setting(clock=clock)), Worker(store)
    now, computed = NOW - timedelta(days=5_000), dict[str, str]()
    closed: dict[date, dict[str, str]] = {}
    numbers = iter(range(1_000))
    for days, events in steps:
        for passed in range(days):
            closed[(now + timedelta(days=passed)).date()] = computed
        now += timedelta(days=days)
        batch = [
            as_message(build(event_id=number, order_id=number, customer_id=customer_id, amount=amount, occurred_at=at))
            for kind, customer_id, amount in events
            for build in (an_order if kind == "order" else a_return,)
            for number, at in ((str(next(numbers)), now.strftime("%Y-%m-%dT%H:%M:%SZ")),)
        ]
        judged(oracle, batch, now)
        await worker.read(batch, now=now)
        await settle(store, now=now)
        computed = oracle.computed_tiers(now.date())
        last_days = [closed.get(now.date() - timedelta(days=back), {}) for back in range(1, GRACE_DAYS + 1)]
        effective = {
            customer_id: min(
                [tier, *(day[customer_id] for day in last_days if customer_id in day)], key=BEST_FIRST.index
            )
            for customer_id, tier in computed.items()
        }
        snapshots = await store.snapshots()
        assert {customer_id: each.tier.value for customer_id, each in snapshots.items()} == effective


@given(st.sampled_from(("event", "system")), steps())
async def test_the_effective_tier_is_the_best_that_the_days_of_grace_closed_with(
    clock: str, steps: list[tuple[int, list[tuple[str, str, str]]]]
) -> None:
    """Held against a diary of what every day closed with; a day jumped over closes with what then stood."""
    await check_effective_tiers(await in_memory(Setting(clock=clock)), clock, steps)


@few
@given(st.sampled_from(("event", "system")), steps())
async def test_the_effective_tier_is_the_best_that_the_days_of_grace_closed_with_in_postgres(
    engine: AsyncEngine, clock: str, steps: list[tuple[int, list[tuple[str, str, str]]]]
) -> None:
    """The same, through the database."""
    await check_effective_tiers(await in_postgres(engine, Setting(clock=clock)), clock, steps)


# --- crashes --------------------------------------------------------------------------------------------------------


class Crash(Exception):
    """The process is gone."""


STEPS: dict[str, tuple[Any, str]] = {
    "1 decide": (outcomes, "judge"),
    "2 insert the ids": (postgres_ledger, "_insert_events"),
    "3 lock the customers": (postgres_ledger, "lock_customers"),
    "4 count": (counted, "store"),
    "5 move the event clock": (PostgresLedger, "_as_of"),
    "6 assess and announce": (postgres_ledger, "assess_customers"),
    "7 quarantine": (postgres_ledger, "_quarantine"),
    "8 advance": (postgres_ledger, "advance"),
}
COMMIT = "after the commit"


def crash_after(patch: pytest.MonkeyPatch, place: Any, name: str, *, calls: int = 1) -> None:
    """Lets a function do its work, and crashes after the given number of calls."""
    function, left = getattr(place, name), iter(range(calls - 1))

    def crash_or(result: Any) -> Any:
        if next(left, None) is None:
            raise Crash
        return result

    async def crashing(*arguments: Any, **named: Any) -> Any:
        return crash_or(await function(*arguments, **named))

    def crashing_at_once(*arguments: Any, **named: Any) -> Any:
        return crash_or(function(*arguments, **named))

    patch.setattr(place, name, crashing_at_once if place is outcomes else crashing)


async def read_and_crash(worker: Worker, batch: Sequence[Message], partitioning: Sequence[int], step: str) -> None:
    """Reads a batch in a process that crashes after the step; raises Crash if that was reached."""
    with pytest.MonkeyPatch.context() as patch:
        if step != COMMIT:
            crash_after(patch, *STEPS[step])
        await worker.read(batch, partitions=partitioning)
    if step == COMMIT:
        raise Crash


@pytest.mark.parametrize("clock", ["event", "system"])
@pytest.mark.parametrize("step", [*STEPS, COMMIT])
async def test_a_crash_after_any_step_of_a_batch_leaves_nothing_or_all(
    engine: AsyncEngine, step: str, clock: str
) -> None:
    """Up to the commit the ledger stands as before the batch; after it, resuming finds nothing left to read."""
    store = await in_postgres(engine, Setting(clock=clock))
    worker = await tell(store, [[as_message(an_order()), as_message(a_complaint())]])
    before = await state_of(store), await counts(store), await store.changes(), await store.snapshots()
    batch = [as_message(a_return(event_id=str(number), customer_id=f"C-{number}")) for number in range(4)]
    with pytest.raises(Crash):
        await read_and_crash(worker, [*batch, batch[0], Message(b"?")], (0, 1), step)
    if step != COMMIT:
        after = await state_of(store), await counts(store), await store.changes(), await store.snapshots()
        assert after == before
        assert await store.rejects() == {}
    resumed = receipt_counts(await worker.resume())
    read = (0, 0, 0, 0) if step == COMMIT else (4, 1, 1, 0)
    assert tuple(resumed.values()) == read
    assert await counts(store) == {"applied": 6, "duplicate": 1, "rejected": 1, "suppressed": 0}


@few
@given(st.data(), histories(), settings_for_histories(), partitionings)
async def test_crashes_between_any_two_steps_change_nothing_in_the_end(
    engine: AsyncEngine, data: st.DataObject, history: list[Message], setting: Setting, partitioning: list[int]
) -> None:
    """Every batch may crash, in settling too; the worker claims again and resumes; the end is the uninterrupted one.

    Scores too: a model is in force.
    """
    applied = agreeable(history, setting)
    memory = await in_memory(setting)
    memory.model = a_model(base_currency=setting.base_currency)
    await tell(memory, [applied])
    uninterrupted = await state_of(memory)
    store = await in_postgres(engine, setting)
    await put_in_force(engine, store.house)
    worker = Worker(store)
    for batch in data.draw(shuffles(applied)):
        step = data.draw(st.sampled_from([*STEPS, COMMIT]))
        with suppress(Crash):
            await read_and_crash(worker, batch, partitioning, step)
        await worker.resume()
        with pytest.MonkeyPatch.context() as patch, suppress(Crash):
            patch.setattr(postgres_tiers, "_CROSSERS_AT_ONCE", 1)
            crash_after(patch, postgres_tiers, "assess_customers", calls=data.draw(st.integers(1, 5)))
            await settle(store)
    await settle(store)
    assert await state_of(store) == uninterrupted
    assert await outlooks_of(store) == await outlooks_of(memory)
    assert await counts(store) | {"duplicate": 0} == {
        "applied": len(await store.applied_at()),
        "duplicate": 0,
        "rejected": 0,
        "suppressed": 0,
    }
    assert sum((await counts(store)).values()) == len(worker.positions)


@pytest.mark.parametrize("calls", [1, 2, 3])
async def test_a_crash_while_tiers_are_settled_is_made_good_by_settling_again(engine: AsyncEngine, calls: int) -> None:
    """Some customers have moved, others not, and the cut-offs are the old ones: the next look at everyone mends it."""
    setting = Setting()
    store = await in_postgres(engine, setting)
    batch = [
        as_message(an_order(event_id=name, customer_id=name, amount=amount))
        for name, amount in (("a", "80"), ("b", "15"), ("c", "5"))
    ]
    await tell(store, [batch], settled=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_tiers, "_CROSSERS_AT_ONCE", 1)
        crash_after(patch, postgres_tiers, "assess_customers", calls=calls)
        with pytest.raises(Crash):
            await settle(store)
    assert not (await store.status(now=NOW)).tiers_current
    await settle(store)
    oracle = Oracle(setting)
    judged(oracle, batch)
    assert await state_of(store) == expected(oracle)
    assert len(await store.changes()) == 6


# --- pinned ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "mean"),
    [
        # Exactly half-way between two doubles, and then a digit far behind that decides.
        (["1.00000000000000011102230246251565404236316680908203125" + "0" * 500 + "1"], 1.0000000000000002),
        (["1.00000000000000011102230246251565404236316680908203125", "1e-2000"], 0.5000000000000001),
    ],
)
async def test_a_mean_score_is_the_nearest_double_however_long_the_numbers(scores: list[str], mean: float) -> None:
    """No digit of a score is lost before the mean is rounded."""
    oracle, store = Oracle(Setting()), await in_memory(Setting())
    batch = [
        Message(
            f'{{"event_id":"{number}","type":"feedback","customer_id":"C-1",'
            f'"occurred_at":"2026-03-01T00:00:00Z","score":{score}}}'.encode()
        )
        for number, score in enumerate(scores)
    ]
    judged(oracle, batch)
    await tell(store, [batch])
    assert expected(oracle).metrics["C-1"]["windows"]["7d"]["feedback_score"] == mean
    assert await state_of(store) == expected(oracle)
