"""What became of an event, and what was applied in all: the questions of whoever keeps the books."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import PROBLEM_TYPE, Api, running
from tests.support.builders import a_cancellation, a_complaint, a_retraction, a_return, an_order
from tests.support.oracle import Message

from segmentation.storage.engine import create_engine


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        yield api


async def fate(api: Api, event_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await api.ask(f"/events/{quote(event_id, safe='')}")).json()
    assert answer["event_id"] == event_id
    return answer


async def test_the_latest_version_of_an_order_counts_and_the_older_one_names_it(api: Api) -> None:
    await api.fed(
        an_order(event_id="new", amount="20", occurred_at="2026-03-02T00:00:00Z"),
        an_order(event_id="old", amount="10", occurred_at="2026-03-01T00:00:00Z"),
    )
    for event_id, counts in (("new", True), ("old", False)):
        applied = (await fate(api, event_id))["applied"]
        assert (applied["counts"], applied["counting_event_id"], applied["type"]) == (counts, "new", "order")


@pytest.mark.parametrize("event_id", ["two\nlines", "ends\n", "\r\n", "a/b//c/", "/first", "50%?#&+ ", "\u2028"])
async def test_an_event_is_found_whatever_its_id_is_made_of(api: Api, event_id: str) -> None:
    await api.fed(a_complaint(event_id=event_id), a_complaint(event_id="ends"))
    assert (await fate(api, event_id))["outcome"] == "applied"


async def test_a_cancellation_counts_in_the_place_of_the_order(api: Api) -> None:
    await api.fed(
        an_order(event_id="order", occurred_at="2026-03-01T00:00:00Z"),
        a_cancellation(event_id="cancelled", occurred_at="2026-03-02T00:00:00Z"),
    )
    assert (await fate(api, "order"))["applied"]["counting_event_id"] == "cancelled"
    assert (await fate(api, "cancelled"))["applied"]["counts"] is True


async def test_what_was_retracted_counts_nothing(api: Api) -> None:
    await api.fed(a_retraction(retracts="return"), a_return(event_id="return"), a_complaint(event_id="complaint"))
    applied = (await fate(api, "return"))["applied"]
    assert (applied["counts"], applied["counting_event_id"]) == (False, None)
    assert (await fate(api, "complaint"))["applied"]["counts"] is True


async def test_a_refused_event_says_why_and_an_applied_one_shows_later_conflicts(api: Api) -> None:
    await api.fed(
        an_order(event_id="a/b ü", amount="-1"),
        an_order(event_id="e", amount="1"),
        an_order(event_id="e", amount="2"),
        Message(b"no event at all"),
    )
    refused = await fate(api, "a/b ü")
    assert (refused["outcome"], refused["applied"]) == ("rejected", None)
    assert [letter["field"] for letter in refused["rejections"]] == ["amount"]
    applied = await fate(api, "e")
    assert applied["outcome"] == "applied"
    assert [letter["reason"] for letter in applied["rejections"]] == ["conflicting_duplicate"]


@pytest.mark.parametrize("event_id", ["nobody", "%00", "x" * 129, "%FF"])
async def test_an_id_that_nobody_has_sent_is_not_found(api: Api, event_id: str) -> None:
    answer = await api.ask(f"/events/{event_id}", status=404)
    assert answer.headers["content-type"] == PROBLEM_TYPE


async def test_totals_are_what_was_applied_in_the_currencies_given(api: Api) -> None:
    await api.fed(
        an_order(event_id="1", order_id="1", amount="999999999999.99", occurred_at="2026-03-01T00:00:00Z"),
        an_order(event_id="2", order_id="2", amount="0.01", occurred_at="2026-03-01T00:00:00Z"),
        an_order(event_id="2", order_id="2", amount="0.01", occurred_at="2026-03-01T00:00:00Z"),
        an_order(event_id="3", order_id="3", amount="5", occurred_at="2026-03-02T00:00:00Z"),
        a_return(event_id="4", amount="7.5", occurred_at="2026-03-01T00:00:00Z"),
        a_complaint(event_id="5", occurred_at="2026-03-01T00:00:00Z"),
        an_order(event_id="6", order_id="6", currency="XAU", occurred_at="2026-03-01T00:00:00Z"),
    )
    answer = (await api.ask("/ingest/totals?from=2026-03-01&to=2026-03-01")).json()
    assert (answer["from"], answer["to"]) == ("2026-03-01", "2026-03-01")
    totals = [(each["type"], each["currency"], each["events"], each["amount"]) for each in answer["totals"]]
    assert totals == [
        ("complaint", None, 1, None),
        ("order", "CNY", 2, "1000000000000.00"),
        ("return", "CNY", 1, "7.50"),
    ]
    assert {each["business_day"] for each in answer["totals"]} == {"2026-03-01"}


@pytest.mark.parametrize("asked", ["from=2026-03-02&to=2026-03-01", "from=2024-01-01&to=2026-01-01", "from=2026-03-01"])
async def test_totals_of_days_that_cannot_be_are_refused(api: Api, asked: str) -> None:
    answer = await api.ask(f"/ingest/totals?{asked}", status=422)
    assert answer.headers["content-type"] == PROBLEM_TYPE
