"""Every error becomes a problem of one shape."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from segment_api import problems
from segment_api.problems import ProblemAnswer
from segmentation.errors import StoreUnavailable

RAISED: list[Exception] = []


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """An application that raises what a test puts into `RAISED`."""
    app = FastAPI()
    problems.install(app)

    async def fail(number: int = 0) -> None:
        raise RAISED.pop()

    app.add_api_route("/fail/{what:path}", fail)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tierline") as client:
        yield client


async def problem_of(
    client: httpx.AsyncClient, error: Exception, path: str = "/fail/x"
) -> tuple[httpx.Response, dict[str, Any]]:
    RAISED[:] = [error]
    answer = await client.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer, answer.json()


async def test_a_problem_has_the_members_of_rfc_9457(client: httpx.AsyncClient) -> None:
    answer, problem = await problem_of(client, ProblemAnswer(404, "No such thing; look elsewhere."))
    assert answer.status_code == 404
    assert problem == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "No such thing; look elsewhere.",
        "instance": "/fail/x",
    }


async def test_the_instance_is_the_path_as_it_was_asked_for(client: httpx.AsyncClient) -> None:
    """Still encoded, so that it is a URI reference; without the query, which may hold anything."""
    _, problem = await problem_of(client, ProblemAnswer(404, "no"), "/fail/a%2Fb%20%E5%AE%A2?key=secret")
    assert problem["instance"] == "/fail/a%2Fb%20%E5%AE%A2"


async def test_headers_of_a_problem_are_sent(client: httpx.AsyncClient) -> None:
    answer, _ = await problem_of(client, ProblemAnswer(503, "no", headers={"Retry-After": "7"}))
    assert answer.headers["retry-after"] == "7"
    answer, _ = await problem_of(client, HTTPException(405, headers={"Allow": "GET"}))
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422, 500, 503])
async def test_the_title_is_the_status_in_words(client: httpx.AsyncClient, status: int) -> None:
    answer, problem = await problem_of(client, ProblemAnswer(status, "no"))
    assert answer.status_code == problem["status"] == status
    assert problem["title"] not in ("", "Error")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 415, 500])
async def test_the_frameworks_own_errors_are_problems_too(client: httpx.AsyncClient, status: int) -> None:
    answer, problem = await problem_of(client, HTTPException(status))
    assert (answer.status_code, problem["status"]) == (status, status)
    assert problem["detail"]


async def test_a_database_out_of_reach_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    """And nothing of its address."""
    answer, problem = await problem_of(client, StoreUnavailable("postgresql://user:hunter2@db is gone"))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "hunter2" not in answer.text
    assert "database" in problem["detail"]


async def test_a_surprise_gives_nothing_away(client: httpx.AsyncClient) -> None:
    answer, problem = await problem_of(client, RuntimeError("hunter2"))
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert "log" in problem["detail"]


async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient) -> None:
    answer, problem = await problem_of(client, RuntimeError(), "/fail/x?number=one")
    assert answer.status_code == 422
    (error,) = problem["errors"]
    assert error["field"] == "query.number"
    assert "integer" in error["problem"]
    assert problem["detail"] == f"query.number: {error['problem']}"


@pytest.mark.parametrize("status", [404, 413, 422, 503])
def test_every_problem_that_a_route_can_document_is_described(status: int) -> None:
    (entry,) = problems.responses(status).values()
    assert entry["description"]
    assert list(entry["content"]) == ["application/problem+json"]
