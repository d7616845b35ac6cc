"""Many rows in one statement: columns go in as arrays, `unnest` makes rows of them."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Table, TextClause, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


async def insert_rows(
    connection: AsyncConnection,
    table: Table,
    names: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    then: str = "",
) -> list[Any]:
    """Inserts rows of the named columns; JSONB columns take JSON text.

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
    result = await connection.execute(
        _insert(table, tuple(names), then), {name: list(column) for name, column in zip(names, columns, strict=True)}
    )
    return list(result) if result.returns_rows else []


def update_all(table: Table, names: Sequence[str]) -> str:
    """ON CONFLICT with the primary key: take the new values of all other columns named."""
    key = [column.name for column in table.primary_key]
    changes = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in names if name not in key)
    return f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"


@functools.cache
def _insert(table: Table, names: tuple[str, ...], then: str) -> TextClause:
    types = {name: table.columns[name].type for name in names}
    arrays = ", ".join(
        f"CAST(:{name} AS {'text' if isinstance(kind, JSONB) else _type_name(kind)}[])" for name, kind in types.items()
    )
    values = ", ".join(
        f'CAST(given."{name}" AS jsonb)' if isinstance(kind, JSONB) else f'given."{name}"'
        for name, kind in types.items()
    )
    listed = ", ".join(f'"{name}"' for name in names)
    return text(
        f"INSERT INTO {table.name} AS stored ({listed}) "  # noqa: S608 - names come from the tables
        f"SELECT {values} FROM unnest({arrays}) AS given({listed}) {then}"
    )


def _type_name(kind: Any) -> str:  # noqa: ANN401 - a SQLAlchemy type
    return str(kind.compile(dialect=_DIALECT)).partition(" COLLATE")[0]
