"""Erasures by hand: erase customers, list who was erased by their hashes, and do a list again after a restore.

Laws: what is printed names no customer but those that were asked for; a list is only taken in whole, and only where it
was made with the key in use.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from segmentation.erasure import Erasure
from segmentation.errors import ErasuresInvalid, UpkeepRefused
from segmentation.fields import read_customer_id
from segmentation.settings import HouseSettings
from segmentation.storage import foundation
from segmentation.storage.audit import operator
from segmentation.storage.engine import create_engine
from segmentation.storage.erasing import PostgresPrivacy

_HEADER = ["customer_hash", "erased_at"]
_KEY = "key"
"""In the place of a moment, on the line of the key's own hash."""

_LOOKED_AT_ONCE = 10_000


async def erase(
    settings: HouseSettings, customer_ids: Sequence[str], *, author: str | None, reason: str | None
) -> tuple[str, bool]:
    """Erases customers, one transaction each; what became of each, and whether all were there.

    Raises:
        UpkeepRefused: the author or the reason names one of them; nothing was done.
    """
    for words in filter(None, (author, reason)):
        named = next((each for each in customer_ids if each in words), None)
        if named is not None:
            raise UpkeepRefused(f"{words!r} names {named} and would outlive the erasure; say it without")
    lines: list[str] = []
    unknown = 0
    engine = create_engine(settings.database_url.get_secret_value(), application_name="erase", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        privacy = PostgresPrivacy(engine, settings.house)
        for text in customer_ids:
            customer_id = read_customer_id(text)
            erased = None
            if customer_id is not None:
                erased = await privacy.erase(customer_id, author=author, reason=reason, by=operator())
            if erased is None:
                unknown += 1
                lines.append(f"{text}: nobody of that id was ever heard of")
            elif erased.already:
                lines.append(f"{text}: was erased before, on {erased.erased_at.isoformat()}, and nothing of it is left")
            else:
                told = ", ".join(f"{count} {name}" for name, count in sorted(erased.rows.items()))
                lines.append(f"{text}: erased ({told})")
    finally:
        await engine.dispose()
    return "\n".join(lines), not unknown


async def list_erasures(settings: HouseSettings) -> str:
    """Everybody ever erased, by hash, as CSV; the second line tells the key."""
    engine = create_engine(settings.database_url.get_secret_value(), application_name="erasures", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        check, erasures = await PostgresPrivacy(engine, settings.house).listed()
    finally:
        await engine.dispose()
    rows = [(each.digest.hex(), each.erased_at.isoformat()) for each in erasures]
    return "\n".join(map(",".join, [_HEADER, ((check or b"").hex(), _KEY), *rows]))


async def apply_erasures(settings: HouseSettings, file: Path) -> str:
    """Takes in a list and erases whoever of it is there; returns what was done, in a sentence.

    Raises:
        ErasuresInvalid: the list cannot be read, or was made with another key; nothing was done.
    """
    check, erasures = _read(file)
    engine = create_engine(settings.database_url.get_secret_value(), application_name="erasures", pool_size=1)
    erased = 0
    try:
        await foundation.open_house(engine, settings.house)
        privacy = PostgresPrivacy(engine, settings.house)
        await privacy.adopt(check, erasures)
        after: str | None = ""
        while after is not None:
            back, after = await privacy.returned(after, limit=_LOOKED_AT_ONCE)
            for customer_id in back:
                done = await privacy.erase(customer_id, by=operator())
                erased += done is not None and not done.already
            print(f"{erased} erased again ...", file=sys.stderr)  # noqa: T201 - progress, for a person
    finally:
        await engine.dispose()
    return f"{len(erasures)} erasures are known now; {erased} customers of them were there, and are erased again."


def _read(file: Path) -> tuple[bytes, list[Erasure]]:
    with _said(file), file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
        if not rows or rows[0] != _HEADER or rows[1:2] == [] or rows[1][1:] != [_KEY]:
            raise ValueError("it is no list that `ingest-worker erasures` printed")
        return bytes.fromhex(rows[1][0]), [
            Erasure(bytes.fromhex(digest), datetime.fromisoformat(moment)) for digest, moment in rows[2:]
        ]


@contextmanager
def _said(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ErasuresInvalid(f"{file} cannot be taken in: {error}; nothing was done") from None
