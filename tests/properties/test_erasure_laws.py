"""Generated histories with erasures at any moment: what stands is what the others' events amount to, digit for digit.

The many examples run on the ledger in memory, which shares every rule with PostgreSQL's; some run on PostgreSQL itself.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.histories import histories, settings_for_histories
from tests.support.ledgers import (
    PostgresStore,
    Store,
    Worker,
    counts,
    expected,
    in_memory,
    in_postgres,
    judged,
    receipt_counts,
    settle,
    state_of,
)
from tests.support.oracle import Message, Oracle, Setting

from segmentation.erasure import ErasureKey
from segmentation.events import decode
from segmentation.fields import CustomerId
from segmentation.storage.books import Books
from segmentation.storage.engine import create_engine
from segmentation.storage.recount import Recount

Step = list[Message] | str
"""A batch, or whom to erase."""

few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@st.composite
def courses(draw: st.DrawFn) -> list[Step]:
    """A history in batches of any size, with erasures of its customers before, between and after them."""
    history = draw(histories())
    cuts = sorted(draw(st.lists(st.integers(0, len(history)), max_size=8)))
    steps: list[Step] = [history[a:b] for a, b in itertools.pairwise([0, *cuts, len(history)])]
    there = sorted({each for message in history if (each := decode(message.value, message.headers).customer_id)})
    for customer_id in draw(st.lists(st.sampled_from([*there, "stranger"]), max_size=3)):
        steps.insert(draw(st.integers(0, len(steps))), customer_id)
    return steps


async def check_against_oracle(store: Store, setting: Setting, steps: Sequence[Step], partitioning: list[int]) -> None:
    """Counts batch by batch, then everything that stands, by the oracle and by one that never heard of the erased."""
    oracle, worker, read = Oracle(setting), Worker(store), 0
    accepted: list[Message] = []
    for step in steps:
        if isinstance(step, str):
            # Whoever is known, and whom a refused message names; nobody else can be.
            if await store.erase(CustomerId(step)):
                oracle.erase(step)
            assert step not in oracle.customers()
            continue
        verdicts, in_batch = judged(oracle, step)
        accepted += [message for message, verdict in zip(step, verdicts, strict=True) if verdict == "applied"]
        receipt = await worker.read(step, partitions=partitioning)
        assert receipt_counts(receipt) == in_batch
        read += len(step)
    await settle(store)
    assert await counts(store) == oracle.counts
    assert sum(oracle.counts.values()) == read
    state = await state_of(store)
    assert state == expected(oracle)
    others = Oracle(setting)
    for message in accepted:
        if decode(message.value, message.headers).customer_id not in oracle.erased:
            assert judged(others, [message])[0] == ["applied"]
    if setting.clock == "system":  # the day of an erased customer's event stays
        assert state == expected(others)


partitionings = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@given(courses(), settings_for_histories(), partitionings)
async def test_what_stands_is_what_the_others_events_amount_to(
    steps: list[Step], setting: Setting, partitioning: list[int]
) -> None:
    await check_against_oracle(await in_memory(setting), setting, steps, partitioning)


@few
@given(courses(), settings_for_histories(), partitionings)
async def test_what_stands_is_what_the_others_events_amount_to_in_postgres(
    engine: AsyncEngine, steps: list[Step], setting: Setting, partitioning: list[int]
) -> None:
    """The same through the database; and a check of everything finds nothing there."""
    store: PostgresStore = await in_postgres(engine, setting)
    await check_against_oracle(store, setting, steps, partitioning)
    assert await Books(engine, store.house).check() == []
    recounted = Recount(engine, store.house)
    everyone = [customer_id for customer_id, _ in await recounted.page("", limit=1_000)]
    assert await recounted.check(everyone) == []


ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True)


@given(st.text(min_size=32), st.text(min_size=32), ids, ids)
def test_a_digest_is_the_customers_and_the_keys_alone(one: str, other: str, customer_id: str, another: str) -> None:
    key = ErasureKey(one)
    assert key.digest(customer_id) == ErasureKey(one).digest(customer_id)
    assert (key.digest(customer_id) == key.digest(another)) == (customer_id == another)
    assert key.digest(customer_id) != key.check
    if one != other:
        assert ErasureKey(other).digest(customer_id) != key.digest(customer_id)
        assert ErasureKey(other).check != key.check
