"""The application behind a real port, closed to strangers: for programs that know nothing but an address and a key."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.access import Closed, closed

from segmentation.access import Scope

STARTED_WITHIN_SECONDS: Final = 60.0


@dataclass
class Site:
    """Where it listens, a key that may do anything, and what stands behind it."""

    url: str
    key: str
    closed: Closed


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the test run's own."""
        yield


@contextlib.asynccontextmanager
async def listening(app: Any, port: int = 0) -> AsyncIterator[int]:
    """The application on a port of this machine, in this event loop."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        config = uvicorn.Config(app, log_level="error", log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        async with asyncio.timeout(STARTED_WITHIN_SECONDS):
            while not server.started:
                assert not serving.done(), serving
                await asyncio.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def site(engine: AsyncEngine, *scopes: Scope, **more: Any) -> AsyncIterator[Site]:
    """The application over the engine's database, emptied; the key's limit is none."""
    async with closed(engine, **more) as behind:
        key = await behind.key(*(scopes or (Scope.ADMIN,)), requests_per_second=0)
        async with listening(behind.api.client._transport.app) as port:  # type: ignore[attr-defined]
            yield Site(f"http://127.0.0.1:{port}", key, behind)
