"""Who must not come back: the gate between recording and erasing, and the key that erased customers are known by.

Laws: whoever records messages passes the gate before it asks who was erased, and is in there until its transaction
ends; whoever erases has the gate for itself. So a batch either ends before an erasure, which then takes what it
recorded, or begins after it and sees it. Nobody remembers the answer for another transaction.
"""

import secrets
from collections.abc import Iterable
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation.erasure import ErasureKey
from segmentation.errors import SettingInvalid
from segmentation.fields import CustomerId

_GATE = 7_315_025
_PASS = text("SELECT pg_advisory_xact_lock_shared(CAST(:gate AS bigint))")
_CLOSE = text("SELECT pg_advisory_xact_lock(CAST(:gate AS bigint))")
_SUPPRESSED = text("SELECT digest FROM erasures WHERE digest = ANY(CAST(:digests AS bytea[]))")
_HOUSE = text("SELECT erasure_key, erasure_key_check, erasures FROM house")
_LOCK_HOUSE = text("SELECT erasure_key, erasure_key_check, erasures FROM house FOR UPDATE")
_KEEP_KEY = text("UPDATE house SET erasure_key = :secret, erasure_key_check = :check")


async def pass_gate(connection: AsyncConnection) -> None:
    """Keeps erasures waiting until the transaction ends; waits for one that is under way. Comes before every lock."""
    await connection.execute(_PASS, {"gate": _GATE})


async def close_gate(connection: AsyncConnection) -> None:
    """Waits for everybody in there, and keeps whoever comes next waiting until the transaction ends."""
    await connection.execute(_CLOSE, {"gate": _GATE})


async def suppressed_among(
    connection: AsyncConnection,
    house: Any,  # noqa: ANN401 - a row of house
    given: str | None,
    customer_ids: Iterable[CustomerId],
) -> set[CustomerId]:
    """Those of some customers who were erased.

    Args:
        connection: That has passed the gate.
        house: The row of `house`, or what of it is read here, read after that.
        given: The key of the settings.
        customer_ids: Whom.

    Raises:
        SettingInvalid: they were erased by another key.
    """
    if not house.erasures:
        return set()
    key = key_of(house, given)
    by_digest = {key.digest(customer_id): customer_id for customer_id in customer_ids}
    found = await connection.scalars(_SUPPRESSED, {"digests": list(by_digest)})
    return {by_digest[digest] for digest in found}


def key_of(house: Any, given: str | None) -> ErasureKey:  # noqa: ANN401 - a row of house
    """The key in use.

    Raises:
        SettingInvalid: it is not the one that there is.
    """
    if given is None and house.erasure_key is None:
        raise SettingInvalid(
            "ERASURE_KEY is not set, but this data was given one; set ERASURE_KEY or ERASURE_KEY_FILE as for every "
            "other process"
        )
    key = ErasureKey(given or house.erasure_key)
    if key.check != house.erasure_key_check:
        raise SettingInvalid(
            f"ERASURE_KEY is another than the one by which {house.erasures} customers of this data were erased; set "
            "that one again: with another nobody would recognise them"
        )
    return key


async def settle_key(connection: AsyncConnection, given: str | None) -> ErasureKey:
    """Decides the key in use, if that is open; once anybody is erased it is the same for good.

    A key that the settings name is not kept, and takes the place of the one kept here: at once while nobody is erased,
    after that only if it is the same.

    Raises:
        SettingInvalid: customers were erased by another key, or the settings name none and the data was given one.
    """
    row = (await connection.execute(_HOUSE)).one()
    if _stands(row, given):
        return key_of(row, given)
    row = (await connection.execute(_LOCK_HOUSE)).one()
    if row.erasures or (given is None and row.erasure_key_check is not None):
        key = key_of(row, given)
    else:
        key = ErasureKey(given or secrets.token_hex(32))
    kept = key.secret if given is None else None
    await connection.execute(_KEEP_KEY, {"secret": kept, "check": key.check})
    return key


def _stands(row: Any, given: str | None) -> bool:  # noqa: ANN401 - a row of house
    if row.erasure_key_check is None:
        return False
    if given is None:
        return True
    return row.erasure_key is None and ErasureKey(given).check == row.erasure_key_check
