"""Rows by COPY on a real PostgreSQL: a call inserts its own rows and no others, whatever its connection did before."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.ledgers import in_postgres
from tests.support.oracle import Setting

from segmentation.storage import tables
from segmentation.storage.bulk import insert_rows, update_all
from segmentation.storage.engine import create_engine, transaction


@pytest.fixture
async def engine(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncEngine]:
    await in_postgres(engine, Setting())
    single = create_engine(database_url, application_name="tests", pool_size=1)
    yield single
    await single.dispose()


async def customers(engine: AsyncEngine) -> dict[str, str]:
    async with transaction(engine) as connection:
        rows = await connection.execute(text("SELECT customer_id, profile ->> 'name' AS name FROM customers"))
        return {row.customer_id: row.name for row in rows}


async def make_known(engine: AsyncEngine, *, failing: bool = False) -> None:
    names = ("customer_id", "profile")
    async with transaction(engine) as connection:
        plain = "ON CONFLICT DO NOTHING RETURNING customer_id"
        made = await insert_rows(connection, tables.customers, ("customer_id",), [("C-1",), ("C-2",)], then=plain)
        assert len(made) in (0, 2)
        described = await insert_rows(
            connection,
            tables.customers,
            names,
            [("C-2", '{"name": "two"}')],
            then=update_all(tables.customers, names) + " RETURNING customer_id",
        )
        assert [row.customer_id for row in described] == ["C-2"]
        if failing:
            raise ZeroDivisionError


async def test_a_table_takes_other_columns_and_rows_in_one_transaction(engine: AsyncEngine) -> None:
    for _ in range(2):  # the second time the connection has its temporary table already
        await make_known(engine)
        assert await customers(engine) == {"C-1": None, "C-2": "two"}


@pytest.mark.parametrize("before", [False, True])
async def test_nothing_stays_staged_after_a_roll_back(engine: AsyncEngine, *, before: bool) -> None:
    if before:
        await make_known(engine)
    stood = await customers(engine)
    with pytest.raises(ZeroDivisionError):
        await make_known(engine, failing=True)
    assert await customers(engine) == stood
    await make_known(engine)
    assert await customers(engine) == {"C-1": None, "C-2": "two"}
