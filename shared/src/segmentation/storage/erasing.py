"""Customers erased and exported: one transaction takes everything, and one query a table tells everything.

Laws: an erasure has the gate to itself (see `suppression`), so no batch is half before and half after it; it locks what
every writer locks, in the same order; what it leaves behind counts no customer and names none. Sums that the books are
set against stay; the ranking of everyone else is made anew without the customer.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.calendar import format_instant
from segmentation.erasure import Erased, Erasure, Piece
from segmentation.errors import ErasuresInvalid
from segmentation.fields import CustomerId
from segmentation.ledger import House
from segmentation.storage import suppression, tables, tiers
from segmentation.storage.assessed import lock_customers
from segmentation.storage.audit import note_deeds
from segmentation.storage.bulk import insert_rows
from segmentation.storage.engine import transaction
from segmentation.storage.feeds import take_back
from segmentation.storage.personal import INSTANTS, PERSONAL, Fate, Holding

_ROWS_AT_ONCE = 500
_OURS: Final = {name: holding for name, holding in PERSONAL.items() if holding.fate is not Fate.KEPT}
_WITH_CUSTOMERS = tuple(name for name in _OURS if "customer_id" in PERSONAL[name].words)


def _erase(name: str, holding: Holding) -> str:
    return f"{holding.erase or f'DELETE FROM {name}'} WHERE {holding.where}"  # noqa: S608 - names of our own


def _select(name: str, holding: Holding) -> str:
    columns = ", ".join(f'"{column.name}"' for column in tables.metadata.tables[name].columns)
    return holding.select or f"SELECT {columns} FROM {name} WHERE {holding.where}"  # noqa: S608 - names of our own


# What is announced goes last, under a lock of its own.
_STATEMENTS: Final = {name: text(_erase(name, holding)) for name, holding in _OURS.items() if name != "changes"}
_QUERIES: Final = {name: text(_select(name, holding)) for name, holding in _OURS.items()}
_ANY: Final = " OR ".join(f"EXISTS (SELECT FROM {name} WHERE {holding.where})" for name, holding in _OURS.items())
_ANYTHING: Final = text(f"SELECT {_ANY}")
_EVERYBODY: Final = " UNION ".join(
    f"(SELECT DISTINCT customer_id FROM {name} WHERE customer_id > :after ORDER BY customer_id LIMIT :limit)"  # noqa: S608
    for name in _WITH_CUSTOMERS
)
_NEXT: Final = text(f"SELECT customer_id FROM ({_EVERYBODY}) AS everybody ORDER BY customer_id LIMIT :limit")  # noqa: S608
_KEEP_TOTALS = text("""
    -- What the books are set against: sums without a person, as of events that were dropped for their age.
    INSERT INTO dropped_totals AS stored (business_day, type, currency, events, amount)
    SELECT business_day, type, coalesce(currency, ''), count(*), sum(given_amount) FROM events
    WHERE customer_id = :customer_id GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (business_day, type, currency) DO UPDATE
      SET events = stored.events + EXCLUDED.events, amount = stored.amount + EXCLUDED.amount
""")
_REMEMBER = text("""
    INSERT INTO erasures (digest, author, reason) VALUES (:digest, :author, :reason)
    ON CONFLICT (digest) DO UPDATE SET erased_at = now(), author = EXCLUDED.author, reason = EXCLUDED.reason
    RETURNING erased_at
""")
_COUNT = text("""
    UPDATE house SET erasures = (SELECT count(*) FROM erasures), customers_erased = customers_erased + :known
""")
_RECALL = text("SELECT erased_at FROM erasures WHERE digest = :digest")
_HOUSE = text("SELECT erasure_key, erasure_key_check, erasures FROM house")
_LIST = text("SELECT digest, erased_at FROM erasures ORDER BY erased_at, digest")
_ADD = text("""
    INSERT INTO erasures (digest, erased_at)
    SELECT * FROM unnest(CAST(:digests AS bytea[]), CAST(:moments AS timestamptz[])) ON CONFLICT DO NOTHING
