"""What the API says once raw events were dropped for their age: never silently less."""

from collections.abc import AsyncIterator
from datetime import date

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, running
from tests.support.builders import a_return, an_order
from tests.support.ledgers import house_of
from tests.support.oracle import Setting
from tests.support.recounting import drop

from segmentation.storage.engine import create_engine


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        await api.fed(
            an_order(event_id="old", order_id="1", amount="10.50", occurred_at="2026-03-01T12:00:00Z"),
            a_return(event_id="old return", amount="0.25", occurred_at="2026-03-01T12:00:00Z"),
            an_order(event_id="new", order_id="2", amount="7", occurred_at="2026-03-02T12:00:00Z"),
        )
        yield api


async def test_totals_and_figures_are_the_same_before_and_after(engine: AsyncEngine, api: Api) -> None:
    asked = ("/ingest/totals?from=2026-02-28&to=2026-03-03", "/customers/C-1/metrics", "/customers/C-1/segment")
    before = [await api.read(path) for path in asked]
    assert {total["business_day"] for total in before[0]["totals"]} == {"2026-03-01", "2026-03-02"}
    assert await drop(engine, house_of(Setting()), date(2026, 3, 2)) == 2
    assert [await api.read(path) for path in asked] == before


async def test_the_status_says_since_when_events_are_known(engine: AsyncEngine, api: Api) -> None:
    assert (await api.read("/ingest/status"))["events_known_since"] is None
    await drop(engine, house_of(Setting()), date(2026, 3, 2))
    status = await api.read("/ingest/status")
    assert (status["events_known_since"], status["events"]["applied"]) == ("2026-03-02", 3)


async def test_an_unknown_event_may_be_one_that_was_dropped(engine: AsyncEngine, api: Api) -> None:
    assert (await api.ask("/events/never", status=404)).json()["detail"] == "No event 'never' is known."
    await drop(engine, house_of(Setting()), date(2026, 3, 2))
    assert (await api.ask("/events/old", status=404)).json()["detail"] == (
        "No event 'old' is known. Raw events of days before 2026-03-02 were dropped; it may have been one of them."
    )
    assert (await api.ask("/events/new")).json()["applied"]["counts"] is True
