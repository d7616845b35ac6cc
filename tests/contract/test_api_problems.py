"""What callers get where there is no answer: always a problem (RFC 9457) that says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import (
    JSON_TYPE,
    PROBLEM_TYPE,
    Api,
    Cable,
    cable_to,
    client_of,
    running,
    without_policy,
)
from tests.support.builders import an_order
from tests.support.ledgers import house_of
from tests.support.oracle import Setting

from segment_api.app import create_app
from segment_api.context import Context
from segment_api.limits import LARGEST_BODY_BYTES
from segmentation.storage.engine import create_engine

TITLES: Final = {
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
FROM_THE_DATABASE: Final = (
    "/customers/C-1/segment",
    "/customers/C-1/metrics",
    "/tiers",
    "/ingest/status",
    "/dead-letters",
    "/dead-letters/1",
    "/health/ready",
    "/metrics",
)


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        yield api


def problem_in(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem that the answer is, once its shape is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM_TYPE
    problem: dict[str, Any] = answer.json()
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail", "instance", "request_id"}
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["type"] == "about:blank"
    assert problem["title"] == TITLES[status]
    assert problem["status"] == status
    assert problem["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert problem["detail"].strip()
    for each in problem.get("errors", ()):
        assert each.keys() == {"field", "problem"}
        assert each["field"]
        assert each["problem"]
    return problem


# --- 404 ------------------------------------------------------------------------------------------------------------

NO_CUSTOMER: Final = {
    "unknown": "nobody",
    "other case": "c-1",
    "longest": "x" * 64,
    "too long": "x" * 65,
    "very long": "x" * 10_000,
    "NUL": "%00",
    "NUL at the end": "C-1%00",
    "newline at the end": "C-1%0A",
    "space": "C-1%20",
    "no UTF-8": "%FF%FE",
    "Chinese": "%E5%AE%A2%E6%88%B7",
    "fullwidth digit": "C-%EF%BC%91",
    "emoji": "%F0%9F%98%80",
    "encoded slash": "C-1%2FC-2",
    "only a slash": "%2F",
    "dots": "..%2F..%2Fetc",
    "percent": "100%25",
    "question mark": "C%3F1",
    "starts with a dash": "-C-1",
    "quote": "C'1",
    "injection": "'%20OR%201=1--",
    "markup": "%3Cscript%3E",
    "empty": "",
}


@pytest.mark.parametrize("route", ["segment", "metrics"])
@pytest.mark.parametrize("written", NO_CUSTOMER.values(), ids=NO_CUSTOMER)
async def test_an_unknown_or_malformed_id_is_not_found(api: Api, written: str, route: str) -> None:
    await api.fed(an_order())
    problem_in(await api.client.get(f"/customers/{written}/{route}"), 404)


async def test_an_unknown_customer_is_named(api: Api) -> None:
    problem = problem_in(await api.client.get("/customers/nobody/segment"), 404)
    assert "'nobody'" in problem["detail"]


async def test_a_long_id_is_not_said_back_at_length(api: Api) -> None:
    problem = problem_in(await api.client.get(f"/customers/{'x' * 10_000}/segment"), 404)
    assert len(problem["detail"]) < 500


@pytest.mark.parametrize("written", ["1", "9" * 18, "9" * 30, "0", "-1", "abc", "1.5", "%00", "%EF%BC%91"])
async def test_an_unknown_or_malformed_dead_letter_is_not_found(api: Api, written: str) -> None:
    problem_in(await api.client.get(f"/dead-letters/{written}"), 404)


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/customer", "/customers/C-1/x", "/customers/C-1/x/", "/static-offline-docs/x"]
)
async def test_a_path_that_is_not_there_points_to_the_documentation(api: Api, path: str) -> None:
    assert "/docs" in problem_in(await api.client.get(path), 404)["detail"]


# --- 405 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/customers/C-1/segment", "GET"),
        ("DELETE", "/tiers", "GET"),
        ("GET", "/customers/segments", "POST"),
        ("PUT", "/customers/segments", "POST"),
        ("PATCH", "/dead-letters/1", "GET"),
        ("POST", "/health/live", "GET"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_refused(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.client.request(method, path)
    problem_in(answer, 405)
    assert allowed in answer.headers["allow"]


# --- 413 ------------------------------------------------------------------------------------------------------------


async def in_blocks(size: int) -> AsyncIterator[bytes]:
    """A body of at least that size, sent without a content-length."""
    block = b" " * 65_536
    for _ in range(-(-size // len(block))):
        yield block


async def test_a_body_that_says_it_is_too_large_is_refused(api: Api) -> None:
    problem = problem_in(
        await api.client.post("/customers/segments", content=b" " * (LARGEST_BODY_BYTES + 1), headers=_AS_JSON), 413
    )
    assert str(LARGEST_BODY_BYTES) in problem["detail"]


async def test_a_body_that_turns_out_too_large_is_refused(api: Api) -> None:
    """Chunked, so that nobody knows before."""
    answer = await api.client.post("/customers/segments", content=in_blocks(LARGEST_BODY_BYTES + 1), headers=_AS_JSON)
    assert "content-length" not in answer.request.headers
    problem_in(answer, 413)


async def test_a_chunked_body_that_is_not_too_large_is_read(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"customer_ids": ['
        yield b'"nobody"]}'

    answer = await api.client.post("/customers/segments", content=body(), headers=_AS_JSON)
    assert answer.status_code == 200
    assert [each["customer_id"] for each in answer.json()["unknown"]] == ["nobody"]


async def test_a_body_just_as_large_as_allowed_is_read(api: Api) -> None:
    content = b'{"customer_ids": []}'.ljust(LARGEST_BODY_BYTES)
    answer = await api.client.post("/customers/segments", content=content, headers=_AS_JSON)
    assert answer.status_code == 200


# --- 422 ------------------------------------------------------------------------------------------------------------

_AS_JSON: Final = {"Content-Type": JSON_TYPE}
MALFORMED: Final = {
    "no body": (b"", "body"),
    "no JSON": (b"{", "body"),
    "no UTF-8": (b'{"customer_ids": ["\xff"]}', "body"),
    "too deep": (b"[" * 100_000, "body"),
    "a number too long to read": (b'{"customer_ids": [' + b"9" * 5_000 + b"]}", "body"),
    "a list": (b'["C-1"]', "body"),
    "null": (b"null", "body"),
    "nothing asked": (b"{}", "body.customer_ids"),
    "no list": (b'{"customer_ids": "C-1"}', "body.customer_ids"),
    "null for the list": (b'{"customer_ids": null}', "body.customer_ids"),
    "a number among the ids": (b'{"customer_ids": ["C-1", 2]}', "body.customer_ids.1"),
    "null among the ids": (b'{"customer_ids": [null]}', "body.customer_ids.0"),
    "half a character": (b'{"customer_ids": ["\\ud800"]}', "body.customer_ids.0"),
}


@pytest.mark.parametrize(("content", "field"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_question_names_each_part_that_is_wrong(api: Api, content: bytes, field: str) -> None:
    answer = await api.client.post("/customers/segments", content=content, headers=_AS_JSON)
    problem = problem_in(answer, 422)
    assert [each["field"] for each in problem["errors"]] == [field]
    assert problem["errors"][0]["problem"] in problem["detail"]


async def test_a_question_that_does_not_say_it_is_json_is_told_to(api: Api) -> None:
    """What `curl -d` sends unless told otherwise."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await api.client.post("/customers/segments", content=b'{"customer_ids": ["C-1"]}', headers=form)
    assert "application/json" in problem_in(answer, 422)["detail"]