""")
_JSON_TEXT: Final = ("headers", "description", "order_traits")
_PLAIN_TEXT: Final = {"webhooks": ("description",)}
"""Of a name that has JSON in other tables."""
_GATE_PATIENCE = text("SET LOCAL lock_timeout = '5s'")
"""Whoever comes to the gate waits behind an erasure that waits: a worker that was stopped shall not stop the others."""

_PATIENCE = text("SET LOCAL lock_timeout = '30s'")
_TAKES_ITS_TIME = text("SET LOCAL statement_timeout = 0")
_MAY_BE_READ_SLOWLY = text("SET LOCAL idle_in_transaction_session_timeout = '5min'")


class PostgresPrivacy:
    """`segmentation.erasure.Privacy` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._house = house

    async def erase(
        self, customer_id: CustomerId, *, author: str | None = None, reason: str | None = None, by: Actor = ANYONE
    ) -> Erased | None:
        """Erases, in the order of locks that all writers keep.

        1. have the gate, so that nobody is recording,
        2. have the ranking made anew,
        3. hold the customer, known or not,
        4. keep the sums of its events, and delete or empty everything else,
        5. remember the digest, and settle the key if it is the first erasure,
        6. take back what is announced, and announce the erasure.
        """
        of = _parameters(customer_id)
        async with transaction(self._engine) as connection:
            await connection.execute(_TAKES_ITS_TIME)
            if not await connection.scalar(_ANYTHING, of):
                return await self._erased_before(connection, customer_id)
            # 1
            await connection.execute(_GATE_PATIENCE)
            await suppression.close_gate(connection)
            await connection.execute(_PATIENCE)
            if not await connection.scalar(_ANYTHING, of):  # somebody else was faster
                return await self._erased_before(connection, customer_id)
            # 2
            await tiers.unsettle(connection)
            # 3
            made = await _hold(connection, customer_id)
            # 4
            await connection.execute(_KEEP_TOTALS, {"customer_id": customer_id})
            rows = {name: (await connection.execute(_STATEMENTS[name], of)).rowcount for name in _STATEMENTS}
            rows["customers"] -= int(made)
            # 5
            key = await suppression.settle_key(connection, self._house.erasure_key)
            remembered = {"digest": key.digest(customer_id), "author": author, "reason": reason}
            erased_at: datetime = (await connection.execute(_REMEMBER, remembered)).scalar_one()
            await connection.execute(_COUNT, {"known": rows["customers"]})
            # The trail names nobody who is erased: who has the key can find the hash of an id.
            hashed = key.digest(customer_id).hex()
            await note_deeds(connection, by, [Deed(Action.CUSTOMER_ERASED, hashed, reason=reason, author=author)])
            await tiers.mark_unsettled(connection)
            # 6
            rows["changes"] = await take_back(connection, customer_id, known=bool(rows["customers"]))
        return Erased(erased_at, already=False, rows={name: count for name, count in rows.items() if count})

    async def _erased_before(self, connection: AsyncConnection, customer_id: CustomerId) -> Erased | None:
        house = (await connection.execute(_HOUSE)).one()
        if not house.erasures:
            return None
        key = suppression.key_of(house, self._house.erasure_key)
        erased_at = await connection.scalar(_RECALL, {"digest": key.digest(customer_id)})
        return None if erased_at is None else Erased(erased_at, already=True, rows={})

    async def export(self, customer_id: CustomerId) -> AsyncIterator[Piece] | None:
        async with transaction(self._engine) as connection:
            if not await connection.scalar(_ANYTHING, _parameters(customer_id)):
                return None
        return self._pieces(customer_id)

    async def _pieces(self, customer_id: CustomerId) -> AsyncIterator[Piece]:
        of = _parameters(customer_id)
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            await connection.execute(_MAY_BE_READ_SLOWLY)
            for name, query in _QUERIES.items():
                purpose, told = PERSONAL[name].purpose, False
                result = await connection.stream(query, of)
                async for rows in result.mappings().partitions(_ROWS_AT_ONCE):
                    yield Piece(name, purpose, [_told(name, row) for row in rows])
                    told = True
                if not told:
                    yield Piece(name, purpose, [])

    async def listed(self) -> tuple[bytes | None, Sequence[Erasure]]:
        """Everybody ever erased, and the check of the key; the key is None where there is none yet."""
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            house = (await connection.execute(_HOUSE)).one()
            rows = (await connection.execute(_LIST)).all()
        return house.erasure_key_check, [Erasure(row.digest, row.erased_at) for row in rows]

    async def adopt(self, check: bytes, erasures: Sequence[Erasure]) -> None:
        """Takes in erasures of the same key that were made elsewhere; who of them is here has yet to be erased.

        Raises:
            ErasuresInvalid: they are of another key.
        """
        async with transaction(self._engine) as connection:
            await suppression.close_gate(connection)
            key = await suppression.settle_key(connection, self._house.erasure_key)
            if key.check != check:
                raise ErasuresInvalid("the list was made with another ERASURE_KEY; set the one that it was made with")
            listed = {"digests": [each.digest for each in erasures], "moments": [each.erased_at for each in erasures]}
            await connection.execute(_ADD, listed)
            await connection.execute(_COUNT, {"known": 0})

    async def returned(self, after: str, *, limit: int) -> tuple[Sequence[CustomerId], str | None]:
        """Of the next customers those who were erased and are there all the same, and where to look on."""
        async with transaction(self._engine) as connection:
            everybody = (await connection.scalars(_NEXT, {"after": after, "limit": limit})).all()
            house = (await connection.execute(_HOUSE)).one()
            back = await suppression.suppressed_among(connection, house, self._house.erasure_key, everybody)
        return sorted(back), everybody[-1] if len(everybody) == limit else None


async def _hold(connection: AsyncConnection, customer_id: CustomerId) -> bool:
    """Holds a customer, known or not; returns whether it had to be made known for that."""
    while True:
        made = await insert_rows(
            connection,
            tables.customers,
            ("customer_id",),
            [(customer_id,)],
            then="ON CONFLICT DO NOTHING RETURNING customer_id",
        )
        # A rebuild may have removed it between the two.
        if await lock_customers(connection, [customer_id]):
            return bool(made)


def _parameters(customer_id: CustomerId) -> Mapping[str, Any]:
    return {
        "customer_id": customer_id,
        "named": rf'"(customer_id|subject)"\s*:\s*"{re.escape(customer_id)}"',
        "headed": rf'"ce_subject",\s*"{re.escape(base64.b64encode(customer_id.encode()).decode())}"',
    }


def _told(table: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    plain = _PLAIN_TEXT.get(table, ())
    return {name: value if name in plain else _value(name, value) for name, value in row.items()}


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 - a column's value as JSON
    if value is None:
        return None
    if name in INSTANTS:
        return format_instant(value)
    if name in _JSON_TEXT:
        return json.loads(value)
    match value:
        case bytes():
            return _bytes(name, value)
        case Decimal():
            return format(value, "f")
        case datetime() | date():
            return value.isoformat()
        case _:
            return value


def _bytes(name: str, value: bytes) -> Any:  # noqa: ANN401 - text, or base64 that says so
    if name == "event_key":
        return value.hex()
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
