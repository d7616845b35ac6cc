"""Overrides, history, earlier answers and explanations of generated customers: held against the oracle and a diary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import a_complaint, a_return, an_order, as_message
from tests.support.histories import NOW
from tests.support.ledgers import DEFAULT_POLICY, Store, Worker, in_memory, in_postgres, judged, settle
from tests.support.oracle import Oracle, Setting

from segmentation import policy as policies
from segmentation.assessment import Snapshot
from segmentation.explanation import explain
from segmentation.fields import CustomerId
from segmentation.overrides import Ending, WantedOverride
from segmentation.storage.engine import create_engine
from segmentation.tiering import RANK, CutOffs, Standing, Tier

GRACE_DAYS = 14
POLICY = policies.parse(DEFAULT_POLICY, version=1)
CUSTOMERS = "abcd"
few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

Step = tuple[int, list[tuple[str, str, str]], list[tuple[str, str | None, str | None, int]]]
"""Days to go on; (kind, customer, amount) of events; (customer, tier, level, days) of overrides, 0 days ends one."""


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    event = st.tuples(
        st.sampled_from(("order", "order", "order", "return", "complaint")),
        st.sampled_from(CUSTOMERS),
        st.sampled_from(("1", "5", "15", "80", "1000")),
    )
    override = st.tuples(
        st.sampled_from(CUSTOMERS),
        st.sampled_from((None, *Tier)),
        st.sampled_from((None, "vip", "welcome")),
        st.sampled_from((0, 1, 2, 14, 400)),
    )
    days = st.sampled_from((0, 0, 1, 1, 2, 12, 13, 14, 15, 100, 352, 365))
    step = st.tuples(days, st.lists(event, min_size=1, max_size=4), st.lists(override, max_size=2))
    return draw(st.lists(step, max_size=10))


def told(snapshot: Snapshot) -> Snapshot:
    """All that an answer says of a customer but when: what it is found by, its day, and its moment are left out."""
    override = snapshot.overridden
    found_by = {"value": None, "order_traits": None}
    return structs.replace(snapshot, **found_by, as_of=date.min, due_on=date.max, updated_at=NOW, override=override)


async def act(oracle: Oracle, step: Step, worker: Worker, numbers: Iterator[int], now: datetime) -> None:
    """The events and the overrides of one step, for the ledger and for the oracle."""
    store, (_, events, overrides) = worker.store, step
    builders: dict[str, Any] = {"order": an_order, "return": a_return, "complaint": a_complaint}
    batch = []
    for kind, customer_id, amount in events:
        number = str(next(numbers))
        fields = {"event_id": number, "customer_id": customer_id, "occurred_at": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
        fields |= {"order": {"order_id": number, "amount": amount}, "return": {"amount": amount}}.get(kind, {})
        batch.append(as_message(builders[kind](**fields)))
    judged(oracle, batch, now)
    await worker.read(batch, now=now)
    for customer_id, tier, level, days in overrides:
        key = CustomerId(customer_id)
        if days == 0:
            known = await store.overrides.end_override(key, Ending(author=None, reason=None), now=now)
            assert known == (customer_id in oracle.customers())
            oracle.override(customer_id, None, now.date())
            continue
        expires_on = now.date() + timedelta(days=days)
        wanted = WantedOverride(None if tier is None else Tier(tier), level, "because", "li", expires_on)
        refusal = (await store.overrides.set_overrides({key: wanted}, now=now))[key]
        assert (refusal is None) == (customer_id in oracle.customers() and not (tier is None and level is None))
        if refusal is None:
            oracle.override(customer_id, tier, expires_on)
    await settle(store, now=now)


async def check(store: Store, clock: str, steps: Sequence[Step]) -> None:
    oracle, worker, numbers = Oracle(Setting(clock=clock)), Worker(store), iter(range(1_000))
    now, computed = NOW - timedelta(days=5_000), dict[str, str]()
    closed: dict[date, dict[str, str]] = {}
    diary: dict[date, dict[CustomerId, Snapshot]] = {}
    for step in steps:
        for passed in range(step[0]):
            closed[(now + timedelta(days=passed)).date()] = computed
        now += timedelta(days=step[0])
        await act(oracle, step, worker, numbers, now)
        computed = oracle.computed_tiers(now.date())
        snapshots = await store.snapshots()
        effective = oracle.effective_tiers(now.date(), closed, GRACE_DAYS)
        assert {customer_id: each.tier.value for customer_id, each in snapshots.items()} == effective
        diary[now.date()] = snapshots
        for customer_id, snapshot in snapshots.items():
            await explained_as_decided(store, customer_id, snapshot, now)
            newest = (await store.history(customer_id))[0].entry.after
            assert standing(newest) == standing(snapshot)
    await days_are_as_they_ended(store, diary)


def standing(snapshot: Snapshot) -> tuple[Any, ...]:
    """What a history lists."""
    named = (snapshot.tier, snapshot.history.computed, snapshot.lifecycle, snapshot.segment, snapshot.service_level)
    return (*named, snapshot.override)


async def explained_as_decided(store: Store, customer_id: CustomerId, snapshot: Snapshot, now: datetime) -> None:
    """Decision by decision, and the first row that holds is the one that decided."""
    found = await store.figures(customer_id, now=now)
    assert found is not None
    last = {tier: each and Standing(*each) for tier, each in (await store.tiers()).cutoffs.items()}
    explanation = explain(found[1], snapshot, POLICY, CutOffs(last["A"], last["B"]))
    assert (explanation.tier.computed, explanation.tier.effective) == (snapshot.history.computed, snapshot.tier)
    assert explanation.tier.value == snapshot.value
    assert explanation.lifecycle.stage is snapshot.lifecycle
    assert (explanation.value.level, explanation.grade.code) == (snapshot.facets.value_level, snapshot.facets.grade)
    assert (explanation.segment.code, tuple(explanation.segment.reasons)) == (
        snapshot.segment,
        snapshot.segment_reasons,
    )
    assert (explanation.service_level.code, tuple(explanation.service_level.reasons)) == (
        snapshot.service_level,
        snapshot.service_reasons,
    )
    for decided in (explanation.grade, explanation.segment, explanation.service_level):
        assert [each.holds for each in decided.tried] == [False] * (len(decided.tried) - 1) + [True]
    assert explanation.override == snapshot.overridden
    if explanation.lifecycle.moves:
        assert explanation.lifecycle.moves[0] > snapshot.as_of
        assert explanation.lifecycle.moves[1] is not snapshot.lifecycle
        assert snapshot.due_on <= explanation.lifecycle.moves[0]
    gaps = explanation.tier.gaps
    assert (gaps.next is None) == (snapshot.history.computed is Tier.A)
    assert (gaps.previous is None) == (snapshot.history.computed is Tier.UNRATED)


async def days_are_as_they_ended(store: Store, diary: dict[date, dict[CustomerId, Snapshot]]) -> None:
    """Whatever came later, the days jumped over included; nothing before a customer was known."""
    days = sorted(diary)
    for customer_id in map(CustomerId, CUSTOMERS):
        for day in days:
            for asked in (day - timedelta(days=1), day):
                ended = max((each for each in days if each <= asked), default=None)
                stood = diary[ended].get(customer_id) if ended else None
                recorded = await store.recorded(customer_id, asked)
                assert (recorded and told(recorded)) == (stood and told(stood))


@given(st.sampled_from(("event", "system")), steps())
async def test_whatever_people_decide_every_answer_is_kept_explained_and_as_the_oracle_says(
    clock: str, steps: list[Step]
) -> None:
    """Effective tiers, the newest entry of each history, the answers of earlier days, and what explanations decide."""
    await check(await in_memory(Setting(clock=clock)), clock, steps)


@few
@given(st.sampled_from(("event", "system")), steps())
async def test_whatever_people_decide_every_answer_is_kept_explained_and_as_the_oracle_says_in_postgres(
    engine: AsyncEngine, clock: str, steps: list[Step]
) -> None:
    """The same, through the database."""
    await check(await in_postgres(engine, Setting(clock=clock)), clock, steps)


# --- gaps -----------------------------------------------------------------------------------------------------------

standings = st.builds(Standing, st.integers(1, 12) | st.integers(1, 10**30), st.sampled_from([*map(CustomerId, "bdf")]))


@given(
    standings,
    standings,
    st.booleans(),
    st.integers(-3, 15) | st.integers(-(10**30), 10**31),
    st.sampled_from("abcdefg"),
)
def test_a_gap_is_the_least_that_moves_a_customer(
    one: Standing, other: Standing, without_b: bool, value: int, customer_id: str
) -> None:
    """By the cut-offs as they are: one less does nothing, and the tier it leads to is a neighbour."""
    last_a, last_b = sorted((one, other), key=lambda each: (-each.value, each.customer_id))
    cutoffs = CutOffs(last_a, None if without_b else last_b)
    name = CustomerId(customer_id)
    stands = cutoffs.assign(value, name)
    up, down = cutoffs.gaps(value, name)
    assert (up is None, down is None) == (stands is Tier.A, stands is Tier.UNRATED)
    if up:
        assert cutoffs.assign(value + up.amount, name) is up.tier
        assert cutoffs.assign(value + up.amount - 1, name) is stands
        assert RANK[up.tier] < RANK[stands]
    if down:
        assert cutoffs.assign(value - down.amount, name) is down.tier
        assert cutoffs.assign(value - down.amount + 1, name) is stands
        assert RANK[down.tier] > RANK[stands]


def test_where_nobody_is_ranked_the_first_is_an_a() -> None:
    up, down = CutOffs().gaps(None, CustomerId("a"))
    assert (up, down) == ((Tier.A, 1), None)
