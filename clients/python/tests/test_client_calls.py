"""The client against the real service: what is asked comes as typed values, and what is refused as errors."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from clients.python.tests.conftest import Kind
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.sites import Site, listening

import tierline
from segmentation.access import Scope
from tierline import answers

DOCUMENT = json.loads((Path(__file__).resolve().parents[3] / "tests/contract/openapi.json").read_text("utf-8"))
ONCE = tierline.Retries(tries=1)


class Counting:
    """What went over the wire."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def __call__(self, response: httpx.Response) -> None:
        self.statuses.append(response.status_code)

    async def later(self, response: httpx.Response) -> None:
        self(response)


@pytest.fixture
async def client(kind: Kind, here: Site) -> AsyncIterator[Any]:
    client = kind.client(here.url, key=here.key, retries=ONCE)
    yield client
    await kind.close(client)


def counted(kind: Kind, client: Any) -> Counting:
    counting = Counting()
    client._http.event_hooks = {"response": [counting if kind.name == "sync" else counting.later]}
    return counting


async def test_a_lookup_says_where_a_customer_stands(kind: Kind, here: Site, client: Any) -> None:
    segment = await kind.ask(lambda: client.segment("C-1"))
    told = (
        await here.closed.api.client.get("/customers/C-1/segment", headers={"Authorization": f"Bearer {here.key}"})
    ).json()
    assert segment.value_tier == told["value_tier"] == "A"
    assert segment.as_of == date.fromisoformat(told["as_of"])
    assert segment.recommended_service_level.actions == told["recommended_service_level"]["actions"]
    assert not segment.stale


async def test_what_has_not_changed_is_not_sent_again_and_a_change_is_seen(kind: Kind, here: Site, client: Any) -> None:
    counting = counted(kind, client)
    first = await kind.ask(lambda: client.segment("C-3"))
    assert await kind.ask(lambda: client.segment("C-3")) is first
    assert counting.statuses == [200, 304]
    await here.closed.api.fed(
        {
            "event_id": "order-3",
            "type": "order",
            "customer_id": "C-3",
            "occurred_at": "2026-03-01T12:00:00Z",
            "order_id": "O-3",
            "amount": "100000.00",
            "currency": "CNY",
        }
    )
    assert (first.value_tier, (await kind.ask(lambda: client.segment("C-3"))).value_tier) == ("unrated", "A")
    assert counting.statuses == [200, 304, 200]


async def test_an_earlier_day_is_asked_for_by_its_date(kind: Kind, client: Any) -> None:
    today = (await kind.ask(lambda: client.segment("C-1"))).as_of
    assert (await kind.ask(lambda: client.segment("C-1", as_of=today))).as_of == today
    with pytest.raises(tierline.Invalid, match="as_of"):
        await kind.ask(lambda: client.segment("C-1", as_of=date(2099, 1, 1)))


@pytest.mark.parametrize("customer_id", ["nobody", "no/body", "a?b", "ü", ""])
async def test_whom_nobody_knows_is_not_found(kind: Kind, client: Any, customer_id: str) -> None:
    if not customer_id:
        with pytest.raises(ValueError, match="no customer id"):
            await kind.ask(lambda: client.segment(customer_id))
        return
    with pytest.raises(tierline.NotFound) as caught:
        await kind.ask(lambda: client.segment(customer_id))
    assert caught.value.status == 404
    assert caught.value.request_id
    assert caught.value.detail in str(caught.value)


async def test_more_ids_than_fit_in_a_call_are_asked_in_several(kind: Kind, client: Any) -> None:
    counting = counted(kind, client)
    ids = ["C-1", *(f"N-{number}" for number in range(10_000)), "C-2", "C-1"]
    found = await kind.ask(lambda: client.segments(ids))
    assert counting.statuses == [200, 200]
    assert [each.customer_id for each in found.customers] == ["C-1", "C-2"]
    assert len(found.unknown) == 10_000
    assert found.service_level("N-9").code == found.unknown[0].recommended_service_level.code
    with pytest.raises(KeyError):
        found.service_level("N-10000")


async def test_figures_are_exact(kind: Kind, client: Any) -> None:
    metrics = await kind.ask(lambda: client.metrics("C-1"))
    assert metrics.windows["365d"].net_revenue == Decimal("9000.00")
    assert metrics.lifetime.first_order_day == date(2026, 3, 1)


