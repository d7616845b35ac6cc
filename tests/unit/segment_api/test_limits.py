"""A body that is too large is refused, whether it says so or not."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request

from segment_api import problems
from segment_api.limits import LARGEST_BODY_BYTES, LimitBody


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """An application that says how much it was sent."""
    app = FastAPI()
    problems.install(app)

    async def count(request: Request) -> int:
        return len(await request.body())

    app.add_api_route("/count", count, methods=["POST"])
    app.add_middleware(LimitBody)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://tierline") as client:
        yield client


async def blocks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


@pytest.mark.parametrize("size", [0, 1, LARGEST_BODY_BYTES])
async def test_a_body_within_the_limit_passes(client: httpx.AsyncClient, size: int) -> None:
    assert (await client.post("/count", content=b"x" * size)).json() == size
    assert (await client.post("/count", content=blocks(size))).json() == size


async def test_many_small_parts_count_together(client: httpx.AsyncClient) -> None:
    half = LARGEST_BODY_BYTES // 2
    assert (await client.post("/count", content=blocks(half, half))).json() == LARGEST_BODY_BYTES
    assert (await client.post("/count", content=blocks(half, half, 1))).status_code == 413


async def test_a_body_beyond_the_limit_is_a_problem_that_names_it(client: httpx.AsyncClient) -> None:
    for content in (b"x" * (LARGEST_BODY_BYTES + 1), blocks(LARGEST_BODY_BYTES, 1)):
        answer = await client.post("/count", content=content)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert str(LARGEST_BODY_BYTES) in answer.json()["detail"]


async def test_a_declared_length_is_believed_before_anything_is_read() -> None:
    """The application is not even asked."""

    async def never(*_: object) -> None:
        raise AssertionError("too large to be handed on")

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=LimitBody(never)), base_url="http://tierline"
    ) as client:
        answer = await client.post("/", content=b"", headers={"Content-Length": str(LARGEST_BODY_BYTES + 1)})
    assert answer.status_code == 413


async def test_ten_thousand_of_the_longest_ids_fit() -> None:
    """Also with every character escaped as JSON allows."""
    assert len('{"customer_ids": [' + ",".join(['"' + "x" * 64 + '"'] * 10_000) + "]}") < LARGEST_BODY_BYTES
