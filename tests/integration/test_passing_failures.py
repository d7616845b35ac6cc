"""What a real PostgreSQL refuses for a while only: no failure of a database that will be back ends the process."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segmentation.errors import StoreUnavailable
from segmentation.storage.engine import create_engine, transaction

_WHO = text("SELECT pg_backend_pid()")


@pytest.fixture
async def single(database_url: str) -> AsyncIterator[AsyncEngine]:
    """One connection, so that everybody has the same."""
    engine = create_engine(database_url, application_name="tests", pool_size=1)
    yield engine
    await engine.dispose()


async def test_a_server_that_only_reads_is_left_for_the_one_that_writes(single: AsyncEngine) -> None:
    async with transaction(single) as connection:
        before = await connection.scalar(_WHO)
        await connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
    with pytest.raises(StoreUnavailable):
        async with transaction(single) as connection:
            await connection.execute(text("UPDATE house SET as_of = as_of"))
    async with transaction(single) as connection:
        assert await connection.scalar(_WHO) != before
        await connection.execute(text("UPDATE house SET as_of = as_of"))


async def test_a_migration_beside_a_running_process_costs_one_try(single: AsyncEngine, engine: AsyncEngine) -> None:
    async def look() -> None:
        async with transaction(single) as connection:
            await connection.execute(text("SELECT * FROM migrated"))

    try:
        async with transaction(engine) as connection:
            await connection.execute(text("CREATE TABLE migrated (id integer)"))
        await look()
        async with transaction(engine) as connection:
            await connection.execute(text("ALTER TABLE migrated ADD COLUMN name text"))
        with pytest.raises(StoreUnavailable):
            await look()
        await look()
    finally:
        async with transaction(engine) as connection:
            await connection.execute(text("DROP TABLE IF EXISTS migrated"))