async def test_why_and_what_became_of_it(kind: Kind, client: Any) -> None:
    explanation = await kind.ask(lambda: client.explanation("C-2"))
    assert explanation.tier.computed == "C"
    assert explanation.tier.next.tier == "A"
    assert explanation.service_level.words
    history = await kind.ask(lambda: client.history("C-1"))
    assert [entry.kind for entry in history] == ["change"] * len(history)
    assert history[0].after.value_tier == "A"


async def test_everyone_comes_page_after_page(kind: Kind, client: Any) -> None:
    counting = counted(kind, client)
    everyone = await kind.ask(lambda: client.customers(limit="1"))
    assert [each.customer_id for each in everyone] == ["C-1", "C-2", "C-3"]
    assert len(counting.statuses) >= 3
    best = await kind.ask(lambda: client.customers(tier=["A", "B"]))
    assert [each.customer_id for each in best] == ["C-1"]
    with pytest.raises(tierline.Invalid) as caught:
        await kind.ask(lambda: client.customers(regoin="north"))
    assert caught.value.errors[0]["field"] == "query.regoin"


async def test_orders_are_ranked(kind: Kind, client: Any) -> None:
    waiting = datetime(2026, 11, 22, 8, tzinfo=UTC)
    orders = [
        tierline.Order(order_id="O-9", customer_id="C-2", waiting_since=waiting),
        {"order_id": "O-8", "customer_id": "C-1", "promised_at": "2026-11-22T18:00:00Z"},
    ]
    ranking = await kind.ask(lambda: client.priorities(orders, at=waiting, scale="sap"))
    assert [place.order_id for place in ranking.orders] == ["O-8", "O-9"]
    assert (ranking.at, ranking.scale) == (waiting, "sap")
    assert ranking.orders[0].reasons


async def test_tiers_have_their_cut_offs(kind: Kind, client: Any) -> None:
    tiers = await kind.ask(client.tiers)
    assert tiers.total == Decimal("9010.00")
    assert tiers.cutoffs["A"].customer_id == "C-1"


async def test_who_is_erased_is_forgotten_here_too(kind: Kind, client: Any) -> None:
    await kind.ask(lambda: client.segment("C-1"))
    erasure = await kind.ask(lambda: client.erase("C-1", reason="request 17"))
    assert (erasure.customer_id, erasure.already) == ("C-1", False)
    assert len(client._talk.memory) == 0
    with pytest.raises(tierline.NotFound):
        await kind.ask(lambda: client.segment("C-1"))


async def test_any_other_call_goes_too(kind: Kind, client: Any) -> None:
    status = await kind.ask(lambda: client.request("GET", "/ingest/status"))
    assert status["customers"] == 3


async def test_names_come_in_the_language_asked_for(kind: Kind, here: Site) -> None:
    names = {}
    for language in ("en", "zh"):
        client = kind.client(here.url, key=here.key, language=language)
        names[language] = (await kind.ask(functools.partial(client.segment, "C-1"))).segment.name
        await kind.close(client)
    assert names["en"].isascii()
    assert not names["zh"].isascii()


# --- streams --------------------------------------------------------------------------------------------------------


def an_order_of(customer_id: str, amount: str, event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "type": "order",
        "customer_id": customer_id,
        "occurred_at": "2026-03-01T12:00:00Z",
        "order_id": event_id,
        "amount": amount,
        "currency": "CNY",
    }


async def test_events_are_taken_once_however_often_they_are_sent(kind: Kind, client: Any) -> None:
    events = [an_order_of("C-9", "5.00", "e-1"), an_order_of("C-9", "five", "e-2")]
    tried = await kind.ask(lambda: client.send_events(events, validate_only=True))
    first = await kind.ask(lambda: client.send_events(events))
    again = await kind.ask(lambda: client.send_events(events))
    assert [[each.outcome for each in told] for told in (tried, first, again)] == [
        ["applied", "rejected"],
        ["applied", "rejected"],
        ["duplicate", "rejected"],
    ]
    assert (first[1].field, first[1].event_id) == ("amount", "e-2")


async def test_a_promotion_and_an_erasure_are_told_to_who_follows(kind: Kind, here: Site, client: Any) -> None:
    async with kind.following(client.changes()) as changes:
        await kind.ask(lambda: client.send_events([an_order_of("C-2", "100000.00", "e-1")]))
        await here.closed.api.settle()
        told = await kind.next(changes)
        while not told.promoted:
            told = await kind.next(changes)
        assert (told.customer_id, told.before.value_tier, told.tier) == ("C-2", "C", "A")
        position = changes.position
        assert position == told.sequence
        await kind.ask(lambda: client.erase("C-2"))
        while not told.erased:
            told = await kind.next(changes)
        assert told.customer_id == "C-2"
    again = client.changes(after=position)
    assert (await kind.next(again)).sequence > position
    await kind.close(again)


