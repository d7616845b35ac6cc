"""Runs migrations: over DATABASE_URL, one runner at a time, never waiting long for a lock."""

import asyncio
import os
import sys
from pathlib import Path

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import create_async_engine

from segmentation.errors import SegmentationError
from segmentation.storage.engine import driver_url, tls_arguments
from segmentation.storage.tables import metadata
from segmentation.storage.tables.touched import TransactionId

ischema_names["xid8"] = TransactionId
_ONE_AT_A_TIME = 7_315_001
"""Of the advisory lock that a second runner waits for."""


def _run(connection: Connection) -> None:
    # Of the session, which ends with the last migration; each of these is a transaction of its own, so that what one
    # has locked is free again before the next.
    connection.execute(text("SET lock_timeout = '10s'"))
    connection.execute(text("SET statement_timeout = '15min'"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ONE_AT_A_TIME})
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _migrate(database_url: str) -> None:
    engine = create_async_engine(driver_url(database_url), connect_args=tls_arguments(database_url))
    async with engine.connect() as connection:
        await connection.run_sync(_run)
        await connection.commit()
    await engine.dispose()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    url = os.environ.get("DATABASE_URL")
    if not url and (file := os.environ.get("DATABASE_URL_FILE")):
        url = Path(file).read_text(encoding="utf-8").strip()
    if not url:
        sys.exit("DATABASE_URL is not set; give the address of the database to migrate, or a file in DATABASE_URL_FILE")
    try:
        asyncio.run(_migrate(url))
    except SegmentationError as error:
        sys.exit(str(error))
