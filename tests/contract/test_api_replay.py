"""A replay brings a rejected message out of quarantine: once, with its whole effect, and the counts go along."""

from collections.abc import AsyncIterator
from datetime import date

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import PROBLEM_TYPE, Api, running
from tests.support.builders import an_order, as_message
from tests.support.oracle import Message

from segmentation.money import Rate
from segmentation.storage.engine import create_engine

USD = Rate("USD", date(2020, 1, 1), 7 * 10**12)


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        yield api


async def counts(api: Api) -> dict[str, int]:
    found: dict[str, int] = (await api.ask("/ingest/status")).json()["events"]
    return found


async def replay(api: Api, letter_id: int) -> dict[str, object]:
    answer = await api.client.post(f"/dead-letters/{letter_id}/replay")
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()
    return found


async def only_letter(api: Api) -> int:
    (letter,) = (await api.ask("/dead-letters")).json()["dead_letters"]
    return int(letter["id"])


@pytest.mark.parametrize("mode", ["plain", "structured", "binary"])
async def test_an_order_whose_rate_came_late_is_applied_once(api: Api, mode: str) -> None:
    await api.fed(as_message(an_order(customer_id="C-1", currency="USD", amount="10.00"), mode=mode))  # type: ignore[arg-type]
    assert await counts(api) == {"applied": 0, "duplicate": 0, "rejected": 1, "suppressed": 0}
    letter_id = await only_letter(api)
    again = await replay(api, letter_id)
    assert (again["outcome"], again["reason"]) == ("rejected", "unknown_currency")
    await api.store.add_rates([USD])
    for _ in range(2):
        assert await replay(api, letter_id) == {"id": letter_id, "outcome": "applied", "reason": None, "detail": None}
        assert await counts(api) == {"applied": 1, "duplicate": 0, "rejected": 0, "suppressed": 0}
    await api.settle()
    metrics = (await api.ask("/customers/C-1/metrics")).json()
    assert metrics["lifetime"]["net_revenue"] == "70.00"
    assert (await api.ask("/customers/C-1/segment")).json()["value_tier"] == "A"
    letter = (await api.ask(f"/dead-letters/{letter_id}")).json()
    assert letter["replayed_as"] == "applied"
    assert letter["replayed_at"] is not None
    status = (await api.ask("/ingest/status")).json()
    assert (status["customers"], status["tiers"]["current"]) == (1, True)


async def test_what_was_sent_again_meanwhile_is_a_duplicate(api: Api) -> None:
    order = as_message(an_order(currency="USD", amount="10.00"))
    await api.fed(order)
    letter_id = await only_letter(api)
    await api.store.add_rates([USD])
    await api.feed(order)
    assert (await replay(api, letter_id))["outcome"] == "duplicate"
    assert await counts(api) == {"applied": 1, "duplicate": 1, "rejected": 0, "suppressed": 0}


async def test_nonsense_stays_nonsense(api: Api) -> None:
    await api.fed(Message(b"nonsense"))
    letter_id = await only_letter(api)
    answer = await replay(api, letter_id)
    assert (answer["outcome"], answer["reason"]) == ("rejected", "invalid_json")
    assert await counts(api) == {"applied": 0, "duplicate": 0, "rejected": 1, "suppressed": 0}


@pytest.mark.parametrize("letter_id", ["999", "0", "abc", "9" * 30])
async def test_a_dead_letter_that_is_not_there_cannot_be_replayed(api: Api, letter_id: str) -> None:
    answer = await api.client.post(f"/dead-letters/{letter_id}/replay")
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM_TYPE)