# --- the key --------------------------------------------------------------------------------------------------------


async def test_without_a_key_nobody_is_let_in(kind: Kind, here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIERLINE_API_KEY", raising=False)
    client = kind.client(here.url)
    with pytest.raises(tierline.NotAllowed) as caught:
        await kind.ask(lambda: client.segment("C-1"))
    assert caught.value.status == 401
    await kind.close(client)


async def test_a_key_without_the_scope_is_told_which_it_needs(kind: Kind, here: Site) -> None:
    client = kind.client(here.url, key=await here.closed.key(Scope.READ))
    with pytest.raises(tierline.NotAllowed, match="admin"):
        await kind.ask(lambda: client.erase("C-1"))
    await kind.close(client)


async def test_the_key_comes_from_the_environment_and_is_shown_nowhere(
    kind: Kind, here: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TIERLINE_API_KEY", here.key + "\n")  # as files and shells leave it
    caplog.set_level(logging.DEBUG)
    client = kind.client(here.url)
    assert (await kind.ask(lambda: client.segment("C-1"))).value_tier == "A"
    secret = here.key.split("_", 2)[2]
    assert caplog.text
    assert secret not in caplog.text
    assert secret not in f"{client!r} {client._options!r}"
    await kind.close(client)


def test_what_cannot_be_a_key_is_refused_without_being_told() -> None:
    with pytest.raises(ValueError, match="no key has") as caught:
        tierline.Tierline("http://127.0.0.1:1", key="secret\nX-Other: 1")
    assert "secret" not in str(caught.value)


# --- the service away -----------------------------------------------------------------------------------------------


async def test_while_the_service_is_away_the_last_answer_is_given_as_stale_to_who_wants_it(
    kind: Kind, engine: AsyncEngine, here: Site
) -> None:
    app = here.closed.api.client._transport.app  # type: ignore[attr-defined]
    async with listening(app) as port:
        patient = kind.client(f"http://127.0.0.1:{port}", key=here.key, retries=ONCE, stale_if_away=True)
        strict = kind.client(f"http://127.0.0.1:{port}", key=here.key, retries=ONCE)
        first = await kind.ask(lambda: patient.segment("C-1"))
        await kind.ask(lambda: strict.segment("C-1"))
    assert await kind.ask(lambda: patient.segment("C-1")) == msgspec.structs.replace(first, stale=True)
    with pytest.raises(tierline.Unavailable):
        await kind.ask(lambda: patient.segment("C-2"))
    with pytest.raises(tierline.Unavailable):
        await kind.ask(lambda: strict.segment("C-1"))
    async with listening(app, port):
        assert await kind.ask(lambda: patient.segment("C-1")) == first
    await kind.close(patient)
    await kind.close(strict)


# --- the document ---------------------------------------------------------------------------------------------------

SCHEMAS = {
    answers.Segment: "SegmentAnswer",
    answers.Segments: "SegmentsAnswer",
    answers.Metrics: "MetricsAnswer",
    answers.Explanation: "ExplanationAnswer",
    answers.HistoryPage: "HistoryAnswer",
    answers.CustomersPage: "CustomersAnswer",
    answers.Tiers: "TiersAnswer",
    answers.Ranking: "DispatchAnswer",
    answers.Erasure: "ErasureAnswer",
}


@pytest.mark.parametrize(("kind_of_answer", "name"), SCHEMAS.items(), ids=SCHEMAS.values())
def test_the_documents_own_example_can_be_read(kind_of_answer: type[Any], name: str) -> None:
    example = DOCUMENT["components"]["schemas"][name]["example"]
    read = msgspec.convert(example | {"unheard_of": [1]}, kind_of_answer, strict=False)
    assert isinstance(read, kind_of_answer)


@pytest.mark.parametrize(("kind_of_answer", "name"), SCHEMAS.items(), ids=SCHEMAS.values())
def test_nothing_is_expected_that_the_document_does_not_promise(kind_of_answer: type[Any], name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    for field in msgspec.structs.fields(kind_of_answer):
        assert field.encode_name in schema["required"], field.name
