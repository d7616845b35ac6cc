"""Laws of posting events: whichever way each batch comes, the books and everyone's figures are the oracle's."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import client_of
from tests.support.histories import NOW, histories, settings_for_histories
from tests.support.ledgers import Worker, counts, expected, in_postgres, judged, settle, state_of
from tests.support.oracle import Message, Oracle, Setting

from segment_api.posted_rows import UnreadableBody, rows
from segmentation.fields import CustomerId
from segmentation.storage.engine import create_engine

few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


def body_of(messages: list[Message], content_type: str) -> bytes | None:
    """The messages as a body; None where one of them cannot be posted so, and has to come over Kafka."""
    values = [message.value for message in messages if not message.headers and message.value is not None]
    if len(values) < len(messages):
        return None
    body = b"\n".join(values) if "ndjson" in content_type else b"[" + b",".join(values) + b"]"
    try:
        return body if rows(body, content_type) == values else None
    except UnreadableBody:
        return None


@few
@given(
    st.data(),
    histories(),
    settings_for_histories(),
    st.lists(st.sampled_from(("a", "B", "C-1", "C-2")), unique=True, max_size=1),
)
async def test_posted_in_any_cut_beside_kafka_a_history_ends_as_the_oracle_says(
    engine: AsyncEngine, data: st.DataObject, history: list[Message], setting: Setting, erased: list[str]
) -> None:
    store, oracle = await in_postgres(engine, setting), Oracle(setting)
    for customer_id in erased:
        oracle.erase(customer_id)
        await store.suppress(CustomerId(customer_id))
    worker, posted = Worker(store), 0
    cuts = sorted(data.draw(st.lists(st.integers(0, len(history)), max_size=8)))
    async with client_of(engine, setting, lambda: NOW) as client:
        for start, end in itertools.pairwise([0, *cuts, len(history)]):
            batch = history[start:end]
            content_type = data.draw(st.sampled_from(["application/json", "application/x-ndjson", "kafka"]))
            words, in_batch = judged(oracle, batch)
            body = None if content_type == "kafka" else body_of(batch, content_type)
            if body is None:
                await worker.read(batch)
                continue
            path = "/events?validate_only=true"
            tried = (await client.post(path, content=body, headers={"Content-Type": content_type})).json()
            answer = (await client.post("/events", content=body, headers={"Content-Type": content_type})).json()
            assert answer["outcomes"] == in_batch
            assert answer["events"] == tried["events"]
            said = [each["reason"] or each["outcome"] for each in answer["events"]]
            assert ["passed over" if word in ("duplicate", "suppressed") else word for word in said] == words
            posted += len(batch)
    await settle(store)
    assert await counts(store) == oracle.counts
    assert await state_of(store) == expected(oracle)
    status = await store.status(now=NOW)
    assert sum(status.events.values()) == len(history)
    assert status.tiers_current
    letters = Counter(row.topic for row in await store.rows("SELECT topic FROM dead_letters"))
    assert letters["POST /events"] <= posted
