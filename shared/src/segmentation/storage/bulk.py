"""Many rows in one statement: COPY brings them into a temporary table, one INSERT takes them from there.

Arrays of parameters and `unnest` take nearly twice the time, most of it in Python (decision 15). Exact
numbers and JSON travel as text, which PostgreSQL reads faster than the driver can write their binary forms.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
from sqlalchemy import Numeric, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

_OPEN, _LASTING = "staged in this transaction", "staged"
"""Which temporary tables a connection has filled by now, and which it has, in its pool's notes about it."""

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


async def insert_rows(
    connection: AsyncConnection,
    table: Table,
    names: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    then: str = "",
) -> list[Any]:
    """Inserts rows of the named columns, in the order given; JSONB columns take JSON text.

    Args:
        connection: With an open transaction.
        table: Where to.
        names: The columns given.
        rows: Their values.
        then: What follows: ON CONFLICT and RETURNING. The stored row is called `stored`.

    Returns:
        The rows of RETURNING.
    """
    columns = list(zip(*rows, strict=True))
    if not columns:
        return []
    statements = _statements(table, tuple(names), then)
    driver: Any = (await connection.get_raw_connection()).driver_connection
    filled = connection.info.setdefault(_OPEN, set())
    if statements.staged in filled:
        await connection.execute(statements.empty)
    # SQLAlchemy begins a transaction with its first statement; what the driver copies before that would stand alone.
    elif statements.staged not in connection.info.get(_LASTING, ()) or not driver.is_in_transaction():
        await connection.execute(statements.stage)
    filled.add(statements.staged)
    for position in statements.numbers:
        columns[position] = tuple([None if value is None else str(value) for value in columns[position]])
    try:
        await driver.copy_records_to_table(statements.staged, columns=names, records=zip(*columns, strict=True))
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
        # SQLAlchemy has not seen it, and would wait for the answer to a rollback.
        await connection.invalidate()
        raise
    result = await connection.execute(statements.insert)
    return list(result) if result.returns_rows else []


def committed(notes: dict[Any, Any]) -> None:
    """Remembers the temporary tables that a transaction has filled: they last as long as its connection.

    Args:
        notes: What the pool notes about the connection (`connection.info`).
    """
    notes.setdefault(_LASTING, set()).update(notes.pop(_OPEN, ()))


def rolled_back(notes: dict[Any, Any]) -> None:
    """Forgets those that it filled: one that it made has gone with it."""
    notes.pop(_OPEN, None)


def update_all(table: Table, names: Sequence[str]) -> str:
    """ON CONFLICT with the primary key: take the new values of all other columns named."""
    key = [column.name for column in table.primary_key]
    changes = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in names if name not in key)
    return f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"


class _Statements:
    def __init__(self, table: Table, names: tuple[str, ...], then: str) -> None:
        types = {name: table.columns[name].type for name in names}
        self.numbers = [position for position, kind in enumerate(types.values()) if isinstance(kind, Numeric)]
        self.staged = f"staged_{table.name}"
        # All columns, whichever are given: it outlasts the transaction, and the next may give others.
        columns = ", ".join(f'"{column.name}" {_staged_type(column.type)}' for column in table.columns)
        self.stage = text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.staged} ({columns}) ON COMMIT DELETE ROWS")
        self.empty = text(f"TRUNCATE {self.staged}")
        listed = ", ".join(f'"{name}"' for name in names)
        values = ", ".join(f'CAST("{name}" AS {_type_name(kind)})' for name, kind in types.items())
        self.insert = text(
            f"INSERT INTO {table.name} AS stored ({listed}) SELECT {values} FROM {self.staged} {then}"  # noqa: S608 - names come from the tables
        )


@functools.cache
def _statements(table: Table, names: tuple[str, ...], then: str) -> _Statements:
    return _Statements(table, names, then)


def _staged_type(kind: Any) -> str:  # noqa: ANN401 - a SQLAlchemy type
    return "text" if isinstance(kind, (JSONB, Numeric)) else _type_name(kind)


def _type_name(kind: Any) -> str:  # noqa: ANN401 - a SQLAlchemy type
    return str(kind.compile(dialect=_DIALECT)).partition(" COLLATE")[0]
