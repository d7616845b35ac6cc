"""Listings of generated histories: pages put together are everybody by the oracle, each as its own answer says.

What the oracle knows (profile, region, channel, services, computed tiers) is held against the oracle; what
only the policy decides, against the answers of single customers, which other suites hold against the oracle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.histories import NOW, histories, settings_for_histories
from tests.support.ledgers import NO_GRACE, PostgresStore, Worker, house_of, in_postgres, judged, settle
from tests.support.oracle import Message, Oracle, Setting

from segmentation.answers import Answer
from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId
from segmentation.listing import CLOSED, MAY_BE_WITHOUT, UNKNOWN, Breakdown, Criteria, Filter
from segmentation.storage import directory as postgres_directory
from segmentation.storage.directory import PostgresDirectory
from segmentation.storage.engine import create_engine
from segmentation.storage.reader import PostgresReader

few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
LIMITS = st.sampled_from((1, 2, 3, 100))
DAYS = st.sampled_from((0, 1, 6, 7, 29, 30, 61, 90, 275, 364, 365, 800))


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


async def told(engine: AsyncEngine, setting: Setting, history: Sequence[Message]) -> tuple[PostgresStore, Oracle]:
    oracle, store = Oracle(setting), await in_postgres(engine, setting, NO_GRACE)
    judged(oracle, history)
    await Worker(store).read(history)
    await settle(store)
    return store, oracle


async def paged(directory: PostgresDirectory, criteria: Criteria, *, limit: int, now: datetime) -> list[Answer]:
    """All pages put together."""
    found: list[Answer] = []
    after: CustomerId | None = None
    while True:
        page = await directory.page(criteria, after=after, limit=limit, now=now)
        assert len(page.answers) <= limit
        found += page.answers
        if page.next_after is None:
            return found
        assert after is None or after.encode() < page.next_after.encode()
        after = page.next_after


async def exported(directory: PostgresDirectory, criteria: Criteria, *, now: datetime) -> list[Answer]:
    return [answer async for page in directory.everyone(criteria, now=now) for answer in page.answers]


def ids(answers: Collection[Answer]) -> list[str]:
    return [answer.snapshot.customer_id for answer in answers]


def in_byte_order(customer_ids: Collection[str]) -> list[str]:
    return sorted(customer_ids, key=str.encode)


def by_oracle(oracle: Oracle, name: Filter, customer_id: str, tiers: dict[str, str]) -> str | None:
    if name is Filter.TIER:
        return tiers[customer_id]
    value: str | None = oracle.profile(customer_id)[name]
    return value or UNKNOWN if name in (Filter.INDUSTRY, Filter.SUBJECT_TYPE) else value


KNOWN_TO_THE_ORACLE = (Filter.TIER, Filter.INDUSTRY, Filter.SUBJECT_TYPE, Filter.REGION, Filter.CHANNEL)


@few
@given(histories(), settings_for_histories(), LIMITS)
async def test_pages_of_a_filter_are_everybody_for_whom_it_holds_by_the_oracle(
    engine: AsyncEngine, history: list[Message], setting: Setting, limit: int
) -> None:
    """And the counts by region are the oracle's; nobody is left out, nobody is counted twice."""
    _, oracle = await told(engine, setting, history)
    directory = PostgresDirectory(engine, house_of(setting))
    as_of, everybody = oracle.as_of(NOW), oracle.customers()
    tiers = {} if as_of is None else oracle.computed_tiers(as_of)
    assert ids(await paged(directory, Criteria(), limit=limit, now=NOW)) == in_byte_order(everybody)
    for name in KNOWN_TO_THE_ORACLE:
        values = {each: by_oracle(oracle, name, each, tiers) for each in everybody}
        wanted = {value for value in values.values() if value is not None} | set(CLOSED.get(name, ()))
        for value in sorted(wanted):
            found = await paged(directory, Criteria({name: frozenset([value])}), limit=limit, now=NOW)
            assert ids(found) == in_byte_order([each for each in everybody if values[each] == value]), (name, value)
        if name in MAY_BE_WITHOUT:
            without = await paged(directory, Criteria(without=frozenset([name])), limit=limit, now=NOW)
            assert ids(without) == in_byte_order([each for each in everybody if values[each] is None])
    overview = await directory.regions(after=None, limit=100, now=NOW)
    regions = Counter(oracle.profile(each)["region"] for each in everybody)
    assert {each.region: each.customers for each in overview.regions} == regions
    by_tier = Counter((oracle.profile(each)["region"], tiers[each]) for each in everybody)
    told_by_tier = {(each.region, tier): count for each in overview.regions for tier, count in each.tiers.items()}
    assert {key: count for key, count in told_by_tier.items() if count} == by_tier
    assert overview.customers == len(everybody)
    assert overview.total == sum(each.value for each in overview.regions)
    ranked = [] if as_of is None else oracle.basis_365(as_of).values()
    assert overview.total == sum(value for value in ranked if value and value > 0)


