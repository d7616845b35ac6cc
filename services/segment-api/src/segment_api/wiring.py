"""Puts the API together: the only place that reads the clock and knows which store there is."""

import asyncio
from datetime import UTC, datetime

import uvicorn

from segment_api.app import create_app
from segment_api.context import Context
from segment_api.settings import ApiSettings
from segmentation.storage import foundation
from segmentation.storage.engine import create_engine
from segmentation.storage.reader import PostgresReader


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the API's one look at the clock


async def serve(settings: ApiSettings) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first."""
    engine = create_engine(
        settings.database_url.get_secret_value(),
        application_name="segment-api",
        pool_size=settings.database_connections,
    )
    try:
        await foundation.open_house(engine, settings.house)
        context = Context(PostgresReader(engine, settings.house), settings.house, _now)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(context),
                host=settings.http_host,
                port=settings.http_port,
                log_level="info",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=10,
            )
        )
        await server.serve()
    finally:
        await engine.dispose()


def run(settings: ApiSettings) -> None:
    """Runs the service."""
    asyncio.run(serve(settings))
