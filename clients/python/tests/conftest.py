"""The real application behind a real port, and both clients of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.conftest import database_url, postgres, template
from tests.support.builders import a_complaint, an_order
from tests.support.sites import Site, site

from segmentation.storage.engine import create_engine
from tierline import AsyncTierline, Tierline

__all__ = ["database_url", "postgres", "template"]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def here(engine: AsyncEngine) -> AsyncIterator[Site]:
    """Three customers: one of them makes it all, one little, one only complains."""
    async with site(engine) as here:
        await here.closed.api.fed(
            an_order(customer_id="C-1", amount="9000.00"),
            an_order(event_id="order-2", order_id="O-2", customer_id="C-2", amount="10.00"),
            a_complaint(customer_id="C-3"),
        )
        yield here


Ask = Callable[[Any, Callable[[Any], Any]], Awaitable[Any]]


class Kind:
    """One of the two clients, asked in the same way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def client(self, url: str, **options: Any) -> Any:
        return (Tierline if self.name == "sync" else AsyncTierline)(url, **options)

    async def ask(self, question: Callable[[], Any]) -> Any:
        """The answer to a call; the items, where it is an iterator."""
        if self.name == "sync":
            return await asyncio.to_thread(lambda: _all(question()))
        answer = question()
        if hasattr(answer, "__aiter__"):
            return [each async for each in answer]
        return await answer

    async def next(self, changes: Any) -> Any:
        return await (asyncio.to_thread(next, changes) if self.name == "sync" else anext(changes))

    @contextlib.asynccontextmanager
    async def following(self, changes: Any) -> AsyncIterator[Any]:
        if self.name == "async":
            async with changes:
                yield changes
        else:
            await asyncio.to_thread(changes.__enter__)
            yield changes
            await asyncio.to_thread(changes.close)

    async def close(self, client: Any) -> None:
        if self.name == "sync":
            client.close()
        else:
            await client.aclose()


def _all(answer: Any) -> Any:
    return list(answer) if hasattr(answer, "__next__") else answer


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)
