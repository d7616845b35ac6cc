"""API keys over PostgreSQL: digests, ends and last uses, never a secret."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import Action, Actor, ApiKey, Deed, NewKey, Scope
from segmentation.storage.audit import note_deeds
from segmentation.storage.engine import transaction
from segmentation.storage.tables import api_keys

_REVOKE = text("""
    UPDATE api_keys SET revoked_at = least(revoked_at, :now) WHERE id = :id RETURNING *
""")
_LET_EXPIRE = text("UPDATE api_keys SET expires_at = least(expires_at, :expires_at) WHERE id = :id")
_LOCK = text("SELECT * FROM api_keys WHERE id = :id FOR UPDATE")
_NOTE_USE = text("UPDATE api_keys SET last_used_at = greatest(last_used_at, :at) WHERE id = :id")


class PostgresKeys:
    """`segmentation.access.Keys` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, key_id: str) -> ApiKey | None:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(select(api_keys).where(api_keys.c.id == key_id))).one_or_none()
        return None if row is None else _key(row)

    async def all(self) -> Sequence[ApiKey]:
        newest_first = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id)
        async with transaction(self._engine) as connection:
            return [_key(row) for row in await connection.execute(newest_first)]

    async def create(self, key: NewKey, *, by: Actor, reason: str | None) -> ApiKey:
        async with transaction(self._engine) as connection:
            kept = await _keep(connection, key, replaces=None)
            await note_deeds(connection, by, [Deed(Action.KEY_CREATED, key.id, reason=reason, detail=_told(kept))])
        return kept

    async def revoke(self, key_id: str, *, by: Actor, reason: str | None, now: datetime) -> ApiKey | None:
        async with transaction(self._engine) as connection:
            stood = (await connection.execute(_LOCK, {"id": key_id})).one_or_none()
            if stood is None:
                return None
            if stood.revoked_at is not None and stood.revoked_at <= now:
                return _key(stood)
            row = (await connection.execute(_REVOKE, {"id": key_id, "now": now})).one()
            await note_deeds(connection, by, [Deed(Action.KEY_REVOKED, key_id, reason=reason, detail=_told(_key(row)))])
            return _key(row)

    async def rotate(
        self,
        key_id: str,
        *,
        new_id: str,
        digest: bytes,
        overlap: timedelta,
        by: Actor,
        reason: str | None,
        now: datetime,
    ) -> ApiKey | None:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_LOCK, {"id": key_id})).one_or_none()
            if row is None or _key(row).ended(now):
                return None
            old = _key(row)
            # What was to last for so long lasts as long again.
            lasts = None if old.expires_at is None else now + (old.expires_at - old.created_at)
            new = NewKey(new_id, old.name, old.scopes, digest, lasts, old.requests_per_second)
            kept = await _keep(connection, new, replaces=key_id)
            await connection.execute(_LET_EXPIRE, {"id": key_id, "expires_at": now + overlap})
            ends = {"replaced_until": (now + overlap).isoformat(), "new_key": new_id}
            deed = Deed(Action.KEY_ROTATED, key_id, reason=reason, detail=_told(kept) | ends)
            await note_deeds(connection, by, [deed])
        return kept

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        if not uses:
            return
        async with transaction(self._engine) as connection:
            # In one order for all processes, as whoever writes several rows does.
            await connection.execute(_NOTE_USE, [{"id": key_id, "at": uses[key_id]} for key_id in sorted(uses)])


async def _keep(connection: AsyncConnection, key: NewKey, *, replaces: str | None) -> ApiKey:
    row = {
        "id": key.id,
        "name": key.name,
        "scopes": " ".join(key.scopes),
        "digest": key.digest,
        "created_at": func.now(),
        "expires_at": key.expires_at,
        "requests_per_second": key.requests_per_second,
        "replaces": replaces,
    }
    return _key((await connection.execute(api_keys.insert().values(row).returning(api_keys))).one())


def _told(key: ApiKey) -> dict[str, Any]:
    ends = None if key.expires_at is None else key.expires_at.isoformat()
    return {"name": key.name, "scopes": list(key.scopes), "expires_at": ends}


def _key(row: Any) -> ApiKey:  # noqa: ANN401 - a row of api_keys
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=tuple(Scope(scope) for scope in row.scopes.split()),
        digest=row.digest,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        requests_per_second=row.requests_per_second,
        replaces=row.replaces,
    )
