"""Puts the API together: the only place that reads the clock and knows which store there is."""

import asyncio
import gc
import socket
from datetime import UTC, datetime

import uvicorn

from segment_api.app import create_app
from segment_api.context import Context
from segment_api.exporting import Slots
from segment_api.settings import ApiSettings
from segmentation.errors import SettingInvalid
from segmentation.storage import foundation
from segmentation.storage.directory import PostgresDirectory
from segmentation.storage.engine import create_engine
from segmentation.storage.ledger import PostgresLedger
from segmentation.storage.overriding import PostgresOverrides
from segmentation.storage.policies import PostgresPolicies
from segmentation.storage.reader import PostgresReader


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the API's one look at the clock


async def serve(settings: ApiSettings) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first."""
    listener = _listen(settings)
    engine = create_engine(
        settings.database_url.get_secret_value(),
        application_name="segment-api",
        pool_size=settings.database_connections,
    )
    try:
        await foundation.open_house(engine, settings.house)
        context = Context(
            PostgresReader(engine, settings.house),
            PostgresLedger(engine, settings.house),
            PostgresOverrides(engine, settings.house),
            settings.house,
            _now,
            PostgresPolicies(engine, settings.house),
            PostgresDirectory(engine, settings.house),
            Slots(settings.exports_at_once),
        )
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(context),
                log_level="info",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=10,
            )
        )
        _collect_less()
        await server.serve(sockets=[listener])
    finally:
        listener.close()
        await engine.dispose()


def _collect_less() -> None:
    """Lets the collector look at new objects alone, and less often.

    What there is by now stays for good, and is so much that looking through it holds everybody up for a tenth of a
    second; a bulk answer makes ten thousands of objects that all live as long as it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _listen(settings: ApiSettings) -> socket.socket:
    """Takes the port before anything else is done.

    Raises:
        SettingInvalid: it cannot be had.
    """
    host, port = settings.http_host, settings.http_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        problem = f"HTTP_PORT is {port}: it cannot be had on {host} ({error.strerror}); choose another"
        raise SettingInvalid(problem) from None
    # Connections inherit it. asyncio sees to it only on sockets of its own making; without it, head and body of an
    # answer travel 40 ms apart wherever the other side delays its acknowledgements.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def run(settings: ApiSettings) -> None:
    """Runs the service."""
    asyncio.run(serve(settings))
