"""A PostgreSQL server of a test's own, which may be ended, filled or starved."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from local_stack.postgres import EmbeddedPostgres
from segmentation.storage.engine import create_engine

from .workers import ROOT


@asynccontextmanager
async def migrated_server(
    directory: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[EmbeddedPostgres, AsyncEngine]]:
    """A server with a migrated database, and an engine that leads there."""
    server = EmbeddedPostgres(directory / "postgres", fsync=False, settings=settings)
    try:
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "alembic", "-c", "migrations/alembic.ini", "upgrade", "head"],
            check=True,
            cwd=ROOT,
            env=dict(os.environ) | {"DATABASE_URL": server.url},  # noqa: TID251 - handed on
        )
        engine = create_engine(server.url, application_name="tests", pool_size=2)
        yield server, engine
        await engine.dispose()
    finally:
        server.stop()
