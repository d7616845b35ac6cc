"""With a model in force: every score is the oracle's for its day, whatever came in which order and batches.

The model is one that anybody can work out (tests/support/models.py), and the oracle does so from the events alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.histories import NOW, agreeable, histories, settings_for_histories, shuffles
from tests.support.ledgers import Store, Worker, in_memory, in_postgres, judged, settle
from tests.support.models import a_model, put_in_force
from tests.support.oracle import Message, Oracle, Setting
from tests.support.recounting import differences

from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId
from segmentation.risk import Outlook
from segmentation.segments import Lifecycle
from segmentation.storage.engine import create_engine
from segmentation.storage.reader import PostgresReader

few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
passing = st.lists(st.sampled_from((1, 2, 6, 30, 90, 365)), max_size=3)
"""Days that pass with nothing happening."""
KEPT = (Lifecycle.NEW, Lifecycle.ACTIVE, Lifecycle.WON_BACK, Lifecycle.AT_RISK)

Foretold = tuple[int, str, int] | None


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


def shown(snapshots: dict[CustomerId, Snapshot]) -> dict[str, Foretold]:
    """What stands of the model, in the oracle's words."""
    return {customer_id: _shown(each.outlook) for customer_id, each in snapshots.items()}


def _shown(outlook: Outlook | None) -> Foretold:
    if outlook is None:
        return None
    return round(outlook.churn_probability * 100), outlook.behaviour, round(outlook.confidence * 100)


def expected(oracle: Oracle, as_of: date | None) -> dict[str, Foretold]:
    if as_of is None:
        return {}
    foretold = {customer_id: oracle.foretold(customer_id, as_of) for customer_id in oracle.customers()}
    return {customer_id: each and each[:3] for customer_id, each in foretold.items()}


def check(snapshots: dict[CustomerId, Snapshot], oracle: Oracle, as_of: date | None) -> None:
    """Scores, the value expected, the segment shown and the churn warning."""
    assert shown(snapshots) == expected(oracle, as_of)
    for customer_id, snapshot in snapshots.items():
        assert as_of is not None
        assert snapshot.as_of == as_of or snapshot.outlook is None
        assert snapshot.model_version == 1
        foretold = oracle.foretold(customer_id, as_of)
        if foretold is None:
            assert (snapshot.expected_value, snapshot.shown_segment) == (None, snapshot.segment)
            assert snapshot.churn_warning == (snapshot.lifecycle is Lifecycle.AT_RISK)
            continue
        percent, behaviour, _, value = foretold
        assert snapshot.expected_value is not None
        # Scores are doubles: of sums beyond 2**53 minor units the last digits are not theirs to say.
        assert abs(snapshot.expected_value - value) <= max(Fraction(1, 2), value / 2**40)
        assert snapshot.shown_segment == behaviour
        assert snapshot.churn_warning == (percent >= 70 and snapshot.lifecycle in KEPT)


async def told(store: Store, batches: Sequence[Sequence[Message]], now: datetime = NOW) -> Worker:
    worker = Worker(store)
    for batch in batches:
        await worker.read(batch, now=now)
    return worker


@given(st.data(), histories(), settings_for_histories(), st.booleans())
async def test_scores_depend_on_the_set_of_events_and_the_day_alone(
    data: st.DataObject, history: list[Message], setting: Setting, settled_often: bool
) -> None:
    """Not on order, batches or repeats, nor on when tiers were settled or the model was put in force."""
    applied = agreeable(history, setting)
    oracle = Oracle(setting)
    judged(oracle, applied)
    store = await in_memory(setting)
    batches = data.draw(shuffles(applied))
    in_force_from = data.draw(st.integers(0, len(batches)))
    worker = Worker(store)
    for number, batch in enumerate((*batches, ())):
        if number == in_force_from:
            store.model = a_model(base_currency=setting.base_currency)
        await worker.read(batch)
        if settled_often:
            await settle(store)
    await settle(store)
    check(await store.snapshots(), oracle, oracle.as_of(NOW))


@few
@given(st.data(), histories(), settings_for_histories())
async def test_scores_depend_on_the_set_of_events_and_the_day_alone_in_postgres(
    engine: AsyncEngine, data: st.DataObject, history: list[Message], setting: Setting
) -> None:
    """The same, through the database; and a recount finds nothing else."""
    applied = agreeable(history, setting)
    oracle = Oracle(setting)
    judged(oracle, applied)
    store = await in_postgres(engine, setting)
    batches = data.draw(shuffles(applied))
    in_force_from = data.draw(st.integers(0, len(batches)))
    worker = Worker(store)
    for number, batch in enumerate((*batches, ())):
        if number == in_force_from:
            await put_in_force(engine, store.house)
        await worker.read(batch)
    await settle(store)
    check(await store.snapshots(), oracle, oracle.as_of(NOW))
    assert await differences(engine, store.house) == []


@given(histories(), settings_for_histories("system"), passing)
async def test_scores_follow_the_days(history: list[Message], setting: Setting, days: list[int]) -> None:
    """With no event at all, every day that passes has everyone with an order looked at again."""
    oracle, store, now = Oracle(setting), await in_memory(setting), NOW
    store.model = a_model(base_currency=setting.base_currency)
    judged(oracle, history)
    await told(store, [history])
    for passed in (0, *days):
        now += timedelta(days=passed)
        await settle(store, now=now)
        check(await store.snapshots(), oracle, oracle.as_of(now))


@few
@given(histories(), settings_for_histories("system"), passing)
async def test_an_overdue_answer_is_what_the_sweep_will_find(
    engine: AsyncEngine, history: list[Message], setting: Setting, days: list[int]
) -> None:
    """A reader who comes before the sweep, on a new day or after another model, is told what will stand."""
    oracle, store, now = Oracle(setting), await in_postgres(engine, setting), NOW
    judged(oracle, history)
    await told(store, [history])
    await settle(store)
    await put_in_force(engine, store.house)
    reader = PostgresReader(engine, store.house)
    for passed in (0, *days):
        now += timedelta(days=passed)
        answers = await reader.answers(await store.snapshots(), now=now)
        before = {customer_id: answer.snapshot for customer_id, answer in answers.known.items()}
        check(before, oracle, oracle.as_of(now))
        while await store.ledger.sweep(now=now, limit=3):
            pass
        after = await store.snapshots()
        assert shown(after) == shown(before)
        await settle(store, now=now)
        assert await differences(engine, store.house, now=now) == []
