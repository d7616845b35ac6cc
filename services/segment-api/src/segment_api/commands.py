"""What an operator does by hand: make, list, revoke and rotate keys, and look at who changed what."""

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from segmentation.access import (
    KEY_ID_BYTES,
    SECRET_BYTES,
    Action,
    ApiKey,
    AuditEntry,
    NewKey,
    Scope,
    digest_of,
    write_key,
)
from segmentation.errors import KeyUnknown
from segmentation.settings import HouseSettings
from segmentation.storage import foundation
from segmentation.storage.audit import PostgresAudit, operator
from segmentation.storage.engine import create_engine
from segmentation.storage.keys import PostgresKeys

_ONCE = "It is shown this once and kept nowhere: hand it over by a safe way, and give it a file of its own."


@contextlib.asynccontextmanager
async def _opened(settings: HouseSettings) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(settings.database_url.get_secret_value(), application_name="segment-api-keys", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        yield engine
    finally:
        await engine.dispose()


async def create_key(
    settings: HouseSettings,
    *,
    name: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None,
    requests_per_second: float | None,
    reason: str | None,
) -> tuple[str, str]:
    """Makes a key; returns the key itself, and what is to be said of it."""
    key_id, secret = secrets.token_hex(KEY_ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    wanted = NewKey(key_id, name, tuple(scopes), digest_of(secret), expires_at, requests_per_second)
    async with _opened(settings) as engine:
        kept = await PostgresKeys(engine).create(wanted, by=operator(), reason=reason)
    return write_key(key_id, secret), f"Key {kept.id} ({kept.name}) may {_may(kept)}. {_ends(kept)} {_ONCE}"


async def list_keys(settings: HouseSettings, *, now: datetime, as_json: bool) -> str:
    """Every key there ever was, without secrets."""
    async with _opened(settings) as engine:
        keys = await PostgresKeys(engine).all()
    if as_json:
        return json.dumps([_described(key, now) for key in keys], indent=2, ensure_ascii=False)
    rows = [("ID", "NAME", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED", "LIMIT")]
    for key in keys:
        limit = "-" if key.requests_per_second is None else f"{key.requests_per_second:g}/s"
        moments = (key.created_at, key.expires_at, key.last_used_at)
        created, expires, used = map(_day, moments)
        rows.append((key.id, key.name, ",".join(key.scopes), key.ended(now) or "good", created, expires, used, limit))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) if keys else "There is no key yet; make one: segment-api keys create --help"


async def revoke_key(settings: HouseSettings, key_id: str, *, reason: str | None, now: datetime) -> str:
    """Ends a key at once; returns what was done.

    Raises:
        KeyUnknown: there is none of that id.
    """
    async with _opened(settings) as engine:
        key = await PostgresKeys(engine).revoke(key_id, by=operator(), reason=reason, now=now)
    if key is None:
        raise _unknown(key_id)
    return f"Key {key.id} ({key.name}) is revoked: every process refuses it within 5 seconds."


async def rotate_key(
    settings: HouseSettings, key_id: str, *, overlap: timedelta, reason: str | None, now: datetime
) -> tuple[str, str]:
    """Makes a key in the place of another, which goes on for a while; returns the key, and what is to be said of it.

    Raises:
        KeyUnknown: there is none of that id that is still good.
    """
    new_id, secret = secrets.token_hex(KEY_ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    async with _opened(settings) as engine:
        kept = await PostgresKeys(engine).rotate(
            key_id,
            new_id=new_id,
            digest=digest_of(secret),
            overlap=overlap,
            by=operator(),
            reason=reason,
            now=now,
        )
    if kept is None:
        raise _unknown(key_id)
    until = (now + overlap).isoformat(timespec="seconds")
    said = f"Key {kept.id} takes the place of {key_id}, which goes on until {until} at the latest."
    return write_key(new_id, secret), f"{said} {_ends(kept)} {_ONCE}"


async def list_audit(settings: HouseSettings, *, action: Action | None, customer_id: str | None, limit: int) -> str:
    """The latest changes by hand, one JSON object a line, newest first."""
    async with _opened(settings) as engine:
        entries = await PostgresAudit(engine).entries(
            action=action, customer_id=customer_id, before_id=None, limit=limit
        )
    return "\n".join(json.dumps(_told(entry), ensure_ascii=False) for entry in entries)


def _told(entry: AuditEntry) -> dict[str, object]:
    by, deed = entry.by, entry.deed
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "by": {"kind": by.kind, "id": by.id, "name": by.name},
        "action": deed.action,
        "customer_id": deed.customer_id,
        "subject": deed.subject,
        "author": deed.author,
        "reason": deed.reason,
        "detail": dict(deed.detail),
        "request_id": by.request_id,
    }


def _described(key: ApiKey, now: datetime) -> dict[str, object]:
    return {
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "scopes": list(key.scopes),
        "state": key.ended(now) or "good",
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at and key.expires_at.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
        "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
        "requests_per_second": key.requests_per_second,
        "replaces": key.replaces,
    }


def _may(key: ApiKey) -> str:
    return ", ".join(key.scopes)


def _ends(key: ApiKey) -> str:
    if key.expires_at is None:
        return "It does not expire."
    return f"It expires at {key.expires_at.isoformat(timespec='seconds')}."


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%MZ")


def _unknown(key_id: str) -> KeyUnknown:
    return KeyUnknown(f"there is no good key {key_id!r}; segment-api keys list shows them, each with its id first")