async def test_not_every_one_of_many_mistakes_is_listed(api: Api) -> None:
    """Ten thousand mistakes make no megabyte of answer."""
    answer = await api.client.post("/customers/segments", json={"customer_ids": [1] * 10_000})
    assert 1 <= len(problem_in(answer, 422)["errors"]) <= 100


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("before=0", "before"),
        ("before=9999999999999999999999", "before"),
        ("before=x", "before"),
        ("reason=other", "reason"),
        ("reason=", "reason"),
    ],
)
async def test_a_malformed_filter_is_named_with_what_is_expected(api: Api, query: str, field: str) -> None:
    problem = problem_in(await api.client.get(f"/dead-letters?{query}"), 422)
    assert [each["field"] for each in problem["errors"]] == [f"query.{field}"]
    if field == "reason":
        assert "unknown_currency" in problem["detail"]


# --- 503 ------------------------------------------------------------------------------------------------------------


async def all_unavailable(client: httpx.AsyncClient, *paths: str) -> list[dict[str, Any]]:
    answers = [await client.get(path) for path in paths]
    answers.append(await client.post("/customers/segments", json={"customer_ids": ["C-1"]}))
    for answer in answers:
        assert answer.headers["retry-after"].isdigit()
    return [problem_in(answer, 503) for answer in answers]


async def test_while_the_database_is_gone_everything_else_still_answers(database_url: str) -> None:
    """503 with Retry-After from all that needs it, and an answer again as soon as it is back."""
    async with cable_to(database_url) as (cable, engine), running(engine) as through:
        await through.fed(an_order())
        before = await through.segment()
        await cable.cut()
        for problem in await all_unavailable(through.client, *FROM_THE_DATABASE):
            assert "database" in problem["detail"]
        assert (await through.client.get("/health/live")).status_code == 200
        assert (await through.client.get("/docs")).status_code == 200
        assert (await through.client.get("/openapi.json")).status_code == 200
        problem_in(await through.client.get("/nothing"), 404)
        await cable.plug()
        assert await through.segment() == before


async def test_a_malformed_id_needs_no_database(database_url: str) -> None:
    cable = Cable(database_url)
    await cable.plug()
    await cable.cut()
    engine = create_engine(cable.url, application_name="tests", pool_size=1)
    async with client_of(engine, Setting(clock="system"), _never) as client:
        problem_in(await client.get("/customers/no%20id/segment"), 404)
    await engine.dispose()


def _never() -> Any:
    raise AssertionError("nobody has to know what time it is")


async def test_before_a_worker_brings_a_policy_the_service_is_not_ready(engine: AsyncEngine) -> None:
    """The remedy is another than for a database out of reach, so the sentence is another too."""
    async with without_policy(engine) as client:
        problems = await all_unavailable(client, "/customers/C-1/segment", "/tiers", "/health/ready")
        for problem in problems:
            assert "policy" in problem["detail"]
            assert "ingest-worker" in problem["detail"]
        assert (await client.get("/ingest/status")).status_code == 200
        assert (await client.get("/dead-letters")).status_code == 200


# --- 500 ------------------------------------------------------------------------------------------------------------


async def test_a_fault_of_our_own_is_a_problem_that_gives_nothing_away() -> None:
    class Broken:
        async def tiers(self) -> None:
            raise RuntimeError("the secret is 1234")

    broken: Any = Broken()
    stores = {name: broken for name in Context.__dataclass_fields__ if name not in ("house", "now", "exports")}
    context = Context(house=house_of(Setting()), now=_never, **stores)
    transport = httpx.ASGITransport(app=create_app(context), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tierline") as client:
        answer = await client.get("/tiers")
    problem_in(answer, 500)
    assert "1234" not in answer.text


async def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(api: Api) -> None:
    """Also where several routes have the path."""
    answer = await api.client.request("PATCH", "/customers/C-1/override")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, PUT"