def shown(snapshot: Snapshot, name: Filter) -> set[str]:
    """The values that an answer shows; written apart from the product's own."""
    facets: Any = snapshot.facets
    if name is Filter.NEED:
        return set(facets.needs)
    if name in (Filter.TIER, Filter.SEGMENT, Filter.SERVICE_LEVEL, Filter.LIFECYCLE):
        return {str(getattr(snapshot, name))}
    value = getattr(facets, name)
    if name in (Filter.INDUSTRY, Filter.SUBJECT_TYPE):
        return {value or "unknown"}
    return set() if value is None else {value}


async def check_listings(engine: AsyncEngine, setting: Setting, oracle: Oracle, limit: int, now: datetime) -> None:
    house = house_of(setting)
    directory, everybody = PostgresDirectory(engine, house), oracle.customers()
    answers = (await PostgresReader(engine, house).answers([CustomerId(each) for each in everybody], now=now)).known
    everyone = await paged(directory, Criteria(), limit=limit, now=now)
    assert everyone == [answers[CustomerId(each)] for each in in_byte_order(everybody)]
    for name in Filter:
        values = {value for answer in answers.values() for value in shown(answer.snapshot, name)}
        for wanted in [frozenset([value]) for value in sorted(values)] + ([frozenset(values)] if values else []):
            criteria = Criteria({name: wanted})
            expected = [
                answers[CustomerId(each)]
                for each in in_byte_order(everybody)
                if shown(answers[CustomerId(each)].snapshot, name) & wanted
            ]
            assert await paged(directory, criteria, limit=limit, now=now) == expected, (name, wanted)
            assert await exported(directory, criteria, now=now) == expected, (name, wanted)
    segments = await directory.segments(tuple(Breakdown), parts=100, now=now)
    regions = await directory.regions(after=None, limit=100, now=now)
    assert (segments.overdue, regions.overdue) == (0, 0)
    assert segments.customers == regions.customers == len(everybody)
    counted = {each.code: each.customers for each in segments.segments if each.customers}
    assert counted == Counter(answer.snapshot.segment for answer in answers.values())
    for by in Breakdown:
        parts = {
            (each.code, part.value): part.customers for each in segments.segments for part in each.broken_down[by].parts
        }
        assert parts == Counter(
            (answer.snapshot.segment, getattr(answer.snapshot.facets, by)) for answer in answers.values()
        )
    assert {each.region: each.customers for each in regions.regions} == Counter(
        answer.snapshot.facets.region for answer in answers.values()
    )


@few
@given(histories(), settings_for_histories("system"), LIMITS, DAYS, st.booleans())
async def test_filters_and_counts_hold_on_the_answers_as_days_pass_without_an_event(  # noqa: PLR0917 - drawn
    engine: AsyncEngine, history: list[Message], setting: Setting, limit: int, days: int, swept: bool
) -> None:
    """Whether the sweep has been there or not: no row of an earlier day is filtered, counted or shown as it stands."""
    store, oracle = await told(engine, setting, history)
    now = NOW + timedelta(days=days)
    if swept:
        await settle(store, now=now)
    await check_listings(engine, setting, oracle, limit, now)


@few
@given(histories(), settings_for_histories("system"), DAYS)
async def test_counts_add_up_where_too_many_are_overdue_and_say_how_many(
    engine: AsyncEngine, history: list[Message], setting: Setting, days: int
) -> None:
    """Counted as they stood, all of them, and never silently."""
    store, oracle = await told(engine, setting, history)
    now = NOW + timedelta(days=days)
    today = oracle.as_of(now)
    assert today is not None
    due = sum(each.due_on <= today for each in (await store.snapshots()).values())
    directory = PostgresDirectory(engine, house_of(setting))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_directory, "_MOST_OVERDUE", 0)
        segments = await directory.segments((), parts=1, now=now)
        regions = await directory.regions(after=None, limit=100, now=now)
    assert segments.overdue == regions.overdue == due
    assert sum(each.customers for each in segments.segments) == segments.customers == len(oracle.customers())
    assert sum(each.customers for each in regions.regions) == regions.customers == len(oracle.customers())


@few
@given(histories(), settings_for_histories("system"), DAYS)
async def test_a_page_that_stops_looking_says_where_to_go_on(
    engine: AsyncEngine, history: list[Message], setting: Setting, days: int
) -> None:
    """However few rows a page may look at: pages may be short or empty, and together they are everybody."""
    _, oracle = await told(engine, setting, history)
    now = NOW + timedelta(days=days)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_directory, "_MOST_LOOKED_AT", 1)
        await check_listings(engine, setting, oracle, 1, now)
